//! What a connection runs over. TCP unless told otherwise; TLS, a proxy or a test's own wire come in
//! as a [`Connector`].

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The two directions of an open byte stream.
pub struct Transport {
    /// What the broker sends.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes to the broker. Written with vectors where it supports them.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// A connection attempt.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Transport>> + Send + 'a>>;

/// Opens byte streams to brokers: the place where TLS goes, or, as here, another way to get there.
///
/// ```
/// use sawlog_client::{Connecting, Connector, TcpConnector};
///
/// /// Everything through a tunnel's local end.
/// #[derive(Debug)]
/// struct Tunnel;
///
/// impl Connector for Tunnel {
///     fn connect<'a>(&'a self, _address: &'a str) -> Connecting<'a> {
///         TcpConnector.connect("127.0.0.1:19092")
///     }
/// }
/// ```
///
/// It is dropped when the attempt takes
/// longer than [`ClientOptions::connect_timeout`](crate::ClientOptions::connect_timeout).
pub trait Connector: Debug + Send + Sync {
    /// Connects to `address`, a `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a>;
}

/// Plain TCP, without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            Ok(Transport { read: Box::new(read), write: Box::new(write) })
        })
    }
}
