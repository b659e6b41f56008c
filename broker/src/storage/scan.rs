//! Reading a segment from front to back through the file, believing nothing.
//!
//! Every batch is checked for all that is known of it: structure and checksum, its offset (which the
//! checksum does not cover, so that only the sequence tells a batch that was written to the wrong
//! place), its leader epoch. After a batch that fails, [`Scan::resume`] looks for the next one that
//! can be read.
//!
//! An offset that leaves a gap, and an epoch that rises, are believed unless the batch behind says
//! otherwise: what has been flipped there fits to nothing that follows. Once it did say so, they are
//! not believed before it says the contrary.
//!
//! It decides nothing: whether what fails is a torn write or damage is for its callers.

mod resume;

pub(super) use resume::Ahead;

use std::io;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc};

use super::epochs::EpochCache;
use super::quarantine::QuarantinedRange;
use crate::base::disk::DiskFile;
use crate::base::{LeaderEpoch, Offset};

/// Bytes of log read at once.
const SCAN_BYTES: usize = 1024 * 1024;

/// What must be true of the batches of a segment, besides what each says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'a> {
    /// The epochs of all offsets below `epochs_upto`; from there on they only must not fall.
    pub(super) epochs: &'a EpochCache,
    pub(super) epochs_upto: Offset,
    /// Whether offsets may be missing, as where a compaction has been.
    pub(super) gaps: Gaps,
}

/// Whether offsets may be missing between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Below this offset, where compaction has been: a batch begins where the one before ends, or
    /// further on. From there on each begins where the one before ends.
    Below(Offset),
}

/// What comes next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A whole batch, the one that belongs here.
    Batch(BatchHeader),
    /// Something else: why it is not the batch that belongs here. Nothing is passed over.
    Bad(String),
    /// The end of the file, or of what was written of it: the rest is zeroes.
    End,
}

/// A segment being read.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    bytes: Window<'a>,
    rule: Rule<'a>,
    /// Where the next batch begins in the file.
    pub(super) position: u64,
    /// The offset it must have.
    pub(super) expected: Offset,
    /// The epoch of the batch before.
    pub(super) last_epoch: Option<LeaderEpoch>,
    /// The segment was cut to its batches: it does not end with allocated space.
    pub(super) trimmed: bool,
    /// The first batch of the segment behind, if it is known.
    pub(super) behind: Option<BatchHeader>,
    /// What was found damaged before.
    pub(super) suspects: Vec<QuarantinedRange>,
}

impl<'a> Scan<'a> {
    /// Reads the first `length` bytes of `file`, whose first batch has the offset `base`.
    pub(super) fn new(file: &'a dyn DiskFile, length: u64, base: Offset, rule: Rule<'a>) -> Self {
        // Asked before anything is read: what is read counts as written from then on. Where it
        // cannot be told, all is read.
        let zero_from = file.zero_from(length).unwrap_or(length);
        let bytes = Window { file, length, zero_from, buffer: Vec::new(), start: 0 };
        Self {
            bytes,
            rule,
            position: 0,
            expected: base,
            last_epoch: None,
            trimmed: false,
            behind: None,
            suspects: Vec::new(),
        }
    }

    /// The first batch of a segment, if it is whole.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn first_batch(
        file: &dyn DiskFile,
        base: Offset,
    ) -> io::Result<Option<BatchHeader>> {
        let epochs = EpochCache::default();
        let gaps = Gaps::Below(Offset::ZERO);
        let rule = Rule { epochs: &epochs, epochs_upto: Offset::ZERO, gaps };
        let mut scan = Scan::new(file, file.len()?, base, rule);
        Ok(match scan.batch_at(0, Some(base))? {
            Step::Batch(header) => Some(header),
            Step::Bad(_) | Step::End => None,
        })
    }

    /// Reads the next batch and passes over it.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let step = self.batch_at(self.position, Some(self.expected))?;
        if let Step::Batch(header) = &step {
            if let Some(reason) = self.contradiction(header)? {
                return Ok(Step::Bad(reason));
            }
            self.position += length_of(header);
            self.expected = Offset(header.next_offset());
            self.last_epoch = Some(LeaderEpoch(header.partition_leader_epoch));
        }
        Ok(step)
    }

    /// Why the batch at the position is not believed, though it is whole: it leaves a gap or begins
    /// an epoch, and the one behind it belongs before the gap or to an earlier epoch.
    fn contradiction(&mut self, header: &BatchHeader) -> io::Result<Option<String>> {
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        let leaves_gap = header.base_offset > self.expected.0;
        let rises = self.rule.known_epoch(Offset(header.last_offset())).is_none()
            && self.last_epoch.is_none_or(|last| epoch > last);
        if !leaves_gap && !rises {
            return Ok(None);
        }
        let end = self.position + length_of(header);
        let odd = |one: &BatchHeader, next: &BatchHeader| {
            let behind_gap = leaves_gap && next.base_offset < one.next_offset();
            let in_sequence = next.base_offset >= one.next_offset();
            behind_gap || (in_sequence && next.partition_leader_epoch < one.partition_leader_epoch)
        };
        // Mostly they agree, and the next is read as a whole in its turn.
        let agrees = |next: BatchHeader| !odd(header, &next);
        if BatchHeader::parse(self.bytes.at(end, BATCH_OVERHEAD)?).is_ok_and(agrees) {
            return Ok(None);
        }
        let behind = self.header_behind(end)?;
        if behind.is_none()
            && let Some(further) = self.header_behind_damage(end, header)?
            && odd(header, &further)
        {
            return Ok(Some(contradicted(header, &further)));
        }
        let suspected = self.suspects.iter().any(|known| known.position == self.position);
        if behind.is_none() && suspected {
            // What contradicted it is damaged, too, since.
            let base = header.base_offset;
            return Ok(Some(format!("base offset {base}, leader epoch {epoch}: damaged before")));
        }
        let Some(next) = behind.filter(|next| odd(header, next)) else { return Ok(None) };
        // Of two that contradict each other the one is wrong that the third contradicts, too.
        let third = self.header_behind(end + length_of(&next))?;
        if third.is_some_and(|third| !odd(header, &third)) {
            return Ok(None);
        }
        Ok(Some(contradicted(header, &next)))
    }

    /// The header of the batch behind the damaged one at `position`, if that one still says that it
    /// follows on `header`, and how long it is.
    fn header_behind_damage(
        &mut self,
        position: u64,
        header: &BatchHeader,
    ) -> io::Result<Option<BatchHeader>> {
        let Ok(damaged) = BatchHeader::parse(self.bytes.at(position, BATCH_OVERHEAD)?) else {
            return Ok(None);
        };
        if damaged.base_offset != header.next_offset() {
            return Ok(None);
        }
        self.header_behind(position + length_of(&damaged))
    }

    /// The header of the batch at `position`, or of the first in the segment behind, if it is whole
    /// and could follow on what has been read.
    fn header_behind(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let found = match self.batch_at(position, None)? {
            Step::Batch(header) => Some(header),
            Step::End => self.behind,
            Step::Bad(_) => None,
        };
        Ok(found.filter(|found| found.base_offset > self.expected.0))
    }

    /// The batch at `position`; with any offset where none is expected.
    fn batch_at(&mut self, position: u64, expected: Option<Offset>) -> io::Result<Step> {
        let bytes = self.bytes.at(position, BATCH_OVERHEAD)?;
        if bytes.iter().all(|byte| *byte == 0) {
            // Allocated and never written, unless something follows: then a write is missing.
            let missing = || Step::Bad("zeroes where a batch should begin".to_owned());
            return Ok(if self.bytes.are_zero_from(position)? { Step::End } else { missing() });
        }
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Bad(error.to_string())),
        };
        let expected = expected.unwrap_or(Offset(header.base_offset));
        let (rule, last_epoch) = (self.rule, self.last_epoch);
        let bytes = self.bytes.at(position, header.total_len())?;
        Ok(match rule.check(bytes, &header, expected, last_epoch) {
            Ok(()) => Step::Batch(header),
            Err(reason) => Step::Bad(reason),
        })
    }
}

impl Rule<'_> {
    fn known_epoch(&self, at: Offset) -> Option<LeaderEpoch> {
        self.epochs.epoch_at(at).filter(|_| at < self.epochs_upto)
    }

    /// Whether a batch is whole, and the one that belongs here.
    fn check(
        &self,
        batch: &[u8],
        header: &BatchHeader,
        expected: Offset,
        last_epoch: Option<LeaderEpoch>,
    ) -> Result<(), String> {
        if batch.len() < header.total_len() {
            return Err(format!("a batch of {} bytes is cut off", header.total_len()));
        }
        if !planted!(SkipChecksumInScan) {
            check_crc(batch, header).map_err(|error| error.to_string())?;
        }
        if header.last_offset_delta < 0 {
            return Err(format!("last offset delta {}", header.last_offset_delta));
        }
        let in_sequence = match self.gaps {
            Gaps::Below(end) => {
                let behind_gap =
                    header.base_offset > expected.0 && Offset(header.next_offset()) <= end;
                header.base_offset == expected.0 || behind_gap
            }
        };
        if !in_sequence && !planted!(SkipOffsetsInScan) {
            return Err(format!("base offset {} instead of {expected}", header.base_offset));
        }
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        // By its last offset: the log may begin within it, and epochs be known from there on only, or
        // have ended before, if it was copied from a leader that has more of it.
        let at = Offset(header.last_offset());
        let known = self.known_epoch(at);
        // Below the log start single epochs are forgotten: none was above the first that is not.
        let first = self.epochs.earliest().filter(|_| at < self.epochs_upto);
        match known {
            None if first.is_some_and(|first| epoch > first) => {
                Err(format!("leader epoch {epoch} below the log start"))
            }
            Some(known) if epoch != known => Err(format!("leader epoch {epoch}, not {known}")),
            None if last_epoch.is_some_and(|last| epoch < last) => {
                Err(format!("leader epoch fell to {epoch}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What is wrong with the one, in words.
fn contradicted(one: &BatchHeader, behind: &BatchHeader) -> String {
    let (base, epoch) = (one.base_offset, one.partition_leader_epoch);
    let (offset, later) = (behind.base_offset, behind.partition_leader_epoch);
    format!("base offset {base}, leader epoch {epoch}; behind it {offset}, {later}")
}

fn length_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.total_len()).unwrap_or(u64::MAX)
}

/// A file read in large pieces.
#[derive(Debug)]
struct Window<'a> {
    file: &'a dyn DiskFile,
    length: u64,
    /// From here on the file is zero: allocated and never written. Only asked for what was not read.
    zero_from: u64,
    /// What has been read, from `start` of the file on.
    buffer: Vec<u8>,
    start: u64,
}

impl Window<'_> {
    /// `wanted` bytes at `position`; fewer at the end of the file.
    fn at(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let skip = |start: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
        let inside =
            position >= self.start && skip(self.start).saturating_add(wanted) <= self.buffer.len();
        if !inside {
            self.buffer.resize(wanted.max(self.worth_reading(position)).min(left), 0);
            let read = self.file.read_at(&mut self.buffer, position)?;
            self.buffer.truncate(read);
            self.start = position;
        }
        let from = skip(self.start);
        let to = from.saturating_add(wanted).min(self.buffer.len());
        Ok(self.buffer.get(from..to).unwrap_or_default())
    }

    /// Bytes to read at `position`: not much of what was never written.
    fn worth_reading(&self, position: u64) -> usize {
        match usize::try_from(self.zero_from.saturating_sub(position)) {
            Ok(written) if written > 0 => written.saturating_add(BATCH_OVERHEAD).min(SCAN_BYTES),
            // Somebody looks for something there.
            Ok(_) | Err(_) => SCAN_BYTES,
        }
    }

    /// What is at hand from `position` on; at least `least` bytes, if the file has them.
    fn from(&mut self, position: u64, least: usize) -> io::Result<&[u8]> {
        self.at(position, least)?;
        let skip = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    fn are_zero_from(&mut self, mut position: u64) -> io::Result<bool> {
        while position < self.zero_from {
            let bytes = self.at(position, self.worth_reading(position))?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        Ok(true)
    }
}
