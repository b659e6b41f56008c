//! Frames on their way out: parts written as they are, in vectored writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// A peer that takes not a byte for this long is gone, whatever TCP says.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// Bytes not written yet.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// The socket's; `TimedOut` if it takes nothing for long.
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
    ) -> io::Result<()> {
        while self.has_remaining() {
            match timeout(WRITE_STALL, socket.write_buf(self)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut taken: usize) {
        self.bytes -= taken;
        while let Some(front) = self.parts.front_mut() {
            if taken < front.len() {
                front.advance(taken);
                return;
            }
            taken -= front.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_are_written_in_order_whatever_the_socket_takes_at_once() {
        let mut out = Outgoing::default();
        for part in ["abc", "", "defg", "h"] {
            out.push(Bytes::from_static(part.as_bytes()));
        }
        out.advance(4);
        let mut written = Vec::new();
        out.write_to(&mut written).await.unwrap();
        assert_eq!(written, b"efgh");
        assert_eq!(out.remaining(), 0);
    }
}
