//! Accepts connections and gives each its task.
//!
//! A full descriptor table backs off instead of spinning; the number of connections is bounded.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::warn;

use super::connection::{Connection, ConnectionOptions};
use crate::base::memory::MemoryBudget;
use crate::handlers::{Node, Peer};

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What every connection of a listener shares.
#[derive(Clone, Debug)]
pub(crate) struct ListenerOptions {
    pub(crate) connection: ConnectionOptions,
    pub(crate) budget: MemoryBudget,
    /// Address told to clients instead of the one they dialled.
    pub(crate) advertised: Option<(Arc<str>, u16)>,
    /// Connections beyond this are closed at once.
    pub(crate) connections_max: usize,
    /// The same for one client address.
    pub(crate) connections_per_ip_max: usize,
}

/// The open connections, counted by client address.
#[derive(Debug, Default)]
struct Open {
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    total: AtomicUsize,
}

/// One open connection; counts down when it ends, however it ends.
struct Counted {
    open: Arc<Open>,
    ip: IpAddr,
}

impl Open {
    fn admit(self: &Arc<Self>, ip: IpAddr, options: &ListenerOptions) -> Option<Counted> {
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.get(&ip).copied().unwrap_or(0);
        if self.total.load(Ordering::Relaxed) >= options.connections_max
            || count >= options.connections_per_ip_max
        {
            return None;
        }
        by_ip.insert(ip, count + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(Counted { open: self.clone(), ip })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.total.fetch_sub(1, Ordering::Relaxed);
        let mut by_ip = self.open.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

/// Accepts until `stop` says so.
pub(crate) async fn run(
    listener: TcpListener,
    node: Arc<Node>,
    options: ListenerOptions,
    mut stop: watch::Receiver<bool>,
) {
    let open = Arc::new(Open::default());
    loop {
        // Both branches are safe to drop: an unaccepted connection stays in the backlog.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(counted) = open.admit(address.ip(), &options) else {
                    node.metrics.connections.refused.increment();
                    warn!(client = %address, "connection refused: max.connections reached");
                    continue;
                };
                start(stream, address, &node, &options, stop.clone(), counted);
            }
            Err(error) => {
                // Out of descriptors or memory: accepting at once again would only spin.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn start(
    stream: TcpStream,
    address: SocketAddr,
    node: &Arc<Node>,
    options: &ListenerOptions,
    stop: watch::Receiver<bool>,
    counted: Counted,
) {
    // A client that resets between accept and here is not an error of ours.
    let Ok(dialled) = stream.local_addr() else { return };
    if let Err(error) = stream.set_nodelay(true) {
        warn!(client = %address, %error, "cannot disable Nagle's algorithm");
    }
    let (host, port) = match &options.advertised {
        Some((host, port)) => (host.clone(), *port),
        None => (Arc::from(dialled.ip().to_canonical().to_string()), dialled.port()),
    };
    let metrics = node.metrics.clone();
    metrics.connections.accepted.increment();
    let software = OnceLock::new();
    let peer = Arc::new(Peer { node: node.clone(), address, host, port, software });
    let connection =
        Connection::new(stream, peer, options.budget.clone(), options.connection.clone());
    tokio::spawn(async move {
        connection.run(stop).await;
        drop(counted);
        metrics.connections.closed.increment();
    });
}
