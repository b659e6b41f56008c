//! Puts a compacted segment in the place of those it was made of.
//!
//! ```text
//! 1  BASE-END.cleaned   written and synced          undone by the next start
//! 2  BASE-END.swap      renamed, directory synced   from here on finished by the next start
//! 3  segments in [BASE, END) removed, but for BASE.log; directory synced
//! 4  BASE.log           renamed over it, directory synced; then its index files are written
//! ```
//! The name says which segments go, so that a start needs nothing else to finish: whatever of them
//! a crash has left or brought back, they lie within.
//!
//! Readers hold the segments they have, and their files live on without a name. What they may not do
//! is look into index files by name: the segment is marked before its files go.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::super::error::StorageError;
use super::super::flush::Side;
use super::super::index::MemoryIndex;
use super::super::index_file::{INDEX_SUFFIX, TIME_INDEX_SUFFIX};
use super::super::segment::{LOG_SUFFIX, Segment, base_of, file_name, remove_if_there};
use super::input::Input;
use super::output::Written;
use super::throttle::{CompactionError, Throttle};
use crate::base::disk::{Create, Disk};
use crate::base::{Clock, ManualClock, Offset, Timestamp};

const CLEANED_SUFFIX: &str = "cleaned";
const SWAP_SUFFIX: &str = "swap";

/// The offsets a compacted segment stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: Offset,
    pub(super) end: Offset,
}

impl Place {
    /// Name of the file while it is written.
    pub(super) fn cleaned(self) -> String {
        self.name(CLEANED_SUFFIX)
    }

    fn swap(self) -> String {
        self.name(SWAP_SUFFIX)
    }

    fn name(self, suffix: &str) -> String {
        format!("{:020}-{:020}.{suffix}", self.base.0, self.end.0)
    }

    fn parse(name: &str, suffix: &str) -> Option<Self> {
        let (base, end) = name.split_once('-')?;
        let base = base_of(&format!("{base}.{suffix}"), suffix)?;
        let end = base_of(end, suffix)?;
        (base < end).then_some(Self { base, end })
    }
}

/// A compacted segment, complete and synced, and the segments it stands for.
#[must_use = "its file stays behind"]
pub struct Replacement {
    pub(super) side: Arc<Side>,
    pub(super) place: Place,
    pub(in crate::storage) sources: Vec<Arc<Segment>>,
    pub(in crate::storage) segment: Arc<Segment>,
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Replacement {
    /// Gives it up.
    ///
    /// # Errors
    /// Its file cannot be removed; the next start does it.
    pub fn discard(self) -> Result<(), StorageError> {
        self.side
            .swap(|disk, directory| remove_if_there(disk, &directory.join(self.place.cleaned())))
    }

    /// The offsets it stands for.
    pub(in crate::storage) fn range(&self) -> (Offset, Offset) {
        (self.place.base, self.place.end)
    }
}

/// A replacement under way. Runs without the log's lock; the log waits for its result, given to
/// [`super::super::Log::end_swap`].
#[derive(Debug)]
#[must_use = "a swap that is not carried out blocks every later one"]
pub struct SwapTicket {
    pub(in crate::storage) replacement: Replacement,
}

impl SwapTicket {
    /// Changes the files.
    ///
    /// # Errors
    /// The first failure. What the directory holds is unknown then, and found out by the next start.
    pub fn run(self) -> Result<Replacement, StorageError> {
        let replacement = self.replacement;
        replacement.side.swap(|disk, directory| {
            let place = replacement.place;
            let cleaned = directory.join(place.cleaned());
            rename(disk, &cleaned, &directory.join(place.swap()))?;
            sync(disk, directory)?;
            for segment in &replacement.sources {
                if segment.base == place.base {
                    segment.remove_index()?;
                } else {
                    segment.remove()?;
                }
            }
            finish(disk, directory, place)?;
            replacement.segment.on_moved();
            match replacement.segment.seal() {
                // Its index stays in memory, and is made again by the next start.
                Ok(()) | Err(StorageError::NoSpace { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })?;
        Ok(replacement)
    }
}

/// Step 4, and the sync before it.
fn finish(disk: &dyn Disk, directory: &Path, place: Place) -> Result<(), StorageError> {
    if !planted!(ReplaceBeforeRemovalSync) {
        sync(disk, directory)?;
    }
    let log = directory.join(file_name(place.base, LOG_SUFFIX));
    rename(disk, &directory.join(place.swap()), &log)?;
    sync(disk, directory)
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StorageError> {
    disk.rename(from, to).map_err(StorageError::io("cannot rename", from))
}

fn sync(disk: &dyn Disk, directory: &Path) -> Result<(), StorageError> {
    disk.sync_dir(directory).map_err(StorageError::io("cannot sync", directory))
}

/// Finishes or undoes what a crash has left of replacements. Returns the names that are there then.
///
/// # Errors
/// A file operation failed; or a complete replacement is damaged: then nothing was removed for it.
pub(in crate::storage) fn recover(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    names: Vec<String>,
) -> Result<Vec<String>, StorageError> {
    let mut changed = false;
    for name in &names {
        if name.ends_with(&format!(".{CLEANED_SUFFIX}")) {
            remove_if_there(&**disk, &directory.join(name))?;
            changed = true;
        } else if let Some(place) = Place::parse(name, SWAP_SUFFIX)
            && !planted!(ForgetSwap)
        {
            check(disk, &directory.join(name), place)?;
            remove_replaced(&**disk, directory, &names, place)?;
            finish(&**disk, directory, place)?;
            changed = true;
        }
    }
    if !changed {
        return Ok(names);
    }
    disk.list(directory).map_err(StorageError::io("cannot list", directory))
}

/// Removes the files of the segments in `place`, but for the log that is about to be replaced.
fn remove_replaced(
    disk: &dyn Disk,
    directory: &Path,
    names: &[String],
    place: Place,
) -> Result<(), StorageError> {
    for name in names {
        let log = base_of(name, LOG_SUFFIX);
        let base = log
            .or_else(|| base_of(name, INDEX_SUFFIX))
            .or_else(|| base_of(name, TIME_INDEX_SUFFIX));
        if base.is_some_and(|base| base >= place.base && base < place.end)
            && log != Some(place.base)
        {
            remove_if_there(disk, &directory.join(name))?;
        }
    }
    Ok(())
}

/// Reads a complete replacement before anything is removed for it.
fn check(disk: &Arc<dyn Disk>, path: &Path, place: Place) -> Result<(), StorageError> {
    let failed = |source| StorageError::io("cannot read", path)(source);
    let file = disk.open(path, Create::Never).map_err(failed)?;
    let length = file.len().map_err(failed)?;
    let written = Written {
        path: path.to_owned(),
        file,
        base: place.base,
        length,
        next_offset: place.end,
        first_timestamp: Timestamp::NONE,
        index: MemoryIndex::default(),
    };
    let segment = Arc::new(Segment::adopt(disk, written)?);
    let mut input = Input::new(segment.clone());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let mut throttle = Throttle::new(clock, Arc::default(), None);
    let mut end = place.base;
    loop {
        match input.next(&mut throttle) {
            Ok(Some((header, _))) => end = Offset(header.next_offset()),
            Ok(None) if end == place.end => return Ok(()),
            Ok(None) => {
                let reason = format!("it ends at offset {end}, not {}", place.end);
                return Err(segment.corrupt(length, reason));
            }
            Err(CompactionError::Storage(error)) => return Err(error),
            // Nobody stops it.
            Err(CompactionError::Stopped) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_offsets_a_file_stands_for() {
        let place = Place { base: Offset(20), end: Offset(1_000) };
        assert_eq!(place.swap(), "00000000000000000020-00000000000000001000.swap");
        assert_eq!(Place::parse(&place.swap(), SWAP_SUFFIX), Some(place));
        for name in ["1-2.swap", "00000000000000000020.swap", "x", &place.cleaned()] {
            assert_eq!(Place::parse(name, SWAP_SUFFIX), None, "{name}");
        }
        let none = Place { base: Offset(20), end: Offset(20) };
        assert_eq!(Place::parse(&none.swap(), SWAP_SUFFIX), None);
    }
}
