//! Two and three nodes in one process, over loopback.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use crate::config::Endpoint;

use super::*;

/// Long enough for anything that is to happen.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) fn identity(cluster: u8, broker: i32, raft_id: u64) -> PeerIdentity {
    let incarnation = crate::metadata::Random::next_uuid(&mut crate::metadata::SystemRandom);
    PeerIdentity {
        cluster_id: (cluster > 0).then_some(Uuid([cluster; 16])),
        id: PeerId { broker: (broker >= 0).then_some(BrokerId(broker)), raft_id },
        incarnation,
    }
}

/// A node that listens until it is dropped.
pub(super) struct Node {
    pub(super) peers: Peers,
    pub(super) at: Endpoint,
    stop: watch::Sender<bool>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Node {
    /// Waits until a refusal is logged that contains this.
    pub(super) async fn logs(&self, text: &str) {
        let logged = || self.peers.refusals().iter().any(|reason| reason.contains(text));
        let waited = tokio::time::timeout(SOON, async {
            while !logged() {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "{text}: {:?}", self.peers.refusals());
    }
}

fn node(me: PeerIdentity) -> Node {
    node_with(me, None)
}

pub(super) fn node_with(me: PeerIdentity, tls: Option<Arc<PeerTls>>) -> Node {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = endpoint(listener.local_addr().unwrap().port());
    let peers = Peers::with_tls(me, Handle::current(), tls);
    let (stop, stopped) = watch::channel(false);
    peers.listen(listener, stopped).unwrap();
    Node { peers, at, stop }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint { name: "PEER".to_owned(), host: "127.0.0.1".to_owned(), port }
}

fn pair() -> (Node, Node) {
    let (a, b) = (node(identity(1, 1, 11)), node(identity(1, 2, 12)));
    a.peers.know(BrokerId(2), b.at.clone());
    b.peers.know(BrokerId(1), a.at.clone());
    (a, b)
}

/// Answers with what was asked, as head and twice as records.
pub(super) struct Echo;

impl PeerService for Echo {
    fn call(&self, from: PeerId, request: Bytes) -> PeerAnswer {
        let head = Bytes::from(format!("{:?}:", from.broker.map(|id| id.0)));
        let records = vec![request.clone(), request];
        Box::pin(async move { PeerReply { head, records } })
    }
}

/// Answers `wait` when told to, anything else at once; remembers the order requests came in.
#[derive(Default)]
struct Gate {
    open: Arc<Notify>,
    begun: parking_lot::Mutex<Vec<Bytes>>,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl PeerService for Gate {
    fn call(&self, _: PeerId, request: Bytes) -> PeerAnswer {
        self.begun.lock().push(request.clone());
        let (open, dropped) = (self.open.clone(), CountDrop(self.dropped.clone()));
        Box::pin(async move {
            if &request[..] == b"wait" {
                open.notified().await;
            }
            drop(dropped);
            PeerReply::from(request)
        })
    }
}

#[tokio::test]
async fn a_call_is_answered_by_the_broker_it_names_in_one_piece() {
    let (a, b) = pair();
    b.peers.serve(Service::Replication, Arc::new(Echo));
    let big = Bytes::from(vec![7u8; 3 << 20]);
    for request in [Bytes::from_static(b"x"), big, Bytes::new()] {
        let answer = a.peers.call(BrokerId(2), Service::Replication, request.clone(), SOON).await;
        let expected = [b"Some(1):", &request[..], &request[..]].concat();
        assert!(answer.unwrap() == expected, "of {} bytes", request.len());
    }
    let at = a.peers.call_at(&b.at, Service::Replication, Bytes::new(), SOON).await.unwrap();
    assert_eq!(&at[..], b"Some(1):");
}

#[tokio::test]
async fn a_reply_may_overtake_another_and_requests_begin_in_order() {
    let (a, b) = pair();
    let gate = Arc::new(Gate::default());
    b.peers.serve(Service::Controller, gate.clone());
    let call = |text: &'static [u8]| {
        let peers = a.peers.clone();
        async move { peers.call(BrokerId(2), Service::Controller, Bytes::from_static(text), SOON).await }
    };
    let waits = tokio::spawn(call(b"wait"));
    while gate.begun.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(b"at once").await.unwrap(), "at once");
    for number in 0..50u8 {
        a.peers.tell(BrokerId(2), Service::Controller, Bytes::copy_from_slice(&[number]));
    }
    assert_eq!(call(b"last").await.unwrap(), "last");
    let begun = gate.begun.lock().clone();
    let told: Vec<u8> = begun.iter().filter(|one| one.len() == 1).map(|one| one[0]).collect();
    assert_eq!(told, (0..50).collect::<Vec<u8>>());
    gate.open.notify_one();
    assert_eq!(waits.await.unwrap().unwrap(), "wait");
}

#[tokio::test]
async fn more_calls_than_may_be_under_way_are_all_answered() {
    let (a, b) = pair();
    b.peers.serve(Service::Raft, Arc::new(Echo));
    let (done, mut answers) = mpsc::unbounded_channel();
    for _ in 0..1000 {
        let (peers, done) = (a.peers.clone(), done.clone());
        tokio::spawn(async move {
            let answer =
                peers.call(BrokerId(2), Service::Raft, Bytes::from_static(b"1"), SOON).await;
            done.send(answer.is_ok()).unwrap();
        });
    }
    for _ in 0..1000 {
        assert_eq!(answers.recv().await, Some(true));
    }
}

#[tokio::test]
async fn a_refused_connection_is_told_apart_from_an_unknown_address_and_from_silence() {
    let a = node(identity(1, 1, 11));
    let call = |broker: i32, timeout: Duration| {
        a.peers.call(BrokerId(broker), Service::Raft, Bytes::new(), timeout)
    };
    assert!(matches!(call(9, SOON).await, Err(PeerError::NoRoute(_))));
    let closed = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    a.peers.know(BrokerId(2), endpoint(closed));
    let refused = call(2, SOON).await;
    assert!(matches!(refused, Err(PeerError::Unreachable(_))), "{refused:?}");
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    a.peers.know(BrokerId(3), endpoint(silent.local_addr().unwrap().port()));
    assert_eq!(call(3, Duration::from_millis(50)).await, Err(PeerError::TimedOut));
}

#[tokio::test]
async fn a_peer_that_went_away_closes_its_calls_and_is_found_again_when_it_is_back() {
    let (a, b) = pair();
    let gate = Arc::new(Gate::default());
    b.peers.serve(Service::Raft, gate.clone());
    let request = Bytes::from_static(b"wait");
    let waits = {
        let (peers, request) = (a.peers.clone(), request.clone());
        tokio::spawn(async move { peers.call(BrokerId(2), Service::Raft, request, SOON).await })
    };
    while gate.begun.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    let port = b.at.port;
    drop(b);
    assert_eq!(waits.await.unwrap(), Err(PeerError::Closed));
    while gate.dropped.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }

    let listener = loop {
        // The listener's task may not have ended yet.
        match StdListener::bind(("127.0.0.1", port)) {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    listener.set_nonblocking(true).unwrap();
    let again = Peers::new(identity(1, 2, 12), Handle::current());
    again.serve(Service::Raft, Arc::new(Echo));
    let (_stop, stopped) = watch::channel(false);
    again.listen(listener, stopped).unwrap();
    let answer = a.peers.call(BrokerId(2), Service::Raft, request, SOON).await;
    assert_eq!(answer.unwrap(), "Some(1):waitwait");
}

#[tokio::test]
async fn a_dead_connection_is_given_up_when_a_call_times_out_on_it() {
    let (a, b) = pair();
    let gate = Arc::new(Gate::default());
    b.peers.serve(Service::Raft, gate.clone());
    let call = |text: &'static [u8], limit| {
        a.peers.call(BrokerId(2), Service::Raft, Bytes::from_static(text), limit)
    };
    call(b"first", SOON).await.unwrap();
    assert_eq!(call(b"wait", Duration::from_millis(30)).await, Err(PeerError::TimedOut));
    // Nothing came while it waited: what was under way there ends with the connection.
    while gate.dropped.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    // A call may still have caught the connection that ends.
    while call(b"again", SOON).await.is_err() {}
}

#[tokio::test]
async fn strangers_twins_and_copies_are_refused_with_a_sentence() {
    let b = node(identity(1, 2, 12));
    for service in Service::ALL {
        b.peers.serve(service, Arc::new(Echo));
    }
    let call = async |caller: PeerIdentity, service: Service| {
        let caller = node(caller);
        caller.peers.call_at(&b.at, service, Bytes::new(), SOON).await
    };
    let refusal = async |caller: PeerIdentity, service: Service| match call(caller, service).await {
        Err(PeerError::Refused(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refusal(identity(2, 1, 11), Service::Raft).await.contains("cluster"));
    assert!(refusal(identity(0, -1, 13), Service::Raft).await.contains("only ask to join"));
    assert!(refusal(identity(1, 1, 12), Service::Raft).await.contains("copy"));
    assert!(refusal(identity(1, 2, 11), Service::Raft).await.contains("broker 2"));
    assert_eq!(call(identity(0, -1, 13), Service::Join).await.unwrap(), "None:");
    let lives = node(identity(1, 3, 14));
    lives.peers.call_at(&b.at, Service::Raft, Bytes::new(), SOON).await.unwrap();
    assert!(refusal(identity(1, 3, 14), Service::Join).await.contains("another process"));
}

#[tokio::test]
async fn who_joins_is_greeted_anew_under_its_name() {
    let (a, b) = (node(identity(0, -1, 11)), node(identity(1, 2, 12)));
    b.peers.serve(Service::Join, Arc::new(Echo));
    b.peers.serve(Service::Raft, Arc::new(Echo));
    let call = |service| a.peers.call_at(&b.at, service, Bytes::new(), SOON);
    assert_eq!(call(Service::Join).await.unwrap(), "None:");
    let me = a.peers.me();
    a.peers.introduce(PeerIdentity { incarnation: me.incarnation, ..identity(1, 5, 11) });
    assert_eq!(call(Service::Join).await.unwrap(), "Some(5):");
    assert_eq!(call(Service::Raft).await.unwrap(), "Some(5):");
}

#[tokio::test]
async fn a_service_that_is_not_there_yet_refuses_and_the_connection_stays() {
    let (a, b) = pair();
    let call = || a.peers.call(BrokerId(2), Service::Controller, Bytes::new(), SOON);
    assert!(matches!(call().await, Err(PeerError::Refused(_))));
    b.peers.serve(Service::Controller, Arc::new(Echo));
    assert_eq!(call().await.unwrap(), "Some(1):");
}

#[tokio::test]
async fn bytes_of_strangers_end_their_connection_and_nothing_else() {
    let (a, b) = pair();
    b.peers.serve(Service::Raft, Arc::new(Echo));
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n0123456789"[..], &[0; 64], &[255; 64]] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", b.at.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }
    let answer = a.peers.call(BrokerId(2), Service::Raft, Bytes::new(), SOON).await;
    assert_eq!(answer.unwrap(), "Some(1):");
}
