//! Frames out of a byte stream.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Replies longer than this are not read: nothing this client asks for is.
const REPLY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Room made for a frame before its bytes have come. What is not touched costs no memory; beyond it
/// the buffer grows with what has arrived.
const TRUSTED_BYTES: usize = 32 * 1024 * 1024;

/// Bytes read at once while no frame is begun.
const READ_BYTES: usize = 16 * 1024;

/// The reading side of a connection.
pub(crate) struct Frames {
    socket: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn new(socket: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// The next frame, without its length. After an error there is none.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::other("closed by the broker"));
            }
        }
    }

    /// Takes a whole frame from the front, or makes room for the rest of one.
    fn take(&mut self) -> io::Result<Option<Bytes>> {
        let buffer = &mut self.buffer;
        let Some(prefix) = buffer.first_chunk::<4>() else {
            buffer.reserve(READ_BYTES);
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes(*prefix))
            .ok()
            .filter(|length| (4..=REPLY_BYTES_MAX).contains(length))
            .ok_or_else(|| io::Error::other("a reply of impossible length"))?;
        let missing = (length + 4).saturating_sub(buffer.len());
        if missing > 0 {
            // A frame gets a buffer of its own size: one that outlives the others (records a reader
            // keeps) holds back nothing but itself.
            buffer.reserve(missing.min(TRUSTED_BYTES.max(buffer.len())));
            return Ok(None);
        }
        buffer.advance(4);
        Ok(Some(buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: Vec<u8>) -> Frames {
        Frames::new(Box::new(io::Cursor::new(bytes)))
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("a short frame");
        [&length.to_be_bytes(), content].concat()
    }

    #[tokio::test]
    async fn frames_come_whole_whatever_their_size() {
        let contents: Vec<Vec<u8>> =
            [4, 5, 100, 70_000, 4, 3_000_000].map(|length| vec![7; length]).to_vec();
        let mut frames = frames(contents.iter().flat_map(|content| frame(content)).collect());
        for content in contents {
            assert_eq!(frames.next().await.expect("a frame"), content);
        }
        assert!(frames.next().await.is_err(), "the stream is over");
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused() {
        for length in [-1i32, 0, 3, i32::MAX] {
            let mut frames = frames([length.to_be_bytes(), [0; 4]].concat());
            let error = frames.next().await.expect_err("no such frame");
            assert_eq!(error.to_string(), "a reply of impossible length");
        }
    }

    #[tokio::test]
    async fn a_frame_cut_off_is_an_error() {
        let mut bytes = frame(&[1; 100]);
        bytes.pop();
        assert!(frames(bytes).next().await.is_err());
    }
}
