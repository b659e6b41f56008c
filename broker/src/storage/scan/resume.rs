//! Going on behind a batch that fails.
//!
//! What is damaged says little of where the next batch begins and which offset it has, and a batch
//! that is whole may still have a wrong offset: no checksum covers it. So the next one is believed
//! only where something else agrees: the count of the damaged one, the batch behind it, or the end
//! that is known.

use std::io;

use sawlog_protocol::records::{BATCH_OVERHEAD, BatchHeader, check_crc};

use super::{SCAN_BYTES, Scan, Step, length_of};
use crate::base::Offset;

/// Where a batch says how long it is, behind these many bytes, and that it is one.
const LENGTH_POSITION: usize = 8;
const LENGTH_END: usize = 12;
const MAGIC_POSITION: usize = 16;
const MAGIC: u8 = 2;

/// Least that a batch says of its length.
const LENGTH_MIN: i32 = 49;

/// Bytes of a batch that no checksum covers, at its begin.
const PREFIX_BYTES: u64 = 16;

/// Bytes checked for places that look like a batch and are none, before the search is given up:
/// records may hold what looks like batches, many of them.
const RESUME_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Longest batch whose length is looked for, where one bit of it may be flipped.
const FLIPPED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A crash keeps or loses bytes of a write in pieces of this size, or of a multiple.
const SECTOR_BYTES: u64 = 512;

/// What is known of the batches behind a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct Ahead {
    /// No batch of the segment goes beyond. The greatest offset, if it is not known.
    pub(in crate::storage) limit: Offset,
    /// An offset where one batch ends and the next begins: that of the next segment, or how far the
    /// log was durable.
    pub(in crate::storage) boundary: Option<Offset>,
}

impl Ahead {
    /// In a segment that leads to `next`, or is the last.
    pub(in crate::storage) fn new(next: Option<Offset>, durable_end: Option<Offset>) -> Self {
        Self { limit: next.unwrap_or(Offset(i64::MAX)), boundary: next.or(durable_end) }
    }
}

impl Scan<'_> {
    /// Passes over what cannot be read, to the next batch that can. False, and nothing is passed
    /// over, if there is none.
    ///
    /// # Errors
    /// The operating system's.
    pub(in crate::storage) fn resume(&mut self, ahead: Ahead) -> io::Result<bool> {
        if planted!(QuarantineTooMuch) {
            return Ok(false);
        }
        let claimed = self.claimed()?;
        for at in self.ends()?.into_iter().flatten() {
            if let Some(header) = self.candidate(at, ahead)?
                && (claimed.contains(&Some(header.base_offset))
                    || self.is_followed(at, &header, ahead)?)
            {
                self.resume_at(at, &header);
                return Ok(true);
            }
            // The next is damaged, too, but both say where one ends and the other begins.
            if let Ok(header) = BatchHeader::parse(self.bytes.at(at, BATCH_OVERHEAD)?)
                && claimed.contains(&Some(header.base_offset))
                && self.could_be_missed(&header, ahead)
            {
                self.resume_at(at, &header);
                return Ok(true);
            }
        }
        let missed = Missed { from: self.expected, to: ahead.limit, end: self.bytes.length };
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
            if let Some(header) = self.candidate(at, ahead)? {
                budget = budget.saturating_sub(length_of(&header));
                // A record may hold a batch. That one has nothing of ours behind it.
                if self.is_followed(at, &header, ahead)? {
                    self.resume_at(at, &header);
                    return Ok(true);
                }
            }
            at += 1;
        }
        // What confirmed the end of it is damaged since, but it was known.
        let known = self.suspects.iter().find(|known| known.position == self.position);
        let known = known.filter(|known| known.from == self.expected && known.bytes > 0);
        let known = known.map(|known| (known.position + known.bytes, known.to));
        if let Some((end, to)) = known.filter(|(end, _)| *end < self.bytes.length) {
            (self.position, self.expected) = (end, to);
            return Ok(true);
        }
        Ok(false)
    }

    /// As [`Self::resume`], where it is not known whether what cannot be read was ever durable: only
    /// if it is not what a crash leaves of a write.
    ///
    /// What was never written is zero, sector by sector. A batch without such a sector has been
    /// written as a whole and was changed afterwards. Whether anybody was told of it nobody knows.
    /// And a batch that is whole, but for what the checksum does not cover, is passed over even if
    /// nothing follows: how long it is and how many offsets it has is known.
    ///
    /// # Errors
    /// The operating system's.
    pub(in crate::storage) fn resume_behind_damage(&mut self, ahead: Ahead) -> io::Result<bool> {
        let position = self.position;
        if let Some(header) = self.whole()? {
            // The checksum vouches for what is behind the first bytes.
            return if self.is_written(position, position + PREFIX_BYTES)? {
                self.resume_behind_whole(&header, ahead)
            } else {
                Ok(false)
            };
        }
        let length = BatchHeader::parse(self.bytes.at(position, BATCH_OVERHEAD)?)
            .map_or(PREFIX_BYTES, |header| length_of(&header));
        let end = position + length;
        if !self.is_written(position, end.min(self.bytes.length))? {
            return Ok(false);
        }
        if self.resume_if_written(ahead)? {
            return Ok(true);
        }
        // The last of its segment, and the next begins where it says. What was allocated behind it
        // may have lost a bit, too.
        let is_last = end <= self.bytes.length
            && self.claimed()?.contains(&Some(ahead.limit.0))
            && !matches!(self.batch_at(end, None)?, Step::Batch(_));
        if is_last {
            (self.position, self.expected) = (end, ahead.limit);
        }
        Ok(is_last)
    }

    fn resume_behind_whole(&mut self, header: &BatchHeader, ahead: Ahead) -> io::Result<bool> {
        let end = self.position + length_of(header);
        let next = self.expected.plus(i64::from(header.last_offset_delta) + 1);
        if let Some(following) = self.candidate(end, ahead)?
            && (following.base_offset == next.0 || self.is_followed(end, &following, ahead)?)
        {
            self.resume_at(end, &following);
            return Ok(true);
        }
        if self.resume_if_written(ahead)? {
            return Ok(true);
        }
        let plausible = next > self.expected && next <= ahead.limit;
        if plausible {
            (self.position, self.expected) = (end, next);
        }
        Ok(plausible)
    }

    /// The header of what cannot be read, if all under its checksum is as it was written; with its
    /// true length, which is not under it.
    fn whole(&mut self) -> io::Result<Option<BatchHeader>> {
        let Some(header) = self.damaged_header()? else { return Ok(None) };
        let left = self.bytes.length - self.position;
        let others = (0..i32::BITS).map(|bit| header.batch_length ^ (1 << bit));
        for batch_length in std::iter::once(header.batch_length).chain(others) {
            let flipped = batch_length != header.batch_length;
            let header = BatchHeader { batch_length, ..header };
            let most = if flipped { left.min(FLIPPED_BYTES_MAX) } else { left };
            if batch_length < LENGTH_MIN || length_of(&header) > most {
                continue;
            }
            let bytes = self.bytes.at(self.position, header.total_len())?;
            if check_crc(bytes, &header).is_ok() {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// The header of what cannot be read, whatever it says of its length.
    fn damaged_header(&mut self) -> io::Result<Option<BatchHeader>> {
        let bytes = self.bytes.at(self.position, BATCH_OVERHEAD)?;
        let (Some(before), Some(after)) = (bytes.get(..LENGTH_POSITION), bytes.get(LENGTH_END..))
        else {
            return Ok(None);
        };
        let length = bytes.get(LENGTH_POSITION..).and_then(|length| length.first_chunk());
        let batch_length = length.map_or(0, |length| i32::from_be_bytes(*length));
        let readable = [before, &LENGTH_MIN.to_be_bytes(), after].concat();
        let header = BatchHeader::parse(&readable).ok();
        Ok(header.map(|header| BatchHeader { batch_length, ..header }))
    }

    fn resume_if_written(&mut self, ahead: Ahead) -> io::Result<bool> {
        let (position, expected) = (self.position, self.expected);
        if !self.resume(ahead)? {
            return Ok(false);
        }
        if self.is_written(position, self.position)? {
            return Ok(true);
        }
        (self.position, self.expected) = (position, expected);
        Ok(false)
    }

    /// Whether every sector of `[from, to)` has something other than zeroes.
    fn is_written(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let window = u64::try_from(SCAN_BYTES).unwrap_or(SECTOR_BYTES);
            let stop = to.min((at / SECTOR_BYTES) * SECTOR_BYTES + window);
            let bytes = self.bytes.at(at, usize::try_from(stop - at).unwrap_or(0))?;
            // Up to the end of the first sector, and from there on whole ones.
            let first = usize::try_from(SECTOR_BYTES - at % SECTOR_BYTES).unwrap_or(0);
            let (first, rest) = bytes.split_at(first.min(bytes.len()));
            let sectors = rest.chunks(usize::try_from(SECTOR_BYTES).unwrap_or(1));
            if bytes.is_empty()
                || std::iter::once(first).chain(sectors).any(|s| s.iter().all(|byte| *byte == 0))
            {
                return Ok(false);
            }
            at = stop;
        }
        Ok(true)
    }

    /// Where the next batch may begin: by the length of the damaged one, which mostly is right, as it
    /// is four bytes of many; and by the one that its checksum is right for.
    fn ends(&mut self) -> io::Result<[Option<u64>; 2]> {
        let bytes = self.bytes.at(self.position, LENGTH_END)?;
        let length = bytes.get(LENGTH_POSITION..).and_then(|length| length.first_chunk());
        let length = length.and_then(|length| u64::try_from(i32::from_be_bytes(*length)).ok());
        let overhead = u64::try_from(LENGTH_END).unwrap_or(0);
        let said = length.map(|length| self.position + length + overhead);
        let whole = self.whole()?.map(|header| self.position + length_of(&header));
        Ok([said, whole.filter(|whole| Some(*whole) != said)])
    }

    /// Where the damaged batch says that the next one begins, by its two counts: both lie under the
    /// checksum, and one of them may be what is damaged.
    fn claimed(&mut self) -> io::Result<[Option<i64>; 2]> {
        let Some(header) = self.damaged_header()? else { return Ok([None; 2]) };
        let counts = [header.last_offset_delta.checked_add(1), Some(header.records_count)];
        Ok(counts.map(|count| Some(self.expected.plus(i64::from(count?)).0)))
    }

    fn resume_at(&mut self, position: u64, header: &BatchHeader) {
        self.position = position;
        self.expected = Offset(header.base_offset);
    }

    /// The batch at `position`, if it is whole and could be one of those missed.
    fn candidate(&mut self, position: u64, ahead: Ahead) -> io::Result<Option<BatchHeader>> {
        let Step::Batch(header) = self.batch_at(position, None)? else { return Ok(None) };
        Ok(Some(header).filter(|header| self.could_be_missed(header, ahead)))
    }

    fn could_be_missed(&self, header: &BatchHeader, ahead: Ahead) -> bool {
        header.base_offset > self.expected.0 && header.next_offset() <= ahead.limit.0
    }

    /// Whether what is behind a batch says that its offset is right.
    fn is_followed(
        &mut self,
        position: u64,
        header: &BatchHeader,
        ahead: Ahead,
    ) -> io::Result<bool> {
        let behind = position + length_of(header);
        let at_boundary = ahead.boundary.is_some_and(|boundary| {
            boundary.0 == header.next_offset() || boundary.0 == header.base_offset
        });
        Ok(match self.batch_at(behind, Some(Offset(header.next_offset())))? {
            Step::Batch(_) => true,
            // A write to the wrong place may look like the last one, and any offset like its.
            Step::End if self.trimmed && behind < self.bytes.length => false,
            Step::End => at_boundary || self.claimed()?.contains(&Some(header.base_offset)),
            // What follows may be a torn write, which says nothing. Then it is the offset that is
            // known alone, and only where no record could hold what looks like a batch.
            Step::Bad(_) => at_boundary && self.is_zero(self.position, position)?,
        })
    }

    /// Whether there is nothing but zeroes in `[from, to)`.
    fn is_zero(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let left = usize::try_from(to - at).unwrap_or(usize::MAX);
            let bytes = self.bytes.at(at, left.min(SCAN_BYTES))?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        Ok(true)
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
