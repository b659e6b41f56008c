//! The first bytes of a connection: TLS where it is set up, and what who expects otherwise is told.
//!
//! A greeting without TLS begins with a zero, a handshake of TLS with another byte: which of them comes is
//! known before anything is read. So who calls without TLS is told why it is refused in its own words.

use std::io;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::super::stream::Stream;
use super::{Certified, Failure, PeerTls};
use crate::base::parts::Parts;

/// A record of TLS that belongs to a handshake.
const HANDSHAKE: u8 = 0x16;

/// What the other side is called in its handshake: nobody looks at it.
const NOBODY: &str = "sawlog";

/// How long and how much is taken of what a refused caller still sends. If it were left unread, the
/// connection would be reset and the reason lost.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: u64 = 64 * 1024;

const NEEDS_TLS: &str = "it calls without TLS, which this broker asks for; start it with \
    peer.tls.certificate.file, peer.tls.key.file and peer.tls.ca.file, as this broker is";

const HAS_NO_TLS: &str = "it calls with TLS, for which this broker is not set up; start both with \
    peer.tls.certificate.file, peer.tls.key.file and peer.tls.ca.file, or neither";

/// A connection whose caller can greet.
#[derive(Debug)]
pub(in crate::peer) struct Opened {
    pub(in crate::peer) stream: Stream,
    /// Whose certificate it has shown.
    pub(in crate::peer) certified: Certified,
    /// Why it is refused once it has greeted.
    pub(in crate::peer) obstacle: Option<String>,
}

/// Begins a connection that came in. A failure comes with the socket, for a [`farewell`].
pub(in crate::peer) async fn answer(
    tls: Option<&PeerTls>,
    socket: TcpStream,
) -> Result<Opened, (Failure, TcpStream)> {
    let mut first = [0];
    let speaks_tls = match socket.peek(&mut first).await {
        Ok(0) => return Err((Failure::Lost(io::ErrorKind::UnexpectedEof.into()), socket)),
        Ok(_) => first == [HANDSHAKE],
        Err(error) => return Err((Failure::Lost(error), socket)),
    };
    let obstacle = match (tls, speaks_tls) {
        (Some(tls), true) => return answer_tls(tls, socket).await,
        (None, true) => return Err((Failure::Refused(HAS_NO_TLS.to_owned()), socket)),
        (Some(_), false) => Some(NEEDS_TLS.to_owned()),
        (None, false) => None,
    };
    Ok(Opened { stream: Stream::Plain(socket), certified: Certified::Anyone, obstacle })
}

async fn answer_tls(tls: &PeerTls, socket: TcpStream) -> Result<Opened, (Failure, TcpStream)> {
    let acceptor = TlsAcceptor::from(tls.current.load().server.clone());
    let stream = match acceptor.accept(socket).into_fallible().await {
        Ok(stream) => stream,
        Err((error, socket)) => return Err((Failure::of(error), socket)),
    };
    let (certified, obstacle) = match certified(stream.get_ref().1.peer_certificates()) {
        Ok(certified) => (certified, None),
        Err(reason) => (Certified::Anyone, Some(reason)),
    };
    let stream = Stream::Tls(Box::new(TlsStream::Server(stream)));
    Ok(Opened { stream, certified, obstacle })
}

/// Begins a connection that was made: with TLS, if it is set up.
pub(in crate::peer) async fn call(
    tls: Option<&PeerTls>,
    socket: TcpStream,
) -> Result<(Stream, Certified), Failure> {
    let Some(tls) = tls else { return Ok((Stream::Plain(socket), Certified::Anyone)) };
    let connector = TlsConnector::from(tls.current.load().client.clone());
    let nobody =
        ServerName::try_from(NOBODY).map_err(|error| Failure::Refused(error.to_string()))?;
    let stream = connector.connect(nobody, socket).await.map_err(Failure::of)?;
    let certified = certified(stream.get_ref().1.peer_certificates()).map_err(Failure::Refused)?;
    Ok((Stream::Tls(Box::new(TlsStream::Client(stream))), certified))
}

fn certified(chain: Option<&[CertificateDer<'static>]>) -> Result<Certified, String> {
    let own = chain.and_then(<[_]>::first);
    // The handshake does not succeed without one.
    own.map_or_else(|| Err("it shows no certificate".to_owned()), Certified::of)
}

/// Ends a connection in a way that lets the other side read `last` and what was said before.
pub(in crate::peer) async fn farewell(mut socket: TcpStream, mut last: Parts) {
    let ended = timeout(FAREWELL, async {
        socket.write_all_buf(&mut last).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(FAREWELL_BYTES_MAX), &mut tokio::io::sink()).await
    });
    // It is refused in any case.
    let _ = ended.await;
}
