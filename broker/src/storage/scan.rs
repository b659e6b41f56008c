//! Reading a segment from front to back through the file, believing nothing.
//!
//! Every batch is checked for all that is known of it: structure and checksum, its offset (which the
//! checksum does not cover, so that only the sequence tells a batch that was written to the wrong
//! place), its leader epoch. After a batch that fails, [`Scan::resume`] looks for the next one that
//! can be read.
//!
//! It decides nothing: whether what fails is a torn write or damage is for its callers.

use std::io;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc};

use super::epochs::EpochCache;
use crate::base::disk::DiskFile;
use crate::base::{LeaderEpoch, Offset};

/// Bytes of log read at once.
const SCAN_BYTES: usize = 1024 * 1024;

/// Where a batch says how long it is, behind these many bytes, and that it is one.
const LENGTH_POSITION: usize = 8;
const LENGTH_END: usize = 12;
const MAGIC_POSITION: usize = 16;
const MAGIC: u8 = 2;

/// Bytes checked for places that look like a batch and are none, before the search is given up:
/// records may hold what looks like batches, many of them.
const RESUME_BYTES_MAX: u64 = 1024 * 1024 * 1024;

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
}

impl<'a> Scan<'a> {
    /// Reads the first `length` bytes of `file`, whose first batch has the offset `base`.
    pub(super) fn new(file: &'a dyn DiskFile, length: u64, base: Offset, rule: Rule<'a>) -> Self {
        let bytes = Window { file, length, buffer: Vec::new(), start: 0 };
        Self { bytes, rule, position: 0, expected: base, last_epoch: None, trimmed: false }
    }

    /// Reads the next batch and passes over it.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let step = self.batch_at(self.position, Some(self.expected))?;
        if let Step::Batch(header) = &step {
            self.position += length_of(header);
            self.expected = Offset(header.next_offset());
            self.last_epoch = Some(LeaderEpoch(header.partition_leader_epoch));
        }
        Ok(step)
    }

    /// Passes over what cannot be read, to the next batch that can, with an offset below `limit`.
    /// False, and nothing is passed over, if there is none.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn resume(&mut self, limit: Offset) -> io::Result<bool> {
        if planted!(QuarantineTooMuch) {
            return Ok(false);
        }
        // Mostly the length is right: it is four bytes of many.
        if let Some(length) = self.bytes.at(self.position, LENGTH_END)?.get(LENGTH_POSITION..)
            && let Ok(length) = <[u8; 4]>::try_from(length)
            && let Ok(length) = u64::try_from(i32::from_be_bytes(length))
            && let at = self.position + length + u64::try_from(LENGTH_END).unwrap_or(0)
            && let Some(header) = self.candidate(at, limit)?
        {
            self.resume_at(at, &header);
            return Ok(true);
        }
        let missed = Missed { from: self.expected, to: limit, end: self.bytes.length };
        let (mut at, mut budget) = (self.position + 1, RESUME_BYTES_MAX);
        while budget > 0 {
            let window = self.bytes.from(at, BATCH_OVERHEAD)?;
            let places = (window.len() + 1).saturating_sub(BATCH_OVERHEAD);
            if places == 0 {
                break;
            }
            let found = (0..places).find(|skip| missed.may_begin_at(window, at, *skip));
            at += u64::try_from(found.unwrap_or(places)).unwrap_or(u64::MAX);
            if found.is_none() {
                continue;
            }
            if let Some(header) = self.candidate(at, limit)? {
                budget = budget.saturating_sub(length_of(&header));
                // A record may hold a batch. That one has nothing of ours behind it.
                if self.is_followed(at, &header)? {
                    self.resume_at(at, &header);
                    return Ok(true);
                }
            }
            at += 1;
        }
        Ok(false)
    }

    fn resume_at(&mut self, position: u64, header: &BatchHeader) {
        self.position = position;
        self.expected = Offset(header.base_offset);
    }

    /// The batch at `position`, if it is whole and could be one of those missed.
    fn candidate(&mut self, position: u64, limit: Offset) -> io::Result<Option<BatchHeader>> {
        let Step::Batch(header) = self.batch_at(position, None)? else { return Ok(None) };
        let offset = Offset(header.base_offset);
        Ok((offset > self.expected && offset < limit).then_some(header))
    }

    fn is_followed(&mut self, position: u64, header: &BatchHeader) -> io::Result<bool> {
        let behind = position + length_of(header);
        Ok(match self.batch_at(behind, Some(Offset(header.next_offset())))? {
            Step::Batch(_) => true,
            // A write to the wrong place may look like the last one.
            Step::End => !self.trimmed || behind >= self.bytes.length,
            Step::Bad(_) => false,
        })
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
        let at = Offset(header.base_offset);
        let known = self.epochs.epoch_at(at).filter(|_| at < self.epochs_upto);
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

/// What a search for the next batch goes by, before it reads one as a whole.
struct Missed {
    from: Offset,
    to: Offset,
    /// The end of the file.
    end: u64,
}

impl Missed {
    /// Whether a batch may begin at `skip` of `window`, which is at `position` of the file. Rules
    /// out nearly every other place.
    fn may_begin_at(&self, window: &[u8], position: u64, skip: usize) -> bool {
        if window.get(skip + MAGIC_POSITION) != Some(&MAGIC) {
            return false;
        }
        let Some(Ok(header)) = window.get(skip..).map(BatchHeader::parse) else { return false };
        let begin = position + u64::try_from(skip).unwrap_or(u64::MAX);
        let offset = Offset(header.base_offset);
        offset > self.from && offset < self.to && begin + length_of(&header) <= self.end
    }
}

fn length_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.total_len()).unwrap_or(u64::MAX)
}

/// A file read in large pieces.
#[derive(Debug)]
struct Window<'a> {
    file: &'a dyn DiskFile,
    length: u64,
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
            self.buffer.resize(wanted.max(SCAN_BYTES).min(left), 0);
            let read = self.file.read_at(&mut self.buffer, position)?;
            self.buffer.truncate(read);
            self.start = position;
        }
        let from = skip(self.start);
        let to = from.saturating_add(wanted).min(self.buffer.len());
        Ok(self.buffer.get(from..to).unwrap_or_default())
    }

    /// What is at hand from `position` on; at least `least` bytes, if the file has them.
    fn from(&mut self, position: u64, least: usize) -> io::Result<&[u8]> {
        self.at(position, least)?;
        let skip = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    fn are_zero_from(&mut self, mut position: u64) -> io::Result<bool> {
        while position < self.length {
            let bytes = self.at(position, SCAN_BYTES)?;
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
