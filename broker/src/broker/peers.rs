//! Where this broker listens for the others of its cluster, and how it comes into one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::Uuid;
use tokio::runtime::Runtime;
use tracing::{info, warn};

use super::{StartError, StartErrorKind, bind_one, is_loopback, refuse_exposure};
use crate::base::DataDirectory;
use crate::base::disk::Create;
use crate::config::{BrokerConfig, Endpoint};
use crate::controller::ImageSubscriber;
use crate::metadata::Image;
use crate::peer::{PeerError, PeerId, PeerIdentity, Peers, Service};
use crate::quorum::Membership;
use crate::quorum::raft::{JoinError, Joined, Joining, Member, Quorum, join};

/// The usual port.
const PORT: u16 = 9093;

/// Where the port is kept that was free to choose.
const LAST_PORT: &str = "quorum/peer.port";

/// What the addresses of peers are called.
const NAME: &str = "PEER";

/// How long a start waits to learn that it was told to join another cluster than its own.
const SECOND_THOUGHTS: Duration = Duration::from_secs(3);

/// For longer than this nobody takes a process that is gone for connected.
const FORMER_LIFE_MAX: Duration = Duration::from_secs(5);

/// Between two questions to who still does.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// When a node that was started knows who the others are, or will be told.
const SETTLED: Duration = Duration::from_secs(1);

/// The listener for peers, and what they are told of it.
#[derive(Debug)]
pub(super) struct PeerPort {
    pub(super) listener: StdListener,
    pub(super) endpoint: Endpoint,
}

/// Takes the port for peers.
pub(super) fn bind(config: &BrokerConfig, clients: &[SocketAddr]) -> Result<PeerPort, StartError> {
    let listener = match config.peer_endpoint() {
        Some(endpoint) => {
            let resolved = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
            let address = resolved.ok().and_then(|mut all| all.next()).ok_or_else(|| {
                StartError::new(
                    StartErrorKind::Config,
                    format!(
                        "cannot listen on {endpoint} for peers: the host name does not resolve"
                    ),
                )
            })?;
            refuse_exposure(config, address)?;
            bind_one(address).map_err(|error| {
                StartError::new(
                    error.kind(),
                    error.to_string().replace("with --listen", "for peers with --peer-listen"),
                )
            })?
        }
        None => bind_usual(config, clients)?,
    };
    let address = listener
        .local_addr()
        .map_err(|error| StartError::new(StartErrorKind::Other, error.to_string()))?;
    let endpoint = match (config.peer_advertised(), config.peer_endpoint()) {
        (Some(advertised), _) => advertised,
        (None, Some(named)) if !address.ip().is_unspecified() => {
            Endpoint { port: address.port(), ..named }
        }
        (None, None) => {
            Endpoint { name: String::new(), host: address.ip().to_string(), port: address.port() }
        }
        (None, Some(_)) => {
            return Err(StartError::new(
                StartErrorKind::Config,
                "peer.listener is all addresses of this machine: name one that the other brokers \
                 can reach with peer.advertised.listener",
            ));
        }
    };
    Ok(PeerPort { listener, endpoint: Endpoint { name: NAME.to_owned(), ..endpoint } })
}

/// Nobody asked for this address: where it is taken, another will do, and the same again after a
/// restart, so that brokers of a cluster that all restart find each other.
fn bind_usual(config: &BrokerConfig, clients: &[SocketAddr]) -> Result<StdListener, StartError> {
    let own = clients.iter().copied().find(|address| is_loopback(*address));
    let own = own.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    let any = SocketAddr::new(own, 0);
    if let Some(listener) =
        last_port(config).and_then(|port| bind_one(SocketAddr::new(own, port)).ok())
    {
        return Ok(listener);
    }
    // Where even the port of clients is any, many brokers may run on this machine.
    if clients.iter().all(|address| address.port() == 0) {
        return bind_one(any);
    }
    let usual = SocketAddr::new(own, PORT);
    bind_one(usual).or_else(|error| {
        info!(address = %usual, %error, "peers: another port is taken instead");
        bind_one(any)
    })
}

/// The port this broker had the last time it was free to choose.
fn last_port(config: &BrokerConfig) -> Option<u16> {
    let files = config.log_dirs.iter().map(|directory| Path::new(directory).join(LAST_PORT));
    files.into_iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Remembers a port that was free to choose. It is a hint: losing it is no loss.
pub(super) fn remember_port(
    directory: &DataDirectory,
    config: &BrokerConfig,
    endpoint: &Endpoint,
) -> std::io::Result<()> {
    let known = last_port(config);
    if config.peer_endpoint().is_some() || known.unwrap_or(PORT) == endpoint.port {
        return Ok(());
    }
    let path = directory.path().join(LAST_PORT);
    let file = directory.disk().open(&path, Create::IfMissing)?;
    let text = format!("{:<5}\n", endpoint.port);
    file.write_at(&[std::io::IoSlice::new(text.as_bytes())], 0)
}

/// Who a broker is to its peers before it knows.
pub(super) fn stranger(incarnation: Uuid) -> PeerIdentity {
    PeerIdentity { cluster_id: None, id: PeerId { broker: None, raft_id: 0 }, incarnation }
}

/// Has the cluster take this new broker in; waits as long as it takes.
pub(super) fn join_cluster(
    runtime: &Runtime,
    peers: &Peers,
    joining: &Joining,
    config: &BrokerConfig,
) -> Result<Membership, StartError> {
    let at: Vec<String> = config.cluster_join.iter().map(ToString::to_string).collect();
    info!(at = at.join(", "), "joining a cluster");
    let joined = runtime.block_on(join(peers, joining, &config.cluster_join));
    let storage_id = joining.storage_id;
    let membership = |joined: Joined| Membership {
        cluster_id: joined.cluster_id,
        node_id: joined.broker,
        storage_id,
    };
    joined.map(membership).map_err(|error| match error {
        JoinError::Refused(_) | JoinError::Nobody => {
            StartError::new(StartErrorKind::Config, format!("cannot join: {error}"))
        }
    })
}

/// A broker that founded a cluster of its own, and is told to join one now, is told no.
pub(super) fn check_cluster(
    runtime: &Runtime,
    peers: &Peers,
    quorum: &Quorum,
    config: &BrokerConfig,
) -> Result<(), StartError> {
    let Some(first) = config.cluster_join.first() else { return Ok(()) };
    if quorum.state().members.len() > 1 {
        return Ok(());
    }
    // It refuses too while it takes this broker's former life for connected: one that was killed behind a cut
    // network has not said goodbye. That ends by itself.
    let asked = async {
        let deadline = tokio::time::Instant::now() + FORMER_LIFE_MAX;
        loop {
            let nothing = bytes::Bytes::new();
            let answer = peers.call_at(first, Service::Join, nothing, SECOND_THOUGHTS).await;
            let is_refused = matches!(answer, Err(PeerError::Refused(_)));
            if !is_refused || tokio::time::Instant::now() >= deadline {
                return answer;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    match runtime.block_on(asked) {
        Err(PeerError::Refused(reason)) => {
            Err(StartError::new(StartErrorKind::DataDirectory, format!("cannot join: {reason}")))
        }
        Ok(_)
        | Err(
            PeerError::Unreachable(_)
            | PeerError::NoRoute(_)
            | PeerError::TimedOut
            | PeerError::Closed,
        ) => Ok(()),
    }
}

/// Tells the others where this broker is now, if they know it from elsewhere. In the background: they
/// may not be there yet.
pub(super) fn announce(runtime: &Runtime, peers: &Peers, quorum: &Quorum, own: &Member) {
    let (peers, quorum, own) = (peers.clone(), quorum.clone(), own.clone());
    runtime.spawn(async move {
        tokio::time::sleep(SETTLED).await;
        let Some((joining, others)) = moved(&quorum, &own) else { return };
        match join(&peers, &joining, &others).await {
            Ok(_) => info!(at = %own.endpoint, "the cluster knows where this broker is now"),
            Err(error) => warn!(%error, "the cluster does not take note of where this broker is"),
        }
    });
}

/// What to tell, and whom.
fn moved(quorum: &Quorum, own: &Member) -> Option<(Joining, Vec<Endpoint>)> {
    let state = quorum.state();
    let known = state.members.iter().find(|member| member.raft_id == state.raft_id)?;
    if known.member.endpoint == own.endpoint || state.leader == Some(state.raft_id) {
        // Who leads sees to it itself.
        return None;
    }
    let others = state.members.iter().filter(|member| member.raft_id != state.raft_id);
    let others: Vec<Endpoint> = others.map(|member| member.member.endpoint.clone()).collect();
    let (storage_id, endpoint) = (own.storage_id, own.endpoint.clone());
    let joining =
        Joining { raft_id: state.raft_id, storage_id, endpoint, wanted: Some(own.broker) };
    (!others.is_empty()).then_some((joining, others))
}

/// Has the peers found where their registrations say they are.
#[derive(Debug)]
pub(super) struct KnownPeers {
    peers: Peers,
}

impl KnownPeers {
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers }
    }

    /// Takes note of where the brokers of an image are.
    pub(super) fn follow(&self, image: &Image) {
        for broker in image.brokers() {
            if let Some(at) = &broker.peer {
                self.peers.know(broker.id, at.clone());
            }
        }
    }
}

impl ImageSubscriber for KnownPeers {
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        if old.same_brokers(new) {
            return;
        }
        self.follow(new);
        for gone in old.brokers().filter(|broker| new.broker(broker.id).is_none()) {
            self.peers.forget(gone.id);
        }
    }
}

#[cfg(test)]
mod tests;
