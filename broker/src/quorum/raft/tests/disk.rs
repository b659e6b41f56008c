//! What a node keeps on disk, through power cuts at every operation, and what it makes of a directory
//! of the version before.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use sawlog_protocol::Uuid;

use super::super::codec::Kind;
use super::super::recover::{self, Beginning, Opened};
use super::super::snapshot::meta;
use super::super::store::Store;
use super::super::types::{Entry, Member, StoredMembership, Vote, alone, log_id};
use crate::base::disk_sim::{Fault, SimDisk, SimRandom};
use crate::base::{BrokerId, DataDirectory};
use crate::metadata::{MetadataOffset, Record, encode_records};
use crate::quorum::local::LocalLogOptions;
use crate::quorum::{LocalMetadataLog, MetadataLog as _, Snapshot};

const RAFT_ID: u64 = 77;

pub(super) fn options(disk: &SimDisk) -> LocalLogOptions {
    LocalLogOptions {
        directory: DataDirectory::new(Arc::new(disk.clone()), PathBuf::from("/data")),
        cluster_id: Uuid([9; 16]),
        snapshot_after_bytes: 1000,
    }
}

fn open(disk: &SimDisk, beginning: Beginning) -> Result<Opened, String> {
    recover::open(&options(disk), RAFT_ID, &Member::default(), beginning)
        .map_err(|error| error.to_string())
}

fn records(n: u64) -> Bytes {
    let next = i64::try_from(n).unwrap();
    encode_records(&[Record::ProducerIds { broker: BrokerId(1), epoch: 1, next }]).into()
}

/// Records that take several sectors.
fn many(n: u64) -> Bytes {
    let next = i64::try_from(n).unwrap();
    let record = Record::ProducerIds { broker: BrokerId(1), epoch: 1, next };
    encode_records(&vec![record; 150]).into()
}

/// What the log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    /// Term and body of each entry, from index 0 on.
    entries: Vec<(u64, Bytes)>,
    vote: Option<Vote>,
    snapshot: Option<u64>,
    committed: u64,
}

/// Something that is done to the log.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u64, Bytes)>),
    Vote(Vote),
    Truncate(u64),
    Snapshot(u64),
    Purge(u64),
}

impl Model {
    fn choose(&self, random: &mut SimRandom, term: &mut u64) -> Step {
        let next = u64::try_from(self.entries.len()).unwrap();
        match random.below(10) {
            0..=4 => {
                let count = 1 + random.below(6);
                let large = random.below(8) == 0;
                Step::Append(
                    (next..next + count)
                        .map(|n| {
                            let body = if large { many(n) } else { records(n) };
                            (*term, body)
                        })
                        .collect(),
                )
            }
            5 => {
                *term += 1;
                Step::Vote(Vote::new(*term, random.below(3)))
            }
            6 | 7 if next > self.committed + 1 => {
                Step::Truncate(self.committed + 1 + random.below(next - self.committed - 1))
            }
            8 if self.snapshot < Some(self.committed) && self.committed > 0 => {
                Step::Snapshot(self.committed)
            }
            9 => match self.snapshot {
                Some(index) => Step::Purge(index),
                None => Step::Vote(Vote::new(*term, 1)),
            },
            _ => Step::Append(vec![(*term, records(next))]),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(entries) => self.entries.extend(entries.iter().cloned()),
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Truncate(from) => self.entries.truncate(usize::try_from(*from).unwrap()),
            Step::Snapshot(index) => self.snapshot = Some(*index),
            Step::Purge(_) => {}
        }
    }

    /// What a power cut within `step` may leave.
    fn may_be(&self, step: &Step) -> Vec<Self> {
        let mut states = vec![self.clone()];
        if let Step::Append(entries) = step {
            for count in 1..entries.len() {
                let mut some = self.clone();
                some.take(&Step::Append(entries[..count].to_vec()));
                states.push(some);
            }
        }
        let mut after = self.clone();
        after.take(step);
        states.push(after);
        states
    }
}

fn carry_out(store: &mut Store, step: &Step, model: &Model) -> bool {
    let done = match step {
        Step::Append(entries) => {
            let first = u64::try_from(model.entries.len()).unwrap();
            store.append(entries.iter().zip(first..).map(|((term, body), index)| Entry {
                log_id: log_id(*term, index),
                payload: EntryPayload::Normal(body.clone()),
            }))
        }
        Step::Vote(vote) => store.save_vote(vote),
        Step::Truncate(from) => store.truncate(*from),
        Step::Snapshot(index) => {
            let membership =
                StoredMembership::new(Some(log_id(1, 0)), alone(RAFT_ID + 1, Member::default()));
            let term = store.term_at(*index).unwrap();
            let offset = MetadataOffset(i64::try_from(*index).unwrap());
            let snapshot = Snapshot { offset, records: vec![Record::NoOp] };
            store.store_snapshot(meta(*index, term, membership), &snapshot)
        }
        Step::Purge(index) => {
            let term = store.term_at(*index);
            term.map_or(Ok(()), |term| store.purge(log_id(term, *index)))
        }
    };
    done.is_ok()
}

/// What the store holds, as a model; entries before its first are taken from `known`.
fn observed(store: &Store, known: &Model) -> Model {
    let first = usize::try_from(store.first).unwrap();
    let mut entries = known.entries[..first.min(known.entries.len())].to_vec();
    for entry in store.entries(0, u64::MAX, false).unwrap() {
        assert_eq!(entry.log_id.index, u64::try_from(entries.len()).unwrap());
        let EntryPayload::Normal(body) = entry.payload else { panic!("{entry:?}") };
        entries.push((entry.log_id.leader_id.term, body));
    }
    let snapshot = store.snapshot.as_ref().and_then(|meta| meta.last_log_id).map(|id| id.index);
    Model { entries, vote: store.vote, snapshot, committed: known.committed }
}

#[test]
fn a_power_cut_leaves_what_was_promised_or_what_was_being_done() {
    for seed in 0..400 {
        let mut random = SimRandom::new(seed);
        let mut disk = SimDisk::new();
        let mut store = open(&disk, Beginning::Joins).unwrap().store;
        let mut model = Model::default();
        let mut term = 1;
        for life in 0..6 {
            disk.plan(1 + random.below(40), Fault::Crash);
            let mut cut_short = None;
            for _ in 0..60 {
                let step = model.choose(&mut random, &mut term);
                if !carry_out(&mut store, &step, &model) {
                    cut_short = Some(step);
                    break;
                }
                model.take(&step);
                let last = u64::try_from(model.entries.len()).unwrap().saturating_sub(1);
                model.committed = model.committed.max(last.saturating_sub(random.below(8)));
                store.committed = Some(model.committed);
                assert_eq!(
                    observed(&store, &model),
                    model,
                    "seed {seed} life {life} after {step:?}"
                );
            }
            drop(store);
            disk = disk.restart(random.bits());
            // Opening may be cut short as well.
            disk.plan(1 + random.below(6), Fault::Crash);
            let first = open(&disk, Beginning::Existed);
            if disk.has_crashed() {
                drop(first);
                disk = disk.restart(random.bits());
            } else {
                drop(first);
                disk.cancel_plan();
            }
            let opened = open(&disk, Beginning::Existed);
            store = opened.unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}")).store;
            let possible = match &cut_short {
                Some(step) => model.may_be(step),
                None => vec![model.clone()],
            };
            let found = possible.iter().find(|state| observed(&store, state) == **state);
            let found = found.unwrap_or_else(|| {
                panic!("seed {seed} life {life}: {:?} in {cut_short:?}", observed(&store, &model))
            });
            assert!(store.committed <= Some(model.committed) || model.committed == 0);
            model = found.clone();
        }
    }
}

#[test]
fn bodies_that_left_memory_are_read_from_the_file() {
    let disk = SimDisk::new();
    let mut store = open(&disk, Beginning::Joins).unwrap().store;
    let body = |n: u64| Bytes::from(vec![u8::try_from(n).unwrap(); 300_000]);
    for n in 0..10 {
        let payload = EntryPayload::Normal(body(n));
        store.append([Entry { log_id: log_id(1, n), payload }]).unwrap();
    }
    assert!(store.slots.iter().filter(|slot| slot.body.is_some()).count() < 5);
    for n in 0..10 {
        let entries = store.entries(n, n + 1, true).unwrap();
        assert!(matches!(&entries[0].payload, EntryPayload::Normal(found) if *found == body(n)));
    }
    assert_eq!(store.entries(0, 10, true).unwrap().len(), 3, "a message is bounded");
    store.purge(log_id(1, 6)).unwrap();
    assert_eq!(store.entries(0, 10, false).unwrap().len(), 3);
    assert_eq!(store.purged(), Some(log_id(1, 6)));
}

#[test]
fn a_failed_sync_takes_the_node_offline_for_good() {
    let disk = SimDisk::new();
    let mut store = open(&disk, Beginning::Joins).unwrap().store;
    disk.plan(1, Fault::Io);
    store.save_vote(&Vote::new(1, 1)).unwrap_err();
    store.save_vote(&Vote::new(2, 1)).unwrap_err();
    assert!(store.data_directory.failure().is_some());
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_on_disk_once_the_log_is_opened_again() {
    let vote = |term| Some(Vote::new(term, 1));
    for (at, seed) in (1..4).flat_map(|at| (0..20).map(move |seed| (at, seed))) {
        let disk = SimDisk::new();
        let mut store = open(&disk, Beginning::Joins).unwrap().store;
        store.save_vote(&Vote::new(1, 1)).unwrap();
        disk.plan(at, Fault::Io);
        let failed = (2..4).find(|term| store.save_vote(&Vote::new(*term, 1)).is_err()).unwrap();
        drop(store);
        // Another process, in the same boot of the machine: it may tell others of what it reads.
        let disk = disk.after_kill();
        let told = open(&disk, Beginning::Existed).unwrap().store.vote;
        assert!(told == vote(failed) || told == vote(failed - 1), "{told:?}");
        let store = open(&disk.restart(seed), Beginning::Existed).unwrap().store;
        assert_eq!(store.vote, told, "operation {at}, seed {seed}");
    }
}

#[test]
fn a_log_that_should_be_there_and_is_not_is_not_begun_again() {
    let disk = SimDisk::new();
    let error = open(&disk, Beginning::Existed).unwrap_err();
    assert!(error.contains("its log is missing"), "{error}");
    open(&disk, Beginning::Founds).unwrap();
    open(&disk, Beginning::Existed).unwrap();
}

#[test]
fn a_directory_of_version_1_goes_on_where_it_was_also_when_opening_is_cut_short() {
    for seed in 0..60 {
        let mut random = SimRandom::new(seed);
        let mut disk = SimDisk::new();
        let (mut old, ..) = LocalMetadataLog::open(&options(&disk)).unwrap();
        let one = |n| vec![Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: n }];
        let count = 1 + i64::try_from(random.below(30)).unwrap();
        for n in 1..=count {
            old.propose(one(n)).unwrap();
            if old.wants_snapshot() {
                let snapshot = Snapshot { offset: MetadataOffset(n), records: one(n) };
                old.store_snapshot(&snapshot).unwrap();
            }
        }
        drop(old);
        let (log, expected, _) = LocalMetadataLog::open(&options(&disk)).unwrap();
        drop(log);
        disk.plan(1 + random.below(8), Fault::Crash);
        drop(open(&disk, Beginning::Existed));
        disk = disk.restart(random.bits());
        for _ in 0..2 {
            let opened = open(&disk, Beginning::Existed).unwrap();
            assert_eq!(opened.recovered, expected, "seed {seed}");
            assert_eq!(opened.store.vote, Some(Vote::new_committed(1, RAFT_ID)));
            assert_eq!(opened.applied.unwrap().index, u64::try_from(count).unwrap());
            let voters: Vec<u64> = opened.membership.voter_ids().collect();
            assert_eq!(voters, [RAFT_ID], "seed {seed}");
        }
    }
}

#[test]
fn a_founder_counts_all_it_has_as_committed_and_a_node_that_joined_what_it_was_told() {
    let disk = SimDisk::new();
    let mut store = open(&disk, Beginning::Founds).unwrap().store;
    assert_eq!(store.slots[0].kind, Kind::Membership);
    let payload = EntryPayload::Normal(records(1));
    store.append([Entry { log_id: log_id(1, 1), payload }]).unwrap();
    drop(store);
    assert_eq!(open(&disk, Beginning::Existed).unwrap().recovered.entries.len(), 1);

    let disk = SimDisk::new();
    let mut store = open(&disk, Beginning::Joins).unwrap().store;
    for n in 0..3 {
        let payload = EntryPayload::Normal(records(n));
        store.committed = n.checked_sub(1);
        store.append([Entry { log_id: log_id(1, n), payload }]).unwrap();
    }
    drop(store);
    let opened = open(&disk, Beginning::Existed).unwrap();
    assert_eq!(opened.applied, Some(log_id(1, 1)));
    assert_eq!(opened.recovered.entries.len(), 1, "index 0 is before any image");
}
