//! The bytes between two brokers: one header, a head under its checksum, records that carry their own.
//!
//! ```text
//!  0  length of what follows   u32
//!  4  kind                     u8     greeting, request, one way, reply, refusal
//!  5  service                  u8
//!  6  reserved, 0              u16
//!  8  correlation              u64    of a request and its reply
//! 16  length of the head       u32
//! 20  checksum (CRC-32)        u32    of the 20 bytes above and the head
//! 24  head, records
//! ```
//!
//! Reading never trusts a length: the buffer grows with what has arrived, and is charged to a budget
//! before it grows.

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::base::memory::{Charge, MemoryBudget};
use crate::base::parts::Parts;

use super::Service;

/// Bytes before the head.
pub(super) const HEADER_BYTES: usize = 24;

/// The largest frame: an entry of the metadata log is at most 64 MiB, a batch of records at most
/// `REQUEST_BYTES_MAX`, and a reply ends with the batch that exceeds its aim.
pub(super) const FRAME_BYTES_MAX: usize = 160 * 1024 * 1024;

/// A first read, and the first step of buffer and budget.
const STEP_BYTES: usize = 16 * 1024;

/// A peer's record counts for no more than this when the next frame is charged.
const PROVEN_BYTES_MAX: usize = 1024 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Greeting,
    Request,
    OneWay,
    Reply,
    /// A reply: the service does not answer, and why.
    Refusal,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Greeting => 1,
            Self::Request => 2,
            Self::OneWay => 3,
            Self::Reply => 4,
            Self::Refusal => 5,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Greeting, Self::Request, Self::OneWay, Self::Reply, Self::Refusal];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// A whole frame that was received.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) service: Service,
    pub(super) correlation: u64,
    /// Head and records.
    pub(super) body: Bytes,
    /// Its share of the memory budget.
    pub(super) charge: Option<Charge>,
}

/// Why no frame could be read. The connection cannot go on.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error("the connection ended within a message")]
    Cut,
    #[error("a message of {length} bytes exceeds the limit of {limit}")]
    TooLarge { length: usize, limit: usize },
    #[error("what was received is no message of a broker")]
    Malformed,
    #[error("the checksum of a message does not match")]
    Checksum,
    #[error("the memory for messages of peers is gone")]
    NoMemory,
}

/// What identifies a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub(super) kind: Kind,
    pub(super) service: Service,
    pub(super) correlation: u64,
}

/// A whole frame without records.
///
/// # Errors
/// As [`header`].
pub(super) fn message(address: Address, body: Bytes) -> Result<Parts, FrameError> {
    let mut out = Parts::default();
    out.push(header(address, &body, 0)?);
    out.push(body);
    Ok(out)
}

/// The header of a frame with this head, before `records` bytes of records.
///
/// # Errors
/// The frame would be larger than a peer accepts.
pub(super) fn header(address: Address, head: &[u8], records: usize) -> Result<Bytes, FrameError> {
    let length = (HEADER_BYTES - 4).saturating_add(head.len()).saturating_add(records);
    let too_large = FrameError::TooLarge { length, limit: FRAME_BYTES_MAX };
    let Some(length) = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX) else {
        return Err(too_large);
    };
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES);
    bytes.put_u32(length);
    bytes.put_u8(address.kind.byte());
    bytes.put_u8(address.service.byte());
    bytes.put_u16(0);
    bytes.put_u64(address.correlation);
    bytes.put_u32(u32::try_from(head.len()).map_err(|_| too_large)?);
    let checksum = checksum(&bytes, head);
    bytes.put_u32(checksum);
    Ok(bytes.freeze())
}

fn checksum(header: &[u8], head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(head);
    hasher.finalize()
}

/// A header that was read and is not checked yet.
#[derive(Clone, Copy, Debug)]
struct Begun {
    address: Address,
    /// Of the whole frame.
    bytes: usize,
    head_bytes: usize,
    checksum: u32,
}

fn parse(buffer: &[u8], limit: usize) -> Result<Option<Begun>, FrameError> {
    let Some((header, _)) = buffer.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [
        l0,
        l1,
        l2,
        l3,
        kind,
        service,
        _,
        _,
        c0,
        c1,
        c2,
        c3,
        c4,
        c5,
        c6,
        c7,
        h0,
        h1,
        h2,
        h3,
        k0,
        k1,
        k2,
        k3,
    ] = *header;
    let size = |bytes: [u8; 4]| usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
    let (length, head_bytes) = (size([l0, l1, l2, l3]), size([h0, h1, h2, h3]));
    let kind = Kind::from_byte(kind).ok_or(FrameError::Malformed)?;
    let service = Service::from_byte(service).ok_or(FrameError::Malformed)?;
    let correlation = u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    let after_header = length.checked_sub(HEADER_BYTES - 4).ok_or(FrameError::Malformed)?;
    if head_bytes > after_header {
        return Err(FrameError::Malformed);
    }
    Ok(Some(Begun {
        address: Address { kind, service, correlation },
        bytes: HEADER_BYTES + after_header,
        head_bytes,
        checksum: u32::from_be_bytes([k0, k1, k2, k3]),
    }))
}

/// The input side of a connection.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    socket: R,
    buffer: BytesMut,
    budget: MemoryBudget,
    limit: usize,
    /// Length of the last frame: who has sent that much may claim as much again.
    proven: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// `limit` is the largest frame that is taken.
    pub(super) fn new(socket: R, budget: MemoryBudget, limit: usize) -> Self {
        Self { socket, buffer: BytesMut::new(), budget, limit, proven: STEP_BYTES }
    }

    /// The same connection, once its peer is known: with the memory and limit of its service.
    pub(super) fn admitted(self, budget: MemoryBudget, limit: usize) -> Self {
        Self { budget, limit, ..self }
    }

    /// Whether the peer has begun a frame that is not whole.
    pub(super) fn mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame; `None` at a clean end. Dropping the future loses what it charged, not what
    /// it read.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let begun = loop {
            if let Some(begun) = parse(&self.buffer, self.limit)? {
                break begun;
            }
            if self.read(STEP_BYTES).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        };
        let charge = self.fill(begun.bytes).await?;
        let frame = self.buffer.split_to(begun.bytes).freeze();
        self.proven = begun.bytes.clamp(STEP_BYTES, PROVEN_BYTES_MAX);
        let covered = frame.get(..HEADER_BYTES - 4).unwrap_or_default();
        let body = frame.slice(HEADER_BYTES..);
        if checksum(covered, body.get(..begun.head_bytes).unwrap_or_default()) != begun.checksum {
            return Err(FrameError::Checksum);
        }
        let Address { kind, service, correlation } = begun.address;
        Ok(Some(Frame { kind, service, correlation, body, charge }))
    }

    /// Reads until the buffer holds `bytes`; returns their share of the budget.
    async fn fill(&mut self, bytes: usize) -> Result<Option<Charge>, FrameError> {
        let mut charged = 0;
        let mut charge: Option<Charge> = None;
        while self.buffer.len() < bytes {
            // Double what is here, or what this peer has proven it sends; at most the frame.
            let wanted = bytes.min(self.proven.max(self.buffer.len() * 2));
            if wanted > charged {
                let more = self.budget.charge(wanted - charged).await;
                let more = more.ok_or(FrameError::NoMemory)?;
                charged = wanted;
                match &mut charge {
                    Some(held) => held.merge(more),
                    none => *none = Some(more),
                }
            }
            // Not beyond the frame, so that no bytes of the next have to be moved.
            let room = wanted.max(self.buffer.len() + 1) - self.buffer.len();
            if self.read(room).await? == 0 {
                return Err(FrameError::Cut);
            }
        }
        Ok(charge)
    }

    async fn read(&mut self, room: usize) -> Result<usize, FrameError> {
        self.buffer.reserve(room);
        Ok(self.socket.read_buf(&mut (&mut self.buffer).limit(room)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address =
        Address { kind: Kind::Reply, service: Service::Replication, correlation: 77 };

    fn frame(head: &[u8], records: &[u8]) -> Vec<u8> {
        [&header(ADDRESS, head, records.len()).unwrap(), head, records].concat()
    }

    async fn read(bytes: &[u8], limit: usize) -> Result<Option<Frame>, FrameError> {
        FrameReader::new(bytes, MemoryBudget::new(1 << 20), limit).next().await
    }

    #[tokio::test]
    async fn a_frame_comes_out_as_it_went_in_and_the_end_is_clean() {
        let bytes = [frame(b"head", b"records"), frame(b"", b"")].concat();
        let mut reader = FrameReader::new(&bytes[..], MemoryBudget::new(1 << 20), 100);
        let first = reader.next().await.unwrap().unwrap();
        assert_eq!((&first.body[..], first.correlation), (&b"headrecords"[..], 77));
        assert_eq!((first.kind, first.service), (Kind::Reply, Service::Replication));
        assert!(reader.next().await.unwrap().unwrap().body.is_empty());
        assert!(reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn damage_of_header_or_head_is_noticed_and_of_records_left_to_their_own_checksum() {
        let whole = frame(b"head", b"records");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let in_records = at >= HEADER_BYTES + 4;
            let read = read(&bytes, 100).await;
            assert_eq!(matches!(read, Ok(Some(_))), in_records, "byte {at}: {read:?}");
        }
        for cut in 1..whole.len() {
            let read = read(&whole[..cut], 100).await;
            assert!(matches!(read, Err(FrameError::Cut)), "{cut} bytes: {read:?}");
        }
    }

    #[tokio::test]
    async fn a_claimed_length_is_neither_believed_nor_allocated() {
        let mut bytes = frame(b"", &[1; 1000]);
        assert!(matches!(read(&bytes, 500).await, Err(FrameError::TooLarge { .. })));
        bytes[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(read(&bytes, FRAME_BYTES_MAX).await, Err(FrameError::TooLarge { .. })));
        bytes[..4].copy_from_slice(&100_000_000u32.to_be_bytes());
        let budget = MemoryBudget::new(FRAME_BYTES_MAX);
        let mut reader = FrameReader::new(&bytes[..], budget.clone(), FRAME_BYTES_MAX);
        assert!(matches!(reader.next().await, Err(FrameError::Cut)));
        assert!(reader.buffer.capacity() < 4 * STEP_BYTES, "{}", reader.buffer.capacity());
        bytes[..4].copy_from_slice(&3u32.to_be_bytes());
        assert!(matches!(read(&bytes, FRAME_BYTES_MAX).await, Err(FrameError::Malformed)));
    }

    #[tokio::test]
    async fn arbitrary_bytes_are_refused_without_a_panic() {
        use crate::metadata::{Random as _, SeededRandom};
        let mut random = SeededRandom::new(5);
        for _ in 0..2000 {
            let length = usize::try_from(random.next_u64() % 64).unwrap();
            let mut bytes: Vec<u8> =
                (0..length).map(|_| random.next_u64().to_be_bytes()[0]).collect();
            if let [a, b, ..] = &mut bytes[..] {
                (*a, *b) = (0, 0);
            }
            assert!(!matches!(read(&bytes, 1000).await, Ok(Some(_))));
        }
    }
}
