//! Replies on their way out: parts of frames, written as they are, in one vectored write.

use std::io::{self, IoSlice};

use bytes::Buf as _;
use sawlog_protocol::Rope;
use tokio::net::TcpStream;

use crate::base::parts::Parts;

/// Parts handed to one vectored write. Linux takes 1024; more than this many small parts are
/// better sent in two calls than kept in a larger array on the stack.
const SLICES_PER_WRITE: usize = 64;

/// The output side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Output {
    parts: Parts,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        !self.parts.has_remaining()
    }

    /// Bytes not yet taken by the socket.
    pub(crate) fn len(&self) -> usize {
        self.parts.remaining()
    }

    pub(crate) fn push(&mut self, reply: Rope) {
        for part in reply.into_parts() {
            self.parts.push(part);
        }
    }

    /// Writes what the socket takes. Returns the bytes written, 0 when it takes none now.
    ///
    /// # Errors
    /// The socket's, except `WouldBlock`.
    pub(crate) fn write_to(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let mut written = 0;
        while self.parts.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let count = self.parts.chunks_vectored(&mut slices);
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            match stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.parts.advance(taken);
                    written += taken;
                    if taken < offered {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}
