//! The network of a world: messages take time, arrive in the order in which they were sent on one
//! connection, or not at all; connections end with the processes at their ends.
//!
//! Where nobody is, nothing is heard: a call to a machine that is off, or cut off, ends with the
//! caller's patience. Where the machine is there and the process is not, it is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::process::Process;
use crate::base::BrokerId;
use crate::base::disk_sim::SimRandom;
use crate::base::tasks::SimulatedProcess as _;
use crate::handlers::{Peer, Reply, dispatch};
use crate::peer::{PeerCall, PeerError, PeerId, PeerNet, PeerService, Service};

/// Somebody who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Broker(i32),
    Client(u32),
}

/// What the network is like; times in milliseconds, chances in thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) delay: (u64, u64),
    pub(super) late: u64,
    pub(super) late_max: u64,
    pub(super) lost: u64,
}

type Answer = oneshot::Sender<Result<Bytes, PeerError>>;

/// What is done where a message arrives.
enum Message {
    Peer { service: Service, request: Bytes, answer: Option<Answer> },
    Frame { frame: Bytes, answer: Answer },
}

impl Message {
    fn into_answer(self) -> Option<Answer> {
        match self {
            Self::Peer { answer, .. } => answer,
            Self::Frame { answer, .. } => Some(answer),
        }
    }
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    from: (Place, u64),
    to: (i32, u64),
    service: Option<Service>,
}

/// What is under way on it.
struct UnderWay {
    messages: VecDeque<Message>,
    /// When the last one arrives.
    last: Instant,
}

#[derive(Default)]
struct Host {
    is_on: bool,
    process: Option<Arc<Process>>,
    services: BTreeMap<Service, Arc<dyn PeerService>>,
    clients: Option<Arc<Peer>>,
}

struct State {
    random: SimRandom,
    lines: Lines,
    hosts: BTreeMap<i32, Host>,
    cut: BTreeSet<(Place, Place)>,
    under_way: BTreeMap<Line, UnderWay>,
    sent: u64,
}

/// The network.
#[derive(Clone)]
pub(super) struct Net(Arc<Mutex<State>>);

impl Net {
    pub(super) fn new(seed: u64, lines: Lines) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: SimRandom::new(seed),
            lines,
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            under_way: BTreeMap::new(),
            sent: 0,
        })))
    }

    pub(super) fn set_lines(&self, lines: Lines) {
        self.0.lock().lines = lines;
    }

    /// Messages so far.
    pub(super) fn sent(&self) -> u64 {
        self.0.lock().sent
    }

    /// The machine runs `process`.
    pub(super) fn start(&self, process: &Arc<Process>) {
        let host = Host { is_on: true, process: Some(process.clone()), ..Host::default() };
        self.0.lock().hosts.insert(process.broker, host);
    }

    /// The process of a machine is gone; with its power, or without.
    pub(super) fn end(&self, broker: i32, stays_on: bool) {
        let mut state = self.0.lock();
        let ended = state.hosts.insert(broker, Host { is_on: stays_on, ..Host::default() });
        let is_of = |line: &Line| line.to.0 == broker || line.from.0 == Place::Broker(broker);
        let (over, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut state.under_way).into_iter().partition(|(line, _)| is_of(line));
        state.under_way = left;
        drop(state);
        drop(ended);
        if stays_on {
            for (line, under_way) in over.into_iter().filter(|(line, _)| line.to.0 == broker) {
                for answer in under_way.messages.into_iter().filter_map(Message::into_answer) {
                    self.close_later(line.from.0, broker, answer);
                }
            }
        }
    }

    /// Clients of a broker are served.
    pub(super) fn serve_clients(&self, process: &Process, peer: Arc<Peer>) {
        if let Some(host) = self.0.lock().host_of((process.broker, process.life)) {
            host.clients = Some(peer);
        }
    }

    /// Nothing gets from one to the other.
    pub(super) fn cut(&self, from: Place, to: Place) {
        self.0.lock().cut.insert((from, to));
    }

    /// All is connected again.
    pub(super) fn heal(&self) {
        self.0.lock().cut.clear();
    }

    /// Whether messages get from one broker to the other and back.
    pub(super) fn connects(&self, one: i32, other: i32) -> bool {
        let state = self.0.lock();
        let (one, other) = (Place::Broker(one), Place::Broker(other));
        !state.cut.contains(&(one, other)) && !state.cut.contains(&(other, one))
    }

    /// Whether the process at a place is alive and makes steps.
    pub(super) fn runs(&self, broker: i32) -> bool {
        let state = self.0.lock();
        let process = state.hosts.get(&broker).and_then(|host| host.process.as_ref());
        process.is_some_and(|process| !process.is_stopped())
    }

    /// A client asks a broker.
    pub(super) async fn ask(
        &self,
        client: u32,
        broker: i32,
        frame: Bytes,
        patience: Duration,
    ) -> Result<Bytes, PeerError> {
        let (answer, answered) = oneshot::channel();
        let from = (Place::Client(client), 0);
        self.send(from, broker, None, Message::Frame { frame, answer });
        hear(answered, patience).await
    }

    fn send(&self, from: (Place, u64), to: i32, service: Option<Service>, message: Message) {
        let mut state = self.0.lock();
        state.sent += 1;
        let (delay, lost) = state.journey();
        let place = Place::Broker(to);
        let host = state.hosts.get(&to);
        let is_cut = state.cut.contains(&(from.0, place)) || !host.is_some_and(|host| host.is_on);
        if is_cut {
            return;
        }
        let Some(process) = host.and_then(|host| host.process.as_ref()) else {
            let back = state.journey().0;
            drop(state);
            let Some(answer) = message.into_answer() else { return };
            tokio::spawn(async move {
                sleep(delay + back).await;
                let refused = PeerError::Unreachable(format!("broker {to} refuses connections"));
                let _gone = answer.send(Err(refused));
            });
            return;
        };
        let line = Line { from, to: (to, process.life), service };
        if lost {
            drop(state);
            if let Some(answer) = message.into_answer() {
                self.close_later(from.0, to, answer);
            }
            return;
        }
        let now = Instant::now();
        let under_way = state
            .under_way
            .entry(line)
            .or_insert_with(|| UnderWay { messages: VecDeque::new(), last: now });
        let arrives = under_way.last.max(now + delay);
        under_way.last = arrives;
        under_way.messages.push_back(message);
        drop(state);
        let net = self.clone();
        tokio::spawn(async move {
            sleep_until(arrives).await;
            net.arrive(line);
        });
    }

    /// The next message of a line is there.
    fn arrive(&self, line: Line) {
        let mut state = self.0.lock();
        // The connection has ended, or all that was sent has arrived.
        let Some(under_way) = state.under_way.get_mut(&line) else { return };
        let Some(message) = under_way.messages.pop_front() else { return };
        if state.cut.contains(&(line.from.0, Place::Broker(line.to.0))) {
            return;
        }
        let Some(host) = state.host_of(line.to) else { return };
        let Some(process) = host.process.clone() else { return };
        let net = self.clone();
        match message {
            Message::Peer { service, request, answer } => {
                let Some(by) = host.services.get(&service).cloned() else {
                    drop(state);
                    let refused = PeerError::Refused("it does not serve this yet".to_owned());
                    return answer.into_iter().for_each(|it| drop(it.send(Err(refused.clone()))));
                };
                drop(state);
                let Place::Broker(from) = line.from.0 else { return };
                let raft_id = u64::from(from.unsigned_abs());
                let from = PeerId { broker: Some(BrokerId(from)), raft_id };
                let back = answer.map(|answer| WayBack::new(&net, line, answer));
                process.spawn(Box::pin(async move {
                    let reply = by.call(from, request).await;
                    if let Some(back) = back {
                        let mut bytes = reply.head.to_vec();
                        reply.records.iter().for_each(|part| bytes.extend_from_slice(part));
                        back.answer(Ok(bytes.into()));
                    }
                }));
            }
            Message::Frame { frame, answer } => {
                let clients = host.clients.clone();
                drop(state);
                let back = WayBack::new(&net, line, answer);
                let Some(peer) = clients else {
                    return back
                        .answer(Err(PeerError::Unreachable("it does not listen yet".to_owned())));
                };
                process.spawn(Box::pin(async move {
                    let mut reply = dispatch(&peer, frame);
                    let answer = loop {
                        match reply {
                            Reply::Ready(rope) => break Ok(rope.to_bytes()),
                            Reply::Pending(pending) => match pending.await {
                                Ok(rope) => break Ok(rope.to_bytes()),
                                Err(reason) => break Err(PeerError::Refused(reason.to_string())),
                            },
                            Reply::Unordered(order) => reply = order.await,
                            Reply::Nothing => return,
                            Reply::Close(reason) => {
                                break Err(PeerError::Refused(reason.to_string()));
                            }
                        }
                    };
                    back.answer(answer);
                }));
            }
        }
    }

    /// The connection ends, which the caller hears if anything gets there.
    fn close_later(&self, caller: Place, broker: i32, answer: Answer) {
        self.back(caller, broker, answer, Err(PeerError::Closed));
    }

    fn back(&self, to: Place, from: i32, answer: Answer, result: Result<Bytes, PeerError>) {
        let delay = {
            let mut state = self.0.lock();
            let (delay, lost) = state.journey();
            if lost || state.cut.contains(&(Place::Broker(from), to)) {
                return;
            }
            delay
        };
        let net = self.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            if !net.0.lock().cut.contains(&(Place::Broker(from), to)) {
                let _gone = answer.send(result);
            }
        });
    }
}

impl State {
    /// How long a message takes, and whether its connection breaks.
    fn journey(&mut self) -> (Duration, bool) {
        let lines = self.lines;
        let mut ms = lines.delay.0 + self.random.below(lines.delay.1 - lines.delay.0 + 1);
        if self.random.below(1000) < lines.late {
            ms += self.random.below(lines.late_max);
        }
        (Duration::from_millis(ms), self.random.below(1000) < lines.lost)
    }

    fn host_of(&mut self, (broker, life): (i32, u64)) -> Option<&mut Host> {
        let host = self.hosts.get_mut(&broker)?;
        host.process.as_ref().is_some_and(|process| process.life == life).then_some(host)
    }
}

/// How an answer gets to who asked; one that is dropped with its process ends the connection.
struct WayBack {
    net: Net,
    line: Line,
    answer: Option<Answer>,
}

impl WayBack {
    fn new(net: &Net, line: Line, answer: Answer) -> Self {
        Self { net: net.clone(), line, answer: Some(answer) }
    }

    fn answer(mut self, result: Result<Bytes, PeerError>) {
        if let Some(answer) = self.answer.take() {
            self.net.back(self.line.from.0, self.line.to.0, answer, result);
        }
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        let is_on =
            self.net.0.try_lock().is_some_and(|state| {
                state.hosts.get(&self.line.to.0).is_some_and(|host| host.is_on)
            });
        if let Some(answer) = self.answer.take().filter(|_| is_on) {
            self.net.close_later(self.line.from.0, self.line.to.0, answer);
        }
    }
}

/// Waits for an answer; silence lasts as long as the patience.
async fn hear(
    answered: oneshot::Receiver<Result<Bytes, PeerError>>,
    patience: Duration,
) -> Result<Bytes, PeerError> {
    let deadline = Instant::now() + patience;
    match timeout_at(deadline, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_lost)) => {
            sleep_until(deadline).await;
            Err(PeerError::TimedOut)
        }
        Err(_) => Err(PeerError::TimedOut),
    }
}

/// The other brokers, as a process reaches them.
pub(super) struct SimPeers {
    pub(super) net: Net,
    pub(super) process: Arc<Process>,
}

impl fmt::Debug for SimPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPeers({:?})", self.process)
    }
}

impl SimPeers {
    fn from(&self) -> (Place, u64) {
        (Place::Broker(self.process.broker), self.process.life)
    }
}

impl PeerNet for SimPeers {
    fn serve(&self, service: Service, by: Arc<dyn PeerService>) {
        let me = (self.process.broker, self.process.life);
        if let Some(host) = self.net.0.lock().host_of(me) {
            host.services.insert(service, by);
        }
    }

    fn call(&self, to: BrokerId, service: Service, request: Bytes, timeout: Duration) -> PeerCall {
        let (answer, answered) = oneshot::channel();
        let message = Message::Peer { service, request, answer: Some(answer) };
        self.net.send(self.from(), to.0, Some(service), message);
        Box::pin(hear(answered, timeout))
    }

    fn tell(&self, to: BrokerId, service: Service, message: Bytes) {
        let message = Message::Peer { service, request: message, answer: None };
        self.net.send(self.from(), to.0, Some(service), message);
    }

    /// Nobody is found gone here: sessions end.
    fn doubted(&self) -> watch::Receiver<BTreeSet<BrokerId>> {
        watch::channel(BTreeSet::new()).1
    }
}
