//! Mapped files: the one place with `unsafe`.
//!
//! A mapping is made once for the whole address range a segment may grow to and is never written
//! through. Slices are taken below the append position only, where bytes are written once, before
//! the position is published, and never changed or cut while a mapping lives: sealing trims only
//! what no position ever reached, deletion unlinks, and the kernel keeps the pages.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

use crate::base::disk::Mapping;

/// Pages asked for at once: with the usual 4 KiB, what a fetch usually takes.
const PAGES_ASKED: usize = 256;

/// Bytes read ahead of those that are waited for, so that the next fetch finds them in memory.
const AHEAD_BYTES: usize = 4 * 1024 * 1024;

/// A mapped file whose slices share one owner.
#[derive(Debug)]
pub(crate) struct MappedFile {
    /// None for an empty one.
    map: Option<Arc<Mmap>>,
    whole: Bytes,
}

/// Maps the first `length` bytes of `file`, which may be shorter.
///
/// # Errors
/// The operating system's.
pub(crate) fn map(file: &File, length: u64) -> io::Result<MappedFile> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    if length == 0 {
        return Ok(MappedFile { map: None, whole: Bytes::new() });
    }
    let mut options = MmapOptions::new();
    options.len(length);
    // SAFETY: the mapping is read-only, and by the rules above no byte that a slice covers is
    // written or cut after the slice was taken. Other processes are kept out by the lock on the
    // data directory. Bytes beyond the end of the file are never touched: `slice` hands out what
    // its caller has written.
    let map = unsafe { options.map(file)? };
    // The kernel reads nothing ahead by itself: it would do so in whichever thread comes upon the
    // mark it left in the middle of what it read before, and that may be one that must not wait.
    map.advise(Advice::Random)?;
    let map = Arc::new(map);
    Ok(MappedFile { whole: Bytes::from_owner(Whole(map.clone())), map: Some(map) })
}

/// Owner of the mapping inside [`Bytes`].
struct Whole(Arc<Mmap>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// The mapping, and a range of it that lies within.
    fn within(&self, from: u64, to: u64) -> Option<(&Arc<Mmap>, usize, usize)> {
        let map = self.map.as_ref()?;
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        (from < to && to <= map.len()).then_some((map, from, to))
    }
}

impl Mapping for MappedFile {
    fn slice(&self, from: u64, to: u64) -> io::Result<Bytes> {
        Ok(match self.within(from, to) {
            Some((_, from, to)) => self.whole.slice(from..to),
            None => Bytes::new(),
        })
    }

    fn len(&self) -> u64 {
        u64::try_from(self.whole.len()).unwrap_or(u64::MAX)
    }

    fn is_in_memory(&self, from: u64, to: u64) -> io::Result<bool> {
        let Some((map, from, to)) = self.within(from, to) else { return Ok(true) };
        let page = rustix::param::page_size();
        let mut at = from / page * page;
        let mut pages = [0u8; PAGES_ASKED];
        while at < to {
            let length = (to - at).min(PAGES_ASKED * page);
            let asked = length.div_ceil(page);
            let start = map.as_ptr().wrapping_add(at);
            // SAFETY: `start` is page-aligned (mappings are, and `at` is a multiple of the page), the
            // range ends within the mapping's last page, and `pages` has a byte for each page of it.
            // Nothing is read through the pointer.
            let result =
                unsafe { libc::mincore(start.cast_mut().cast(), length, pages.as_mut_ptr()) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
            if pages.iter().take(asked).any(|page| page & 1 == 0) {
                return Ok(false);
            }
            at += length;
        }
        Ok(true)
    }

    fn load(&self, from: u64, to: u64) -> io::Result<()> {
        let Some((map, from, to)) = self.within(from, to) else { return Ok(()) };
        let ahead = (to - from).saturating_add(AHEAD_BYTES).min(map.len() - from);
        map.advise_range(Advice::WillNeed, from, ahead)?;
        // A page that cannot be read is an error here, and would be a signal when it is touched.
        map.advise_range(Advice::PopulateRead, from, to - from)
    }
}
