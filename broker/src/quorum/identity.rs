//! `DATA/meta`: which cluster, node and disk a data directory belongs to.
//!
//! Written once, at the first start with an empty directory; never changed. It is what keeps a broker
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
use super::local;

const NAME: &str = "meta";
const FORMAT: u32 = 1;
const FIRST_LINE: &str = "# Sawlog data directory. Do not edit, do not copy to another broker.";
/// Broker id of a first start that names none.
const FIRST_NODE_ID: i32 = 1;

/// What a directory holds: the metadata and logs, or logs alone.
const METADATA: &str = "metadata,logs";
const LOGS: &str = "logs";

/// How a directory began, where another broker did before: absent where it founded its cluster.
const JOINED: &str = "began=joined";

/// The storage id a directory will have once its broker has joined a cluster: who asks again is known.
const JOINING: &str = "joining";

/// Names that do not make a directory somebody else's.
const HARMLESS: [&str; 5] = ["lost+found", "lock", ".lock", JOINING, "joining.tmp"];

/// What a directory with the cluster's metadata has beside `meta` once its first start is through.
const TOPICS: &str = "topics";

/// Who a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The broker in it.
    pub node_id: BrokerId,
    /// The directory itself: a copy restored to an empty disk gets another.
    pub storage_id: Uuid,
    /// Whether the cluster's metadata is in it; in exactly one of a broker's directories.
    pub holds_metadata: bool,
    /// Whether its broker joined a cluster that was there; if not, it founded one.
    pub joined: bool,
    /// Whether this start made the directory.
    pub first_start: bool,
}

/// Who an empty directory is to become: a member of a cluster that took it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The broker in it.
    pub node_id: BrokerId,
    /// The directory itself, by which the cluster knows it.
    pub storage_id: Uuid,
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
    /// It was given twice, or is a copy of another that was given.
    #[error("data directories {} and {} are the same, or one is a copy of the other; give each once with --data", .other.display(), .path.display())]
    Twice {
        /// The directory.
        path: PathBuf,
        /// The one before it.
        other: PathBuf,
    },
    /// It belongs to another cluster or node than another that was given.
    #[error("data directories {} and {} do not belong to the same broker; give only those of one with --data", .other.display(), .path.display())]
    Strangers {
        /// The directory.
        path: PathBuf,
        /// The one before it.
        other: PathBuf,
    },
    /// Two of the directories hold metadata of their own.
    #[error("data directories {} and {} both hold the cluster's metadata; give only one of them with --data", .other.display(), .path.display())]
    TwoMetadata {
        /// The directory.
        path: PathBuf,
        /// The one before it.
        other: PathBuf,
    },
    /// The directory with the metadata is not among those given.
    #[error("data directory {} is one of several, and the one with the cluster's metadata is missing; give that too with --data", .path.display())]
    NoMetadata {
        /// One that was given.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("data directory {} has format {found}, this version of sawlog knows up to {}; start the version that wrote it, or a newer one", .path.display(), FORMAT)]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The metadata log of a broker that joined its cluster is not there.
    #[error("data directory {} has no metadata log any more, so that its broker cannot be the one it was; empty it and start with --join", .path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
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

/// Finds out who the data directories are, in the order given; makes those that are empty or not
/// there. All belong to one node of one cluster, and one of them holds its metadata: the first that
/// was ever given. If none was there before, they become what the cluster they `joined` says, or
/// found one.
///
/// # Errors
/// One of them cannot be used. None that held data was changed then.
pub fn open_data_directories(
    disk: &dyn Disk,
    directories: &[PathBuf],
    config: &BrokerConfig,
    joined: Option<Membership>,
    random: &mut dyn Random,
) -> Result<Vec<Identity>, DataDirectoryError> {
    let mut known: Vec<(&Path, Identity)> = Vec::new();
    let mut found = Vec::with_capacity(directories.len());
    for directory in directories {
        let identity = read(disk, directory)?;
        let remnant = identity.is_none() && joined.is_none() && config.cluster_join.is_empty();
        if remnant && remnant_of(disk, directory)?.is_some_and(|it| it.joined) {
            // It was to be a member, and must not found a cluster of its own.
            return Err(DataDirectoryError::NoLog { path: directory.clone() });
        }
        if let Some(identity) = &identity {
            check(directory, config, identity)?;
            check_together(directory, identity, &known)?;
            known.push((directory, *identity));
        }
        found.push(identity);
    }
    let holder = known.iter().any(|(_, identity)| identity.holds_metadata);
    if let (false, Some((path, _))) = (holder, known.first()) {
        return Err(DataDirectoryError::NoMetadata { path: path.to_path_buf() });
    }
    let mut family = known.first().map(|(_, identity)| *identity);
    let mut made_here: Vec<Uuid> = Vec::new();
    for (directory, identity) in directories.iter().zip(&mut found) {
        if identity.is_none() {
            // Made since it was looked at: it is in the list a second time.
            if written(disk, directory)?.is_some_and(|it| made_here.contains(&it.storage_id)) {
                let path = directory.clone();
                return Err(DataDirectoryError::Twice { other: path.clone(), path });
            }
            let made = make(disk, directory, config, family.ok_or(joined), random)?;
            made_here.push(made.storage_id);
            family = family.or(Some(made));
            *identity = Some(made);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

fn inaccessible(directory: &Path) -> impl Fn(io::Error) -> DataDirectoryError {
    move |error| {
        let reason = match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                "it is not a directory".to_owned()
            }
            _ => error.to_string(),
        };
        DataDirectoryError::Inaccessible { path: directory.to_path_buf(), reason }
    }
}

/// Who the directory is; nobody yet if it is empty, or not there, or its first start was cut short
/// before there was more than `meta`.
fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Identity>, DataDirectoryError> {
    files::create_dir(disk, directory).map_err(inaccessible(directory))?;
    let names = disk.list(directory).map_err(inaccessible(directory))?;
    if let Some(identity) = written(disk, directory)? {
        return Ok(Some(identity).filter(|it| !is_remnant(disk, directory, it)));
    }
    let harmless = |name: &str| HARMLESS.contains(&name) || name == format!("{NAME}{TEMPORARY}");
    match names.into_iter().find(|name| !harmless(name)) {
        Some(found) => Err(DataDirectoryError::NotOurs { path: directory.to_path_buf(), found }),
        None => Ok(None),
    }
}

/// What `meta` says.
fn written(disk: &dyn Disk, directory: &Path) -> Result<Option<Identity>, DataDirectoryError> {
    let bytes = files::read(disk, &directory.join(NAME)).map_err(inaccessible(directory))?;
    bytes.map(|bytes| parse(directory, &bytes)).transpose()
}

/// What a start that was cut short wrote, if the directory is a remnant of one.
fn remnant_of(disk: &dyn Disk, directory: &Path) -> Result<Option<Identity>, DataDirectoryError> {
    let written = written(disk, directory)?;
    Ok(written.filter(|it| is_remnant(disk, directory, it)))
}

/// Whether nothing follows from what `meta` says: the log, with the votes of this directory, is not there,
/// nor is what comes after it. Whatever it is that became of them, the directory begins anew and under
/// another id: under the old one it could vote twice.
fn is_remnant(disk: &dyn Disk, directory: &Path, identity: &Identity) -> bool {
    let log = directory.join(local::DIRECTORY);
    let is_log = |name: &String| name.ends_with(local::LOG) || name.ends_with(local::SNAPSHOT);
    identity.holds_metadata
        && !disk.exists(&directory.join(TOPICS))
        && !disk.list(&log).is_ok_and(|names| names.iter().any(is_log))
}

/// Makes an empty directory ours: of the `family` of those there are, or the first of a new one, which
/// has joined a cluster or founds one.
fn make(
    disk: &dyn Disk,
    directory: &Path,
    config: &BrokerConfig,
    family: Result<Identity, Option<Membership>>,
    random: &mut dyn Random,
) -> Result<Identity, DataDirectoryError> {
    let identity = match family {
        Ok(family) => Identity {
            storage_id: random.next_uuid(),
            holds_metadata: false,
            first_start: true,
            ..family
        },
        Err(Some(Membership { cluster_id, node_id, storage_id })) => Identity {
            cluster_id,
            node_id,
            storage_id,
            holds_metadata: true,
            joined: true,
            first_start: true,
        },
        Err(None) => Identity {
            cluster_id: config.cluster_id.parse().unwrap_or_else(|_| random.next_uuid()),
            node_id: BrokerId(if config.node_id < 0 { FIRST_NODE_ID } else { config.node_id }),
            storage_id: random.next_uuid(),
            holds_metadata: true,
            joined: false,
            first_start: true,
        },
    };
    let path = directory.join(NAME);
    write_atomically(disk, &path, render(&identity).as_bytes()).map_err(inaccessible(directory))?;
    files::remove(disk, &directory.join(JOINING)).map_err(inaccessible(directory))?;
    Ok(identity)
}

/// Whether none of the directories is a broker's yet; makes those that are not there.
///
/// # Errors
/// One of them cannot be used.
pub fn are_new(disk: &dyn Disk, directories: &[PathBuf]) -> Result<bool, DataDirectoryError> {
    for directory in directories {
        if read(disk, directory)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The storage id that a new directory will have once its broker has joined a cluster: the same after
/// each attempt.
///
/// # Errors
/// The directory cannot be used.
pub fn joining_storage_id(
    disk: &dyn Disk,
    directory: &Path,
    random: &mut dyn Random,
) -> Result<Uuid, DataDirectoryError> {
    let path = directory.join(JOINING);
    let known = files::read(disk, &path).map_err(inaccessible(directory))?;
    let known = known.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<Uuid>().ok());
    if let Some(id) = known.filter(|id| !id.is_zero()) {
        return Ok(id);
    }
    let id = random.next_uuid();
    let text = format!("{id}\n");
    write_atomically(disk, &path, text.as_bytes()).map_err(inaccessible(directory))?;
    Ok(id)
}

/// Whether a directory goes with those before it in the list.
fn check_together(
    directory: &Path,
    identity: &Identity,
    others: &[(&Path, Identity)],
) -> Result<(), DataDirectoryError> {
    let path = directory.to_path_buf();
    for (other_path, other) in others {
        let other_path = other_path.to_path_buf();
        if identity.storage_id == other.storage_id {
            return Err(DataDirectoryError::Twice { path, other: other_path });
        }
        if (identity.cluster_id, identity.node_id) != (other.cluster_id, other.node_id) {
            return Err(DataDirectoryError::Strangers { path, other: other_path });
        }
        if identity.holds_metadata && other.holds_metadata {
            return Err(DataDirectoryError::TwoMetadata { path, other: other_path });
        }
    }
    Ok(())
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
    let Identity { cluster_id, node_id, storage_id, holds_metadata, joined, first_start: _ } =
        identity;
    let role = if *holds_metadata { METADATA } else { LOGS };
    let mut body = format!(
        "{FIRST_LINE}\nformat={FORMAT}\ncluster.id={cluster_id}\nnode.id={node_id}\nstorage.id={storage_id}\nholds={role}\n"
    );
    if *joined {
        body.push_str(JOINED);
        body.push('\n');
    }
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
        // Without the line it is from before there could be several: then everything is in it.
        holds_metadata: value("holds") != Some(LOGS),
        joined: text.lines().any(|line| line == JOINED),
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
        let paths = [path.to_owned()];
        let mut random = SeededRandom::new(7);
        let config = sources.load().unwrap();
        let opened = open_data_directories(&RealDisk::new(), &paths, &config, None, &mut random)?;
        begin_logs(&paths, &opened);
        Ok(opened[0])
    }

    /// What a broker does next.
    fn begin_logs(paths: &[PathBuf], opened: &[Identity]) {
        for (path, _) in paths.iter().zip(opened).filter(|(_, one)| one.holds_metadata) {
            let directory = path.join(local::DIRECTORY);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("0.log"), "").unwrap();
        }
    }

    fn open_all(paths: &[&Path], seed: u64) -> Result<Vec<Identity>, DataDirectoryError> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let config = Sources::new().load().unwrap();
        let mut random = SeededRandom::new(seed);
        let opened = open_data_directories(&RealDisk::new(), &paths, &config, None, &mut random)?;
        begin_logs(&paths, &opened);
        Ok(opened)
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
    fn a_directory_that_joins_is_known_by_one_id_and_says_how_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, paths) = (RealDisk::new(), [dir.path().to_path_buf()]);
        assert_eq!(are_new(&disk, &paths), Ok(true));
        let ask =
            |seed| joining_storage_id(&disk, dir.path(), &mut SeededRandom::new(seed)).unwrap();
        let storage_id = ask(1);
        assert_eq!(ask(2), storage_id, "the same after an attempt that was cut short");
        assert_eq!(are_new(&disk, &paths), Ok(true));
        let joined = Membership { cluster_id: Uuid([5; 16]), node_id: BrokerId(4), storage_id };
        let config = Sources::new().load().unwrap();
        let mut random = SeededRandom::new(3);
        let made = open_data_directories(&disk, &paths, &config, Some(joined), &mut random);
        let made = made.unwrap()[0];
        assert_eq!((made.cluster_id, made.node_id), (joined.cluster_id, joined.node_id));
        assert!(made.joined && made.first_start && made.storage_id == storage_id);
        assert!(!dir.path().join(JOINING).exists());
        // Cut short here, it joins anew, under another id, and founds no cluster of its own.
        assert_eq!(are_new(&disk, &paths), Ok(true));
        assert!(refusal(dir.path(), &[]).contains("start with --join"));
        assert_ne!(ask(4), storage_id);
        begin_logs(&paths, &[made]);
        assert_eq!(are_new(&disk, &paths), Ok(false));
        assert_eq!(open(dir.path(), &[]), Ok(Identity { first_start: false, ..made }));
    }

    #[test]
    fn a_directory_whose_votes_are_gone_is_not_the_one_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), &[]).unwrap();
        let log = dir.path().join(local::DIRECTORY);
        std::fs::remove_dir_all(&log).unwrap();
        let config = Sources::new().load().unwrap();
        let paths = [dir.path().to_path_buf()];
        let again = || {
            let mut random = SeededRandom::new(8);
            open_data_directories(&RealDisk::new(), &paths, &config, None, &mut random).unwrap()[0]
        };
        // Where there is data the log must be there, too: whoever opens it refuses.
        std::fs::create_dir(dir.path().join(TOPICS)).unwrap();
        assert_eq!(again(), Identity { first_start: false, ..first });
        std::fs::remove_dir(dir.path().join(TOPICS)).unwrap();
        let other = again();
        assert!(other.first_start);
        assert_ne!((other.storage_id, other.cluster_id), (first.storage_id, first.cluster_id));
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

    #[test]
    fn several_directories_are_of_one_family_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        let made = open_all(&[&a, &b], 1).unwrap();
        assert_eq!((made[0].cluster_id, made[0].node_id), (made[1].cluster_id, made[1].node_id));
        assert_ne!(made[0].storage_id, made[1].storage_id);
        assert_eq!(made.iter().map(|one| one.holds_metadata).collect::<Vec<_>>(), [true, false]);
        // One more, and another order: nobody changes.
        let again = open_all(&[&b, &c, &a], 2).unwrap();
        let known = |one: Identity| Identity { first_start: false, ..one };
        assert_eq!([again[2], again[0]], [known(made[0]), known(made[1])]);
        assert_eq!(again[1].cluster_id, made[0].cluster_id);
        assert!(again[1].first_start && !again[1].holds_metadata);
    }

    #[test]
    fn directories_that_do_not_go_together_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, other, link] = ["a", "b", "other", "link"].map(|name| dir.path().join(name));
        let refused = |paths: &[&Path], words: &str| {
            let text = open_all(paths, 3).unwrap_err().to_string();
            assert!(text.contains(words) && !text.contains('\n'), "{text}");
        };
        refused(&[&a, &a], "are the same");
        open_all(&[&a, &b], 1).unwrap();
        open_all(&[&other], 2).unwrap();
        refused(&[&a, &a], "are the same");
        std::os::unix::fs::symlink(&b, &link).unwrap();
        refused(&[&a, &b, &link], "are the same");
        refused(&[&a, &other], "do not belong to the same broker");
        refused(&[&b], "the one with the cluster's metadata is missing");
        // One that could take the metadata's place must not.
        refused(&[&b, &dir.path().join("new")], "is missing");
        assert!(!dir.path().join("new").join(NAME).exists());
    }
}
