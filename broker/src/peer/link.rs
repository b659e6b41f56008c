//! One outgoing connection: dialled at the first call, greeted, then calls and their answers.
//!
//! A link that has ended is never used again: whoever calls next makes another. Its task ends with
//! it, or when nobody holds the link any more.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use crate::base::BrokerId;
use crate::base::memory::MemoryBudget;
use crate::base::parts::Parts;
use crate::config::Endpoint;

use super::departures::Departures;
use super::frame::{self, Address, FRAME_BYTES_MAX, FrameError, FrameReader, HEADER_BYTES, Kind};
use super::hello::{GREETING_BYTES_MAX, Greeting, judge_called};
use super::stream::{ReadHalf, WriteHalf};
use super::tls::{self, Failure, PeerTls};
use super::write::write_to;
use super::{PeerError, PeerIdentity, Service};

/// Dialling and greeting. Shorter than the second repetition of a lost SYN: a new call dials anew.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages that may wait to be written.
const QUEUE_MAX: usize = 256;

/// A connection on which nothing came for this long, and on which a call times out, is dead.
const SILENCE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 3000 });

/// What a link connects.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) at: Endpoint,
    pub(super) service: Service,
    /// Who is meant; `None` if only the address is known.
    pub(super) broker: Option<BrokerId>,
}

/// Who makes a link.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) me: PeerIdentity,
    pub(super) tls: Option<Arc<PeerTls>>,
}

/// A connection to one service of one peer.
#[derive(Debug)]
pub(super) struct Link {
    queue: mpsc::Sender<Queued>,
    state: Arc<State>,
    service: Service,
}

/// A message that waits to be written.
struct Queued {
    message: Parts,
    /// The call it is for: whose caller has given up is not written.
    call: Option<u64>,
}

/// What the link and its task share.
#[derive(Debug, Default)]
struct State {
    calls: Mutex<Calls>,
    next: AtomicU64,
    /// When the last message was received, or the connection made.
    received: Mutex<Option<Instant>>,
    abandoned: Notify,
}

#[derive(Debug, Default)]
struct Calls {
    waiting: HashMap<u64, oneshot::Sender<Result<Bytes, PeerError>>>,
    ended: Option<(PeerError, Instant)>,
}

/// A call that waits; forgotten when dropped.
struct Waiting<'a> {
    state: &'a State,
    correlation: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.calls.lock().waiting.remove(&self.correlation);
    }
}

impl Link {
    /// Begins to dial.
    pub(super) fn start(
        target: Target,
        caller: Caller,
        budget: MemoryBudget,
        runtime: &tokio::runtime::Handle,
        departures: &Arc<Departures>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let state = Arc::new(State::default());
        let service = target.service;
        let (shared, departures) = (state.clone(), departures.clone());
        runtime.spawn(async move {
            let whom = target.broker;
            if run(target, caller, budget, waiting, shared).await
                && let Some(broker) = whom
            {
                departures.look_after(broker);
            }
        });
        Self { queue, state, service }
    }

    /// Why it ended and when, if it did.
    pub(super) fn ended(&self) -> Option<(PeerError, Instant)> {
        self.state.calls.lock().ended.clone()
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&self, request: Bytes, limit: Duration) -> Result<Bytes, PeerError> {
        let deadline = Instant::now() + limit;
        let correlation = self.state.next.fetch_add(1, Ordering::Relaxed);
        let message = self.message(Kind::Request, correlation, request)?;
        let (answer, answered) = oneshot::channel();
        let _waiting = self.state.wait(correlation, answer)?;
        let sent =
            timeout_at(deadline, self.queue.send(Queued { message, call: Some(correlation) }))
                .await;
        if let Ok(Err(_)) = sent {
            return Err(self.ended().map_or(PeerError::Closed, |(error, _)| error));
        }
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(PeerError::Closed),
            Err(_) => {
                if self.state.received.lock().is_some_and(|at| at.elapsed() >= SILENCE) {
                    self.state.abandoned.notify_one();
                }
                Err(PeerError::TimedOut)
            }
        }
    }

    /// Sends a message nobody answers, if there is room for it.
    pub(super) fn tell(&self, message: Bytes) {
        if let Ok(message) = self.message(Kind::OneWay, 0, message) {
            // Best effort, as promised.
            let _ = self.queue.try_send(Queued { message, call: None });
        }
    }

    fn message(&self, kind: Kind, correlation: u64, body: Bytes) -> Result<Parts, PeerError> {
        let address = Address { kind, service: self.service, correlation };
        frame::message(address, body).map_err(|error| PeerError::Refused(error.to_string()))
    }
}

impl State {
    fn wait(
        &self,
        correlation: u64,
        answer: oneshot::Sender<Result<Bytes, PeerError>>,
    ) -> Result<Waiting<'_>, PeerError> {
        let mut calls = self.calls.lock();
        if let Some((error, _)) = &calls.ended {
            return Err(error.clone());
        }
        calls.waiting.insert(correlation, answer);
        Ok(Waiting { state: self, correlation })
    }

    fn answer(&self, correlation: u64, answer: Result<Bytes, PeerError>) {
        let waiting = self.calls.lock().waiting.remove(&correlation);
        if let Some(waiting) = waiting {
            // Who called may have gone away.
            let _ = waiting.send(answer);
        }
    }

    fn is_waited_for(&self, call: Option<u64>) -> bool {
        call.is_none_or(|call| self.calls.lock().waiting.contains_key(&call))
    }

    fn heard(&self) {
        *self.received.lock() = Some(Instant::now());
    }

    fn end(&self, error: &PeerError) {
        let mut calls = self.calls.lock();
        calls.ended = Some((error.clone(), Instant::now()));
        for (_, waiting) in calls.waiting.drain() {
            let _ = waiting.send(Err(error.clone()));
        }
    }
}

/// Returns whether there was a connection.
async fn run(
    target: Target,
    caller: Caller,
    budget: MemoryBudget,
    queue: mpsc::Receiver<Queued>,
    state: Arc<State>,
) -> bool {
    let dialled = timeout(DIAL_TIMEOUT, connect(&target, &caller, budget)).await;
    let error = match dialled {
        Ok(Ok((reader, writer))) => {
            state.heard();
            // The connection ends with the first of them: nothing is lost that could be kept.
            let ended = tokio::select! {
                ended = receive(reader, &state) => ended,
                ended = send(writer, queue, &state) => ended,
                () = state.abandoned.notified() => "nothing came while a call timed out".to_owned(),
            };
            debug!(peer = %target.at, service = %target.service, reason = ended, "connection to a peer ended");
            PeerError::Closed
        }
        Ok(Err(error)) => error,
        Err(_) => PeerError::NoRoute(format!("cannot reach {}: no answer", target.at)),
    };
    let was_connected = matches!(error, PeerError::Closed);
    state.end(&error);
    was_connected
}

async fn connect(
    target: &Target,
    caller: &Caller,
    budget: MemoryBudget,
) -> Result<(FrameReader<ReadHalf>, WriteHalf), PeerError> {
    let stream = TcpStream::connect((target.at.host.as_str(), target.at.port)).await;
    let stream = stream.map_err(|error| {
        let text = format!("cannot reach {}: {error}", target.at);
        match error.kind() {
            ErrorKind::ConnectionRefused => PeerError::Unreachable(text),
            _ => PeerError::NoRoute(text),
        }
    })?;
    let lost = |error: std::io::Error| PeerError::NoRoute(format!("lost {}: {error}", target.at));
    stream.set_nodelay(true).map_err(lost)?;
    let not_secured = |failure: Failure| not_secured(target, failure);
    let opened = tls::call(caller.tls.as_deref(), stream).await;
    let (stream, certified) = opened.map_err(not_secured)?;
    let (read, mut write) = stream.into_split();
    let me = &caller.me;
    let address = Address { kind: Kind::Greeting, service: target.service, correlation: 0 };
    let greeting = Greeting::of(me, target.broker).encode();
    let greeting = frame::message(address, greeting.into());
    let mut greeting = greeting.map_err(|error| PeerError::Refused(error.to_string()))?;
    write_to(&mut greeting, &mut write).await.map_err(lost)?;

    let mut reader = FrameReader::new(read, budget.clone(), HEADER_BYTES + GREETING_BYTES_MAX);
    let refused = |reason: String| PeerError::Refused(format!("{} refuses: {reason}", target.at));
    let frame = match reader.next().await {
        Ok(Some(frame)) if frame.kind == Kind::Greeting => frame,
        Ok(None) => return Err(PeerError::Closed),
        Err(FrameError::Socket(error)) => return Err(not_secured(Failure::of(error))),
        Ok(Some(_)) => return Err(refused("it does not greet".to_owned())),
        Err(error) => return Err(refused(error.to_string())),
    };
    let called = Greeting::decode(&frame.body).map_err(refused)?;
    judge_called(me, &called, target.broker).map_err(refused)?;
    certified.check(called.id.broker).map_err(|reason| is_refused(target, &reason))?;
    Ok((reader.admitted(budget, FRAME_BYTES_MAX), write))
}

/// Why there is no connection to be greeted on.
fn not_secured(target: &Target, failure: Failure) -> PeerError {
    match failure {
        Failure::Refused(reason) => is_refused(target, &reason),
        Failure::RefusedBy(reason) => {
            PeerError::Refused(format!("{} refuses: {reason}", target.at))
        }
        // It was closed before it was greeted: a process on its way up or down, or no broker.
        Failure::Lost(_) => PeerError::Closed,
    }
}

fn is_refused(target: &Target, reason: &str) -> PeerError {
    PeerError::Refused(format!("{} is refused: {reason}", target.at))
}

/// Hands answers to who waits for them. Returns why it ended.
async fn receive(mut reader: FrameReader<ReadHalf>, state: &State) -> String {
    loop {
        match reader.next().await {
            Ok(Some(frame)) => {
                state.heard();
                match frame.kind {
                    Kind::Reply => state.answer(frame.correlation, Ok(frame.body)),
                    Kind::Refusal => {
                        let text = String::from_utf8_lossy(&frame.body).into_owned();
                        state.answer(frame.correlation, Err(PeerError::Refused(text)));
                    }
                    Kind::Greeting | Kind::Request | Kind::OneWay => {
                        return "the peer answers with something else".to_owned();
                    }
                }
            }
            Ok(None) => return "closed by the peer".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

async fn send(mut socket: WriteHalf, mut queue: mpsc::Receiver<Queued>, state: &State) -> String {
    while let Some(mut queued) = queue.recv().await {
        if !state.is_waited_for(queued.call) {
            continue;
        }
        if let Err(error) = write_to(&mut queued.message, &mut socket).await {
            return error.to_string();
        }
    }
    "nobody needs it any more".to_owned()
}
