//! Replies on their way out: parts of frames, written as they are, in one vectored write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};
use sawlog_protocol::Rope;
use tokio::net::TcpStream;

/// Parts handed to one vectored write. Linux takes 1024; more than this many small parts are
/// better sent in two calls than kept in a larger array on the stack.
const SLICES_PER_WRITE: usize = 64;

/// The output side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Output {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes not yet taken by the socket.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, reply: Rope) {
        for part in reply.into_parts() {
            if !part.is_empty() {
                self.bytes += part.len();
                self.parts.push_back(part);
            }
        }
    }

    /// Writes what the socket takes. Returns the bytes written, 0 when it takes none now.
    ///
    /// # Errors
    /// The socket's, except `WouldBlock`.
    pub(crate) fn write_to(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let mut written = 0;
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let mut offered = 0;
            let mut count = 0;
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
                offered += part.len();
                count += 1;
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.consume(taken);
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

    fn consume(&mut self, mut taken: usize) {
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

    #[test]
    fn a_short_write_leaves_exactly_the_rest() {
        let mut output = Output::default();
        output.parts.extend([Bytes::from_static(b"abc"), Bytes::from_static(b"defg")]);
        output.bytes = 7;
        output.consume(5);
        assert_eq!(output.parts, [Bytes::from_static(b"fg")]);
        assert_eq!(output.len(), 2);
        output.consume(2);
        assert!(output.is_empty());
    }
}
