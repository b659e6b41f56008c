//! Three brokers in one process, over loopback, on simulated disks; the controller is a mutex around
//! the real decisions.

use std::path::Path;
use std::time::Duration;

use sawlog_protocol::Uuid;
use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::*;
use crate::base::disk::Disk as _;
use crate::base::disk_sim::SimDisk;
use crate::base::{DataDirectory, LeaderEpoch, ManualClock, Offset, SystemClock, Timestamp};
use crate::config::{BrokerConfig, Endpoint};
use crate::controller::replicas::{
    BrokerStart, alter_partition, fence, register, report as report_replicas, unfence,
};
use crate::controller::{ImageSubscriber as _, Registration};
use crate::metadata::{ConfigResource, Image, ImageCell, PartitionRecord, PartitionState, Record};
use crate::peer::{PeerId, PeerIdentity, Peers};
use crate::replication::partitions::Partitions;
use crate::replication::{
    AckState, Acks, DeleteError, EpochMismatch, LogGeneration, PartitionCore, View,
};

const TOPIC: Uuid = Uuid([9; 16]);
const BROKERS: [i32; 3] = [1, 2, 3];

/// Long enough for anything that is to happen.
const SOON: Duration = Duration::from_secs(30);

/// A broker's process.
struct Node {
    partitions: Arc<Partitions>,
    peers: Peers,
    at: Endpoint,
    images: Arc<ImageCell>,
    stop: watch::Sender<bool>,
    epoch: i64,
}

/// What all of them share.
struct World {
    image: Mutex<Arc<Image>>,
    nodes: Mutex<BTreeMap<i32, Node>>,
    disks: Mutex<BTreeMap<i32, SimDisk>>,
    clock: Arc<dyn Clock>,
}

/// Asks the controller of the world.
struct Ask(Arc<World>);

impl AskAlter for Ask {
    fn ask(&self, questions: Vec<(PartitionId, AlterPartition)>) -> AlterAnswers {
        let world = self.0.clone();
        Box::pin(async move {
            let decide = |(id, question): (PartitionId, AlterPartition)| {
                world.commit(|image| alter_partition(image, id.topic, id.index, &question))
            };
            questions.into_iter().map(decide).collect()
        })
    }
}

impl World {
    /// A cluster with one partition on all of its brokers, led by the first.
    fn new() -> Arc<Self> {
        Self::by(Arc::new(SystemClock::new()))
    }

    /// The same, by another clock.
    fn by(clock: Arc<dyn Clock>) -> Arc<Self> {
        let config = Arc::new(BrokerConfig::default().with_node_id(1));
        let world = Arc::new(Self {
            image: Mutex::new(Arc::new(Image::empty(Uuid([7; 16]), config))),
            nodes: Mutex::default(),
            disks: Mutex::default(),
            clock,
        });
        for id in BROKERS {
            let disk = SimDisk::new();
            disk.create_dir_all(Path::new("/data")).unwrap();
            world.disks.lock().insert(id, disk);
            world.start(id);
        }
        let ids: Vec<_> = BROKERS.into_iter().map(BrokerId).collect();
        let setting = |key: &str, value: &str| Record::Config {
            resource: ConfigResource::Topic(TOPIC),
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        let partition = PartitionRecord {
            topic: TOPIC,
            index: 0,
            replicas: ids.clone(),
            isr: ids,
            elr: vec![],
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            adding: vec![],
            removing: vec![],
            storage_ids: vec![],
        };
        world.records(vec![
            Record::Topic { name: "t".to_owned(), id: TOPIC },
            setting("min.insync.replicas", "2"),
            setting("segment.bytes", "65536"),
            Record::Partition(partition),
        ]);
        world
    }

    fn records(&self, records: Vec<Record>) {
        self.commit(|_| (records, ()));
    }

    fn commit<T>(&self, decide: impl FnOnce(&Image) -> (Vec<Record>, T)) -> T {
        let mut current = self.image.lock();
        let (records, answer) = decide(&current);
        if !records.is_empty() {
            let next = Arc::new(current.applied(current.offset().next(), &records).unwrap());
            for node in self.nodes.lock().values() {
                node.partitions.image_changed(&current, &next);
                node.images.store(next.clone());
            }
            *current = next;
        }
        answer
    }

    /// A process starts on the disk the broker has.
    fn start(self: &Arc<Self>, id: i32) {
        let known = self.image.lock().clone();
        self.start_knowing(id, known);
    }

    /// The same, by metadata that may be older.
    fn start_knowing(self: &Arc<Self>, id: i32, before: Arc<Image>) {
        let disk = self.disks.lock().get(&id).unwrap().clone();
        let registration = Registration {
            id: BrokerId(id),
            incarnation: Uuid([u8::try_from(id).unwrap(); 16]),
            storage_ids: vec![Uuid([u8::try_from(id + 100).unwrap(); 16])],
            listeners: Vec::new(),
            peer: None,
            rack: None,
        };
        let data = DataDirectory::new(Arc::new(disk), "/data".into());
        let started = Partitions::start(BrokerId(id), &[data], self.clock.clone());
        let partitions = Arc::new(started.unwrap());
        let recovered = partitions.recover(&before, |_| {});
        let start = BrokerStart {
            registration,
            was_clean: recovered.scanned == 0 && recovered.offline == 0,
            damaged: recovered.damaged,
            gives_up_missing: false,
            has_session: false,
        };
        let epoch = self.commit(|image| {
            let (epoch, records) = register(image, &start).unwrap();
            (records, epoch)
        });
        partitions.on_registered(BrokerEpoch(epoch));
        let image = self.image.lock().clone();
        let images = Arc::new(ImageCell::new(image.clone()));
        partitions.image_changed(&before, &image);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = Endpoint { name: "PEER".to_owned(), host: "127.0.0.1".to_owned(), port };
        let me = PeerIdentity {
            cluster_id: Some(Uuid([7; 16])),
            id: PeerId { broker: Some(BrokerId(id)), raft_id: u64::try_from(id).unwrap() },
            incarnation: Uuid(u128::try_from(epoch).unwrap().to_be_bytes()),
        };
        let peers = Peers::new(me, Handle::current());
        let (stop, stopped) = watch::channel(false);
        peers.listen(listener, stopped).unwrap();
        let ask = Arc::new(Ask(self.clone()));
        let tasks = Tasks::Runtime(Handle::current());
        partitions.connect(Arc::new(peers.clone()), &tasks, images.clone(), ask);
        let node = Node { partitions, peers, at, images, stop, epoch };
        let mut nodes = self.nodes.lock();
        nodes.insert(id, node);
        for (one, node) in nodes.iter() {
            for (other, other_node) in nodes.iter().filter(|(other, _)| *other != one) {
                node.peers.know(BrokerId(*other), other_node.at.clone());
            }
        }
        drop(nodes);
        self.commit(|image| (unfence(image, BrokerId(id)), ()));
    }

    /// The process ends without a word; the controller notices.
    fn kill(&self, id: i32) {
        let node = self.nodes.lock().remove(&id).unwrap();
        assert!(node.epoch >= 0);
        node.stop.send_replace(true);
        for broker in BROKERS {
            node.peers.forget(BrokerId(broker));
        }
        for other in self.nodes.lock().values() {
            other.peers.forget(BrokerId(id));
        }
        self.commit(|image| (fence(image, BrokerId(id)), ()));
    }

    /// What a broker has to tell of its replicas is told.
    fn report(&self, id: i32) {
        let report = {
            let nodes = self.nodes.lock();
            let node = nodes.get(&id).unwrap();
            node.partitions.report(&node.images.load())
        };
        if let Some(told) = report {
            self.commit(|image| (report_replicas(image, &told), ()));
        }
    }

    /// The files of the partition on a broker's disk whose names end in `suffix`, by name.
    fn files(&self, id: i32, suffix: &str) -> Vec<std::path::PathBuf> {
        let disk = self.disks.lock().get(&id).unwrap().clone();
        let topics = Path::new("/data/topics");
        let directory = topics.join(&disk.list(topics).unwrap()[0]);
        let mut files: Vec<_> =
            disk.list(&directory).unwrap().into_iter().filter(|n| n.ends_with(suffix)).collect();
        files.sort_unstable();
        files.into_iter().map(|name| directory.join(name)).collect()
    }

    fn state(&self) -> PartitionState {
        self.image.lock().topic("t").unwrap().partition(0).unwrap().clone()
    }

    fn partition(&self, id: i32) -> Arc<Partition> {
        self.nodes.lock().get(&id).unwrap().partitions.by_name("t", 0).unwrap()
    }

    fn leader(&self) -> Arc<Partition> {
        self.partition(self.state().leader.unwrap().0)
    }

    /// The bytes of a replica's log.
    fn log(&self, id: i32) -> Vec<u8> {
        let partition = self.partition(id);
        let (mut at, end) = (partition.log_start(), partition.log_end());
        let mut bytes = Vec::new();
        while at < end {
            let read = partition.reader().read(at, end, 1 << 20, true).unwrap();
            for found in sawlog_protocol::records::split(&read) {
                at = Offset(found.unwrap().0.next_offset());
            }
            bytes.extend_from_slice(&read);
        }
        bytes
    }
}

fn append(partition: &Arc<Partition>, acks: Acks, text: &str) -> (LeaderEpoch, Offset) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, Some(text.as_bytes()), &[]).unwrap();
    let batch = builder.build();
    let header = BatchHeader::parse(&batch).unwrap();
    let accepted = partition.append_as_leader(&batch, &header, acks, Timestamp(0)).unwrap();
    (accepted.leader_epoch, accepted.last_offset)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn committed(partition: &Arc<Partition>, (epoch, offset): (LeaderEpoch, Offset)) {
    until("a write is committed", || {
        let state = partition.ack_state_of(epoch, offset);
        assert!(matches!(state, AckState::Waiting | AckState::Committed), "{state:?}");
        state == AckState::Committed
    })
    .await;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let mut runtime = { runtime };
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(test);
}

#[test]
fn what_is_acknowledged_is_on_every_replica_and_all_learn_of_it() {
    run(async {
        let world = World::new();
        let leader = world.leader();
        let mut last = None;
        for n in 0..200 {
            last = Some(append(&leader, Acks::All, &format!("record {n} {}", "x".repeat(900))));
        }
        committed(&leader, last.unwrap()).await;
        let log = world.log(1);
        for id in [2, 3] {
            let replica = world.partition(id);
            assert_eq!(world.log(id), log, "on broker {id}");
            assert_eq!(replica.inspect(|core| core.log().durable), Offset(200), "on its disk");
            until("followers learn what is committed", || replica.high_watermark() == Offset(200))
                .await;
        }
        assert_eq!(world.state().isr.len(), 3);
    });
}

#[test]
fn what_is_deleted_is_gone_everywhere_before_anybody_is_told() {
    run(async {
        let world = World::new();
        let leader = world.leader();
        let mut last = None;
        for n in 0..20 {
            last = Some(append(&leader, Acks::All, &format!("record {n}")));
        }
        committed(&leader, last.unwrap()).await;
        // Nothing else is written: what is deleted is all the news there is.
        let deadline = tokio::time::Instant::now() + SOON;
        let to = leader.delete_records(Some(Offset(7))).unwrap();
        assert_eq!(leader.deleted(to, deadline).await.unwrap(), Offset(7));
        for id in BROKERS {
            assert_eq!(world.partition(id).log_start(), Offset(7), "on broker {id}");
        }
        // Without one of those that count nobody is told, until it counts no more.
        let id = BROKERS.into_iter().find(|id| Some(BrokerId(*id)) != world.state().leader);
        let (stalls, to) = (world.partition(id.unwrap()), Offset(9));
        stalls.go_offline();
        assert_eq!(leader.delete_records(Some(to)).unwrap(), to);
        let late = tokio::time::Instant::now();
        let refused = leader.deleted(to, late).await.unwrap_err();
        assert!(matches!(refused, DeleteError::TimedOut), "{refused}");
        world.kill(id.unwrap());
        assert_eq!(leader.deleted(to, deadline).await.unwrap(), to);
        // Whoever leads next has nothing of it.
        world.kill(world.state().leader.unwrap().0);
        let next = world.leader();
        until("there is another leader", || next.leader_epoch().is_some()).await;
        assert_eq!(next.log_start(), to);
    });
}

#[test]
fn a_leader_that_was_stopped_takes_nothing_for_news_that_may_have_come_meanwhile() {
    run(async {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        clock.advance(Duration::from_secs(60));
        let world = World::by(clock.clone());
        let (leader, limit) = (world.leader(), Duration::from_secs(3));
        committed(&leader, append(&leader, Acks::All, "before")).await;
        until("it looks after followers", || {
            let nodes = world.nodes.lock();
            let directories = nodes.get(&1).unwrap().partitions.directories();
            let later = Duration::from_secs(3600);
            directories.iter().all(|it| it.pulse().counts_from(later) > later)
        })
        .await;
        assert!(leader.is_heard(limit));
        clock.advance(Duration::from_secs(9));
        // At that moment it cannot tell them from what was under way.
        committed(&leader, append(&leader, Acks::All, "at once")).await;
        assert!(!leader.is_heard(limit));
        until("what comes later counts", || {
            // Time goes on, about as fast as it does.
            clock.advance(Duration::from_millis(2));
            leader.is_heard(limit)
        })
        .await;
    });
}

#[test]
fn a_broker_that_was_away_catches_up_and_is_in_sync_again() {
    run(async {
        let world = World::new();
        let before = append(&world.leader(), Acks::All, "before");
        committed(&world.leader(), before).await;
        world.kill(3);
        let leader = world.leader();
        let mut last = before;
        for n in 0..300 {
            last = append(&leader, Acks::All, &format!("{n} {}", "y".repeat(2000)));
        }
        committed(&leader, last).await;
        world.start(3);
        until("it is in sync", || world.state().isr.len() == 3).await;
        assert_eq!(world.log(3), world.log(1));
        let after = append(&leader, Acks::All, "after");
        committed(&leader, after).await;
        assert_eq!(world.log(3), world.log(1));
    });
}

/// Broker 1 is cut off and goes on, and is followed by another that goes on in its place: it has what
/// nobody else has. Returns its partition, what it never committed, and what the other wrote.
async fn diverge(world: &World) -> (Arc<Partition>, [(LeaderEpoch, Offset); 2]) {
    let first = append(&world.leader(), Acks::All, "committed");
    committed(&world.leader(), first).await;
    let old = world.partition(1);
    for node in world.nodes.lock().values() {
        BROKERS.iter().for_each(|id| node.peers.forget(BrokerId(*id)));
    }
    // What was asked before is still answered, once.
    let others_end = || world.partition(2).log_end().max(world.partition(3).log_end());
    loop {
        let before = others_end();
        append(&old, Acks::Leader, "nobody else has it");
        tokio::time::sleep(Duration::from_millis(50)).await;
        if others_end() == before {
            break;
        }
    }
    let lost = append(&old, Acks::All, "never committed");
    world.commit(|image| (fence(image, BrokerId(1)), ()));
    let state = world.state();
    assert_eq!((state.leader, state.isr.len()), (Some(BrokerId(2)), 2));
    (old, [lost, append(&world.leader(), Acks::All, "in its place")])
}

/// They find each other again, and broker 1 is taken for running.
async fn meet_again(world: &World, others: (LeaderEpoch, Offset)) {
    {
        let nodes = world.nodes.lock();
        for (one, node) in nodes.iter() {
            for (other, other_node) in nodes.iter().filter(|(other, _)| *other != one) {
                node.peers.know(BrokerId(*other), other_node.at.clone());
            }
        }
    }
    committed(&world.leader(), others).await;
    world.commit(|image| (unfence(image, BrokerId(1)), ()));
}

#[test]
fn another_leads_what_was_committed_and_cuts_off_what_was_not() {
    run(async {
        let world = World::new();
        let (old, [lost, others]) = diverge(&world).await;
        assert_eq!(old.ack_state_of(lost.0, lost.1), AckState::NotLeader);
        meet_again(&world, others).await;
        until("it is in sync", || world.state().isr.len() == 3).await;
        assert_eq!(world.log(1), world.log(2));
        assert_ne!(old.inspect(PartitionCore::generation), LogGeneration::default(), "it was cut");
    });
}

#[test]
fn a_log_that_a_full_disk_kept_from_being_cut_is_cut_once_there_is_room() {
    run(async {
        let world = World::new();
        let (old, [_, others]) = diverge(&world).await;
        let disk = world.disks.lock().get(&1).unwrap().clone();
        disk.fill_up(true);
        meet_again(&world, others).await;
        until("it finds no space", || old.directory().data().is_full()).await;
        let look = || world.nodes.lock().get(&1).unwrap().partitions.look_for_room();
        look();
        assert_eq!(world.state().isr.len(), 2);
        disk.fill_up(false);
        until("it is in sync", || {
            look();
            world.state().isr.len() == 3
        })
        .await;
        assert_eq!(world.log(1), world.log(2));
    });
}

#[test]
fn all_lose_power_and_what_was_acknowledged_is_there() {
    run(async {
        let world = World::new();
        let mut last = None;
        for n in 0..50 {
            last = Some(append(&world.leader(), Acks::All, &format!("record {n}")));
        }
        committed(&world.leader(), last.unwrap()).await;
        for id in BROKERS {
            world.kill(id);
            let mut disks = world.disks.lock();
            let disk = disks.get(&id).unwrap().restart(u64::try_from(id).unwrap());
            disks.insert(id, disk);
        }
        assert_eq!(world.state().leader, None);
        BROKERS.iter().for_each(|id| world.start(*id));
        until("somebody leads", || world.state().leader.is_some()).await;
        let leader = world.leader();
        let after = append(&leader, Acks::Leader, "after");
        assert_eq!(after.1, Offset(50));
        committed(&leader, after).await;
        until("all are in sync", || world.state().isr.len() == 3).await;
        assert_eq!((world.log(1), world.log(2)), (world.log(3), world.log(3)));
    });
}

#[test]
fn followers_serve_consumers_below_what_they_know_to_be_committed() {
    run(async {
        let world = World::new();
        let leader = world.leader();
        let written = append(&leader, Acks::All, "committed");
        committed(&leader, written).await;
        let follower = world.partition(2);
        until("it learns of it", || follower.high_watermark() == Offset(1)).await;
        let epoch = LeaderEpoch(0);
        assert_eq!(follower.check_epoch(epoch), Err(EpochMismatch::NotLeader));
        assert_eq!(follower.check_epoch_to_read(epoch), Ok(epoch));
        let read = |at| follower.read(Offset(at), View::Committed, 1 << 20, true).unwrap().records;
        assert_eq!(read(0), world.log(1));
        assert!(read(1).is_empty());
        let near = |from| leader.inspect(|core| core.preferred_replica(Offset(from), |_| true));
        assert!(near(1).is_some());
        assert_eq!(near(2), None, "nobody else has that");
        world.kill(1);
        let (given, current) = (epoch, LeaderEpoch(1));
        let fenced = EpochMismatch::Fenced { given, current };
        assert_eq!(follower.check_epoch_to_read(epoch), Err(fenced));
    });
}

#[test]
fn a_leader_that_restarts_alone_serves_what_was_committed() {
    run(async {
        let world = World::new();
        let written = append(&world.leader(), Acks::All, "committed");
        committed(&world.leader(), written).await;
        append(&world.leader(), Acks::Leader, "who knows");
        world.kill(3);
        world.kill(2);
        world.nodes.lock().get(&1).unwrap().partitions.note_high_watermarks();
        world.kill(1);
        world.start(1);
        let leader = world.leader();
        assert_eq!((world.state().isr.len(), leader.log_end()), (1, Offset(2)));
        assert!(leader.high_watermark() >= Offset(1), "{}", leader.high_watermark());
    });
}

#[test]
fn a_replica_that_moved_away_is_deleted_and_a_new_one_filled() {
    run(async {
        let world = World::new();
        let first = append(&world.leader(), Acks::All, "committed");
        committed(&world.leader(), first).await;
        let change = |replicas: &[i32]| {
            let ids: Vec<_> = replicas.iter().copied().map(BrokerId).collect();
            Record::PartitionChange(crate::metadata::PartitionChange {
                isr: Some(ids.clone()),
                replicas: Some(ids),
                ..crate::metadata::PartitionChange::new(TOPIC, 0)
            })
        };
        world.records(vec![change(&[1, 2])]);
        let gone = world.nodes.lock().get(&3).unwrap().partitions.by_name("t", 0);
        assert!(gone.is_none());
        let topic = world.nodes.lock().get(&3).unwrap().partitions.topic_by_name("t").unwrap();
        assert!(topic.is_elsewhere(0));
        let disk = world.disks.lock().get(&3).unwrap().clone();
        assert_eq!(disk.list(Path::new("/data/topics")).unwrap(), Vec::<String>::new());
        let mut back = world.state();
        back.replicas.push(BrokerId(3));
        world.records(vec![Record::PartitionChange(crate::metadata::PartitionChange {
            replicas: Some(back.replicas),
            ..crate::metadata::PartitionChange::new(TOPIC, 0)
        })]);
        until("it is in sync", || world.state().isr.len() == 3).await;
        assert_eq!(world.log(3), world.log(1));
    });
}

/// Enough for several full segments.
async fn fill(world: &Arc<World>, records: usize) {
    let leader = world.leader();
    let mut last = None;
    for n in 0..records {
        last = Some(append(&leader, Acks::All, &format!("{n} {}", "z".repeat(2000))));
    }
    committed(&leader, last.unwrap()).await;
    let end = leader.log_end();
    for id in BROKERS {
        let replica = world.partition(id);
        until("all learn of it", || replica.high_watermark() == end).await;
    }
}

#[test]
fn a_replica_that_was_emptied_is_neither_in_sync_nor_eligible_until_it_is_filled() {
    run(async {
        let world = World::new();
        fill(&world, 40).await;
        world.kill(2);
        // Below the minimum: whoever leaves now stays eligible.
        let broker = world.nodes.lock().get(&3).unwrap().partitions.clone();
        broker.note_high_watermarks();
        world.kill(3);
        assert_eq!((world.state().isr.len(), &world.state().elr[..]), (1, &[BrokerId(3)][..]));
        let disk = world.disks.lock().get(&3).unwrap().clone();
        // The files are gone; the directory, and what it says of itself, is the same.
        disk.remove_dir_all(world.files(3, "")[0].parent().unwrap()).unwrap();
        world.start(3);
        assert_eq!(world.state().elr, [], "it is no full copy");
        until("it is in sync", || world.state().isr.len() == 2).await;
        assert_eq!(world.log(3), world.log(1));
    });
}

/// Damages the second full segment of a broker, in which the bit is.
fn flip(world: &Arc<World>, id: i32) -> Offset {
    let segment = &world.files(id, ".log")[1];
    world.disks.lock().get(&id).unwrap().flip_bit(segment, 300, 2);
    Offset(segment.file_stem().unwrap().to_str().unwrap().parse().unwrap())
}

/// Has a start read the second full segment of a broker again.
fn unseal(world: &Arc<World>, id: i32) {
    let index = world.files(id, ".log")[1].with_extension("index");
    world.disks.lock().get(&id).unwrap().remove_file(&index).unwrap();
}

/// What the files of full segments hold.
fn segments(world: &Arc<World>, id: i32) -> Vec<Vec<u8>> {
    let disk = world.disks.lock().get(&id).unwrap().clone();
    let mut files = world.files(id, ".log");
    files.pop();
    let read = |path: &std::path::PathBuf| {
        crate::base::disk::read_whole(&disk, path, 1 << 30).unwrap().unwrap()
    };
    files.iter().map(read).collect()
}

#[test]
fn a_replica_with_a_hole_leaves_the_in_sync_set_and_does_not_come_back() {
    run(async {
        let world = World::new();
        fill(&world, 100).await;
        world.kill(3);
        // Nobody has what is missing.
        for id in BROKERS {
            flip(&world, id);
        }
        unseal(&world, 3);
        world.start(3);
        let replica = world.partition(3);
        assert!(replica.is_holed() && !replica.quarantined().is_empty());
        let written = append(&world.leader(), Acks::All, "after");
        committed(&world.leader(), written).await;
        until("it follows", || replica.high_watermark() == Offset(101)).await;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            world.leader().on_tick(&[]);
            assert!(!world.state().isr.contains(&BrokerId(3)));
        }
        assert!(replica.is_holed());
    });
}

#[test]
fn what_a_start_finds_damaged_is_repaired_and_the_replica_in_sync_again() {
    for is_gone in [false, true] {
        run(async move {
            let world = World::new();
            fill(&world, 100).await;
            world.kill(3);
            if is_gone {
                let disk = world.disks.lock().get(&3).unwrap().clone();
                disk.remove_file(&world.files(3, ".log")[1]).unwrap();
            } else {
                flip(&world, 3);
            }
            unseal(&world, 3);
            world.start(3);
            let replica = world.partition(3);
            until("it is repaired", || !replica.has_damage() && !replica.is_holed()).await;
            until("it is in sync", || world.state().isr.len() == 3).await;
            assert_eq!(world.log(3), world.log(1));
            assert_eq!(segments(&world, 3), segments(&world, 1), "gone: {is_gone}");
        });
    }
}

#[test]
fn a_hole_in_the_last_copy_is_not_told_though_there_were_others_when_its_start_began() {
    run(async {
        let world = World::new();
        world.records(vec![Record::Config {
            resource: ConfigResource::Topic(TOPIC),
            key: "min.insync.replicas".to_owned(),
            value: Some("1".to_owned()),
        }]);
        fill(&world, 100).await;
        world.kill(3);
        flip(&world, 3);
        unseal(&world, 3);
        // It comes back, and is the last when it is stopped again: its next start knows what was before.
        let before = {
            world.commit(|image| (unfence(image, BrokerId(3)), ()));
            let mut state = crate::metadata::PartitionChange::new(TOPIC, 0);
            state.isr = Some(BROKERS.into_iter().map(BrokerId).collect());
            world.records(vec![Record::PartitionChange(state)]);
            world.image.lock().clone()
        };
        world.kill(1);
        world.kill(2);
        world.commit(|image| (fence(image, BrokerId(3)), ()));
        assert_eq!((world.state().isr.len(), &world.state().elr[..]), (0, &[BrokerId(3)][..]));
        world.start_knowing(3, before);
        let replica = world.partition(3);
        assert!(replica.is_holed());
        world.report(3);
        assert_eq!(world.state().leader, Some(BrokerId(3)), "there is nothing better");
        let written = append(&world.leader(), Acks::All, "after");
        committed(&world.leader(), written).await;
        // Others have what is missing, and are as good as it was.
        world.start(1);
        until("it is repaired", || !replica.has_damage() && !replica.is_holed()).await;
        until("it is in sync", || world.state().isr.len() == 2).await;
    });
}

#[test]
fn who_relies_on_each_bit_is_not_given_what_has_decayed() {
    run(async {
        let world = World::new();
        fill(&world, 100).await;
        let (replica, end) = (world.partition(2), Offset(100));
        let base = flip(&world, 2);
        // Who looks himself is given it: nobody looks a second time for him.
        let read = replica.reader().read(base, end, 1 << 20, true).unwrap();
        // It is refused, or made whole before it is looked at again: that takes a moment only.
        match replica.read_whole(base, end, 1 << 20) {
            Ok(whole) => assert_ne!(whole, read),
            Err(refused) => {
                let is_quarantined =
                    matches!(refused, crate::storage::ReadError::Quarantined { .. });
                assert!(is_quarantined, "{refused}");
            }
        }
        until("it is repaired", || !replica.has_damage()).await;
        let whole = replica.read_whole(base, end, 1 << 20).unwrap();
        assert_ne!(whole, read);
        assert_eq!(segments(&world, 2), segments(&world, 1));
    });
}

#[test]
fn a_leader_hears_what_has_decayed_under_it_from_who_was_given_it() {
    run(async {
        let world = World::new();
        fill(&world, 100).await;
        world.kill(3);
        let disk = world.disks.lock().get(&3).unwrap().clone();
        disk.remove_dir_all(world.files(3, "")[0].parent().unwrap()).unwrap();
        assert_eq!(world.state().leader, Some(BrokerId(1)));
        flip(&world, 1);
        world.start(3);
        // No scrubber runs here.
        until("it is in sync", || world.state().isr.len() == 3).await;
        assert_eq!(world.log(3), world.log(2));
        assert_eq!(segments(&world, 1), segments(&world, 2));
        let totals = world.nodes.lock().get(&1).unwrap().partitions.repair_totals();
        assert_eq!(totals.segments, 1);
    });
}

#[test]
fn what_decays_under_a_leader_or_a_follower_is_repaired_and_nobody_has_to_leave() {
    run(async {
        let world = World::new();
        fill(&world, 100).await;
        for id in [1, 3] {
            let base = flip(&world, id);
            let replica = world.partition(id);
            let scrubbed = replica.scrubber().unwrap().scrub_at(base, Timestamp(0)).unwrap();
            assert_eq!(scrubbed.unwrap().found.len(), 1);
            replica.on_damaged();
            until("it is repaired", || !replica.has_damage()).await;
            assert!(!replica.is_holed(), "nobody was told");
            assert_eq!(segments(&world, id), segments(&world, 2));
            let totals = world.nodes.lock().get(&id).unwrap().partitions.repair_totals();
            assert_eq!((totals.segments, totals.failures), (1, 0));
            assert!(totals.bytes > 2000, "{totals:?}");
        }
        let state = world.state();
        assert_eq!((state.leader, state.isr.len()), (Some(BrokerId(1)), 3));
        let written = append(&world.leader(), Acks::All, "after");
        committed(&world.leader(), written).await;
    });
}

#[test]
fn what_a_running_broker_finds_damaged_is_told_and_others_lead() {
    run(async {
        let world = World::new();
        fill(&world, 100).await;
        assert_eq!(world.state().leader, Some(BrokerId(1)));
        let base = flip(&world, 1);
        let leader = world.leader();
        world.report(1);
        assert_eq!(world.state().isr.len(), 3, "nobody knows");
        leader.scrubber().unwrap().scrub_at(base, Timestamp(0)).unwrap().unwrap();
        leader.look_for_holes();
        world.report(1);
        let state = world.state();
        assert_eq!((state.leader, state.isr.len()), (Some(BrokerId(2)), 2));
        let written = append(&world.leader(), Acks::All, "after");
        committed(&world.leader(), written).await;
    });
}

#[test]
fn what_a_disk_that_fails_has_is_told_and_others_lead() {
    run(async {
        let world = World::new();
        fill(&world, 10).await;
        let leader = world.leader();
        world.disks.lock().get(&1).unwrap().plan(1, crate::base::disk_sim::Fault::Io);
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(0, None, Some(b"in vain"), &[]).unwrap();
        let batch = builder.build();
        let header = BatchHeader::parse(&batch).unwrap();
        let _tried = leader.append_as_leader(&batch, &header, Acks::All, Timestamp(0));
        until("the log is offline", || leader.is_unfit()).await;
        world.report(1);
        let state = world.state();
        assert_eq!((state.leader, state.isr.len()), (Some(BrokerId(2)), 2));
        let written = append(&world.leader(), Acks::All, "after");
        committed(&world.leader(), written).await;
    });
}

#[test]
fn a_replica_that_is_not_in_sync_is_copied_no_faster_than_its_rate_and_others_are() {
    for (key, of) in [("leader.replication.throttled", 1), ("follower.replication.throttled", 3)] {
        run(async move {
            let world = World::new();
            world.kill(3);
            let leader = world.leader();
            let mut last = None;
            for n in 0..300 {
                last = Some(append(&leader, Acks::All, &format!("{n} {}", "y".repeat(4000))));
            }
            committed(&leader, last.unwrap()).await;
            let set = |key: String, value: Option<&str>, resource| Record::Config {
                resource,
                key,
                value: value.map(str::to_owned),
            };
            let (rate, replicas) = (format!("{key}.rate"), format!("{key}.replicas"));
            let topic = ConfigResource::Topic(TOPIC);
            world.records(vec![
                // All brokers of this world are of one configuration.
                set(rate.clone(), Some("200000"), ConfigResource::Broker(BrokerId(1))),
                set(replicas, Some(&format!("0:{of}")), topic),
            ]);
            let began = std::time::Instant::now();
            world.start(3);
            let replica = world.partition(3);
            until("it is filled a little", || replica.log_end() >= Offset(150)).await;
            // Half of 1.2 MB, less what is let through at once and was on its way.
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(1500), "{key}: {took:?}");
            assert_eq!(world.state().isr.len(), 2);
            // Who is in sync is not held up.
            for n in 0..100 {
                last = Some(append(&leader, Acks::All, &format!("{n} {}", "y".repeat(4000))));
            }
            committed(&leader, last.unwrap()).await;
            world.records(vec![set(rate, None, ConfigResource::Broker(BrokerId(1)))]);
            until("it is in sync", || world.state().isr.len() == 3).await;
        });
    }
}

#[test]
fn where_nobody_waits_for_disks_only_a_clean_stop_keeps_a_replica_eligible() {
    for stops_cleanly in [true, false] {
        run(async move {
            let world = World::new();
            world.records(vec![Record::Config {
                resource: ConfigResource::Topic(TOPIC),
                key: "flush.mode".to_owned(),
                value: Some("os".to_owned()),
            }]);
            fill(&world, 10).await;
            world.kill(2);
            if stops_cleanly {
                let partitions = world.nodes.lock().get(&3).unwrap().partitions.clone();
                tokio::task::block_in_place(|| partitions.close());
            }
            world.kill(3);
            world.kill(1);
            assert_eq!(world.state().elr, [BrokerId(3), BrokerId(1)]);
            world.start(3);
            let leads = world.state().leader == Some(BrokerId(3));
            assert_eq!(leads, stops_cleanly, "{:?}", world.state());
        });
    }
}

#[test]
fn what_nobody_waited_for_is_synced_when_somebody_waits_from_now_on() {
    run(async {
        let world = World::new();
        let mode = |value: &str| Record::Config {
            resource: ConfigResource::Topic(TOPIC),
            key: "flush.mode".to_owned(),
            value: Some(value.to_owned()),
        };
        world.records(vec![mode("os")]);
        fill(&world, 10).await;
        let is_durable = |id| world.partition(id).inspect(|core| core.log().durable) == Offset(10);
        assert!(!is_durable(1), "nobody ticks here");
        world.records(vec![mode("group")]);
        for id in BROKERS {
            until("it is on its disk", || is_durable(id)).await;
        }
    });
}
