//! Sparse indexes of one segment: offset to position, timestamp to offset.
//!
//! One entry for every `index.interval.bytes` of log, so a lookup ends with a short walk from
//! header to header. The indexes of the active segment are in memory; a sealed segment's are
//! written beside it, with what else there is to know of it, under a checksum. A file that does not
//! check is rebuilt from the log: a zeroed tail is never taken for entries (KAFKA-10207).

use super::envelope::{self, Fields};
use crate::base::Timestamp;

const OFFSET_MAGIC: [u8; 4] = *b"SLIX";
const TIME_MAGIC: [u8; 4] = *b"SLTX";
const VERSION: u16 = 1;

/// Where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    /// Its base offset, from the segment's.
    pub(super) relative: u32,
    /// Its first byte.
    pub(super) position: u32,
}

/// No record before `relative` has a timestamp above this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeEntry {
    /// Largest timestamp up to and with the batch at `relative`.
    pub(super) timestamp: Timestamp,
    /// Base offset of the batch that brought it, from the segment's.
    pub(super) relative: u32,
}

/// The newest batch, wherever the last entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) relative: u32,
    pub(super) position: u32,
}

/// The indexes of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    tail: Tail,
    /// Bytes of log since the last entry.
    unindexed: u32,
    /// The largest timestamp, and the batch that brought it.
    max: Option<TimeEntry>,
}

/// What a sealed segment's index files say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Length of the log file.
    pub(super) log_bytes: u64,
    /// Offsets in the segment: the next one is this far from its base.
    pub(super) offsets: u32,
    /// Timestamp of its first batch, which its age is counted from.
    pub(super) first_timestamp: Timestamp,
}

impl Index {
    /// Notes a batch of `length` bytes.
    pub(super) fn add(
        &mut self,
        relative: u32,
        position: u32,
        length: u32,
        max_timestamp: Timestamp,
        interval: u32,
    ) {
        self.tail = Tail { relative, position };
        let brought = self.max.is_none_or(|max| max_timestamp > max.timestamp);
        if brought {
            self.max = Some(TimeEntry { timestamp: max_timestamp, relative });
        }
        if self.unindexed >= interval {
            self.offsets.push(OffsetEntry { relative, position });
            if let Some(max) = self
                .max
                .filter(|max| self.times.last().is_none_or(|last| max.timestamp > last.timestamp))
            {
                self.times.push(max);
            }
            self.unindexed = 0;
        }
        self.unindexed = self.unindexed.saturating_add(length);
    }

    /// A position at or before the batch that holds `relative`.
    pub(super) fn position_before(&self, relative: u32) -> u32 {
        if relative >= self.tail.relative {
            return self.tail.position;
        }
        let behind = self.offsets.partition_point(|entry| entry.relative <= relative);
        behind.checked_sub(1).and_then(|at| self.offsets.get(at)).map_or(0, |e| e.position)
    }

    /// The last indexed batch boundary not beyond `position`.
    pub(super) fn boundary_before(&self, position: u64) -> u32 {
        let behind = self.offsets.partition_point(|entry| u64::from(entry.position) <= position);
        behind.checked_sub(1).and_then(|at| self.offsets.get(at)).map_or(0, |e| e.position)
    }

    /// A batch at or before the first record with a timestamp of at least `timestamp`.
    pub(super) fn relative_before(&self, timestamp: Timestamp) -> u32 {
        let behind = self.times.partition_point(|entry| entry.timestamp < timestamp);
        behind.checked_sub(1).and_then(|at| self.times.get(at)).map_or(0, |e| e.relative)
    }

    /// The largest timestamp, and the batch that brought it.
    pub(super) fn max(&self) -> Option<TimeEntry> {
        self.max
    }

    /// The contents of the `.index` and `.timeindex` files.
    pub(super) fn encode(&self, sealed: Sealed) -> (Vec<u8>, Vec<u8>) {
        let mut offsets = Vec::with_capacity(self.offsets.len() * 8 + 32);
        offsets.extend(sealed.log_bytes.to_be_bytes());
        offsets.extend(sealed.offsets.to_be_bytes());
        offsets.extend(sealed.first_timestamp.0.to_be_bytes());
        offsets.extend(self.tail.relative.to_be_bytes());
        offsets.extend(self.tail.position.to_be_bytes());
        for entry in &self.offsets {
            offsets.extend(entry.relative.to_be_bytes());
            offsets.extend(entry.position.to_be_bytes());
        }
        let mut times = Vec::with_capacity(self.times.len() * 12 + 16);
        for entry in self.max.iter().chain(&self.times) {
            times.extend(entry.timestamp.0.to_be_bytes());
            times.extend(entry.relative.to_be_bytes());
        }
        (
            envelope::seal(OFFSET_MAGIC, VERSION, &offsets),
            envelope::seal(TIME_MAGIC, VERSION, &times),
        )
    }

    /// Reads both files; `None` if either is not whole.
    pub(super) fn decode(offsets: &[u8], times: &[u8]) -> Option<(Self, Sealed)> {
        let mut fields = Fields(envelope::open(OFFSET_MAGIC, VERSION, offsets)?);
        let sealed = Sealed {
            log_bytes: fields.u64()?,
            offsets: fields.u32()?,
            first_timestamp: Timestamp(fields.i64()?),
        };
        let mut index = Self {
            tail: Tail { relative: fields.u32()?, position: fields.u32()? },
            ..Self::default()
        };
        while !fields.is_empty() {
            let entry = OffsetEntry { relative: fields.u32()?, position: fields.u32()? };
            index.offsets.push(entry);
        }
        let mut fields = Fields(envelope::open(TIME_MAGIC, VERSION, times)?);
        while !fields.is_empty() {
            let entry = TimeEntry { timestamp: Timestamp(fields.i64()?), relative: fields.u32()? };
            match index.max {
                None => index.max = Some(entry),
                Some(_) => index.times.push(entry),
            }
        }
        Some((index, sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 batches of 10 records and 1000 bytes, timestamps rising by 5.
    fn index() -> Index {
        let mut index = Index::default();
        for n in 0..100 {
            index.add(n * 10, n * 1000, 1000, Timestamp(i64::from(n) * 5), 4096);
        }
        index
    }

    #[test]
    fn lookups_land_at_or_shortly_before_the_batch() {
        let index = index();
        for relative in 0..1000 {
            let batch = relative / 10 * 1000;
            let found = index.position_before(relative);
            assert!(found <= batch && batch - found <= 6000, "{relative}: {found}");
        }
        assert_eq!(index.position_before(990), 99_000, "the tail is exact");
        assert_eq!(index.position_before(5000), 99_000);
        assert!(index.boundary_before(50_500) <= 50_000);
        assert_eq!(index.boundary_before(0), 0);
    }

    #[test]
    fn time_lookups_never_pass_the_record() {
        let index = index();
        for timestamp in 0..500 {
            let first = u32::try_from((timestamp + 4) / 5 * 10).unwrap();
            assert!(index.relative_before(Timestamp(timestamp)) <= first);
        }
        assert_eq!(index.max().unwrap().timestamp, Timestamp(495));
    }

    #[test]
    fn files_are_read_back_and_zeroed_tails_refused() {
        let index = index();
        let sealed = Sealed { log_bytes: 100_000, offsets: 1000, first_timestamp: Timestamp(0) };
        let (offsets, times) = index.encode(sealed);
        let (back, also_sealed) = Index::decode(&offsets, &times).unwrap();
        assert_eq!(also_sealed, sealed);
        assert_eq!((back.offsets, back.times, back.tail), (index.offsets, index.times, index.tail));
        let mut padded = times.clone();
        padded.resize(4096, 0);
        assert!(Index::decode(&offsets, &padded).is_none());
        assert!(Index::decode(&vec![0; 4096], &times).is_none());
    }
}
