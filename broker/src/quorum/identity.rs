//! `DATA/meta`: which cluster, node and disk a data directory belongs to.
//!
//! Written once, at the first start in an empty directory; never changed. It is what keeps a broker
//! from serving a directory that is not its own: another cluster's, another node's, a newer
//! version's, or one full of something else.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use sawlog_protocol::Uuid;
use thiserror::Error;

use crate::base::BrokerId;
use crate::base::disk::{Disk, write_atomically};
use crate::config::BrokerConfig;
use crate::metadata::Random;

use super::files::{self, TEMPORARY};

const NAME: &str = "meta";
const FORMAT: u32 = 1;
const FIRST_LINE: &str = "# Sawlog data directory. Do not edit, do not copy to another broker.";
/// Broker id of a first start that names none.
const FIRST_NODE_ID: i32 = 1;

/// Names that do not make a directory somebody else's.
const HARMLESS: [&str; 3] = ["lost+found", "lock", ".lock"];

/// Who a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The broker in it.
    pub node_id: BrokerId,
    /// The directory itself: a copy restored to an empty disk gets another.
    pub storage_id: Uuid,
    /// Whether this start made the directory.
    pub first_start: bool,
}

/// The data directory cannot be used. One line: what, where, how to fix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DataDirectoryError {
    /// It cannot be made, read or written.
    #[error("cannot use data directory {}: {reason}; choose another with --data or fix its permissions", .path.display())]
    Inaccessible {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// It holds files but no `meta`.
    #[error("data directory {} holds other files (\"{found}\") and no Sawlog data; choose an empty directory with --data", .path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// It belongs to another cluster than configured.
    #[error("data directory {} belongs to cluster {found}, but cluster.id is {configured}; choose the right directory with --data or remove cluster.id", .path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Its cluster.
        found: Uuid,
        /// The configured one.
        configured: String,
    },
    /// It belongs to another node than configured.
    #[error("data directory {} belongs to node {found}, but node.id is {configured}; choose the right directory with --data or remove node.id", .path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Its node.
        found: BrokerId,
        /// The configured one.
        configured: BrokerId,
    },
    /// A newer version wrote it.
    #[error("data directory {} has format {found}, this version of sawlog knows up to {}; start the version that wrote it, or a newer one", .path.display(), FORMAT)]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// `meta` is damaged.
    #[error("{} is damaged: {reason}; restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Finds out who the data directory is; makes one that is empty or not there.
///
/// # Errors
/// It cannot be used; nothing was changed then.
pub fn open_data_directory(
    disk: &dyn Disk,
    directory: &Path,
    config: &BrokerConfig,
    random: &mut dyn Random,
) -> Result<Identity, DataDirectoryError> {
    let inaccessible = |error: io::Error| {
        let reason = match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                "it is not a directory".to_owned()
            }
            _ => error.to_string(),
        };
        DataDirectoryError::Inaccessible { path: directory.to_path_buf(), reason }
    };
    files::create_dir(disk, directory).map_err(inaccessible)?;
    let names = disk.list(directory).map_err(inaccessible)?;
    let path = directory.join(NAME);
    if let Some(bytes) = files::read(disk, &path).map_err(inaccessible)? {
        let identity = parse(directory, &bytes)?;
        check(directory, config, &identity)?;
        return Ok(identity);
    }
    let harmless = |name: &str| HARMLESS.contains(&name) || name == format!("{NAME}{TEMPORARY}");
    if let Some(found) = names.into_iter().find(|name| !harmless(name)) {
        return Err(DataDirectoryError::NotOurs { path: directory.to_path_buf(), found });
    }
    let identity = Identity {
        cluster_id: config.cluster_id.parse().unwrap_or_else(|_| random.next_uuid()),
        node_id: BrokerId(if config.node_id < 0 { FIRST_NODE_ID } else { config.node_id }),
        storage_id: random.next_uuid(),
        first_start: true,
    };
    write_atomically(disk, &path, render(&identity).as_bytes()).map_err(inaccessible)?;
    Ok(identity)
}

fn check(
    directory: &Path,
    config: &BrokerConfig,
    identity: &Identity,
) -> Result<(), DataDirectoryError> {
    let path = directory.to_path_buf();
    if !config.cluster_id.is_empty() && config.cluster_id.parse() != Ok(identity.cluster_id) {
        let configured = config.cluster_id.clone();
        return Err(DataDirectoryError::OtherCluster {
            path,
            found: identity.cluster_id,
            configured,
        });
    }
    if config.node_id >= 0 && BrokerId(config.node_id) != identity.node_id {
        let configured = BrokerId(config.node_id);
        return Err(DataDirectoryError::OtherNode { path, found: identity.node_id, configured });
    }
    Ok(())
}

fn render(identity: &Identity) -> String {
    let Identity { cluster_id, node_id, storage_id, first_start: _ } = identity;
    let body = format!(
        "{FIRST_LINE}\nformat={FORMAT}\ncluster.id={cluster_id}\nnode.id={node_id}\nstorage.id={storage_id}\n"
    );
    format!("{body}checksum={:08x}\n", crc32fast::hash(body.as_bytes()))
}

fn parse(directory: &Path, bytes: &[u8]) -> Result<Identity, DataDirectoryError> {
    let damaged = |reason: &str| DataDirectoryError::Damaged {
        path: directory.join(NAME),
        reason: reason.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    // The format first: a newer one may be checked in another way.
    let format = value("format").and_then(|text| text.parse().ok());
    let found = format.ok_or_else(|| damaged("it names no format"))?;
    if found > FORMAT {
        return Err(DataDirectoryError::NewerFormat { path: directory.to_path_buf(), found });
    }
    let (body, _) = text.split_once("checksum=").ok_or_else(|| damaged("it has no checksum"))?;
    let checksum = format!("{:08x}", crc32fast::hash(body.as_bytes()));
    if value("checksum") != Some(checksum.as_str()) {
        return Err(damaged("its checksum does not match"));
    }
    let id = |name: &str| {
        let id = value(name).and_then(|text| text.parse::<Uuid>().ok());
        id.filter(|id| !id.is_zero()).ok_or_else(|| damaged("an id is missing"))
    };
    let node_id = value("node.id").and_then(|text| text.parse().ok()).filter(|id| *id >= 0);
    Ok(Identity {
        cluster_id: id("cluster.id")?,
        node_id: BrokerId(node_id.ok_or_else(|| damaged("node.id is missing"))?),
        storage_id: id("storage.id")?,
        first_start: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk_real::RealDisk;
    use crate::config::Sources;
    use crate::metadata::SeededRandom;

    fn open(path: &Path, settings: &[(&str, &str)]) -> Result<Identity, DataDirectoryError> {
        let sources =
            settings.iter().fold(Sources::new(), |s, (key, value)| s.flag("-X", key, value));
        open_data_directory(
            &RealDisk::new(),
            path,
            &sources.load().unwrap(),
            &mut SeededRandom::new(7),
        )
    }

    fn refusal(path: &Path, settings: &[(&str, &str)]) -> String {
        let text = open(path, settings).unwrap_err().to_string();
        assert!(!text.contains('\n') && text.contains(&path.display().to_string()), "{text}");
        text
    }

    #[test]
    fn an_empty_directory_becomes_ours_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = open(&path, &[]).unwrap();
        assert!(first.first_start);
        assert_eq!(first.node_id, BrokerId(1));
        let again = open(&path, &[]).unwrap();
        assert_eq!(again, Identity { first_start: false, ..first });
        assert_eq!(open(&path, &[("node.id", "1")]).unwrap(), again);
        assert_eq!(open(&path, &[("cluster.id", &first.cluster_id.to_string())]).unwrap(), again);
    }

    #[test]
    fn configured_ids_are_taken_at_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let id = "MkU3OEVBNTcwNTJENDM2Qg";
        let first = open(dir.path(), &[("node.id", "0"), ("cluster.id", id)]).unwrap();
        assert_eq!((first.node_id, first.cluster_id.to_string().as_str()), (BrokerId(0), id));
    }

    #[test]
    fn another_cluster_or_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        let text = refusal(dir.path(), &[("cluster.id", "MkU3OEVBNTcwNTJENDM2Qg")]);
        assert!(text.contains("belongs to cluster"), "{text}");
        assert!(
            refusal(dir.path(), &[("node.id", "2")])
                .contains("belongs to node 1, but node.id is 2")
        );
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(refusal(dir.path(), &[]).contains("\"thesis.tex\""));
        assert!(!dir.path().join(NAME).exists());
        std::fs::remove_file(dir.path().join("thesis.tex")).unwrap();
        assert!(open(dir.path(), &[]).is_ok(), "an ext4 root is empty enough");
    }

    #[test]
    fn a_file_in_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        assert!(refusal(&path, &[]).contains("it is not a directory"));
        assert!(refusal(&path.join("below"), &[]).contains("choose another with --data"));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "format=2\nwhatever").unwrap();
        assert!(
            refusal(dir.path(), &[]).contains("has format 2, this version of sawlog knows up to 1")
        );
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(open(dir.path(), &[]).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(open(dir.path(), &[]).is_err(), "cut at {at}");
        }
    }
}
