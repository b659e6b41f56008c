//! Reading beside the writer, from any thread.
//!
//! The list of segments is replaced as a whole; a reader that holds the old one goes on reading
//! files that may have been removed meanwhile: their pages stay while a slice lives.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use sawlog_protocol::records::{self, TimestampType};

use super::error::{ReadError, StorageError};
use super::first_read;
use super::quarantine::{Quarantine, QuarantinedRange};
use super::segment::{Boundary, Located, Segment};
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
    /// First offset that may be read: searches by time find nothing below.
    start: Arc<AtomicI64>,
    quarantine: Arc<Quarantine>,
}

impl LogReader {
    pub(super) fn new(
        segments: Segments,
        start: Arc<AtomicI64>,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        Self { segments, start, quarantine }
    }

    /// Whole batches from the one that holds `from` on, of one segment, below `until` and the first
    /// quarantined offset, and at most `max_bytes`; with `at_least_one` the first whatever its size.
    ///
    /// # Errors
    /// `from` is below the first segment or in quarantine. `Corrupt`: a batch on disk is damaged, and
    /// not in quarantine yet ([`super::LogScrubber::scrub_at`]).
    pub fn read(
        &self,
        from: Offset,
        until: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ReadError> {
        let until = self.quarantine.limit(from, until)?;
        let segments = self.segments.load();
        let behind = segments.partition_point(|segment| segment.base <= from);
        let first = behind.checked_sub(1).ok_or_else(|| out_of_range(&segments))?;
        for segment in segments.get(first..).unwrap_or_default() {
            if segment.base >= until {
                break;
            }
            if let Some(start) = segment.locate(from)? {
                if start.base_offset >= until {
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
        let start = self.start();
        for segment in self.segments.load().iter() {
            let within = segment.next_offset() > start && segment.base < until;
            if !within || segment.max_timestamp() < timestamp {
                continue;
            }
            let from = segment.position_before_time(timestamp)?;
            let mut failure = None;
            let mut record = None;
            segment.walk(from, segment.end(), |located| {
                let header = &located.header;
                if header.base_offset >= until.0 {
                    return true;
                }
                if header.max_timestamp < timestamp.0 || header.last_offset() < start.0 {
                    return false;
                }
                match first_record(segment, located, start, |time| time >= timestamp.0) {
                    Ok(found) => record = found,
                    Err(error) => failure = Some(error),
                }
                record.is_some() || failure.is_some()
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            if record.is_some() {
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
        let start = self.start();
        let mut best: Option<(Arc<Segment>, Located)> = None;
        for segment in self.segments.load().iter() {
            if segment.base >= until || segment.next_offset() <= start {
                continue;
            }
            let Some(located) = max_batch(segment, start, until)? else { continue };
            let larger = best
                .as_ref()
                .is_none_or(|(_, known)| located.header.max_timestamp > known.header.max_timestamp);
            if larger {
                best = Some((segment.clone(), located));
            }
        }
        let Some((segment, located)) = best else { return Ok(None) };
        let max = located.header.max_timestamp;
        let record = first_record(&segment, &located, start, |timestamp| timestamp >= max)?;
        // The header may promise more than the records have: batches are stored as sent. So may a
        // batch whose record with that time lies below the start.
        let header = &located.header;
        let first = Offset(header.base_offset).max(start);
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        Ok(record.or(Some((first, Timestamp(max), epoch))))
    }

    /// About how many bytes of batches there are from `from` on.
    #[must_use]
    pub fn bytes_behind(&self, from: Offset) -> u64 {
        let segments = self.segments.load();
        let behind = segments.iter().filter(|segment| segment.next_offset() > from);
        let of = |segment: &Arc<Segment>| {
            let begins = if segment.base >= from { Ok(0) } else { segment.position_before(from) };
            // Where it cannot be told, all of it.
            segment.end().saturating_sub(begins.unwrap_or(0))
        };
        behind.map(of).sum()
    }

    /// The ranges that are damaged and not served, in order.
    #[must_use]
    pub fn quarantined(&self) -> Arc<Vec<QuarantinedRange>> {
        self.quarantine.ranges()
    }

    fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
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
    start: &Boundary,
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
    to = segment.whole_upto(from, to);
    let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    if to - from > max_bytes {
        let limit = from + max_bytes;
        let boundary = segment.boundary_before(limit)?.max(from);
        let mut last = boundary;
        segment.walk(boundary, to, |located| {
            let end = located.position + located.length();
            let fits = end <= limit;
            if fits {
                last = end;
            }
            !fits
        })?;
        to = last;
        if to == from && at_least_one {
            to = from + segment.header_at(from)?.length();
        }
    }
    segment.load(from, to)?;
    first_read::check(segment, start, to)?;
    segment.slice(from, to)
}

/// The batch in `[start, until)` with the largest timestamp.
fn max_batch(
    segment: &Segment,
    start: Offset,
    until: Offset,
) -> Result<Option<Located>, StorageError> {
    let Some(max) = segment.max() else { return Ok(None) };
    let offset = segment.base.plus(i64::from(max.relative));
    if offset >= start && segment.next_offset() <= until && !segment.is_damaged() {
        let Some(boundary) = segment.locate(offset)? else { return Ok(None) };
        return segment.header_at(boundary.position).map(Some);
    }
    let mut best: Option<Located> = None;
    segment.walk(segment.position_before(start)?, segment.end(), |located| {
        let header = &located.header;
        if header.base_offset >= until.0 {
            return true;
        }
        let larger = best.is_none_or(|known| header.max_timestamp > known.header.max_timestamp);
        if header.last_offset() >= start.0 && larger {
            best = Some(*located);
        }
        false
    })?;
    Ok(best)
}

/// The first record of a batch at or behind `start` whose timestamp satisfies `wanted`.
fn first_record(
    segment: &Segment,
    located: &Located,
    start: Offset,
    wanted: impl Fn(i64) -> bool,
) -> Result<Option<TimedOffset>, StorageError> {
    let header = &located.header;
    let epoch = LeaderEpoch(header.partition_leader_epoch);
    if header.records_count == 0 {
        // Emptied by compaction.
        return Ok(None);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        // All records of such a batch have the batch's time.
        let first = Offset(header.base_offset).max(start);
        return Ok(Some((first, Timestamp(header.max_timestamp), epoch)));
    }
    // Read, not mapped: looking at a mapped page that cannot be read would kill the process.
    let mut bytes = vec![0; header.total_len()];
    let read = segment.file.read_at(&mut bytes, located.position);
    let read = read.map_err(StorageError::io("cannot read", &segment.path))?;
    bytes.truncate(read);
    let damaged = |error: records::BatchError| StorageError::Corrupt {
        path: segment.path.clone(),
        position: located.position,
        offset: Offset(header.base_offset),
        reason: error.to_string(),
    };
    let batch = records::Batch::parse(Bytes::from(bytes)).map_err(damaged)?;
    for record in batch.records(BATCH_INFLATED_BYTES_MAX).map_err(damaged)? {
        let record = record.map_err(damaged)?;
        if record.offset >= start.0 && wanted(record.timestamp) {
            return Ok(Some((Offset(record.offset), Timestamp(record.timestamp), epoch)));
        }
    }
    Ok(None)
}
