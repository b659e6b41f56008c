//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

use super::quarantine::QuarantinedRange;
use crate::base::Offset;
use crate::base::disk::is_exhausted;

/// Why a log could not be written, read or opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk is full; nothing was appended, and the log goes on when there is space.
    #[error("no space left for {path}: free some, or let retention do it")]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The process has as many files open as it may; nothing was changed, and the log goes on when
    /// others are closed.
    #[error("{doing} {path}: {source}; raise the limit of open files (ulimit -n, LimitNOFILE=)")]
    Exhausted {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes that had been made durable are not what was written. Nothing is cut, nothing served.
    #[error(
        "{path} is damaged at byte {position}, offset {offset}: {reason}; nothing was changed, \
         restore the file from a copy"
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The offset that was expected there.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// A file was written by a later version of the broker. Nothing was changed.
    #[error(
        "{path} has format {found}, this version of sawlog knows up to {supported}; start the \
         version that wrote it, or a newer one"
    )]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version this broker knows.
        supported: u16,
    },
    /// An earlier failure has made the log unusable until restart.
    #[error("the log failed earlier and takes no more writes until restart")]
    Poisoned,
}

impl StorageError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if source.kind() == io::ErrorKind::StorageFull {
                Self::NoSpace { path: path.to_owned() }
            } else if is_exhausted(&source) {
                Self::Exhausted { doing, path: path.to_owned(), source }
            } else {
                Self::Io { doing, path: path.to_owned(), source }
            }
        }
    }

    /// Whether it is the disk that failed, rather than what was found on it.
    #[must_use]
    pub fn is_disk_failure(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::NoSpace { .. }
            | Self::Exhausted { .. }
            | Self::Corrupt { .. }
            | Self::UnsupportedFormat { .. }
            | Self::Poisoned => false,
        }
    }

    /// Whether the log takes no more writes: what the disk holds is unknown.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::Exhausted { .. } => false,
            Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::UnsupportedFormat { .. }
            | Self::Poisoned => true,
        }
    }
}

/// Why a read returned nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset is outside [{start}, {end}]")]
    OutOfRange {
        /// First offset of the log.
        start: Offset,
        /// Offset behind the last.
        end: Offset,
    },
    /// The offset is in a range that was found damaged. Others can be read.
    #[error(
        "offsets {} to {} are quarantined, {path} is damaged at byte {}: {}; read on from {}",
        .range.from, .range.to.plus(-1), .range.position, .range.reason, .range.to
    )]
    Quarantined {
        /// The damaged file.
        path: PathBuf,
        /// What of it.
        range: Box<QuarantinedRange>,
    },
    /// The log could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// Whether it was read where nobody may wait for the disk ([`crate::base::waiting`]), and the
    /// disk is where it is.
    #[must_use]
    pub fn would_wait(&self) -> bool {
        match self {
            Self::Storage(StorageError::Io { source, .. }) => {
                source.kind() == io::ErrorKind::WouldBlock
            }
            Self::Storage(_) | Self::OutOfRange { .. } | Self::Quarantined { .. } => false,
        }
    }
}
