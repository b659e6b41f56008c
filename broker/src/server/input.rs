//! The bytes a client has sent and nobody has handled yet, cut into frames.
//!
//! The buffer grows with what has arrived, never with what a length claims, and is used again for
//! the next frame once the handler has let go of the previous one. While a large frame arrives,
//! reads stop at its end, so that no bytes of the next one have to be moved.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::base::memory::{Charge, MemoryBudget};

/// The length prefix of a frame.
const PREFIX_BYTES: usize = 4;

/// First step of buffer and budget for a frame; also the size of a read between frames.
const STEP_BYTES: usize = 16 * 1024;

/// A frame whose length is known.
#[derive(Debug)]
struct Frame {
    length: usize,
    charged: usize,
    charge: Option<Charge>,
}

/// What the buffer holds next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A whole frame, without its length prefix, and its share of the memory budget.
    Frame(Bytes, Option<Charge>),
    /// More bytes must be read.
    Read,
    /// The memory budget must grant this many bytes before more is read.
    Memory(usize),
}

/// A length prefix no honest client sends. The connection cannot go on: frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Negative, or too short to hold a request header.
    #[error("frame length {0} is not a request's: it must hold at least an 8-byte header")]
    TooShort(i32),
    /// Above the bound for this kind of request.
    #[error("frame of {length} bytes exceeds the limit of {limit} bytes for this request")]
    TooLarge {
        /// What the prefix claims.
        length: usize,
        /// The bound it exceeds.
        limit: usize,
    },
}

/// Bounds on one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Longest Produce frame (`socket.request.max.bytes`).
    pub(crate) produce_bytes: usize,
    /// Longest frame of any other API.
    pub(crate) control_bytes: usize,
}

/// The input side of one connection.
#[derive(Debug)]
pub(crate) struct Input {
    buffer: BytesMut,
    frame: Option<Frame>,
    limits: FrameLimits,
    /// Length of the last whole frame: a client that has sent that much may claim as much again.
    proven: usize,
}

/// A client's record counts for no more than this when the next frame is charged.
const PROVEN_BYTES_MAX: usize = 1024 * 1024;

impl Input {
    pub(crate) fn new(limits: FrameLimits) -> Self {
        Self { buffer: BytesMut::new(), frame: None, limits, proven: STEP_BYTES }
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn mid_frame(&self) -> bool {
        self.frame.is_some() || !self.buffer.is_empty()
    }

    /// Takes the next whole frame, or says what it takes to go on.
    pub(crate) fn next(&mut self, budget: &MemoryBudget) -> Result<Next, FrameError> {
        let frame = match &mut self.frame {
            Some(frame) => frame,
            None => {
                let Some(length) = self.parse_prefix()? else { return Ok(Next::Read) };
                self.frame.insert(Frame { length, charged: 0, charge: None })
            }
        };
        let received = self.buffer.len();
        if received >= frame.length {
            let charge = frame.charge.take();
            let bytes = self.buffer.split_to(frame.length).freeze();
            self.proven = bytes.len().clamp(STEP_BYTES, PROVEN_BYTES_MAX);
            self.frame = None;
            return Ok(Next::Frame(bytes, charge));
        }
        // Charge ahead of the next read: double what is here, or what this client has proven it
        // sends; at most the frame.
        let wanted = frame.length.min(self.proven.max(received * 2));
        if wanted > frame.charged {
            let missing = wanted - frame.charged;
            match budget.try_charge(missing) {
                Some(charge) => Self::add_charge(frame, missing, charge),
                None => return Ok(Next::Memory(missing)),
            }
        }
        Ok(Next::Read)
    }

    /// Adds what the budget granted after [`Next::Memory`].
    pub(crate) fn granted(&mut self, bytes: usize, charge: Charge) {
        if let Some(frame) = &mut self.frame {
            Self::add_charge(frame, bytes, charge);
        }
    }

    fn add_charge(frame: &mut Frame, bytes: usize, charge: Charge) {
        frame.charged += bytes;
        match &mut frame.charge {
            Some(held) => held.merge(charge),
            none => *none = Some(charge),
        }
    }

    /// Reads what the socket has. `Ok(0)` means the client closed its side.
    ///
    /// # Errors
    /// The socket's, `WouldBlock` included.
    pub(crate) fn read_from(&mut self, stream: &TcpStream) -> std::io::Result<usize> {
        let received = self.buffer.len();
        let room = match &self.frame {
            Some(frame) => frame.charged.max(received + 1).min(frame.length) - received,
            None => STEP_BYTES,
        };
        self.buffer.reserve(room);
        stream.try_read_buf(&mut (&mut self.buffer).limit(room))
    }

    /// Gives the buffer back to the allocator if nothing is in it.
    pub(crate) fn release_idle(&mut self) {
        if self.buffer.is_empty() && self.frame.is_none() {
            self.buffer = BytesMut::new();
            self.proven = STEP_BYTES;
        }
    }

    /// Reads the length prefix, and as soon as the API key is there checks it against its bound.
    fn parse_prefix(&mut self) -> Result<Option<usize>, FrameError> {
        // Two more bytes than the prefix tell which API, hence which bound, applies.
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*prefix);
        let length = usize::try_from(claimed).map_err(|_| FrameError::TooShort(claimed))?;
        if length < 8 {
            return Err(FrameError::TooShort(claimed));
        }
        let Some((key, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let is_produce = i16::from_be_bytes(*key) == 0;
        let limit = if is_produce { self.limits.produce_bytes } else { self.limits.control_bytes };
        if length > limit {
            return Err(FrameError::TooLarge { length, limit });
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { produce_bytes: 1 << 20, control_bytes: 1 << 16 };

    fn input_with(bytes: &[u8]) -> Input {
        let mut input = Input::new(LIMITS);
        input.buffer.extend_from_slice(bytes);
        input
    }

    fn frame(key: i16, body_bytes: usize) -> Vec<u8> {
        let length = i32::try_from(body_bytes + 2).unwrap();
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(key.to_be_bytes());
        bytes.resize(4 + 2 + body_bytes, 7);
        bytes
    }

    #[test]
    fn pipelined_frames_come_out_one_by_one() {
        let mut bytes = frame(1, 10);
        bytes.extend(frame(3, 20));
        let mut input = input_with(&bytes);
        let budget = MemoryBudget::new(1 << 20);
        let Next::Frame(first, _) = input.next(&budget).unwrap() else { panic!("no frame") };
        assert_eq!(first.len(), 12);
        let Next::Frame(second, _) = input.next(&budget).unwrap() else { panic!("no frame") };
        assert_eq!(&second[..2], &3i16.to_be_bytes());
        assert!(matches!(input.next(&budget).unwrap(), Next::Read));
        assert!(!input.mid_frame());
    }

    #[test]
    fn a_claimed_length_reserves_only_a_step() {
        let mut input = input_with(&frame(0, 1 << 19)[..10]);
        let budget = MemoryBudget::new(STEP_BYTES);
        assert!(matches!(input.next(&budget).unwrap(), Next::Read));
        assert!(budget.try_charge(1).is_none(), "the step is all it took");
    }

    #[test]
    fn a_spent_budget_pauses_the_frame() {
        let mut input = input_with(&frame(0, 1 << 19)[..10]);
        let budget = MemoryBudget::new(STEP_BYTES);
        let held = budget.try_charge(STEP_BYTES).unwrap();
        assert!(matches!(input.next(&budget).unwrap(), Next::Memory(STEP_BYTES)));
        drop(held);
        assert!(matches!(input.next(&budget).unwrap(), Next::Read));
    }

    #[test]
    fn lengths_no_client_sends_are_refused() {
        let budget = MemoryBudget::new(1 << 20);
        let mut negative = input_with(&[0xff, 0xff, 0xff, 0xff, 0, 0]);
        assert_eq!(negative.next(&budget).unwrap_err(), FrameError::TooShort(-1));
        let mut tiny = input_with(&[0, 0, 0, 7, 0, 0]);
        assert_eq!(tiny.next(&budget).unwrap_err(), FrameError::TooShort(7));
        let mut control = input_with(&frame(3, 1 << 16)[..6]);
        assert_eq!(
            control.next(&budget).unwrap_err(),
            FrameError::TooLarge { length: (1 << 16) + 2, limit: 1 << 16 }
        );
        let mut produce = input_with(&frame(0, 1 << 16)[..6]);
        assert!(matches!(produce.next(&budget).unwrap(), Next::Read));
    }
}
