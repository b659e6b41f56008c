//! What must hold, whatever happens. The table in [`super`] says which invariant is checked where.

mod answers;
mod decay;
mod images;
mod ledger;
mod replica;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::images::Images;
pub(super) use self::ledger::{Ledger, Value};
pub(super) use self::replica::values;

use self::replica::Replica;
use super::process::{Process, Watch};
use super::quorum::SimQuorum;
use crate::base::{BrokerId, LeaderEpoch, PartitionId, TopicId};
use crate::coordinator::GROUPS_TOPIC;
use crate::metadata::{Image, ImageCell};
use crate::replication::Partitions;

/// What has happened, to see that a seed was worth something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages between processes.
    pub messages: u64,
    /// Steps of processes.
    pub steps: u64,
    /// Acknowledged by acks=all.
    pub acknowledged: u64,
    /// Offsets of groups whose commit was acknowledged.
    pub offsets: u64,
    /// Times somebody became a member of a group.
    pub members: u64,
    /// Generations of groups, or epochs of their members, that were told of.
    pub generations: u64,
    /// Offsets that members have committed.
    pub member_commits: u64,
    /// Records that were committed.
    pub committed: u64,
    /// Records that consumers have read.
    pub read: u64,
    /// Times a broker has begun to lead a partition.
    pub elections: u64,
    /// Times a log was cut.
    pub cuts: u64,
    /// Entries of the metadata log.
    pub entries: u64,
    /// Controllers.
    pub controllers: u64,
    /// Metadata whose writer was not told what became of it.
    pub uncertain: u64,
    /// Replicas that came into an in-sync set, and that left one.
    pub joined: u64,
    /// See `joined`.
    pub left: u64,
    /// Faults that were made to happen.
    pub faults: u64,
    /// Processes that were started.
    pub starts: u64,
    /// Disks that were replaced.
    pub wiped: u64,
    /// Bits that flipped on disks.
    pub flipped: u64,
    /// Damaged ranges that scrubbers found.
    pub quarantined: u64,
    /// Damaged segments that were made whole.
    pub repaired: u64,
    /// Topics that were deleted.
    pub deleted: u64,
    /// Times records were deleted.
    pub trimmed: u64,
    /// Reassignments asked for.
    pub reassigned: u64,
    /// Partitions that ended without anybody who is known to have everything.
    pub offline: u64,
    /// Tells two runs apart.
    pub digest: u64,
}

impl Totals {
    /// Whether enough of everything has happened in so many seeds.
    #[must_use]
    pub fn is_telling(&self, seeds: u64) -> bool {
        self.acknowledged > seeds * 100
            && self.offsets > seeds * 5
            && self.members > seeds / 2
            && self.generations > seeds / 2
            && self.member_commits > seeds * 2
            && self.committed > seeds * 150
            && self.read > seeds * 100
            && self.elections > seeds * 2
            && self.cuts > seeds / 10
            && self.controllers > seeds
            && self.uncertain > seeds / 10
            && self.joined > seeds
            && self.left > seeds
            && self.wiped > seeds / 20
            && self.flipped > seeds / 4
            && self.quarantined > seeds / 10
            && self.repaired > seeds / 10
            && self.deleted > seeds / 10
            && self.trimmed > seeds / 2
            && self.reassigned > seeds / 2
            && self.offline < seeds / 5
    }

    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.steps += other.steps;
        self.acknowledged += other.acknowledged;
        self.offsets += other.offsets;
        self.members += other.members;
        self.generations += other.generations;
        self.member_commits += other.member_commits;
        self.committed += other.committed;
        self.read += other.read;
        self.elections += other.elections;
        self.cuts += other.cuts;
        self.entries += other.entries;
        self.controllers += other.controllers;
        self.uncertain += other.uncertain;
        self.joined += other.joined;
        self.left += other.left;
        self.faults += other.faults;
        self.starts += other.starts;
        self.wiped += other.wiped;
        self.flipped += other.flipped;
        self.quarantined += other.quarantined;
        self.repaired += other.repaired;
        self.deleted += other.deleted;
        self.trimmed += other.trimmed;
        self.reassigned += other.reassigned;
        self.offline += other.offline;
        self.digest ^= other.digest;
    }
}

/// A process that has read its logs.
struct Attached {
    life: u64,
    incarnation: Uuid,
    partitions: Weak<Partitions>,
    images: Arc<ImageCell>,
}

/// What a process knows as it makes a step.
#[derive(Clone, Copy)]
struct Seen<'a> {
    image: &'a Image,
    incarnation: Uuid,
    /// It has just been applied.
    is_new: bool,
}

/// Everything that is known of a world.
pub(super) struct Known {
    pub(super) totals: Totals,
    pub(super) images: Images,
    pub(super) ledgers: BTreeMap<PartitionId, Ledger>,
    replicas: BTreeMap<(i32, PartitionId), Replica>,
    attached: BTreeMap<i32, Attached>,
    /// The disk each broker has now; none while it was replaced and not used yet.
    pub(super) storages: BTreeMap<i32, Option<Uuid>>,
    /// Whose disk decays, and the offsets of segments of it in which bits have flipped.
    pub(super) bad_disk: Option<i32>,
    decayed: BTreeMap<PartitionId, Vec<(usize, usize)>>,
    /// How far the next process of a broker knows a replica to be committed at least.
    noted: BTreeMap<(i32, PartitionId), usize>,
    pub(super) is_telling: bool,
    begun: Instant,
}

/// Looks at everything.
pub(super) struct Oracle {
    known: Mutex<Known>,
    quorum: SimQuorum,
    violation: Mutex<Option<String>>,
    violated: Notify,
}

impl Known {
    /// Something happened, in this order.
    pub(super) fn note(&mut self, what: &[i64]) {
        for number in what {
            let digest = self.totals.digest ^ number.unsigned_abs();
            self.totals.digest = digest.wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        }
    }

    #[allow(clippy::print_stdout)]
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_telling {
            println!("{:>9.3} {}", self.begun.elapsed().as_secs_f64(), what());
        }
    }

    /// The image of the whole cluster, now.
    pub(super) fn image(&self) -> &Arc<Image> {
        self.images.last()
    }
}

impl Oracle {
    pub(super) fn new(cluster_id: Uuid, quorum: SimQuorum, is_telling: bool) -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::new(Known {
                totals: Totals::default(),
                images: Images::new(cluster_id),
                ledgers: BTreeMap::new(),
                replicas: BTreeMap::new(),
                attached: BTreeMap::new(),
                storages: BTreeMap::new(),
                bad_disk: None,
                decayed: BTreeMap::new(),
                noted: BTreeMap::new(),
                is_telling,
                begun: Instant::now(),
            }),
            quorum,
            violation: Mutex::default(),
            violated: Notify::new(),
        })
    }

    /// Waits until something does not hold; returns what.
    pub(super) async fn violated(&self) -> String {
        loop {
            if let Some(what) = self.violation.lock().clone() {
                return what;
            }
            self.violated.notified().await;
        }
    }

    /// Runs `look` on what is known, brought up to date.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut Known) -> R) -> R {
        let mut known = self.known.lock();
        known.follow(&self.quorum);
        look(&mut known)
    }

    /// A process has read its logs, and takes roles from now on.
    pub(super) fn attach(
        &self,
        process: &Process,
        incarnation: Uuid,
        partitions: &Arc<Partitions>,
        images: Arc<ImageCell>,
    ) {
        self.with(|known| {
            let (broker, life) = (process.broker, process.life);
            let attached =
                Attached { life, incarnation, partitions: Arc::downgrade(partitions), images };
            known.attached.insert(broker, attached);
            for (id, partition) in partitions.entries() {
                known.on_recovered((broker, id), life, &partition);
            }
        });
    }

    /// A process applies an image.
    pub(super) fn on_image(&self, broker: i32, image: &Image) {
        self.with(|known| known.images.check(broker, image));
    }

    /// The partitions of a process are what an image says.
    pub(super) fn on_applied(&self, who: (i32, u64), image: &Arc<Image>) {
        self.look_at(who, Some(image));
    }

    /// Looks at what a process has, after a step or, within one, after an image was applied.
    fn look_at(&self, (broker, life): (i32, u64), applied: Option<&Arc<Image>>) {
        if self.violation.lock().is_some() {
            return;
        }
        let mut known = self.known.lock();
        known.follow(&self.quorum);
        let Some(attached) = known.attached.get_mut(&broker) else { return };
        if attached.life != life {
            return;
        }
        let Some(partitions) = attached.partitions.upgrade() else { return };
        let image = applied.cloned().unwrap_or_else(|| attached.images.load());
        let seen =
            Seen { image: &image, incarnation: attached.incarnation, is_new: applied.is_some() };
        let entries = partitions.entries();
        for (id, partition) in &entries {
            known.look_at((broker, *id), life, partition, seen);
        }
        let present: Vec<PartitionId> = entries.iter().map(|(id, _)| *id).collect();
        known.forget_absent(broker, &present, &image);
    }

    /// A client was told that its record is safe, at `offset`.
    pub(super) fn on_acknowledged(&self, id: PartitionId, offset: i64, value: Value) {
        self.with(|known| {
            known.totals.acknowledged += 1;
            known.note(&[7, offset]);
            known.check_acknowledged(id, offset, value);
        });
    }

    /// A consumer was given records.
    pub(super) fn on_read(&self, id: PartitionId, offset: i64, values: &[Value]) {
        self.with(|known| {
            known.totals.read += u64::try_from(values.len()).unwrap_or(0);
            known.note(&[8, offset]);
            let Some(ledger) = known.ledgers.get(&id) else { panic!("(21) records of nothing") };
            ledger.check_read(offset, values);
        });
    }

    /// The epoch in which a broker leads a partition of the topic of groups; none where it does not, or does
    /// not know yet that it does.
    pub(super) fn coordinates(&self, broker: i32, index: i32) -> Option<LeaderEpoch> {
        self.with(|known| {
            let state = known.image().topic(GROUPS_TOPIC)?.partition(index)?;
            let (leader, epoch) = (state.leader, state.leader_epoch);
            let partitions = known.attached.get(&broker)?.partitions.upgrade()?;
            let partition = partitions.by_name(GROUPS_TOPIC, index)?;
            let knows = leader == Some(BrokerId(broker)) && partition.leader_epoch() == Some(epoch);
            knows.then_some(epoch)
        })
    }

    /// A broker has written down how far its replicas are committed.
    pub(super) fn on_noted(&self, broker: i32, partitions: &Partitions) {
        // Nothing is looked at: no world is another for it.
        self.known.lock().on_noted(broker, partitions);
    }

    /// The id of a topic, as the cluster has it now.
    pub(super) fn topic(&self, name: &str) -> Option<TopicId> {
        self.with(|known| known.image().topic(name).map(|topic| topic.id))
    }
}

impl Watch for Oracle {
    fn on_violation(&self, what: String) {
        self.violation.lock().get_or_insert(what);
        self.violated.notify_one();
    }

    fn look(&self, process: &Process) {
        self.known.lock().totals.steps += 1;
        self.look_at((process.broker, process.life), None);
    }
}
