//! The file operations of the metadata log and of `meta`, in one place.
//!
//! Small files are written whole: a temporary file, fsync, rename, fsync of the directory. The log
//! is appended to at a known position and fsynced; it never grows behind the caller's back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Largest file read into memory: far above what snapshots and logs of a cluster come to.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Suffix of a file being written. One that is found was never finished.
pub(super) const TEMPORARY: &str = ".tmp";

pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(path),
        other => other,
    }
}

/// The names in a directory, sorted. Names that are not UTF-8 are none of ours.
pub(super) fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The whole file, or `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("it has {} bytes", metadata.len()),
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    fs::read(path).map(Some)
}

/// Puts a whole file in place: after a crash it is there as a whole or not at all.
pub(super) fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}{TEMPORARY}"));
    let file = File::create(&temporary)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    sync_dir(directory)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: File,
    length: u64,
}

impl AppendFile {
    /// Opens a file and cuts it to `length`, durably.
    pub(super) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(Self { file, length })
    }

    /// Appends and fsyncs. After an error the end of the file is not known: do not go on.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.file.sync_data()?;
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}
