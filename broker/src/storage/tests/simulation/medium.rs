//! What a disk that lies had of a log before it was opened, and what of that excuses a cut.
//!
//! Beyond the checkpoint a start cannot know what was acknowledged. What is not there, or has a
//! sector that is zero, may be a torn write; so may be a damaged batch where nothing says how far it
//! goes. Any other cut would take along what somebody was told of.

use super::model::{Model, Written};
use super::*;
use crate::base::disk::read_whole;

/// The segments on a disk: base offset, bytes.
#[derive(Debug)]
pub(super) struct Medium(Vec<(i64, Vec<u8>)>);

impl Medium {
    pub(super) fn of(disk: &SimDisk) -> Self {
        let names = disk.list(Path::new(DIRECTORY)).unwrap_or_default();
        let segments = names.iter().filter_map(|name| {
            let base = name.strip_suffix(".log")?.parse().ok()?;
            let bytes = read_whole(disk, &Path::new(DIRECTORY).join(name), 1 << 30);
            Some((base, bytes.ok()??))
        });
        Self(segments.collect())
    }

    /// The last segment, and where it ends.
    pub(super) fn end(&self) -> Option<(i64, usize)> {
        self.0.last().map(|(base, bytes)| (*base, bytes.len()))
    }

    /// The batch of the model that was written to a place of a segment.
    pub(super) fn batch_at<'a>(
        &self,
        model: &'a Model,
        (segment, position): (i64, usize),
    ) -> Option<&'a Written> {
        let (_, bytes) = self.0.iter().find(|(base, _)| *base == segment)?;
        let mut end = 0;
        let mut batches = model.batches.iter().filter(|batch| batch.base >= segment);
        batches.find(|batch| {
            end += batch.bytes.len();
            end > position && end <= bytes.len()
        })
    }

    /// Where in which segment the batch of the model is, if it is as it was written or not.
    fn locate(&self, model: &Model, written: &Written) -> Option<(usize, &[u8])> {
        let (base, bytes) = self.0.iter().rfind(|(base, _)| *base <= written.base)?;
        let before = model.batches.iter().filter(|b| b.base >= *base && b.base < written.base);
        Some((before.map(|b| b.bytes.len()).sum(), bytes))
    }

    fn begins_segment(&self, written: &Written) -> bool {
        self.0.iter().any(|(base, _)| *base == written.base)
    }

    fn bytes(&self, model: &Model, written: &Written) -> Option<&[u8]> {
        let (at, bytes) = self.locate(model, written)?;
        bytes.get(at..at + written.bytes.len())
    }

    fn has(&self, model: &Model, written: Option<&Written>) -> bool {
        written.is_some_and(|written| {
            self.bytes(model, written).is_some_and(|bytes| bytes == written.original())
        })
    }

    /// Whether what the medium has of a batch may be a torn write, or damage that ends the log
    /// because nothing tells how far it goes.
    pub(super) fn excuses_cut_at(&self, model: &Model, cut: &Written) -> bool {
        let Some((at, segment)) = self.locate(model, cut) else { return cut.base >= model.start };
        let Some(bytes) = self.bytes(model, cut) else { return true };
        let has_hole = |at: usize, bytes: &[u8]| {
            let (first, rest) = bytes.split_at((512 - at % 512).min(bytes.len()));
            let mut sectors = std::iter::once(first).chain(rest.chunks(512));
            sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
        };
        if has_hole(at, bytes) {
            return true;
        }
        let original = cut.original();
        let (covered, flips) =
            (bytes[16..] == original[16..], flips(&bytes[8..12], &original[8..12]));
        if covered && flips <= 1 {
            return false; // Only its offset or its epoch, or a bit of its length.
        }
        let next = model.at(cut.next);
        // With something under its checksum damaged, too, nothing says how long it is: not where it
        // ends its segment, nor whether a hole in what its length spans is one a crash has left.
        let ends_segment = next.is_some_and(|next| self.begins_segment(next));
        let says_long = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let end = at.saturating_add(usize::try_from(says_long).unwrap_or(0)).saturating_add(12);
        let spanned = &segment[at..end.min(segment.len())];
        if flips > 0 && (ends_segment || has_hole(at, spanned)) {
            return true;
        }
        let counts = [23..27, 57..61].iter().any(|at| bytes[at.clone()] == original[at.clone()]);
        let says = flips == 0 && bytes[16] == 2 && counts;
        let confirmed = says || next.is_some_and(|next| self.has(model, model.at(next.next)));
        // The next may be damaged, too: if it begins where this one says, both are what they were.
        let begins = says && next.is_some_and(|next| self.names(model, next));
        !(begins || (self.has(model, next) && confirmed))
    }

    /// Whether what the medium has of a batch still says which it is and how long.
    fn names(&self, model: &Model, written: &Written) -> bool {
        let original = written.original();
        self.bytes(model, written).is_some_and(|bytes| {
            [0..12, 16..17, 23..27].iter().all(|at| bytes[at.clone()] == original[at.clone()])
        })
    }
}

/// Bits in which two numbers differ.
fn flips(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
}
