//! Makes a segment whole again, of its own batches and of those another replica has where they are
//! damaged or gone.
//!
//! The new file takes the place of the old one as a compacted segment does: at once for readers, and
//! at every moment undone or finished by the next start. Of a segment that is gone as a whole it is
//! the first.
//!
//! Always: every batch in it has been checked, with its offset in sequence; where they come from
//! somewhere else, with the epoch this log has for that offset.

use std::collections::VecDeque;
use std::sync::Arc;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc, split};

use super::super::epochs::EpochCache;
use super::super::error::StorageError;
use super::super::flush::Side;
use super::super::quarantine::QuarantinedRange;
use super::super::segment::Segment;
use super::output::Output;
use super::swap::{Place, Replacement};
use super::throttle::{CompactionError, Throttle};
use crate::base::disk::Disk;
use crate::base::{Clock, LeaderEpoch, ManualClock, Offset};

/// What is to be made whole.
#[derive(Debug)]
pub(in crate::storage) struct Broken {
    pub(in crate::storage) side: Arc<Side>,
    /// None if its file is gone.
    pub(in crate::storage) segment: Option<Arc<Segment>>,
    /// What of it is damaged, in order: all of it.
    pub(in crate::storage) ranges: Vec<QuarantinedRange>,
    /// Which epoch each offset has.
    pub(in crate::storage) epochs: EpochCache,
    /// Batches may be missing elsewhere, where compaction has been.
    pub(in crate::storage) is_compacted: bool,
    /// Size at which one that is gone ends.
    pub(in crate::storage) segment_bytes: u64,
    pub(in crate::storage) index_interval_bytes: u32,
}

/// Why a segment is not made whole.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// What another replica has does not fit.
    #[error("what another replica has does not fit: {0}")]
    Unfit(String),
    /// A file could not be read or written, or more of it is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A segment being made whole.
#[derive(Debug)]
pub struct Rebuild {
    side: Arc<Side>,
    segment: Option<Arc<Segment>>,
    /// What is missing yet.
    missing: VecDeque<QuarantinedRange>,
    epochs: EpochCache,
    is_compacted: bool,
    segment_bytes: u64,
    place: Place,
    output: Output,
    throttle: Throttle,
    /// No batch begins below.
    expected: Offset,
    /// How much of the old file is in the new one, or known not to be needed.
    position: u64,
    has_gaps: bool,
}

/// A segment that is whole, and what is still missing behind it.
#[derive(Debug)]
#[must_use = "its file stays behind"]
pub struct Rebuilt {
    pub(in crate::storage) replacement: Replacement,
    pub(in crate::storage) left: Vec<QuarantinedRange>,
}

impl Rebuilt {
    /// The segment alone, to be given up.
    pub fn into_replacement(self) -> Replacement {
        self.replacement
    }
}

impl Rebuild {
    /// Begins with what is whole in front of the first damage.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub(in crate::storage) fn begin(
        broken: Broken,
        disk: &Arc<dyn Disk>,
    ) -> Result<Self, RebuildError> {
        let Broken { side, segment, ranges, epochs, is_compacted, .. } = broken;
        let unfit = || RebuildError::Unfit("nothing is damaged".to_owned());
        let (first, last) = ranges.first().zip(ranges.last()).ok_or_else(unfit)?;
        let place = match &segment {
            Some(segment) => Place { base: segment.base, end: segment.next_offset() },
            None => Place { base: first.from, end: last.to },
        };
        let directory = side.directory().to_owned();
        let output = Output::create(disk, &directory, place, broken.index_interval_bytes)?;
        // As fast as it goes, and nobody stops it.
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let mut rebuild = Self {
            side,
            segment,
            missing: ranges.into(),
            epochs,
            is_compacted,
            segment_bytes: broken.segment_bytes,
            place,
            output,
            throttle: Throttle::new(clock, Arc::default(), None),
            expected: place.base,
            position: 0,
            has_gaps: false,
        };
        match rebuild.copy_whole() {
            Ok(()) => Ok(rebuild),
            Err(error) => {
                rebuild.discard()?;
                Err(error)
            }
        }
    }

    /// The offsets needed next: from, to; none once it is whole.
    #[must_use]
    pub fn wanted(&self) -> Option<(Offset, Offset)> {
        let next = self.missing.front().filter(|next| !self.is_full(next))?;
        Some((self.expected.max(next.from), next.to))
    }

    /// Whether what is missing at the end, the segments behind it maybe, is left to segments of their
    /// own: they get the usual size.
    fn is_full(&self, next: &QuarantinedRange) -> bool {
        let damaged_upto = next.position.saturating_add(next.bytes);
        let is_last = self.missing.len() == 1
            && self.segment.as_ref().is_none_or(|segment| damaged_upto >= segment.end());
        is_last && self.output.length() >= self.segment_bytes
    }

    /// Takes batches another replica has from the offset that was wanted on; none at all where it has
    /// none in what was wanted.
    ///
    /// # Errors
    /// They do not fit; or what is here cannot be read or written. Give it up then.
    pub fn supply(&mut self, records: &bytes::Bytes) -> Result<(), RebuildError> {
        let Some((from, to)) = self.wanted() else { return Ok(()) };
        if self.expected < from {
            self.skip_to(from)?;
        }
        let before = self.expected;
        for found in split(records) {
            let (header, batch) = found.map_err(|error| RebuildError::Unfit(error.to_string()))?;
            self.check(&header, &batch, to)?;
            self.skip_to(Offset(header.base_offset))?;
            self.append(&batch, &header)?;
        }
        if records.is_empty() {
            self.skip_to(to)?;
        } else if self.expected == before {
            return Err(RebuildError::Unfit("no whole batch".to_owned()));
        }
        if self.expected < to {
            return Ok(());
        }
        if let Some(done) = self.missing.pop_front() {
            self.position = done.position.saturating_add(done.bytes);
        }
        self.copy_whole()
    }

    /// Makes the new file durable.
    ///
    /// # Errors
    /// It is not whole, or cannot be written.
    pub fn finish(mut self) -> Result<Rebuilt, RebuildError> {
        match self.complete() {
            Ok((segment, left)) => Ok(Rebuilt {
                replacement: Replacement {
                    side: self.side,
                    place: self.place,
                    sources: self.segment.into_iter().collect(),
                    segment: Arc::new(segment),
                },
                left,
            }),
            Err(error) => {
                self.discard()?;
                Err(error)
            }
        }
    }

    /// Gives it up.
    ///
    /// # Errors
    /// Its file cannot be removed; the next start does it.
    pub fn discard(self) -> Result<(), StorageError> {
        self.output.discard()
    }

    fn complete(&mut self) -> Result<(Segment, Vec<QuarantinedRange>), RebuildError> {
        if self.wanted().is_some() || self.output.length() == 0 {
            return Err(RebuildError::Unfit("it is not whole".to_owned()));
        }
        let mut left: Vec<QuarantinedRange> = self.missing.drain(..).collect();
        if let Some(first) = left.first_mut() {
            // Made anew up to here.
            (first.segment, first.from) = (self.expected, self.expected);
            (first.position, first.bytes) = (0, 0);
            self.place.end = self.expected;
            self.output.end_at(self.expected)?;
        }
        if self.expected != self.place.end || self.output.next_offset() != self.place.end {
            let (is, end) = (self.output.next_offset(), self.place.end);
            return Err(RebuildError::Unfit(format!("it ends at offset {is}, not {end}")));
        }
        if self.has_gaps {
            self.side.progress.allow_gaps(self.place.end)?;
        }
        let segment = self.output.finish(&mut self.throttle).map_err(storage)?;
        Ok((segment, left))
    }

    /// Whether a batch of another replica belongs here.
    fn check(&self, header: &BatchHeader, batch: &[u8], to: Offset) -> Result<(), RebuildError> {
        let unfit = |reason: String| Err(RebuildError::Unfit(reason));
        if let Err(error) = check_crc(batch, header) {
            return unfit(error.to_string());
        }
        let (base, next) = (Offset(header.base_offset), Offset(header.next_offset()));
        let in_sequence = base == self.expected || (self.is_compacted && base > self.expected);
        if !in_sequence || next <= base || next > to {
            let expected = self.expected;
            return unfit(format!("offsets {base} to {next}, not {expected} to {to}"));
        }
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        match self.epochs.epoch_at(Offset(header.last_offset())) {
            Some(known) if known != epoch => unfit(format!("leader epoch {epoch}, not {known}")),
            Some(_) | None => Ok(()),
        }
    }

    /// Leaves offsets out, where that may be.
    fn skip_to(&mut self, offset: Offset) -> Result<(), RebuildError> {
        if offset > self.expected {
            if !self.is_compacted {
                let expected = self.expected;
                return Err(RebuildError::Unfit(format!("nothing from {expected} to {offset}")));
            }
            self.has_gaps = true;
            self.expected = offset;
        }
        Ok(())
    }

    /// Copies what is whole of the old file up to the next damage.
    fn copy_whole(&mut self) -> Result<(), RebuildError> {
        let Some(segment) = self.segment.clone() else { return Ok(()) };
        let end = segment.end();
        let until = self.missing.front().map_or(end, |next| next.position.min(end));
        while self.position < until {
            let (header, batch) = read(&segment, self.position)?;
            let base = Offset(header.base_offset);
            // The first batch of a copy may begin before the log does.
            let at_start = self.position == 0 && Offset(header.next_offset()) > self.expected;
            if (base < self.expected && !at_start) || header.last_offset_delta < 0 {
                let reason = format!("base offset {base} below {}", self.expected);
                return Err(segment.corrupt(self.position, reason).into());
            }
            self.position += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.expected = base;
            self.append(&batch, &header)?;
        }
        Ok(())
    }

    fn append(&mut self, batch: &[u8], header: &BatchHeader) -> Result<(), RebuildError> {
        self.output.append(batch, &mut self.throttle).map_err(storage)?;
        self.expected = Offset(header.next_offset());
        Ok(())
    }
}

/// The batch at `position`, checked.
fn read(segment: &Segment, position: u64) -> Result<(BatchHeader, Vec<u8>), StorageError> {
    let failed = StorageError::io("cannot read", &segment.path);
    let mut bytes = vec![0; BATCH_OVERHEAD];
    let header = segment.file.read_at(&mut bytes, position).map(|count| {
        bytes.truncate(count);
        BatchHeader::parse(&bytes)
    });
    let header = match header {
        Ok(header) => header.map_err(|error| segment.corrupt(position, error.to_string()))?,
        Err(error) => return Err(failed(error)),
    };
    let mut batch = vec![0; header.total_len()];
    match segment.file.read_at(&mut batch, position) {
        Ok(count) => batch.truncate(count),
        Err(error) => return Err(failed(error)),
    }
    check_crc(&batch, &header).map_err(|error| segment.corrupt(position, error.to_string()))?;
    Ok((header, batch))
}

fn storage(error: CompactionError) -> RebuildError {
    match error {
        CompactionError::Storage(error) => RebuildError::Storage(error),
        // Nobody stops it.
        CompactionError::Stopped => RebuildError::Unfit("stopped".to_owned()),
    }
}
