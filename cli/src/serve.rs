//! `sawlog serve`: the broker.

use std::path::PathBuf;

use clap::Args;
use sawlog_broker::config::Sources;
use sawlog_broker::{Broker, RecoveryProgress, StartErrorKind, Summary};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Kind, say};

/// Run a broker. No flags needed: it listens on 127.0.0.1:9092 and keeps its data in ./sawlog-data.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Directory for data; made if it is not there. May be given several times, one for each disk
    #[arg(long, value_name = "DIR", env = "SAWLOG_DATA", value_delimiter = ',')]
    data: Vec<String>,
    /// Address to listen on; port 0 takes a free one. May be given several times
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// Address clients are told, where it is not the one they dial
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,
    /// Address for peers of a broker whose cluster this one joins, if its data directory is new. May be
    /// given several times
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    join: Vec<String>,
    /// Address to listen on for the other brokers of the cluster
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// Address for health checks and metrics over HTTP; `none` for none [default: port 9644 on loopback,
    /// another one if it is taken]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Listen on addresses other machines can reach, without encryption or passwords
    #[arg(long)]
    insecure: bool,
    /// Stop when standard input ends, and with it the process that started this one
    #[arg(long, hide = true)]
    until_input_ends: bool,
    /// TOML file of settings
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting, as key=value; see docs/configuration.md for all of them
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        crate::logging::start();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        // Signals are caught before the start: one that comes during recovery is not lost.
        let mut signals = {
            let _entered = runtime.enter();
            [SignalKind::terminate(), SignalKind::interrupt()].map(signal)
        };
        let started = Starting::begin();
        let broker = Broker::start_with(self.settings()?, report_progress).map_err(|error| {
            let message = error.to_string();
            match error.kind() {
                StartErrorKind::Config => Failure::usage(message),
                StartErrorKind::AddressInUse
                | StartErrorKind::DataDirectory
                | StartErrorKind::Other => Failure::failed(message),
            }
        })?;
        drop(started);
        greet(&broker);
        let failure = runtime.block_on(async {
            let asked = async {
                let [terminate, interrupt] = &mut signals;
                if let (Ok(terminate), Ok(interrupt)) = (terminate, interrupt) {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                } else {
                    std::future::pending::<()>().await;
                }
            };
            // Whichever comes first decides; the others are of no interest any more.
            tokio::select! {
                () = asked => None,
                () = input_ended(self.until_input_ends) => None,
                failure = broker.failed() => Some(failure),
            }
        });
        say("stopping: syncing what was written");
        broker.stop();
        failure.map_or(Ok(()), |failure| Err(Failure::new(Kind::Unhealthy, failure)))
    }

    fn settings(&self) -> Result<sawlog_broker::config::BrokerConfig, Failure> {
        let usage = |error: sawlog_broker::config::ConfigError| Failure::usage(error.to_string());
        let mut sources = Sources::new();
        if let Some(file) = &self.config {
            sources = sources.read_file(file).map_err(usage)?;
        }
        sources = sources.environment(std::env::vars());
        if !self.data.is_empty() {
            sources = sources.flag("--data", "log.dirs", &self.data.join(","));
        }
        if !self.listen.is_empty() {
            sources = sources.flag("--listen", "listeners", &self.listen.join(","));
        }
        if !self.advertise.is_empty() {
            sources =
                sources.flag("--advertise", "advertised.listeners", &self.advertise.join(","));
        }
        if !self.join.is_empty() {
            sources = sources.flag("--join", "cluster.join", &self.join.join(","));
        }
        if let Some(address) = &self.peer_listen {
            sources = sources.flag("--peer-listen", "peer.listener", address);
        }
        if let Some(http) = &self.http {
            sources = sources.flag("--http", "http.listener", http);
        }
        if self.insecure {
            sources = sources.flag("--insecure", "insecure.listeners.allowed", "true");
        }
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Failure::usage(format!(
                    "-X {setting}: expected key=value, such as num.partitions=6"
                ))
            })?;
            sources = sources.flag("-X", key.trim(), value.trim());
        }
        sources.load().map_err(usage)
    }
}

/// Waits until nobody holds the other end of standard input, if that is to be heeded.
async fn input_ended(heeded: bool) {
    let (gone, over) = tokio::sync::oneshot::channel::<()>();
    if heeded {
        // A thread of its own: a blocked read would hold up the end of a runtime's.
        std::thread::spawn(move || {
            // Whatever ends it, an error too: nobody is there any more.
            let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            drop(gone);
        });
        let _closed = over.await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// A start may wait for long: for a cluster to take the broker in, or for a controller. A signal ends it
/// at once, which is as safe as any crash: nobody was answered yet.
struct Starting(Option<tokio::sync::oneshot::Sender<()>>);

impl Starting {
    fn begin() -> Self {
        let (over, starting) = tokio::sync::oneshot::channel();
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
                let [Ok(mut terminate), Ok(mut interrupt)] = kinds.map(signal) else { return };
                tokio::select! {
                    // Dropped, it is over.
                    _ = starting => return,
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                say("stopped before it was up");
                std::process::exit(0);
            });
        };
        // Without the thread signals wait for the end of the start.
        let _thread = std::thread::Builder::new().name("starting".to_owned()).spawn(watch);
        Self(Some(over))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // The thread may have ended.
        let _ = self.0.take().map(|over| over.send(()));
    }
}

/// Says how far a start has come that takes long.
fn report_progress(progress: RecoveryProgress) {
    let RecoveryProgress { done, partitions, bytes_read } = progress;
    let read = bytes_read / 1_000_000;
    say(format!("opening partitions: {done} of {partitions}, {read} MB checked"));
}

/// Says where the broker is and what to type next.
fn greet(broker: &Broker) {
    let Summary {
        cluster_id, node_id, data_dirs, topics, partitions, recovered, cut_bytes, ..
    } = broker.summary();
    let addresses: Vec<String> = broker.addresses().iter().map(ToString::to_string).collect();
    let first = addresses.first().map_or("127.0.0.1:9092", String::as_str);
    say(format!("sawlog {} is listening on {}", env!("CARGO_PKG_VERSION"), addresses.join(", ")));
    let data: Vec<String> = data_dirs.iter().map(|path| path.display().to_string()).collect();
    say(format!("  data     {} (cluster {cluster_id}, node {node_id})", data.join(", ")));
    say(format!("  peers    {}", broker.peer_address()));
    say(format!("  topics   {topics} with {partitions} partitions"));
    if let Some(http) = broker.http_address() {
        say(format!("  http     http://{http}/ has /readyz and /metrics"));
    }
    if *recovered > 0 {
        say(format!(
            "  recovery {recovered} partitions were checked after an unclean stop, {cut_bytes} \
             unacknowledged bytes cut"
        ));
    }
    if broker.summary().exposed {
        say("  WARNING  neither encryption nor passwords: whoever reaches it may do everything");
    }
    if broker.summary().offline > 0 {
        say(format!("  WARNING  {} partitions are offline, see above", broker.summary().offline));
    }
    if broker.summary().quarantined > 0 {
        say(format!(
            "  WARNING  {} damaged ranges of logs are not served, see above; everything else is",
            broker.summary().quarantined
        ));
    }
    let brokers = if first == "127.0.0.1:9092" { String::new() } else { format!(" -b {first}") };
    if *topics == 0 {
        say(format!("  next     sawlog{brokers} topic create events -p 6"));
    } else {
        say(format!("  next     sawlog{brokers} topic list"));
    }
}
