//! The names on a simulated disk, and the changes of them that no sync has made durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Node;

/// What is at a path.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Directory,
    File(Arc<Mutex<Node>>),
}

/// A change of a directory that no sync has made durable.
#[derive(Clone, Debug)]
pub(super) enum Link {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

pub(super) type Names = BTreeMap<PathBuf, Entry>;

impl Link {
    /// Where something is, or is no more.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        }
    }

    /// Where nothing is any more.
    pub(super) fn gone(&self) -> Option<&Path> {
        match self {
            Self::Add(..) => None,
            Self::Remove(path) | Self::Rename(path, _) => Some(path),
        }
    }

    pub(super) fn is_in(&self, directory: &Path) -> bool {
        self.path().parent() == Some(directory)
    }
}

pub(super) fn apply(names: &mut Names, link: &Link) {
    match link {
        Link::Add(path, entry) => {
            names.insert(path.clone(), entry.clone());
        }
        Link::Remove(path) => names.retain(|known, _| !known.starts_with(path)),
        Link::Rename(from, to) => {
            let moved: Vec<(PathBuf, Entry)> = names
                .iter()
                .filter(|(path, _)| path.starts_with(from))
                .map(|(path, entry)| (path.clone(), entry.clone()))
                .collect();
            if moved.is_empty() {
                return;
            }
            names.retain(|known, _| !known.starts_with(from) && !known.starts_with(to));
            for (path, entry) in moved {
                let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
                let path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(path, entry);
            }
        }
    }
}
