//! A TCP proxy between a client and its broker that does to connections what networks do.
//!
//! The client must only know the proxy: a broker behind it listens on the port that the proxy cannot
//! have, so clients reach it through [`Rewired`], a connector that goes to the proxy whatever the
//! address.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sawlog_client::{Connecting, Connector, TcpConnector};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What the proxy does.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Holds every portion back for so long, in each direction.
    delay_ms: AtomicU64,
    /// Takes bytes and passes none on.
    is_black_hole: AtomicBool,
    /// Passes so many more bytes of requests and then cuts their connection, mid-frame. 0 for never.
    cut_after: AtomicUsize,
    /// Connections cut by that.
    cuts: AtomicUsize,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    links: Arc<Mutex<Vec<AbortHandle>>>,
    acceptor: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind((broker.ip(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let faults = Arc::new(Faults::default());
        let links = Arc::new(Mutex::new(Vec::new()));
        let (shared, known) = (faults.clone(), links.clone());
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link = tokio::spawn(link(client, broker, shared.clone()));
                known.lock().expect("no panics").push(link.abort_handle());
            }
        });
        Self { address, faults, links, acceptor: acceptor.abort_handle() }
    }

    /// Sends every connection here, whatever its address.
    pub(crate) fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(Rewired(self.address.to_string()))
    }

    pub(crate) fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).expect("a short delay");
        self.faults.delay_ms.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn swallow(&self, everything: bool) {
        self.faults.is_black_hole.store(everything, Ordering::Relaxed);
    }

    /// Cuts the connection that carries the byte `after` from now on.
    pub(crate) fn cut_after(&self, after: usize) {
        self.faults.cut_after.store(after, Ordering::Relaxed);
    }

    /// Connections cut in the middle of a frame so far.
    pub(crate) fn cuts(&self) -> usize {
        self.faults.cuts.load(Ordering::Relaxed)
    }

    /// Cuts all connections now.
    pub(crate) fn cut_all(&self) {
        for link in self.links.lock().expect("no panics").drain(..) {
            link.abort();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut_all();
    }
}

#[derive(Debug)]
struct Rewired(String);

impl Connector for Rewired {
    fn connect<'a>(&'a self, _address: &'a str) -> Connecting<'a> {
        TcpConnector.connect(&self.0)
    }
}

async fn link(client: TcpStream, broker: SocketAddr, faults: Arc<Faults>) {
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let (client_read, client_write) = client.into_split();
    let (broker_read, broker_write) = broker.into_split();
    // Whichever ends first ends the other: dropping both halves closes the connection.
    tokio::select! {
        _ = pass(client_read, broker_write, &faults, true) => {}
        _ = pass(broker_read, client_write, &faults, false) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &Faults,
    are_requests: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let delay = faults.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if faults.is_black_hole.load(Ordering::Relaxed) {
            continue;
        }
        let left = faults.cut_after.load(Ordering::Relaxed);
        if are_requests && left > 0 {
            if length >= left {
                faults.cut_after.store(0, Ordering::Relaxed);
                faults.cuts.fetch_add(1, Ordering::Relaxed);
                to.write_all(&buffer[..left]).await?;
                return Ok(());
            }
            faults.cut_after.store(left - length, Ordering::Relaxed);
        }
        to.write_all(&buffer[..length]).await?;
    }
}
