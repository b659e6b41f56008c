//! One client connection: frames in, requests handled in order, replies out in order.
//!
//! Always holds: replies leave in the order their requests came; a request is *ordered* (its place
//! in the log is fixed) before the next frame is handled; memory is bounded by the budget on the
//! way in and by the in-flight limit on the way out. Everything happens on the connection's own
//! task: no hand-off between socket, log and socket.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::input::{FrameError, FrameLimits, Input, Next};
use super::output::Output;
use crate::base::limits::IN_FLIGHT_PER_CONNECTION_MAX;
use crate::base::memory::{Charge, MemoryBudget};
use crate::handlers::{self, Peer, PendingOrder, PendingReply, Reply};
use crate::metrics::count;

/// Replies queued beyond this stop the reading of further requests.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Frames handled before other connections of the same thread get their turn.
const FRAMES_PER_TURN: usize = 32;

/// An input buffer not used for this long goes back to the allocator.
const BUFFER_IDLE: Duration = Duration::from_secs(5);

/// What the server gives every connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    pub(crate) frames: FrameLimits,
    /// A begun frame must be whole within this time (`socket.read.timeout.ms`).
    pub(crate) read_stall: Duration,
    /// No progress on a queued reply for this long closes the connection
    /// (`socket.write.timeout.ms`).
    pub(crate) write_stall: Duration,
    /// Nothing at all for this long closes the connection (`connections.max.idle.ms`).
    pub(crate) idle: Duration,
}

/// Why a connection ended; logged, never sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("closed by the client")]
    ByClient,
    #[error("broker is stopping")]
    Stopping,
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    #[error("a begun request was not whole within socket.read.timeout.ms")]
    ReadStalled,
    #[error("the client took no replies for longer than socket.write.timeout.ms")]
    WriteStalled,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Request(handlers::CloseReason),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// A request as metrics tell it: the number of its API, and since when it is here.
#[derive(Clone, Copy, Debug)]
struct Received {
    key: i16,
    at: Instant,
}

/// A request that has been ordered and not answered; keeps its share of the memory budget.
struct InFlight {
    request: Received,
    reply: PendingReply,
    _charge: Option<Charge>,
}

/// A request that another thread is ordering; no further one is handled meanwhile.
struct Unordered {
    request: Received,
    order: PendingOrder,
    charge: Option<Charge>,
}

/// A reply in its place in the queue.
enum Slot {
    Ready(sawlog_protocol::Rope),
    Pending(InFlight),
}

/// The state of one connection.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: Arc<Peer>,
    budget: MemoryBudget,
    options: ConnectionOptions,
    input: Input,
    unordered: Option<Unordered>,
    replies: VecDeque<Slot>,
    output: Output,
    last_read: Instant,
    /// When the frame that is not whole yet began.
    frame_begun: Option<Instant>,
    last_write: Instant,
    last_request: Instant,
}

/// What woke a waiting connection.
enum Event {
    Readable(io::Result<()>),
    Writable(io::Result<()>),
    Ordered(Reply),
    Reply(Result<sawlog_protocol::Rope, handlers::CloseReason>),
    Memory(usize, Option<Charge>),
    Timer,
    Stop,
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        peer: Arc<Peer>,
        budget: MemoryBudget,
        options: ConnectionOptions,
    ) -> Self {
        let now = Instant::now();
        let input = Input::new(options.frames);
        Self {
            stream,
            peer,
            budget,
            options,
            input,
            unordered: None,
            replies: VecDeque::new(),
            output: Output::default(),
            last_read: now,
            frame_begun: None,
            last_write: now,
            last_request: now,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let closed = self.serve(&mut stop).await;
        match closed {
            Closed::ByClient | Closed::Idle | Closed::Stopping => {
                debug!(client = %self.peer.address, reason = %closed, "connection closed");
            }
            other => {
                tracing::info!(client = %self.peer.address, reason = %other, "connection closed");
            }
        }
    }

    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Closed {
        let mut timer = Box::pin(tokio::time::sleep(BUFFER_IDLE));
        loop {
            let memory_wanted = match self.handle_frames().await {
                Ok(wanted) => wanted,
                Err(closed) => return closed,
            };
            if let Err(closed) = self.flush() {
                return closed;
            }
            if memory_wanted.is_none() && self.may_read() {
                match self.fill() {
                    Ok(0) => {}
                    Ok(_) => continue,
                    Err(closed) => return closed,
                }
            }
            let event = self.wait(memory_wanted, timer.as_mut(), stop).await;
            if let Err(closed) = self.on_event(event, timer.as_mut()) {
                return closed;
            }
        }
    }

    /// Handles the whole frames at hand. Returns the bytes of memory the next one waits for.
    async fn handle_frames(&mut self) -> Result<Option<usize>, Closed> {
        for _ in 0..FRAMES_PER_TURN {
            if !self.may_read() {
                return Ok(None);
            }
            match self.input.next(&self.budget)? {
                Next::Frame(frame, charge) => {
                    self.last_request = Instant::now();
                    self.frame_begun = None;
                    self.dispatch(frame, charge)?;
                }
                Next::Read => {
                    if self.input.mid_frame() && self.frame_begun.is_none() {
                        self.frame_begun = Some(self.last_read);
                    }
                    return Ok(None);
                }
                Next::Memory(bytes) => return Ok(Some(bytes)),
            }
        }
        tokio::task::yield_now().await;
        Ok(None)
    }

    fn dispatch(&mut self, frame: bytes::Bytes, charge: Option<Charge>) -> Result<(), Closed> {
        let request = Received { key: handlers::api_key(&frame), at: self.last_request };
        let reply = handlers::dispatch(&self.peer, frame);
        self.take(request, reply, charge)
    }

    /// Takes what has become of the last request handled.
    fn take(
        &mut self,
        request: Received,
        reply: Reply,
        charge: Option<Charge>,
    ) -> Result<(), Closed> {
        match reply {
            Reply::Ready(rope) => {
                self.count(request, Instant::now());
                if self.replies.is_empty() {
                    self.output.push(rope);
                } else {
                    self.replies.push_back(Slot::Ready(rope));
                }
            }
            Reply::Pending(reply) => {
                let in_flight = InFlight { request, reply, _charge: charge };
                self.replies.push_back(Slot::Pending(in_flight));
            }
            Reply::Unordered(order) => {
                self.unordered = Some(Unordered { request, order, charge });
            }
            Reply::Nothing => self.count(request, Instant::now()),
            Reply::Close(reason) => return Err(self.fatal(reason)),
        }
        Ok(())
    }

    fn count(&self, request: Received, now: Instant) {
        let metrics = &self.peer.node.metrics.requests;
        metrics.answered(request.key, now.duration_since(request.at));
    }

    fn fatal(&self, reason: handlers::CloseReason) -> Closed {
        self.peer.node.metrics.requests.fatal.increment();
        Closed::Request(reason)
    }

    /// Whether another request may be read and handled now.
    fn may_read(&self) -> bool {
        self.unordered.is_none()
            && self.replies.len() < IN_FLIGHT_PER_CONNECTION_MAX
            && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// Whether every request has been answered, and every answer sent.
    fn owes_nothing(&self) -> bool {
        self.unordered.is_none() && self.replies.is_empty() && self.output.is_empty()
    }

    /// Reads once; 0 when the socket has nothing.
    fn fill(&mut self) -> Result<usize, Closed> {
        match self.input.read_from(&self.stream) {
            Ok(0) => Err(Closed::ByClient),
            Ok(read) => {
                self.last_read = Instant::now();
                self.peer.node.metrics.connections.received_bytes.add(count(read));
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves finished replies to the output and writes what the socket takes.
    fn flush(&mut self) -> Result<(), Closed> {
        while let Some(Slot::Ready(_)) = self.replies.front() {
            if let Some(Slot::Ready(rope)) = self.replies.pop_front() {
                self.output.push(rope);
            }
        }
        if self.output.is_empty() {
            return Ok(());
        }
        let written = self.output.write_to(&self.stream)?;
        if written > 0 {
            self.last_write = Instant::now();
            self.peer.node.metrics.connections.sent_bytes.add(count(written));
        }
        Ok(())
    }

    async fn wait(
        &mut self,
        memory_wanted: Option<usize>,
        timer: Pin<&mut Sleep>,
        stop: &mut watch::Receiver<bool>,
    ) -> Event {
        let read = memory_wanted.is_none() && self.may_read();
        let write = !self.output.is_empty();
        let head_pending = matches!(self.replies.front(), Some(Slot::Pending(_)));
        let budget = self.budget.clone();
        let ordering = self.unordered.is_some();
        // Every branch may be dropped: readiness is level-triggered, the head reply and the
        // unordered request are polled in place and stay there, an ungranted charge is only a place
        // in a line.
        tokio::select! {
            biased;
            reply = Ordering(&mut self.unordered), if ordering => Event::Ordered(reply),
            reply = Head(&mut self.replies), if head_pending => Event::Reply(reply),
            ready = self.stream.readable(), if read => Event::Readable(ready),
            ready = self.stream.writable(), if write => Event::Writable(ready),
            charge = budget.charge(memory_wanted.unwrap_or(0)), if memory_wanted.is_some() => {
                Event::Memory(memory_wanted.unwrap_or(0), charge)
            }
            _ = stop.changed() => Event::Stop,
            () = timer => Event::Timer,
        }
    }

    fn on_event(&mut self, event: Event, timer: Pin<&mut Sleep>) -> Result<(), Closed> {
        match event {
            Event::Readable(ready) | Event::Writable(ready) => ready.map_err(Closed::Socket),
            Event::Ordered(reply) => {
                self.last_request = Instant::now();
                match self.unordered.take() {
                    Some(Unordered { request, charge, .. }) => self.take(request, reply, charge),
                    // There is one: it was polled a moment ago.
                    None => Ok(()),
                }
            }
            Event::Reply(reply) => {
                self.last_request = Instant::now();
                if let Some(Slot::Pending(InFlight { request, .. })) = self.replies.pop_front() {
                    self.count(request, self.last_request);
                }
                let rope = reply.map_err(|reason| self.fatal(reason))?;
                if self.output.is_empty() {
                    self.last_write = self.last_request;
                }
                self.output.push(rope);
                Ok(())
            }
            Event::Memory(bytes, charge) => {
                let charge = charge.ok_or(Closed::Stopping)?;
                self.input.granted(bytes, charge);
                Ok(())
            }
            Event::Stop => Err(Closed::Stopping),
            Event::Timer => self.check_deadlines(timer),
        }
    }

    /// The timer is armed for the earliest moment anything could be due, not moved at every
    /// request: most of the time it fires, finds progress, and is armed again.
    fn check_deadlines(&mut self, timer: Pin<&mut Sleep>) -> Result<(), Closed> {
        let now = Instant::now();
        let mut next = now + self.options.idle;
        if !self.output.is_empty() {
            let due = self.last_write + self.options.write_stall;
            if now >= due {
                return Err(Closed::WriteStalled);
            }
            next = next.min(due);
        }
        if self.input.mid_frame() {
            let due = self.frame_begun.unwrap_or(now) + self.options.read_stall;
            // While replies are owed the broker may be the one that does not read.
            if now >= due && self.owes_nothing() {
                return Err(Closed::ReadStalled);
            }
            next = next.min(due.max(now + BUFFER_IDLE));
        } else if now >= self.last_read + BUFFER_IDLE {
            self.input.release_idle();
        }
        if self.owes_nothing() && !self.input.mid_frame() {
            let due = self.last_request + self.options.idle;
            if now >= due {
                return Err(Closed::Idle);
            }
            next = next.min(due);
        }
        // A connection in use is looked at often, an idle one only when it is due.
        let active = now < self.last_read + 2 * BUFFER_IDLE || !self.output.is_empty();
        timer.reset(if active {
            next.min(now + BUFFER_IDLE)
        } else {
            next.min(now + self.options.read_stall)
        });
        Ok(())
    }
}

/// Polls the reply at the head of the queue, which stays there.
struct Head<'a>(&'a mut VecDeque<Slot>);

impl Future for Head<'_> {
    type Output = Result<sawlog_protocol::Rope, handlers::CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.front_mut() {
            Some(Slot::Pending(in_flight)) => in_flight.reply.as_mut().poll(cx),
            Some(Slot::Ready(_)) | None => Poll::Pending,
        }
    }
}

/// Polls the request that is being ordered, which stays where it is.
struct Ordering<'a>(&'a mut Option<Unordered>);

impl Future for Ordering<'_> {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.as_mut() {
            Some(unordered) => unordered.order.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
