//! Frames on their way out, all of them written before the next.

use std::io;
use std::time::Duration;

use bytes::Buf as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::base::parts::Parts;

/// A peer that takes not a byte for this long is gone, whatever TCP says.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// Writes all of `message`, through what holds bytes back on their way (TLS does).
///
/// # Errors
/// The socket's; `TimedOut` if it takes nothing for long.
pub(super) async fn write_to<W: AsyncWrite + Unpin>(
    message: &mut Parts,
    socket: &mut W,
) -> io::Result<()> {
    while message.has_remaining() {
        match timeout(WRITE_STALL, socket.write_buf(message)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    match timeout(WRITE_STALL, socket.flush()).await {
        Ok(flushed) => flushed,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn parts_are_written_in_order_whatever_the_socket_takes_at_once() {
        let mut out = Parts::default();
        for part in ["abc", "", "defg", "h"] {
            out.push(Bytes::from_static(part.as_bytes()));
        }
        out.advance(4);
        let mut written = Vec::new();
        write_to(&mut out, &mut written).await.unwrap();
        assert_eq!(written, b"efgh");
        assert_eq!(out.remaining(), 0);
    }
}
