//! Where this broker listens for the others of its cluster, and how it comes into one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::Uuid;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{StartError, StartErrorKind, bind_one, is_loopback, refuse_exposure};
use crate::base::disk::Create;
use crate::base::{BrokerId, DataDirectory};
use crate::config::{BrokerConfig, Endpoint};
use crate::controller::ImageSubscriber;
use crate::metadata::{Image, ImageCell};
use crate::peer::{PeerError, PeerId, PeerIdentity, PeerTls, Peers, Service, TlsError};
use crate::quorum::Membership;
use crate::quorum::raft::{JoinError, Joined, Joining, KnownBrokers, Member, Quorum, join};

/// The usual port.
const PORT: u16 = 9093;

/// Where the port is kept that was free to choose.
const LAST_PORT: &str = "quorum/peer.port";

/// What the addresses of peers are called.
const NAME: &str = "PEER";

/// How long a start waits to learn that it was told to join another cluster than its own.
const SECOND_THOUGHTS: Duration = Duration::from_secs(3);

/// The same for one that has peers of its own: the one it was told of may be down.
const A_LOOK: Duration = Duration::from_millis(500);

/// A refusal that lasts so long does not pass: that of a life of this broker whose machine lost power, and
/// which the others take for living, does.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(5);

/// A broker that nobody who leads tells anything for so long may be one that was forgotten: it asks.
const LONELY: Duration = Duration::from_secs(4);

/// Between two looks at whether somebody does.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// When a node that was started knows who the others are, or will be told.
const SETTLED: Duration = Duration::from_secs(1);

/// The listener for peers, and what they are told of it.
#[derive(Debug)]
pub(super) struct PeerPort {
    pub(super) listener: StdListener,
    pub(super) endpoint: Endpoint,
}

/// What a port for peers that others can reach takes instead of a word.
const SET_UP_TLS: &str = "set peer.tls.certificate.file, peer.tls.key.file and peer.tls.ca.file, ";

/// Certificates for the connections with peers, if they are set up.
pub(super) fn open_tls(config: &BrokerConfig) -> Result<Option<Arc<PeerTls>>, StartError> {
    let tls = PeerTls::open(config).map_err(unfit)?;
    if let Some(tls) = &tls
        && config.node_id >= 0
    {
        tls.introduce(BrokerId(config.node_id)).map_err(unfit)?;
    }
    Ok(tls)
}

/// This broker is `node`: its certificate has to be for it.
pub(super) fn introduce(tls: Option<&PeerTls>, node: BrokerId) -> Result<(), StartError> {
    tls.map_or(Ok(()), |tls| tls.introduce(node)).map_err(unfit)
}

fn unfit(error: TlsError) -> StartError {
    StartError::new(StartErrorKind::Config, error.to_string())
}

/// Takes the port for peers.
pub(super) fn bind(
    config: &BrokerConfig,
    clients: &[SocketAddr],
    tls: Option<&PeerTls>,
) -> Result<PeerPort, StartError> {
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
            // Whoever reaches it has to show a certificate.
            if tls.is_none() {
                refuse_exposure(config, address, SET_UP_TLS)?;
            }
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
    // The same list may be given to every broker.
    let is_other =
        |at: &&Endpoint| (&at.host, at.port) != (&joining.endpoint.host, joining.endpoint.port);
    let others: Vec<Endpoint> = config.cluster_join.iter().filter(is_other).cloned().collect();
    if others.is_empty() {
        let text = format!(
            "cannot join: {} is this broker itself; name another one of the cluster with --join, or \
             leave it out to found a cluster",
            joining.endpoint
        );
        return Err(StartError::new(StartErrorKind::Config, text));
    }
    let at: Vec<String> = others.iter().map(ToString::to_string).collect();
    info!(at = at.join(", "), "joining a cluster");
    let joined = runtime.block_on(join(peers, joining, &others));
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

/// Clients of a cluster are told where each of its brokers is.
pub(super) fn check_advertised(config: &BrokerConfig) -> Result<(), StartError> {
    let is_any = |it: &&Endpoint| is_unspecified(&it.host);
    match config.listeners.iter().find(is_any) {
        Some(any) if config.advertised_listeners.is_empty() => Err(StartError::new(
            StartErrorKind::Config,
            format!(
                "{any} is all addresses of this machine: name the one that clients of the cluster are \
                 told with --advertise"
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a host is none, but all addresses of a machine.
fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// A broker of another cluster that is told to join one is told no.
pub(super) fn check_cluster(
    runtime: &Runtime,
    peers: &Peers,
    quorum: &Quorum,
    config: &BrokerConfig,
) -> Result<(), StartError> {
    let Some(first) = config.cluster_join.first() else { return Ok(()) };
    let is_one_of_several = quorum.state().members.len() > 1;
    let patience = if is_one_of_several { A_LOOK } else { SECOND_THOUGHTS };
    runtime.block_on(async {
        let began = Instant::now();
        loop {
            let asked = peers.call_at(first, Service::Join, bytes::Bytes::new(), patience);
            let Err(PeerError::Refused(reason)) = asked.await else { return Ok(()) };
            if began.elapsed() >= REFUSED_FOR_GOOD {
                let text = format!("cannot join: {reason}");
                return Err(StartError::new(StartErrorKind::DataDirectory, text));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    })
}

/// Tells the others where this broker is now, if they know it from elsewhere, or do not know it any more:
/// who was forgotten and is started again joins again. In the background: they may not be there yet.
pub(super) fn announce(
    runtime: &Runtime,
    peers: &Peers,
    quorum: &Quorum,
    own: &Member,
) -> watch::Receiver<Option<String>> {
    let (refuse, refused) = watch::channel(None);
    let (peers, quorum, own) = (peers.clone(), quorum.clone(), own.clone());
    runtime.spawn(async move {
        tokio::time::sleep(SETTLED).await;
        let led = timeout(LONELY, async {
            while !quorum.takes_part() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        let is_lonely = led.await.is_err();
        let Some((joining, others)) = moved(&quorum, &own, is_lonely) else { return };
        match join(&peers, &joining, &others).await {
            Ok(_) => info!(at = %own.endpoint, "the cluster knows where this broker is now"),
            Err(error) => {
                warn!(%error, "the cluster does not take note of where this broker is");
                refuse.send_replace(Some(error.to_string()).filter(|_| is_lonely));
            }
        }
    });
    refused
}

/// Waits until the others do not let this broker in, and tells why.
pub(super) async fn told(mut refused: watch::Receiver<Option<String>>) -> String {
    match refused.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        // All is well.
        Err(_) => std::future::pending().await,
    }
}

/// What to tell, and whom.
fn moved(quorum: &Quorum, own: &Member, is_lonely: bool) -> Option<(Joining, Vec<Endpoint>)> {
    let state = quorum.state();
    let known = state.members.iter().find(|member| member.raft_id == state.raft_id);
    let is_known = known.is_some_and(|known| known.member.endpoint == own.endpoint);
    if (is_known && !is_lonely) || state.leader == Some(state.raft_id) {
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

/// The brokers that are registered, for those who want to join them.
pub(super) struct Registered(pub(super) Arc<ImageCell>);

impl KnownBrokers for Registered {
    fn ids(&self) -> Vec<BrokerId> {
        self.0.load().brokers().map(|broker| broker.id).collect()
    }

    fn obstacle(&self) -> Option<String> {
        let image = self.0.load();
        let listeners = image
            .brokers()
            .flat_map(|broker| broker.listeners.iter().map(move |listener| (broker.id, listener)));
        let mut unreachable = listeners.filter(|(_, listener)| is_unspecified(&listener.host));
        let (broker, listener) = unreachable.next()?;
        Some(format!(
            "broker {broker} tells clients to connect to {listener}, which leads nowhere once there is \
             more than one broker: start it again with --advertise and an address they can reach"
        ))
    }
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
