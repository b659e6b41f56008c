//! Reading beside the writer, from any thread.
//!
//! The list of segments is replaced as a whole; a reader that holds the old one goes on reading
//! files that may have been removed meanwhile: their pages stay while a slice lives.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use sawlog_protocol::records::{self, BATCH_OVERHEAD, BatchHeader, TimestampType};

use super::error::{ReadError, StorageError};
use super::segment::{Located, Segment};
use crate::base::limits::BATCH_INFLATED_BYTES_MAX;
use crate::base::{LeaderEpoch, Offset, Timestamp};

/// A record found by time: its offset, its timestamp, the epoch that wrote it.
pub type TimedOffset = (Offset, Timestamp, LeaderEpoch);

/// The segments of a log, by base offset.
pub(super) type Segments = Arc<ArcSwap<Vec<Arc<Segment>>>>;

/// Reads one log.
#[derive(Clone, Debug)]
pub struct LogReader {
    segments: Segments,
}

impl LogReader {
    pub(super) fn new(segments: Segments) -> Self {
        Self { segments }
    }

    /// Whole batches from the one that holds `from` on, of one segment, below `until` and at most
    /// `max_bytes`; with `at_least_one` the first whatever its size.
    ///
    /// # Errors
    /// `from` is below the first segment, or a batch header on disk is damaged.
    pub fn read(
        &self,
        from: Offset,
        until: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ReadError> {
        let segments = self.segments.load();
        let behind = segments.partition_point(|segment| segment.base <= from);
        let first = behind.checked_sub(1).ok_or_else(|| out_of_range(&segments))?;
        for segment in segments.get(first..).unwrap_or_default() {
            if segment.base >= until {
                break;
            }
            if let Some(start) = segment.locate(from)? {
                if start.header.base_offset >= until.0 {
                    break;
                }
                return Ok(take(segment, &start, until, max_bytes, at_least_one)?);
            }
        }
        Ok(Bytes::new())
    }

    /// The first record below `until` with a timestamp of at least `timestamp`.
    ///
    /// # Errors
    /// A batch cannot be read.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        until: Offset,
    ) -> Result<Option<TimedOffset>, StorageError> {
        for segment in self.segments.load().iter() {
            if segment.max_timestamp() < timestamp {
                continue;
            }
            let relative = segment.index.read().relative_before(timestamp);
            let from = u64::from(segment.index.read().position_before(relative));
            let found = segment
                .walk(from, segment.end(), |located| located.header.max_timestamp >= timestamp.0)?;
            if let Some(located) = found {
                let record = first_record(segment, &located, |record| record >= timestamp.0)?;
                return Ok(record.filter(|(offset, ..)| *offset < until));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp below `until`.
    ///
    /// # Errors
    /// A batch cannot be read.
    pub fn max_timestamp(&self, until: Offset) -> Result<Option<TimedOffset>, StorageError> {
        let mut best: Option<(Arc<Segment>, Located)> = None;
        for segment in self.segments.load().iter().filter(|segment| segment.base < until) {
            let Some(located) = max_batch(segment, until)? else { continue };
            let larger = best
                .as_ref()
                .is_none_or(|(_, known)| located.header.max_timestamp > known.header.max_timestamp);
            if larger {
                best = Some((segment.clone(), located));
            }
        }
        let Some((segment, located)) = best else { return Ok(None) };
        let max = located.header.max_timestamp;
        first_record(&segment, &located, |timestamp| timestamp >= max)
    }

    /// Where the bytes of `offset` are, for messages to people.
    #[must_use]
    pub fn path_of(&self, offset: Offset) -> Option<PathBuf> {
        let segments = self.segments.load();
        let behind = segments.partition_point(|segment| segment.base <= offset);
        segments.get(behind.checked_sub(1)?).map(|segment| segment.path.clone())
    }
}

fn out_of_range(segments: &[Arc<Segment>]) -> ReadError {
    let start = segments.first().map_or(Offset::ZERO, |segment| segment.base);
    let end = segments.last().map_or(Offset::ZERO, |segment| segment.next_offset());
    ReadError::OutOfRange { start, end }
}

/// Cuts the bytes from `start` on to what the caller wants, at a batch boundary.
fn take(
    segment: &Segment,
    start: &Located,
    until: Offset,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Bytes, StorageError> {
    let from = start.position;
    // The end is read before `until` is compared: batches appended meanwhile lie behind both.
    let mut to = segment.end();
    if until < segment.next_offset() {
        to = segment.locate(until)?.map_or(to, |located| located.position);
    }
    let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    if to - from > max_bytes {
        let limit = from + max_bytes;
        let boundary = u64::from(segment.index.read().boundary_before(limit)).max(from);
        let mut last = from;
        segment.walk(boundary, to, |located| {
            last = located.position;
            let end = located.position + length(&located.header);
            let fits = end <= limit;
            if fits {
                last = end;
            }
            !fits
        })?;
        to = last;
        if to == from && at_least_one {
            to = from + length(&start.header);
        }
    }
    Ok(segment.slice(from, to))
}

fn length(header: &BatchHeader) -> u64 {
    u64::try_from(header.total_len()).unwrap_or(u64::MAX)
}

/// The batch below `until` with the largest timestamp.
fn max_batch(segment: &Segment, until: Offset) -> Result<Option<Located>, StorageError> {
    let Some(max) = segment.index.read().max() else { return Ok(None) };
    let offset = segment.base.plus(i64::from(max.relative));
    if offset < until && segment.next_offset() <= until {
        return segment.locate(offset);
    }
    let mut best: Option<Located> = None;
    segment.walk(0, segment.end(), |located| {
        if located.header.base_offset >= until.0 {
            return true;
        }
        if best.is_none_or(|known| located.header.max_timestamp > known.header.max_timestamp) {
            best = Some(*located);
        }
        false
    })?;
    Ok(best)
}

/// The first record of a batch whose timestamp satisfies `wanted`.
fn first_record(
    segment: &Segment,
    located: &Located,
    wanted: impl Fn(i64) -> bool,
) -> Result<Option<TimedOffset>, StorageError> {
    let header = &located.header;
    let epoch = LeaderEpoch(header.partition_leader_epoch);
    if header.timestamp_type() == TimestampType::LogAppendTime {
        // All records of such a batch have the batch's time.
        return Ok(Some((Offset(header.base_offset), Timestamp(header.max_timestamp), epoch)));
    }
    let bytes = segment.slice(located.position, located.position + length(header));
    debug_assert!(bytes.len() >= BATCH_OVERHEAD);
    let damaged = |error: records::BatchError| StorageError::Corrupt {
        path: segment.path.clone(),
        position: located.position,
        offset: Offset(header.base_offset),
        reason: error.to_string(),
    };
    let batch = records::Batch::parse(bytes).map_err(damaged)?;
    for record in batch.records(BATCH_INFLATED_BYTES_MAX).map_err(damaged)? {
        let record = record.map_err(damaged)?;
        if wanted(record.timestamp) {
            return Ok(Some((Offset(record.offset), Timestamp(record.timestamp), epoch)));
        }
    }
    // The header promised more than its records have: compressed batches are stored as sent.
    Ok(Some((Offset(header.base_offset), Timestamp(header.max_timestamp), epoch)))
}
