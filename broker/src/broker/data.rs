//! A broker's data directories: made sure of, locked, and the metadata in one of them replayed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::{StartError, StartErrorKind};
use crate::base::disk::{DirLock, Disk};
use crate::base::{Clock, DataDirectory};
use crate::config::BrokerConfig;
use crate::controller::{Controller, ControllerOptions, NoLink};
use crate::metadata::SystemRandom;
use crate::quorum::{Identity, LocalLogOptions, LocalMetadataLog, open_data_directories};

/// The data directories of this broker, opened.
pub(super) struct OpenData {
    /// All of them, in the order given.
    pub(super) directories: Vec<Arc<DataDirectory>>,
    /// The one with the metadata.
    pub(super) metadata: Arc<DataDirectory>,
    /// Who they are, in the same order.
    pub(super) identities: Vec<Identity>,
    pub(super) config: Arc<BrokerConfig>,
    pub(super) controller: Controller,
    pub(super) locks: Vec<Box<dyn DirLock>>,
}

/// Makes sure the data directories are ours and ours alone, and replays the metadata.
pub(super) fn open(
    config: &Arc<BrokerConfig>,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<OpenData, StartError> {
    let paths: Vec<PathBuf> = config.log_dirs.iter().map(PathBuf::from).collect();
    let mut random = SystemRandom;
    let identities = open_data_directories(&**disk, &paths, config, &mut random)
        .map_err(|error| refused(error.to_string()))?;
    let locks = paths.iter().map(|path| lock(&**disk, path)).collect::<Result<_, _>>()?;
    let directories: Vec<Arc<DataDirectory>> =
        paths.iter().map(|path| DataDirectory::new(disk.clone(), path.clone())).collect();
    directories.iter().for_each(|data| data.keep_reserve(config.log_dirs_reserve_bytes));
    let (metadata, identity) = directories
        .iter()
        .zip(&identities)
        .find(|(_, identity)| identity.holds_metadata)
        .ok_or_else(|| refused("no data directory is given".to_owned()))?;
    let (metadata, identity) = (metadata.clone(), *identity);
    let config = Arc::new(BrokerConfig::clone(config).with_node_id(identity.node_id.0));
    let controller = replay(&metadata, &identity, &config, clock)?;
    check_complete(&controller, &identities, &config)?;
    Ok(OpenData { directories, metadata, identities, config, controller, locks })
}

fn refused(message: String) -> StartError {
    StartError::new(StartErrorKind::DataDirectory, message)
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn DirLock>, StartError> {
    disk.lock(directory).map_err(|error| {
        refused(if error.kind() == std::io::ErrorKind::WouldBlock {
            format!(
                "data directory {} is in use by another broker; stop it or choose another with \
                 --data",
                directory.display()
            )
        } else {
            format!("cannot lock data directory {}: {error}", directory.display())
        })
    })
}

fn replay(
    directory: &Arc<DataDirectory>,
    identity: &Identity,
    config: &Arc<BrokerConfig>,
    clock: &Arc<dyn Clock>,
) -> Result<Controller, StartError> {
    let options = LocalLogOptions {
        directory: directory.clone(),
        cluster_id: identity.cluster_id,
        snapshot_after_bytes: config.metadata_log_max_record_bytes_between_snapshots,
    };
    let (log, recovered, torn) =
        LocalMetadataLog::open(&options).map_err(|error| refused(error.to_string()))?;
    if let Some(torn) = torn {
        info!(bytes = torn.bytes, "cut a torn tail of the metadata log");
    }
    Controller::start(ControllerOptions {
        cluster_id: identity.cluster_id,
        config: config.clone(),
        log: Box::new(log),
        recovered,
        random: Box::new(SystemRandom),
        clock: clock.clone(),
        link: Arc::new(NoLink),
    })
    .map_err(|error| refused(error.to_string()))
}

/// Whether every directory of the last start is there. Partitions of one that is not would seem new:
/// begun again, empty, elsewhere.
fn check_complete(
    controller: &Controller,
    identities: &[Identity],
    config: &BrokerConfig,
) -> Result<(), StartError> {
    let image = controller.images().load();
    let node_id = identities.first().map(|identity| identity.node_id);
    let registered = node_id.and_then(|id| image.broker(id)).map(|broker| &broker.storage_ids);
    let missing: Vec<String> = registered
        .into_iter()
        .flatten()
        .filter(|id| identities.iter().all(|identity| identity.storage_id != **id))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    if config.log_dirs_allow_missing {
        warn!(missing, "started without a data directory; what was in it is lost");
        return Ok(());
    }
    Err(refused(format!(
        "a data directory of the last start is missing (its storage.id: {missing}); give it with \
         --data, or, if it is lost for good, start once with -X log.dirs.allow.missing=true: \
         partitions that were in it begin empty"
    )))
}
