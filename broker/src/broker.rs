//! A node: built from its configuration, started, stopped.
//!
//! The order of starting is the order of trust: the port is taken and the data directory locked
//! before a byte is read, logs are recovered before a connection is accepted. Stopping goes the
//! other way: no new requests, then everything appended is synced and marked clean.

mod alters;
mod contact;
mod data;
mod departing;
mod http;
mod member;
mod peers;
mod reports;
pub(crate) mod wiring;

use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tracing::{info, warn};

pub(crate) use self::contact::Contact;
pub(crate) use self::departing::Departing;
use self::member::Member;
use self::wiring::Wired;
use crate::admin::{Parts, Status};
use crate::base::disk::{DirLock, Disk};
use crate::base::disk_real::RealDisk;
use crate::base::handles::{HandleLimits, raise_descriptor_limit};
use crate::base::limits::CONTROL_REQUEST_BYTES_MAX;
use crate::base::memory::MemoryBudget;
use crate::base::{BrokerId, Clock, DataDirectory, SystemClock, Tasks, Threads};
use crate::config::{BrokerConfig, Endpoint};
use crate::controller::Registration;
use crate::handlers::Node;
use crate::metadata::SystemRandom;
use crate::peer::Peers;
use crate::quorum::Identity;
use crate::quorum::raft::Quorum;
use crate::replication::{
    Cleaner, CompactionStats, Partitions, RecoveryProgress, ScrubOptions, ScrubTotals, Scrubber,
};
use crate::server::connection::ConnectionOptions;
use crate::server::input::FrameLimits;
use crate::server::listener::{self, ListenerOptions};

/// How often records of `flush.mode=os` topics are synced in the background.
const LAZY_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is written down how far replicated partitions are committed.
const HIGH_WATERMARK_INTERVAL: Duration = Duration::from_secs(5);

/// How long stopping waits for connection tasks to end.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Why a broker did not start. One line: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    kind: StartErrorKind,
    message: String,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartErrorKind {
    /// Another process listens there.
    AddressInUse,
    /// The data directory cannot be used.
    DataDirectory,
    /// The configuration does not hold together.
    Config,
    /// Anything else of the environment.
    Other,
}

impl StartError {
    /// What kind of thing is wrong.
    #[must_use]
    pub fn kind(&self) -> StartErrorKind {
        self.kind
    }

    fn new(kind: StartErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What a started broker has to say of itself.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The cluster's id.
    pub cluster_id: String,
    /// This node's id.
    pub node_id: i32,
    /// Where its data is.
    pub data_dirs: Vec<PathBuf>,
    /// Topics it serves.
    pub topics: usize,
    /// Partitions it serves.
    pub partitions: usize,
    /// Partitions that were read again because the last stop was not clean.
    pub recovered: usize,
    /// Bytes of torn tails that were cut; none was acknowledged.
    pub cut_bytes: u64,
    /// Partitions that could not be opened and are not served.
    pub offline: usize,
    /// Damaged ranges of logs, which are not served.
    pub quarantined: usize,
    /// Whether this start made the data directories.
    pub first_start: bool,
    /// Whether other machines can reach a listener, none of which is protected.
    pub exposed: bool,
}

/// A running node.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<SocketAddr>,
    http_address: Option<SocketAddr>,
    summary: Summary,
    node: Arc<Node>,
    member: Arc<Member>,
    peer_address: Endpoint,
    quorum: Quorum,
    /// Where the metadata is: without it the broker cannot go on.
    metadata: Arc<DataDirectory>,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    housekeeper: Housekeeper,
    cleaner: Cleaner,
    scrubber: Scrubber,
    /// Held to the last: another process may open a directory once its lock is gone.
    _locks: Vec<Box<dyn DirLock>>,
}

impl Broker {
    /// Starts a node and returns once it accepts connections. Uses threads of its own: neither
    /// call this nor [`Broker::stop`] from an async task.
    ///
    /// # Errors
    /// Nothing keeps running; the error is one clear line.
    pub fn start(config: BrokerConfig) -> Result<Self, StartError> {
        Self::start_with(config, |_| {})
    }

    /// As [`Broker::start`]; a start that takes long tells `progress` every second how far it is.
    ///
    /// # Errors
    /// Nothing keeps running; the error is one clear line.
    pub fn start_with(
        config: BrokerConfig,
        progress: impl Fn(RecoveryProgress),
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let listeners = bind(&config)?;
        let addresses = local_addresses(&listeners)?;
        let http_listener = http::bind(&config, &bound_to(&config, &addresses))?;
        let tls = peers::open_tls(&config)?;
        let peer_port = peers::bind(&config, &bound_to(&config, &addresses), tls.as_deref())?;
        let peer_endpoint = peer_port.endpoint.clone();
        let http_address = http_listener.as_ref().and_then(|it| it.local_addr().ok());
        raise_descriptor_limit();
        let handles = HandleLimits::of_process();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::with_limits(handles));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let runtime = build_runtime(&config)?;
        let (stop, stopped) = watch::channel(false);
        let status = Status::starting(stopped.clone());
        if let Some(listener) = http_listener {
            http::listen(&runtime, listener, &status, &stopped)?;
        }
        if let Some(tls) = tls.clone() {
            runtime.spawn(tls.follow(stopped.clone()));
        }

        let data::OpenData {
            directories,
            metadata,
            identities,
            config,
            controller,
            peers,
            quorum,
            refused,
            locks,
        } = data::open(data::Opening {
            config: &config,
            disk: &disk,
            clock: &clock,
            runtime: &runtime,
            port: peer_port,
            tls: tls.clone(),
            stopped: &stopped,
        })?;
        let identity = *identities.first().ok_or_else(|| {
            StartError::new(StartErrorKind::Config, "log.dirs names no directory")
        })?;
        let registration =
            registration(&config, &identities, &addresses, &peers, peer_endpoint.clone());
        let from = wiring::Parts {
            config: config.clone(),
            clock: clock.clone(),
            random: Box::new(SystemRandom),
            ids: Box::new(SystemRandom),
            directories: &directories,
            controller,
            peers: Arc::new(peers),
            tasks: Tasks::Runtime(runtime.handle().clone()),
            threads: Threads::Real,
            stopped: stopped.clone(),
        };
        let progress = |so_far| {
            let RecoveryProgress { done, partitions, bytes_read } = so_far;
            info!(done, partitions, bytes_read, "opening partitions");
            status.recovering(so_far);
            progress(so_far);
        };
        let wired = wiring::wire(from, registration, progress, |partitions| partitions.clone());
        // Dropping the wiring ends a start that the cluster does not let go on.
        let wired = runtime.block_on(async {
            tokio::select! {
                wired = wired => wired,
                why = peers::told(refused) => Err(StartError::new(
                    StartErrorKind::DataDirectory,
                    format!("cannot take part in the cluster: {why}"),
                )),
            }
        });
        let Wired { node, member, recovered } = wired?;
        let partitions = node.partitions.clone();
        listen(&runtime, listeners, &node, &stopped)?;
        let cleaner = Cleaner::start(partitions.clone(), clock.clone(), &config);
        let cleaner = cleaner.map_err(cannot_start_threads)?;
        let housekeeper = Housekeeper::start(partitions.clone(), clock.clone(), &config)?;
        let scrub = ScrubOptions {
            bytes_per_second: config.log_scrub_bytes_per_second,
            interval: Duration::from_millis(config.log_scrub_interval_ms),
        };
        let scrubber = Scrubber::start(partitions, clock, scrub).map_err(cannot_start_threads)?;
        status.serving(Parts { tls, ..parts(&node, identity.node_id, &cleaner, &scrubber) });
        let summary = Summary {
            cluster_id: identity.cluster_id.to_string(),
            node_id: identity.node_id.0,
            data_dirs: directories.iter().map(|data| data.path().to_owned()).collect(),
            topics: node.images.load().topic_count(),
            partitions: recovered.partitions,
            recovered: recovered.scanned,
            cut_bytes: recovered.cut_bytes,
            offline: recovered.offline,
            quarantined: recovered.quarantined,
            first_start: identities.iter().all(|identity| identity.first_start),
            exposed: !addresses.iter().copied().chain(http_address).all(is_loopback),
        };
        info!(
            node_id = summary.node_id,
            cluster_id = %summary.cluster_id,
            partitions = summary.partitions,
            "broker started"
        );
        Ok(Self {
            addresses,
            http_address,
            summary,
            node,
            member,
            peer_address: peer_endpoint,
            quorum,
            metadata,
            status,
            stop,
            runtime: Some(runtime),
            housekeeper,
            cleaner,
            scrubber,
            _locks: locks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the other brokers of its cluster reach it.
    #[must_use]
    pub fn peer_address(&self) -> &Endpoint {
        &self.peer_address
    }

    /// Its node of the metadata log.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Where it answers about itself over HTTP, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// What reading full segments again has shown so far.
    #[must_use]
    pub fn scrub_totals(&self) -> ScrubTotals {
        self.scrubber.totals()
    }

    /// What it found and is.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Waits until the broker cannot go on: the data directory with the cluster's metadata failed,
    /// or another process has its place in the cluster. Returns one line: what, where, and what to
    /// do. Stop it then.
    pub async fn failed(&self) -> String {
        let reason = tokio::select! {
            reason = self.metadata.failed() => reason,
            why = self.member.over() => return why,
        };
        format!(
            "data directory {} has failed, and with it the cluster's metadata: {reason}; check the \
             disk and its file system, then start the broker again",
            self.metadata.path().display()
        )
    }

    /// How log compaction goes.
    #[must_use]
    pub fn compaction(&self) -> CompactionStats {
        self.cleaner.stats()
    }

    /// Stops cleanly: others take over what they can, connections end, everything appended is
    /// synced, logs are marked clean.
    pub fn stop(mut self) {
        self.status.leaving();
        if let Some(runtime) = &self.runtime {
            runtime.block_on(self.member.leave());
        }
        self.stop.send_replace(true);
        self.housekeeper.stop();
        self.cleaner.stop();
        self.scrubber.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(self.member.last_word());
            runtime.shutdown_timeout(STOP_DEADLINE);
        }
        self.node.partitions.close();
        info!("broker stopped");
    }
}

/// What can be asked about over HTTP.
fn parts(node: &Node, id: BrokerId, cleaner: &Cleaner, scrubber: &Scrubber) -> Parts {
    Parts {
        id,
        images: node.images.clone(),
        partitions: node.partitions.clone(),
        controller: node.controller.clone(),
        groups: node.groups.clone(),
        metrics: node.metrics.clone(),
        telemetry: node.telemetry.clone(),
        compaction: Box::new(cleaner.reporter()),
        scrub: Box::new(scrubber.reporter()),
        tls: None,
    }
}

fn registration(
    config: &BrokerConfig,
    identities: &[Identity],
    addresses: &[SocketAddr],
    peers: &Peers,
    peer: Endpoint,
) -> Registration {
    let listeners = if config.advertised_listeners.is_empty() {
        addresses
            .iter()
            .map(|address| Endpoint {
                name: "PLAINTEXT".to_owned(),
                host: address.ip().to_string(),
                port: address.port(),
            })
            .collect()
    } else {
        config.advertised_listeners.clone()
    };
    Registration {
        id: BrokerId(config.node_id),
        incarnation: peers.me().incarnation,
        storage_ids: identities.iter().map(|identity| identity.storage_id).collect(),
        listeners,
        peer: Some(peer),
        rack: (!config.broker_rack.is_empty()).then(|| config.broker_rack.clone()),
    }
}

fn bind(config: &BrokerConfig) -> Result<Vec<StdListener>, StartError> {
    let mut listeners = Vec::new();
    for endpoint in &config.listeners {
        let resolved = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
        let address =
            resolved.ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| {
                StartError::new(
                    StartErrorKind::Config,
                    format!("cannot listen on {endpoint}: the host name does not resolve"),
                )
            })?;
        refuse_exposure(config, address, "")?;
        listeners.push(bind_one(address)?);
    }
    Ok(listeners)
}

/// A listener without encryption or passwords on an address other machines can reach needs the
/// operator's word. `better` is what can be done instead, if anything, with a comma behind.
fn refuse_exposure(
    config: &BrokerConfig,
    address: SocketAddr,
    better: &str,
) -> Result<(), StartError> {
    if is_loopback(address) {
        return Ok(());
    }
    if !config.insecure_listeners_allowed {
        return Err(StartError::new(
            StartErrorKind::Config,
            format!(
                "refused to listen on {address}: other machines can reach it, and it would have \
                 neither encryption nor passwords; listen on 127.0.0.1, {better}or allow it with --insecure \
                 on a network you trust"
            ),
        ));
    }
    warn!(%address, "listening without encryption or passwords: whoever reaches it may do everything");
    Ok(())
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn bind_one(address: SocketAddr) -> Result<StdListener, StartError> {
    listen_on(address).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            StartError::new(
                StartErrorKind::AddressInUse,
                format!(
                    "cannot listen on {address}: another process does; stop it or choose another \
                     address with --listen"
                ),
            )
        } else {
            StartError::new(StartErrorKind::Other, format!("cannot listen on {address}: {error}"))
        }
    })
}

/// `SO_REUSEADDR`, so that a restart does not wait for connections in TIME_WAIT, and a backlog that
/// takes a reconnect storm.
fn listen_on(address: SocketAddr) -> std::io::Result<StdListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn local_addresses(listeners: &[StdListener]) -> Result<Vec<SocketAddr>, StartError> {
    listeners
        .iter()
        .map(|listener| {
            listener
                .local_addr()
                .map_err(|error| StartError::new(StartErrorKind::Other, error.to_string()))
        })
        .collect()
}

/// Where clients connect, with port 0 where the operating system was to choose.
fn bound_to(config: &BrokerConfig, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let asked = config.listeners.iter().map(|endpoint| endpoint.port);
    let pairs = addresses.iter().zip(asked);
    pairs.map(|(address, port)| SocketAddr::new(address.ip(), port)).collect()
}

fn build_runtime(config: &BrokerConfig) -> Result<tokio::runtime::Runtime, StartError> {
    let threads = match usize::try_from(config.num_network_threads) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Ok(threads) => threads,
    };
    let started = AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(16)
        .thread_name_fn(move || {
            // The runtime starts those that serve connections first, the others as they are needed.
            let number = started.fetch_add(1, Ordering::Relaxed);
            if number < threads { format!("net-{number}") } else { format!("wait-{number}") }
        })
        .enable_all()
        .build()
        .map_err(cannot_start_threads)
}

fn cannot_start_threads(error: std::io::Error) -> StartError {
    StartError::new(StartErrorKind::Other, format!("cannot start threads: {error}"))
}

fn listen(
    runtime: &tokio::runtime::Runtime,
    listeners: Vec<StdListener>,
    node: &Arc<Node>,
    stopped: &watch::Receiver<bool>,
) -> Result<(), StartError> {
    let config = &node.config;
    let options = ListenerOptions {
        connection: ConnectionOptions {
            frames: FrameLimits {
                produce_bytes: config.socket_request_max_bytes,
                control_bytes: CONTROL_REQUEST_BYTES_MAX.min(config.socket_request_max_bytes),
            },
            read_stall: Duration::from_millis(config.socket_read_timeout_ms),
            write_stall: Duration::from_millis(config.socket_write_timeout_ms),
            idle: Duration::from_millis(config.connections_max_idle_ms),
        },
        budget: MemoryBudget::new(config.queued_max_request_bytes),
        advertised: config
            .advertised_listeners
            .first()
            .map(|endpoint| (Arc::from(endpoint.host.as_str()), endpoint.port)),
        connections_max: usize::try_from(config.max_connections)
            .unwrap_or(usize::MAX)
            .min(HandleLimits::of_process().connections),
        connections_per_ip_max: usize::try_from(config.max_connections_per_ip)
            .unwrap_or(usize::MAX),
    };
    let _entered = runtime.enter();
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| StartError::new(StartErrorKind::Other, error.to_string()))?;
        runtime.spawn(listener::run(listener, node.clone(), options.clone(), stopped.clone()));
    }
    Ok(())
}

/// The thread that does what is due by time: background syncs and retention.
#[derive(Debug)]
struct Housekeeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Housekeeper {
    fn start(
        partitions: Arc<Partitions>,
        clock: Arc<dyn Clock>,
        config: &BrokerConfig,
    ) -> Result<Self, StartError> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = stop.clone();
        let retention_interval = Duration::from_millis(config.log_retention_check_interval_ms);
        let producer_expiration_ms =
            i64::try_from(config.producer_id_expiration_ms).unwrap_or(i64::MAX);
        let run = move || {
            let (stopped, wake) = &*stopping;
            let mut next_retention = clock.monotonic() + retention_interval;
            let mut next_note = clock.monotonic() + HIGH_WATERMARK_INTERVAL;
            let mut stopped = stopped.lock();
            while !*stopped {
                let due = next_retention.saturating_sub(clock.monotonic());
                wake.wait_for(&mut stopped, LAZY_FLUSH_INTERVAL.min(due));
                if *stopped {
                    return;
                }
                partitions.flush_lazily();
                partitions.look_for_room();
                if clock.monotonic() >= next_note {
                    partitions.note_high_watermarks();
                    next_note = clock.monotonic() + HIGH_WATERMARK_INTERVAL;
                }
                if clock.monotonic() >= next_retention {
                    partitions.keep_house(clock.now(), producer_expiration_ms);
                    next_retention = clock.monotonic() + retention_interval;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("housekeeper".into())
            .spawn(run)
            .map_err(cannot_start_threads)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    fn stop(&mut self) {
        let (stopped, wake) = &*self.stop;
        *stopped.lock() = true;
        wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by its hook.
            let _panicked = thread.join();
        }
    }
}
