//! A machine of a world: its disk, its clock, and the broker that runs on it, put together as any broker
//! is.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::clock::{SimClock, Skew};
use super::net::{Net, SimPeers};
use super::oracle::Oracle;
use super::process::Process;
use super::quorum::SimQuorum;
use crate::base::disk::{Create, Disk as _};
use crate::base::disk_sim::SimDisk;
use crate::base::tasks::SimulatedProcess;
use crate::base::{BrokerId, Clock, DataDirectory, Tasks, Threads};
use crate::broker::wiring::{Parts, Wired, wire};
use crate::config::{BrokerConfig, Endpoint};
use crate::controller::{
    Controller, ControllerOptions, ControllerService, ImageSubscriber, Registration,
};
use crate::handlers::Peer;
use crate::metadata::{Image, Random as _, SeededRandom};
use crate::peer::{PeerNet as _, Service};
use crate::quorum::{Membership, open_data_directories};
use crate::replication::{Partitions, scrub_once};

/// Where the data is.
const DATA: &str = "/data";

/// Partitions of the topic of groups: each is looked at after every step.
pub(super) const GROUP_PARTITIONS: i32 = 2;

/// The session of members of the consumer protocol: over within the world's time.
pub(super) const SESSION: Duration = Duration::from_secs(12);

/// How often the house is kept.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How often, in rounds of that, all full segments are read again.
const SCRUB_EVERY: u32 = 4;

/// A machine.
pub(super) struct Machine {
    pub(super) disk: SimDisk,
    pub(super) skew: Skew,
    pub(super) running: Option<Running>,
}

/// What runs on it.
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    /// Has it stop in good order.
    pub(super) leave: Arc<Notify>,
    /// It has ended by itself, for this reason.
    pub(super) over: Arc<OnceLock<String>>,
    /// The broker, once it is one.
    pub(super) broker: Arc<Mutex<Option<Arc<Controller>>>>,
    /// What it has, once its logs are read.
    partitions: Arc<OnceLock<Weak<Partitions>>>,
}

impl Running {
    /// The process is no more, and nothing is left of it.
    pub(super) fn end(self) {
        // Its tasks may have them last; what is queued would keep itself.
        let partitions = self.partitions.get().and_then(Weak::upgrade);
        self.process.kill();
        if let Some(partitions) = partitions {
            partitions.let_go();
        }
    }
}

/// What a process is started with.
pub(super) struct Boot {
    pub(super) process: Arc<Process>,
    pub(super) disk: SimDisk,
    pub(super) skew: Skew,
    pub(super) seed: u64,
    pub(super) world: Instant,
    pub(super) cluster_id: Uuid,
    pub(super) net: Net,
    pub(super) quorum: SimQuorum,
    pub(super) oracle: Arc<Oracle>,
    /// Size of the segments of groups, if not the default.
    pub(super) group_segment_bytes: Option<u32>,
}

/// Starts a process.
pub(super) fn start(boot: Boot) -> Running {
    let running = Running {
        process: boot.process.clone(),
        leave: Arc::default(),
        over: Arc::default(),
        broker: Arc::default(),
        partitions: Arc::default(),
    };
    let (leave, over, broker) =
        (running.leave.clone(), running.over.clone(), running.broker.clone());
    let partitions = running.partitions.clone();
    boot.net.start(&boot.process);
    boot.process.clone().spawn(Box::pin(async move {
        let why = live(boot, &leave, (&broker, &partitions)).await;
        let _once = over.set(why);
    }));
    running
}

/// Tells the oracle of images.
struct Reader {
    broker: i32,
    oracle: Arc<Oracle>,
}

impl ImageSubscriber for Reader {
    fn image_changed(&self, _: &Image, new: &Arc<Image>) {
        self.oracle.on_image(self.broker, new);
    }
}

/// Applies images to partitions, and has the oracle look at what each has made of them: of two in one
/// step, the second may take back a role that the first has begun and something was committed in.
struct Applier {
    partitions: Arc<Partitions>,
    who: (i32, u64),
    oracle: Arc<Oracle>,
}

impl ImageSubscriber for Applier {
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        self.partitions.image_changed(old, new);
        self.oracle.on_applied(self.who, new);
    }
}

/// The metadata is not on this disk, but in the world's list: a file says that it was begun, without
/// which the directory would be taken for one that nobody ever used.
fn begin_metadata(disk: &SimDisk) -> std::io::Result<()> {
    let directory = PathBuf::from(DATA).join("quorum");
    disk.create_dir_all(&directory)?;
    disk.open(&directory.join("0.log"), Create::IfMissing)?;
    disk.sync_dir(&directory)?;
    disk.sync_dir(std::path::Path::new(DATA))
}

/// The life of a process; why it ended.
async fn live(
    boot: Boot,
    leave: &Notify,
    (broker, has): (&Mutex<Option<Arc<Controller>>>, &OnceLock<Weak<Partitions>>),
) -> String {
    let Boot { process, disk, skew, seed, world, cluster_id, net, quorum, oracle, .. } = boot;
    let mut random = SeededRandom::new(seed);
    let mut config = BrokerConfig::default().with_node_id(process.broker);
    config.offsets_topic_num_partitions = GROUP_PARTITIONS;
    let session_ms = u64::try_from(SESSION.as_millis()).unwrap_or(u64::MAX);
    config.group_consumer_min_session_timeout_ms = session_ms;
    config.group_consumer_max_session_timeout_ms = session_ms;
    if let Some(bytes) = boot.group_segment_bytes {
        config.offsets_topic_segment_bytes = bytes;
    }
    let config = Arc::new(config);
    let id = BrokerId(process.broker);
    let membership = Membership { cluster_id, node_id: id, storage_id: random.next_uuid() };
    let paths = [PathBuf::from(DATA)];
    let opened = open_data_directories(&disk, &paths, &config, Some(membership), &mut random);
    let identity = match opened {
        Ok(identities) => identities.into_iter().next(),
        Err(error) => return error.to_string(),
    };
    let Some(identity) = identity else { return "no data directory".to_owned() };
    if let Err(error) = begin_metadata(&disk) {
        return error.to_string();
    }
    oracle.with(|known| known.storages.insert(process.broker, Some(identity.storage_id)));
    let data = DataDirectory::new(Arc::new(disk), PathBuf::from(DATA));
    data.identify(identity.storage_id);
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(world, skew));
    let (log, recovered) = quorum.open(process.broker, process.life);
    let peers = Arc::new(SimPeers { net: net.clone(), process: process.clone() });
    let simulated: Arc<dyn SimulatedProcess> = process.clone();
    let controller = Controller::start(ControllerOptions {
        cluster_id,
        config: config.clone(),
        log: Box::new(log),
        recovered,
        random: Box::new(SeededRandom::new(random.next_u64())),
        clock: clock.clone(),
        link: peers.clone(),
        threads: Threads::Simulated(simulated.clone()),
    });
    let controller = match controller {
        Ok(controller) => Arc::new(controller),
        Err(error) => return error.to_string(),
    };
    let reader = Arc::new(Reader { broker: process.broker, oracle: oracle.clone() });
    controller.subscribe(reader, &controller.images().load());
    peers.serve(Service::Controller, Arc::new(ControllerService::new(&controller)));
    let incarnation = random.next_uuid();
    let endpoint =
        |port| Endpoint { name: "PLAINTEXT".to_owned(), host: format!("broker-{id}"), port };
    let registration = Registration {
        id,
        incarnation,
        storage_ids: vec![identity.storage_id],
        listeners: vec![endpoint(9092)],
        peer: Some(endpoint(9093)),
        rack: None,
    };
    let (stop, stopped) = watch::channel(false);
    let parts = Parts {
        config,
        clock: clock.clone(),
        random: Box::new(SeededRandom::new(random.next_u64())),
        ids: Box::new(SeededRandom::new(random.next_u64())),
        directories: std::slice::from_ref(&data),
        controller: controller.clone(),
        peers,
        tasks: Tasks::Simulated(simulated.clone()),
        threads: Threads::Simulated(simulated),
        stopped,
    };
    let images = controller.images();
    let wired = wire(
        parts,
        registration,
        |_| {},
        |partitions| {
            let _once = has.set(Arc::downgrade(partitions));
            oracle.attach(&process, incarnation, partitions, images);
            let (partitions, oracle) = (partitions.clone(), oracle.clone());
            Arc::new(Applier { partitions, who: (process.broker, process.life), oracle })
        },
    );
    let Wired { node, member, .. } = match wired.await {
        Ok(wired) => wired,
        Err(error) => return error.to_string(),
    };
    let peer = Arc::new(Peer {
        node: node.clone(),
        address: ([127, 0, 0, 1], 1).into(),
        host: Arc::from(format!("broker-{id}")),
        port: 9092,
        software: OnceLock::new(),
    });
    net.serve_clients(&process, peer);
    *broker.lock() = Some(controller.clone());
    let why = tokio::select! {
        biased;
        () = leave.notified() => None,
        why = data.failed() => Some(why.to_owned()),
        why = member.over() => Some(why),
        () = keep_house(&node.partitions, &clock, (process.broker, &oracle)) => None,
    };
    if let Some(why) = why {
        return why;
    }
    let since = oracle.metadata_end();
    if member.leave().await {
        oracle.on_released(process.broker, since);
    }
    stop.send_replace(true);
    member.last_word().await;
    while node.partitions.directories().iter().any(|it| !it.flusher().is_idle()) {
        sleep(Duration::from_millis(1)).await;
    }
    node.partitions.close();
    "it was stopped".to_owned()
}

/// What the housekeeper and the scrubber do, for ever.
async fn keep_house(
    partitions: &Partitions,
    clock: &Arc<dyn Clock>,
    (broker, oracle): (i32, &Oracle),
) {
    let (mut rounds, mut repaired) = (0u32, 0);
    loop {
        sleep(HOUSEKEEPING).await;
        partitions.flush_lazily();
        partitions.look_for_room();
        rounds += 1;
        if rounds.is_multiple_of(5) {
            partitions.note_high_watermarks();
            oracle.on_noted(broker, partitions);
            partitions.keep_house(clock.now(), 86_400_000);
        }
        let mut found = 0;
        if rounds.is_multiple_of(SCRUB_EVERY) {
            found = scrub_once(partitions, clock.clone()).damaged;
        }
        let is_whole = partitions.repair_totals().segments;
        if found > 0 || is_whole > repaired {
            oracle.with(|known| known.on_damage(broker, found, is_whole - repaired));
            repaired = is_whole;
        }
    }
}
