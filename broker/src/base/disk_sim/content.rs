//! The content of a simulated file: what was written, what of it would survive a power cut, and how a cut
//! decides between the two.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::random::SimRandom;

/// What becomes of a write on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    Lost,
    Misdirected,
}

/// A change of a file that no sync has made durable.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { position: usize, bytes: Vec<u8>, fate: Fate },
    Length(usize),
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pending: Vec<Change>,
    /// Changes a failed sync has given up on: only luck makes them survive.
    abandoned: Vec<Change>,
    /// End of the bytes each living mapping has handed out.
    pub(super) exposed: Vec<Weak<AtomicUsize>>,
}

impl Node {
    /// A file that is on the medium as it was written.
    pub(super) fn of(content: Vec<u8>) -> Self {
        let durable = content.clone();
        Self { live: content, durable, ..Self::default() }
    }

    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { position, bytes, .. } => {
                let end = position + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(range) = content.get_mut(*position..end) {
                    range.copy_from_slice(bytes);
                }
            }
            Change::Length(length) => content.resize(*length, 0),
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        Self::apply(&mut self.live, &change);
        self.pending.push(change);
    }

    /// Applies a change as the medium has it.
    fn settle(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { fate: Fate::Lost, .. } => {}
            Change::Write { fate: Fate::Misdirected, position, bytes } => {
                // Further back in the file by what it is long, or to its start: over something.
                let elsewhere = position.saturating_sub(bytes.len());
                let elsewhere = if elsewhere == *position { bytes.len() } else { elsewhere };
                let (length, bytes) = (content.len(), bytes.clone());
                let fate = Fate::Written;
                Self::apply(content, &Change::Write { position: elsewhere, bytes, fate });
                content.truncate(length);
            }
            Change::Write { fate: Fate::Written, .. } | Change::Length(_) => {
                Self::apply(content, change);
            }
        }
    }

    /// A failed sync: the changes count as written, and are not.
    pub(super) fn abandon(&mut self) {
        let lost = std::mem::take(&mut self.pending);
        self.abandoned.extend(lost);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            Self::settle(&mut self.durable, &change);
        }
        self.abandoned.clear();
    }

    /// No byte a mapping has handed out may go: on a real disk touching it would be fatal.
    pub(super) fn check_cut(&mut self, length: usize) {
        self.exposed.retain(|exposed| exposed.strong_count() > 0);
        for exposed in self.exposed.iter().filter_map(Weak::upgrade) {
            let exposed = exposed.load(Ordering::Relaxed);
            assert!(length >= exposed, "SIGBUS: cut at {length}, handed out up to {exposed}");
        }
    }

    /// What the medium has of the content. It keeps or loses sectors, each as the page cache had it at
    /// some time: of two writes to one sector, the later is never there without the one before.
    pub(super) fn after_crash(&self, random: &mut SimRandom, sector: usize) -> Vec<u8> {
        let (mut content, mut cached) = (self.durable.clone(), self.durable.clone());
        // Sectors are written out early, and not again once something of them was lost, or late, with
        // all that came before.
        let is_early = random.below(2) == 0;
        let mut lost = BTreeSet::new();
        for change in self.abandoned.iter().chain(&self.pending) {
            Self::settle(&mut cached, change);
            let kept = random.below(3);
            if let Change::Write { position, bytes, fate: Fate::Written } = change {
                let end = position + bytes.len();
                for number in position / sector..end.div_ceil(sector) {
                    let survives = kept == 2 || (kept == 1 && random.below(2) == 0);
                    if survives && !(is_early && lost.contains(&number)) {
                        let from = number * sector;
                        write_out(&cached, &mut content, from, end.min(from + sector), sector);
                    } else {
                        lost.insert(number);
                    }
                }
            } else if kept > 0 {
                Self::settle(&mut content, change);
            }
        }
        content
    }
}

/// Brings the sector at `from` to the medium as it is in the cache, with a file of `end` bytes at least.
fn write_out(cached: &[u8], content: &mut Vec<u8>, from: usize, end: usize, sector: usize) {
    let length = content.len().max(end);
    content.resize(length, 0);
    for at in from..length.min(from + sector) {
        if let Some(byte) = content.get_mut(at) {
            *byte = cached.get(at).copied().unwrap_or_default();
        }
    }
}
