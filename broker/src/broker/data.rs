//! A broker's data directories: made sure of, locked, and the metadata in one of them replayed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::Uuid;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::Receiver;
use tokio::sync::watch;
use tracing::{info, warn};

use super::peers::{self, KnownPeers, PeerPort, Registered};
use super::{StartError, StartErrorKind};
use crate::base::disk::{DirLock, Disk};
use crate::base::{BrokerId, Clock, DataDirectory, Threads};
use crate::config::BrokerConfig;
use crate::controller::{Controller, ControllerOptions, ControllerService};
use crate::metadata::{Random as _, SystemRandom};
use crate::peer::{PeerId, PeerIdentity, PeerTls, Peers, Service};
use crate::quorum::raft::{
    JoinService, Joining, Member, Quorum, QuorumOptions, RaftMetadataLog, RaftService, raft_id,
};
use crate::quorum::{
    Identity, LocalLogOptions, Recovered, are_new, joining_storage_id, open_data_directories,
};

/// The data directories of this broker, opened.
pub(super) struct OpenData {
    /// All of them, in the order given.
    pub(super) directories: Vec<Arc<DataDirectory>>,
    /// The one with the metadata.
    pub(super) metadata: Arc<DataDirectory>,
    /// Who they are, in the same order.
    pub(super) identities: Vec<Identity>,
    pub(super) config: Arc<BrokerConfig>,
    pub(super) controller: Arc<Controller>,
    pub(super) peers: Peers,
    pub(super) quorum: Quorum,
    /// Why the others do not let this broker in, once they do not.
    pub(super) refused: watch::Receiver<Option<String>>,
    pub(super) locks: Vec<Box<dyn DirLock>>,
}

/// What data directories are opened with.
pub(super) struct Opening<'a> {
    pub(super) config: &'a Arc<BrokerConfig>,
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) runtime: &'a Runtime,
    /// Where this broker listens for its peers.
    pub(super) port: PeerPort,
    /// How it talks to them.
    pub(super) tls: Option<Arc<PeerTls>>,
    pub(super) stopped: &'a watch::Receiver<bool>,
}

/// Makes sure the data directories are ours and ours alone, has the cluster take new ones in if it is to,
/// and replays the metadata.
pub(super) fn open(opening: Opening<'_>) -> Result<OpenData, StartError> {
    let Opening { config, disk, clock, runtime, port, tls, stopped } = opening;
    let PeerPort { listener, endpoint } = port;
    let paths: Vec<PathBuf> = config.log_dirs.iter().map(PathBuf::from).collect();
    let mut random = SystemRandom;
    let incarnation = random.next_uuid();
    let stranger = peers::stranger(incarnation);
    let peers = Peers::with_tls(stranger, runtime.handle().clone(), tls.clone());
    let looks_new = || are_new(&**disk, &paths).map_err(|error| refused(error.to_string()));
    let locked = || paths.iter().map(|path| lock(&**disk, path)).collect::<Result<Vec<_>, _>>();
    // Who begins must not be two; who was there before is checked before anything of its is touched.
    let early = if looks_new()? { Some(locked()?) } else { None };
    let is_new = early.is_some() && looks_new()?;
    let config = &named(config, tls.as_ref().and_then(|tls| tls.node()).filter(|_| is_new));
    let joins = is_new && !config.cluster_join.is_empty();
    let joined = match paths.first().filter(|_| joins) {
        Some(first) => {
            let storage_id = joining_storage_id(&**disk, first, &mut random)
                .map_err(|error| refused(error.to_string()))?;
            let wanted = (config.node_id >= 0).then_some(BrokerId(config.node_id));
            let raft_id = raft_id(storage_id);
            let joining = Joining { raft_id, storage_id, endpoint: endpoint.clone(), wanted };
            peers.introduce(PeerIdentity { id: PeerId { broker: None, raft_id }, ..peers.me() });
            peers::check_advertised(config)?;
            Some(peers::join_cluster(runtime, &peers, &joining, config)?)
        }
        None => None,
    };
    let identities = open_data_directories(&**disk, &paths, config, joined, &mut random)
        .map_err(|error| refused(error.to_string()))?;
    let locks = early.map_or_else(locked, Ok)?;
    let directories: Vec<Arc<DataDirectory>> =
        paths.iter().map(|path| DataDirectory::new(disk.clone(), path.clone())).collect();
    for (data, identity) in directories.iter().zip(&identities) {
        data.identify(identity.storage_id);
        data.keep_reserve(config.log_dirs_reserve_bytes);
    }
    let (metadata, identity) = directories
        .iter()
        .zip(&identities)
        .find(|(_, identity)| identity.holds_metadata)
        .ok_or_else(|| refused("no data directory is given".to_owned()))?;
    let (metadata, identity) = (metadata.clone(), *identity);
    let config = Arc::new(BrokerConfig::clone(config).with_node_id(identity.node_id.0));
    let raft_id = raft_id(identity.storage_id);
    peers::introduce(tls.as_deref(), identity.node_id)?;
    peers.introduce(PeerIdentity {
        cluster_id: Some(identity.cluster_id),
        id: PeerId { broker: Some(identity.node_id), raft_id },
        incarnation,
    });
    let member = Member { broker: identity.node_id, storage_id: identity.storage_id, endpoint };
    let (log, recovered) = open_log(&metadata, &identity, &config, &member, &peers)?;
    let quorum = log.quorum();
    if let Err(error) = peers::remember_port(&metadata, &config, &member.endpoint) {
        warn!(%error, "the port for peers may be another after a restart");
    }
    let controller = Controller::start(ControllerOptions {
        cluster_id: identity.cluster_id,
        config: config.clone(),
        log: Box::new(log),
        recovered,
        random: Box::new(SystemRandom),
        clock: clock.clone(),
        link: Arc::new(peers.clone()),
        threads: Threads::Real,
    })
    .map_err(|error| refused(error.to_string()))?;
    let controller = Arc::new(controller);
    check_complete(&controller, &identities, &config)?;
    if quorum.state().members.len() > 1 {
        peers::check_advertised(&config)?;
    }
    peers::check_cluster(runtime, &peers, &quorum, &config)?;
    serve_peers(&peers, &quorum, &controller, identity.cluster_id);
    peers
        .listen(listener, stopped.clone())
        .map_err(|error| StartError::new(StartErrorKind::Other, error.to_string()))?;
    let refused = peers::announce(runtime, &peers, &quorum, &member);
    runtime.spawn(heed_departures(controller.clone(), peers.departures()));
    runtime.spawn(quorum.clone().succeed_the_gone(peers.departures()));
    Ok(OpenData {
        directories,
        metadata,
        identities,
        config,
        controller,
        peers,
        quorum,
        refused,
        locks,
    })
}

/// A new broker that is not told its id has that of its certificate.
fn named(config: &Arc<BrokerConfig>, certified: Option<BrokerId>) -> Arc<BrokerConfig> {
    match certified {
        Some(node) if config.node_id < 0 => {
            Arc::new(BrokerConfig::clone(config).with_node_id(node.0))
        }
        Some(_) | None => config.clone(),
    }
}

async fn heed_departures(controller: Arc<Controller>, departures: Receiver<BrokerId>) {
    controller.heed_departures(departures).await;
}

/// Opens the metadata log and starts this broker's node of it.
fn open_log(
    directory: &Arc<DataDirectory>,
    identity: &Identity,
    config: &BrokerConfig,
    member: &Member,
    peers: &Peers,
) -> Result<(RaftMetadataLog, Recovered), StartError> {
    let options = QuorumOptions {
        log: LocalLogOptions {
            directory: directory.clone(),
            cluster_id: identity.cluster_id,
            snapshot_after_bytes: config.metadata_log_max_record_bytes_between_snapshots,
        },
        member: member.clone(),
        joins: identity.joined,
        existed: !identity.first_start,
        election_timeout: Duration::from_millis(config.controller_quorum_election_timeout_ms),
        voters: config.metadata_voters,
        transport: Arc::new(peers.clone()),
    };
    let (log, recovered, torn) =
        RaftMetadataLog::open(&options).map_err(|error| refused(error.to_string()))?;
    if let Some(torn) = torn {
        info!(bytes = torn.bytes, "cut a torn tail of the metadata log");
    }
    Ok((log, recovered))
}

/// Answers the other brokers, and knows where they are.
fn serve_peers(peers: &Peers, quorum: &Quorum, controller: &Arc<Controller>, cluster_id: Uuid) {
    peers.serve(Service::Raft, Arc::new(RaftService(quorum.clone())));
    let registered = Arc::new(Registered(controller.images()));
    let join = JoinService { quorum: quorum.clone(), cluster_id, known: registered };
    peers.serve(Service::Join, Arc::new(join));
    peers.serve(Service::Controller, Arc::new(ControllerService::new(controller)));
    let known = Arc::new(KnownPeers::new(peers.clone()));
    let image = controller.images().load();
    known.follow(&image);
    controller.subscribe(known, &image);
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
