//! Finds out that a peer's process is gone when it goes, not when it is missed.
//!
//! A process that ends, however it ends, leaves its connections to the operating system, which closes
//! them. So when a connection with a broker ends, its address is dialled: if the machine says that
//! nobody listens there any more, the process is gone, and whoever asked to be told is told.
//!
//! Always: nobody is told of a broker whose machine did not refuse a connection after one had ended.
//! What is silent (a machine without power, a cut cable) is not found here: sessions run out for that.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::base::BrokerId;
use crate::config::Endpoint;

/// When a broker is dialled after a connection with it ended: its listener may be closed a moment
/// after its connections.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(3),
    Duration::from_millis(15),
    Duration::from_millis(60),
    Duration::from_millis(200),
];

/// A connection that is accepted and stays open for this long was accepted by a living process.
const LIVES: Duration = Duration::from_millis(50);

/// How long the answer to a dial is waited for; a refusal comes at once.
const DIAL_TIMEOUT: Duration = Duration::from_millis(200);

/// How long it takes the cluster to do without a broker whose process is gone.
const FENCED_WITHIN: Duration = Duration::from_millis(200);

/// Departures that a slow listener may miss nothing of; more than a cluster has brokers at once.
const TOLD_MAX: usize = 256;

/// Where brokers are, and who is told when one is gone.
pub(super) struct Departures {
    known: Mutex<HashMap<BrokerId, Endpoint>>,
    /// Brokers that are dialled just now, or were found gone a moment ago.
    doubted: watch::Sender<BTreeSet<BrokerId>>,
    gone: broadcast::Sender<BrokerId>,
    runtime: Handle,
}

impl Departures {
    pub(super) fn new(runtime: Handle) -> Arc<Self> {
        let gone = broadcast::Sender::new(TOLD_MAX);
        let doubted = watch::Sender::new(BTreeSet::new());
        Arc::new(Self { known: Mutex::default(), doubted, gone, runtime })
    }

    /// Where a broker is from now on; returns where it was.
    pub(super) fn know(&self, broker: BrokerId, at: Endpoint) -> Option<Endpoint> {
        self.known.lock().insert(broker, at)
    }

    pub(super) fn forget(&self, broker: BrokerId) {
        self.known.lock().remove(&broker);
    }

    pub(super) fn address(&self, broker: BrokerId) -> Option<Endpoint> {
        self.known.lock().get(&broker).cloned()
    }

    /// Tells of every broker that is found gone from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<BrokerId> {
        self.gone.subscribe()
    }

    /// A connection with `broker` has ended: sees whether it is gone.
    pub(super) fn look_after(self: &Arc<Self>, broker: BrokerId) {
        if !self.doubted.send_if_modified(|doubted| doubted.insert(broker)) {
            return;
        }
        let departures = self.clone();
        self.runtime.spawn(async move {
            if departures.is_gone(broker).await {
                debug!(broker = broker.0, "a broker's process is gone");
                // Nobody may want to know.
                let _ = departures.gone.send(broker);
                sleep(FENCED_WITHIN).await;
            }
            departures.doubted.send_if_modified(|doubted| doubted.remove(&broker));
        });
    }

    /// The brokers of which it is being found out whether they are gone, and those found gone a moment
    /// ago: others know later.
    pub(super) fn doubted(&self) -> watch::Receiver<BTreeSet<BrokerId>> {
        self.doubted.subscribe()
    }

    async fn is_gone(&self, broker: BrokerId) -> bool {
        for pause in LOOKS {
            sleep(pause).await;
            let Some(at) = self.address(broker) else { return false };
            match timeout(DIAL_TIMEOUT, TcpStream::connect((at.host.as_str(), at.port))).await {
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return true,
                // Accepted, and closed with everything else a moment later?
                Ok(Ok(mut stream)) => {
                    if timeout(LIVES, stream.read_u8()).await.is_err() {
                        return false;
                    }
                }
                // No answer says nothing.
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const PEER: BrokerId = BrokerId(7);

    async fn listening() -> (Arc<Departures>, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let departures = Departures::new(Handle::current());
        departures.know(PEER, Endpoint { name: String::new(), host: "127.0.0.1".into(), port });
        (departures, listener)
    }

    #[tokio::test]
    async fn a_peer_whose_machine_refuses_is_gone() {
        let (departures, listener) = listening().await;
        let mut gone = departures.watch();
        drop(listener);
        departures.look_after(PEER);
        departures.look_after(PEER);
        assert_eq!(gone.recv().await, Ok(PEER));
        assert!(gone.try_recv().is_err(), "told once");
    }

    #[tokio::test]
    async fn a_peer_that_only_closed_a_connection_is_not() {
        let (departures, _listener) = listening().await;
        assert!(!departures.is_gone(PEER).await);
        assert!(!departures.is_gone(BrokerId(8)).await, "nobody knows where it is");
    }

    #[tokio::test]
    async fn a_peer_is_in_doubt_until_it_is_known_whether_it_is_gone() {
        let (departures, listener) = listening().await;
        let mut doubted = departures.doubted();
        departures.look_after(PEER);
        assert!(doubted.borrow_and_update().contains(&PEER), "at once");
        doubted.wait_for(BTreeSet::is_empty).await.expect("it lives");
        drop(listener);
        departures.look_after(PEER);
        departures.watch().recv().await.expect("it is gone");
        assert!(doubted.borrow_and_update().contains(&PEER), "others do not know yet");
        doubted.wait_for(BTreeSet::is_empty).await.expect("by now they do");
    }

    #[tokio::test]
    async fn a_listener_that_closes_after_its_connections_is_found_closed() {
        let (departures, listener) = listening().await;
        let closing = tokio::spawn(async move {
            let accepted = listener.accept().await.unwrap();
            drop(accepted);
            drop(listener);
        });
        assert!(departures.is_gone(PEER).await);
        closing.await.unwrap();
    }
}
