//! Reads the batches of a segment one after another, each of them checked.
//!
//! Through the file, in large pieces, not through the mapping: bytes that are looked at and cannot
//! be read are an error here and would kill the process there, and one pass over a log must not push
//! out of memory what consumers read.

use std::sync::Arc;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc};

use super::super::error::StorageError;
use super::super::segment::Segment;
use super::throttle::{CompactionError, Throttle};
use crate::base::Offset;

/// Bytes read at once.
const READ_BYTES: usize = 512 * 1024;

/// A segment being read.
#[derive(Debug)]
pub(super) struct Input {
    segment: Arc<Segment>,
    /// Where the segment ended when reading began.
    end: u64,
    /// Bytes of the file from `at` on; the first `used` of them belong to the batch before.
    buffer: Vec<u8>,
    used: usize,
    /// Where the next batch begins.
    at: u64,
    /// No batch may begin below.
    expected: Offset,
}

impl Input {
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        let (end, expected) = (segment.end(), segment.base);
        Self { segment, end, buffer: Vec::new(), used: 0, at: 0, expected }
    }

    /// Whether the last batch has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// The next batch.
    ///
    /// # Errors
    /// It cannot be read or is damaged; or it is time to stop.
    pub(super) fn next(
        &mut self,
        throttle: &mut Throttle,
    ) -> Result<Option<(BatchHeader, &[u8])>, CompactionError> {
        if self.is_at_end() {
            return Ok(None);
        }
        self.fill(BATCH_OVERHEAD, throttle)?;
        let header = BatchHeader::parse(self.peek(BATCH_OVERHEAD))
            .map_err(|error| self.damaged(error.to_string()))?;
        let length = header.total_len();
        self.fill(length, throttle)?;
        let batch = self.peek(length);
        check_crc(batch, &header).map_err(|error| self.damaged(error.to_string()))?;
        let (first, next) = (Offset(header.base_offset), Offset(header.next_offset()));
        if first < self.expected || next <= first || next > self.segment.next_offset() {
            let (base, end) = (self.expected, self.segment.next_offset());
            let reason =
                format!("offsets {first} to {next} do not belong between {base} and {end}");
            return Err(self.damaged(reason).into());
        }
        self.expected = next;
        self.at += u64::try_from(length).unwrap_or(u64::MAX);
        let from = self.used;
        self.used += length;
        Ok(Some((header, self.buffer.get(from..self.used).unwrap_or_default())))
    }

    fn peek(&self, length: usize) -> &[u8] {
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        rest.get(..length).unwrap_or(rest)
    }

    /// Makes `length` bytes of what follows available, or all up to the end.
    fn fill(&mut self, length: usize, throttle: &mut Throttle) -> Result<(), CompactionError> {
        let there = self.buffer.len() - self.used;
        if there >= length {
            return Ok(());
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = length.max(READ_BYTES).min(left);
        if wanted <= there {
            return Ok(());
        }
        self.buffer.resize(wanted, 0);
        let position = self.at + u64::try_from(there).unwrap_or(0);
        let read = match self.buffer.get_mut(there..) {
            Some(rest) => self.segment.file.read_at(rest, position),
            None => Ok(0),
        };
        let read = read.map_err(StorageError::io("cannot read", &self.segment.path))?;
        self.buffer.truncate(there + read);
        throttle.spend(read)
    }

    fn damaged(&self, reason: String) -> StorageError {
        self.segment.corrupt(self.at, reason)
    }
}
