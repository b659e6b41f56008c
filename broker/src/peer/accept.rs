//! Incoming connections of peers: greeted, then served.
//!
//! Always: nobody is served who was not admitted by the greeting; the requests of a connection begin in the
//! order they came, and a bounded number of them is under way. What is under way when a connection ends is
//! dropped: who asked is gone.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::base::memory::Charge;
use crate::base::parts::Parts;

use super::frame::{self, Address, FRAME_BYTES_MAX, Frame, FrameReader, HEADER_BYTES, Kind};
use super::hello::{GREETING_BYTES_MAX, Greeting, judge_caller};
use super::incarnations::{Admitted, Heard};
use super::peers::Shared;
use super::stream::{ReadHalf, WriteHalf};
use super::tls::{self, Certified, Failure};
use super::write::write_to;
use super::{PeerId, PeerIdentity, PeerReply, PeerService, Service};

/// Connections of peers open at once: a few for each broker of the largest cluster.
const CONNECTIONS_MAX: usize = 1024;

/// Requests of one connection under way at once.
const IN_FLIGHT_MAX: usize = 64;

/// A caller greets at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing happens for this long is closed; the caller dials when it needs it.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Accepts until `stop` says so.
pub(super) async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    if let Ok(at) = listener.local_addr() {
        shared.log_accepting(&at.to_string());
    }
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Both branches are safe to drop: an unaccepted connection stays in the backlog.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let Ok(place) = room.clone().try_acquire_owned() else {
                    warn!(peer = %address, "connection refused: too many connections of peers");
                    continue;
                };
                let (shared, stop) = (shared.clone(), stop.clone());
                tokio::spawn(async move {
                    serve(stream, address, &shared, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection of a peer");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    shared: &Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    // A peer that resets between accept and here is not an error of ours.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let greeted = timeout(GREETING_TIMEOUT, greet(stream, address, shared)).await;
    let Ok(Some(greeted)) = greeted else { return };
    let Greeted { reader, write, from, service, mut admitted } = greeted;
    let mut reader = reader.admitted(shared.budget(service), FRAME_BYTES_MAX);
    let (replies, queue) = mpsc::unbounded_channel();
    let mut serving = Serving {
        shared,
        from,
        service,
        room: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        under_way: JoinSet::new(),
        replies,
    };
    let heard = admitted.heard();
    // The connection ends with the first of them, and what is under way with it.
    let reason = tokio::select! {
        reason = serving.receive(&mut reader, &heard) => reason,
        reason = send(write, queue) => reason,
        () = admitted.over() => "another life of the peer has begun".to_owned(),
        _ = stop.changed() => "the broker is stopping".to_owned(),
    };
    debug!(peer = %address, %service, reason, "connection of a peer ended");
    if let Some(broker) = from.broker {
        shared.departures.look_after(broker);
    }
}

/// A connection whose caller is admitted.
struct Greeted {
    reader: FrameReader<ReadHalf>,
    write: WriteHalf,
    from: PeerId,
    service: Service,
    admitted: Admitted,
}

/// Shakes hands, if that is asked for, and exchanges greetings. `None` if the caller is not admitted, which
/// it was told.
async fn greet(stream: TcpStream, address: SocketAddr, shared: &Shared) -> Option<Greeted> {
    let tls::Opened { stream, certified, obstacle } =
        match tls::answer(shared.tls.as_deref(), stream).await {
            Ok(opened) => opened,
            Err((failure, stream)) => {
                turn_away(stream, failure, address, shared).await;
                return None;
            }
        };
    let (read, mut write) = stream.into_split();
    let budget = shared.budget(Service::Join);
    let mut reader = FrameReader::new(read, budget, HEADER_BYTES + GREETING_BYTES_MAX);
    let me = **shared.me.load();
    let frame = match reader.next().await {
        Ok(Some(frame)) => frame,
        Ok(None) => return None,
        Err(error) => {
            let reason = error.to_string();
            shared.log_refusal(&reason, || {
                warn!(peer = %address, reason, "a connection to the port for peers is no broker's");
            });
            return None;
        }
    };
    let judged = judge(&frame, &me, shared, certified, obstacle);
    let answer = match &judged {
        Ok(_) => Greeting::of(&me, None),
        Err(reason) => {
            shared.log_refusal(reason, || {
                warn!(peer = %address, reason, "a peer that calls is refused");
            });
            Greeting::refusing(&me, reason)
        }
    };
    let service = frame.service;
    let mut out = greeting(service, &answer)?;
    write_to(&mut out, &mut write).await.ok()?;
    let (from, admitted) = judged.ok()?;
    Some(Greeted { reader, write, from, service, admitted })
}

fn greeting(service: Service, greeting: &Greeting) -> Option<Parts> {
    let address = Address { kind: Kind::Greeting, service, correlation: 0 };
    frame::message(address, greeting.encode().into()).ok()
}

/// Ends a connection that cannot even be greeted on.
async fn turn_away(stream: TcpStream, failure: Failure, address: SocketAddr, shared: &Shared) {
    let reason = match failure {
        // It was closed, by one that looked whether somebody listens, or comes and goes.
        Failure::Lost(error) => {
            debug!(peer = %address, %error, "connection of a peer ended before it began");
            return;
        }
        Failure::RefusedBy(reason) => {
            shared.log_refusal(&reason, || {
                warn!(peer = %address, reason, "a peer that calls refuses this broker");
            });
            return;
        }
        Failure::Refused(reason) => reason,
    };
    shared.log_refusal(&reason, || {
        warn!(peer = %address, reason, "a peer that calls is refused");
    });
    // With TLS the alert has been sent. Without it the caller learns that this is none.
    let me = **shared.me.load();
    let last = match &shared.tls {
        Some(_) => None,
        None => greeting(Service::Join, &Greeting::refusing(&me, &reason)),
    };
    tls::farewell(stream, last.unwrap_or_default()).await;
}

fn judge(
    frame: &Frame,
    me: &PeerIdentity,
    shared: &Shared,
    certified: Certified,
    obstacle: Option<String>,
) -> Result<(PeerId, Admitted), String> {
    if frame.kind != Kind::Greeting {
        return Err("it does not greet".to_owned());
    }
    let caller = Greeting::decode(&frame.body)?;
    obstacle.map_or(Ok(()), Err)?;
    judge_caller(me, &caller, frame.service)?;
    certified.check(caller.id.broker)?;
    let admitted = shared.incarnations.admit(caller.id, caller.incarnation, Instant::now())?;
    // Who has no name yet has that of its certificate.
    let from = PeerId { broker: caller.id.broker.or(certified.node()), ..caller.id };
    Ok((from, admitted))
}

/// A reply to be written, and what it holds until it is.
struct Finished {
    message: Parts,
    _place: OwnedSemaphorePermit,
    _charge: Option<Charge>,
}

/// The requests of one connection.
struct Serving<'a> {
    shared: &'a Shared,
    from: PeerId,
    service: Service,
    room: Arc<Semaphore>,
    under_way: JoinSet<()>,
    /// Bounded by `room`: each reply keeps the place of its request until it is written.
    replies: mpsc::UnboundedSender<Finished>,
}

impl Serving<'_> {
    /// Takes requests until the connection ends; returns why.
    async fn receive(&mut self, reader: &mut FrameReader<ReadHalf>, heard: &Heard) -> String {
        loop {
            let Ok(place) = self.room.clone().acquire_owned().await else {
                return "the broker is stopping".to_owned();
            };
            let frame = match timeout(IDLE_MAX, reader.next()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return "closed by the peer".to_owned(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) if reader.mid_frame() || self.under_way.is_empty() => {
                    return "nothing came for long".to_owned();
                }
                Err(_) => continue,
            };
            heard.at(Instant::now());
            while self.under_way.try_join_next().is_some() {}
            if let Err(reason) = self.begin(frame, place).await {
                return reason;
            }
        }
    }

    /// Begins a request: as far as it comes without waiting now, the rest in a task.
    async fn begin(&mut self, frame: Frame, place: OwnedSemaphorePermit) -> Result<(), String> {
        let Frame { kind, service: _, correlation, body, charge } = frame;
        let answered = match kind {
            Kind::Request => true,
            Kind::OneWay => false,
            Kind::Greeting | Kind::Reply | Kind::Refusal => {
                return Err("the peer sends what is no request".to_owned());
            }
        };
        let to = ReplyTo { service: self.service, correlation, replies: self.replies.clone() };
        let Some(service) = self.shared.service(self.service) else {
            if answered {
                to.refuse(&format!("{} is not served here yet", self.service), place, charge);
            }
            return Ok(());
        };
        let mut answer = PeerService::call(&*service, self.from, body);
        let first = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        match first {
            Poll::Ready(reply) if answered => to.reply(reply, place, charge),
            Poll::Ready(_) => {}
            Poll::Pending => {
                self.under_way.spawn(async move {
                    let reply = answer.await;
                    if answered {
                        to.reply(reply, place, charge);
                    }
                });
            }
        }
        Ok(())
    }
}

/// Where the reply to a request goes.
struct ReplyTo {
    service: Service,
    correlation: u64,
    replies: mpsc::UnboundedSender<Finished>,
}

impl ReplyTo {
    fn reply(self, reply: PeerReply, place: OwnedSemaphorePermit, charge: Option<Charge>) {
        let address = self.address(Kind::Reply);
        let records = reply.records.iter().map(bytes::Bytes::len).sum();
        match frame::header(address, &reply.head, records) {
            Ok(header) => {
                let mut message = Parts::default();
                message.push(header);
                message.push(reply.head);
                reply.records.into_iter().for_each(|records| message.push(records));
                self.send(Finished { message, _place: place, _charge: charge });
            }
            Err(error) => self.refuse(&error.to_string(), place, charge),
        }
    }

    fn refuse(self, reason: &str, place: OwnedSemaphorePermit, charge: Option<Charge>) {
        let reason = bytes::Bytes::copy_from_slice(reason.as_bytes());
        if let Ok(message) = frame::message(self.address(Kind::Refusal), reason) {
            self.send(Finished { message, _place: place, _charge: charge });
        }
    }

    fn address(&self, kind: Kind) -> Address {
        Address { kind, service: self.service, correlation: self.correlation }
    }

    fn send(self, finished: Finished) {
        // The connection may have ended.
        let _ = self.replies.send(finished);
    }
}

/// Writes replies as they are finished; returns why it ended.
async fn send(mut socket: WriteHalf, mut queue: mpsc::UnboundedReceiver<Finished>) -> String {
    while let Some(mut finished) = queue.recv().await {
        if let Err(error) = write_to(&mut finished.message, &mut socket).await {
            return error.to_string();
        }
    }
    "the connection is served no more".to_owned()
}
