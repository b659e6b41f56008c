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
use memmap2::{Mmap, MmapOptions};

use crate::base::disk::Mapping;

/// A mapped file whose slices share one owner.
#[derive(Debug)]
pub(crate) struct MappedFile {
    whole: Bytes,
}

/// Maps the first `length` bytes of `file`, which may be shorter.
///
/// # Errors
/// The operating system's.
pub(crate) fn map(file: &File, length: u64) -> io::Result<Arc<dyn Mapping>> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    if length == 0 {
        return Ok(Arc::new(MappedFile { whole: Bytes::new() }));
    }
    let mut options = MmapOptions::new();
    options.len(length);
    // SAFETY: the mapping is read-only, and by the rules above no byte that a slice covers is
    // written or cut after the slice was taken. Other processes are kept out by the lock on the
    // data directory. Bytes beyond the end of the file are never touched: `slice` hands out what
    // its caller has written.
    let map = unsafe { options.map(file)? };
    Ok(Arc::new(MappedFile { whole: Bytes::from_owner(Whole(map)) }))
}

/// Owner of the mapping inside [`Bytes`].
struct Whole(Mmap);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping for MappedFile {
    fn slice(&self, from: u64, to: u64) -> Bytes {
        let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
        match range {
            Some((from, to)) if from <= to && to <= self.whole.len() => self.whole.slice(from..to),
            _ => Bytes::new(),
        }
    }

    fn len(&self) -> u64 {
        u64::try_from(self.whole.len()).unwrap_or(u64::MAX)
    }
}
