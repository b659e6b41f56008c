//! Facts about who is in sync, who may lead and who leads.

mod reports;

use std::sync::Arc;

use sawlog_protocol::Uuid;

use super::super::request::Registration;
use super::*;
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch};
use crate::config::BrokerConfig;
use crate::metadata::{
    AlterAnswer, AlterPartition, AlterRefusal, ConfigResource, Image, InSyncReplica,
    PartitionRecord, PartitionState, Record,
};

const TOPIC: Uuid = Uuid([9; 16]);

/// A cluster of five with one partition on the first three; two have to be in sync.
struct Cluster {
    image: Image,
}

fn ids(brokers: &[i32]) -> Vec<BrokerId> {
    brokers.iter().copied().map(BrokerId).collect()
}

fn start(id: i32, storage: u8) -> BrokerStart {
    let registration = Registration {
        id: BrokerId(id),
        incarnation: Uuid([1; 16]),
        storage_ids: vec![Uuid([storage; 16])],
        listeners: Vec::new(),
        peer: None,
        rack: None,
    };
    BrokerStart {
        registration,
        was_clean: false,
        damaged: Vec::new(),
        gives_up_missing: false,
        has_session: false,
    }
}

impl Cluster {
    fn new() -> Self {
        let config = Arc::new(BrokerConfig::default().with_node_id(1));
        let mut cluster = Self { image: Image::empty(Uuid([7; 16]), config) };
        for id in 1..=5 {
            cluster.start(id);
        }
        cluster.take(vec![
            Record::Topic { name: "t".to_owned(), id: TOPIC },
            Record::Config {
                resource: ConfigResource::Topic(TOPIC),
                key: "min.insync.replicas".to_owned(),
                value: Some("2".to_owned()),
            },
            Record::Partition(PartitionRecord {
                topic: TOPIC,
                index: 0,
                replicas: ids(&[1, 2, 3]),
                isr: ids(&[1, 2, 3]),
                elr: vec![],
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                adding: vec![],
                removing: vec![],
                storage_ids: vec![],
            }),
        ]);
        cluster
    }

    fn take(&mut self, records: Vec<Record>) {
        if !records.is_empty() {
            self.image = self.image.applied(self.image.offset().next(), &records).unwrap();
        }
        self.image.check();
    }

    /// A process on the storage the broker has, heard of at once.
    fn start(&mut self, id: i32) {
        self.register(&start(id, u8::try_from(id).unwrap()));
        self.take(unfence(&self.image, BrokerId(id)));
    }

    fn register(&mut self, start: &BrokerStart) {
        let (epoch, records) = register(&self.image, start).unwrap();
        assert_eq!(epoch, self.image.offset().next().0);
        self.take(records);
    }

    fn fence(&mut self, id: i32) {
        self.take(fence(&self.image, BrokerId(id)));
    }

    fn unfence(&mut self, id: i32) {
        self.take(unfence(&self.image, BrokerId(id)));
    }

    fn state(&self) -> PartitionState {
        self.image.topic("t").unwrap().partition(0).unwrap().clone()
    }

    /// ISR, ELR, leader, leader epoch.
    fn shape(&self) -> (Vec<i32>, Vec<i32>, Option<i32>, i32) {
        let state = self.state();
        let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
        let leader = state.leader.map(|id| id.0);
        (numbers(&state.isr), numbers(&state.elr), leader, state.leader_epoch.0)
    }

    fn epoch(&self, id: i32) -> BrokerEpoch {
        BrokerEpoch(self.image.broker(BrokerId(id)).unwrap().epoch)
    }

    /// What the leader asks for.
    fn question(&self, isr: &[i32]) -> AlterPartition {
        let state = self.state();
        let leader = state.leader.unwrap();
        let member = |id: &i32| InSyncReplica { broker: BrokerId(*id), epoch: self.epoch(*id) };
        AlterPartition {
            number: 1,
            leader,
            broker_epoch: self.epoch(leader.0),
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            in_sync: isr.iter().map(member).collect(),
        }
    }

    fn alter(&mut self, question: &AlterPartition) -> AlterAnswer {
        let (records, answer) = alter_partition(&self.image, TOPIC, 0, question);
        self.take(records);
        answer
    }

    fn set_isr(&mut self, isr: &[i32]) {
        let question = self.question(isr);
        let answer = self.alter(&question);
        assert!(matches!(answer, AlterAnswer::Altered { .. }), "{answer:?}");
    }
}

#[test]
fn a_leader_that_is_fenced_is_followed_by_the_next_in_sync() {
    let mut cluster = Cluster::new();
    cluster.fence(1);
    assert_eq!(cluster.shape(), (vec![2, 3], vec![], Some(2), 1));
    cluster.unfence(1);
    assert_eq!(cluster.shape(), (vec![2, 3], vec![], Some(2), 1), "it has to catch up first");
    assert_eq!(fence(&cluster.image, BrokerId(77)), []);
}

#[test]
fn replicas_that_leave_below_the_minimum_stay_eligible() {
    let mut cluster = Cluster::new();
    cluster.fence(3);
    cluster.fence(2);
    assert_eq!(cluster.shape(), (vec![1], vec![2], Some(1), 0), "3 left while enough were in sync");
    cluster.fence(1);
    assert_eq!(cluster.shape(), (vec![], vec![2, 1], None, 1));
    cluster.unfence(3);
    assert_eq!(cluster.shape().2, None, "3 may lack what was acknowledged");
    cluster.unfence(2);
    assert_eq!(cluster.shape(), (vec![2], vec![1], Some(2), 2));
    cluster.unfence(1);
    cluster.set_isr(&[2, 1]);
    assert_eq!(cluster.shape(), (vec![2, 1], vec![], Some(2), 2));
}

#[test]
fn a_process_on_the_same_storage_leads_again_in_a_later_epoch() {
    let mut cluster = Cluster::new();
    cluster.set_isr(&[1]);
    assert_eq!(cluster.shape(), (vec![1], vec![2, 3], Some(1), 0));
    cluster.register(&start(1, 1));
    assert_eq!(cluster.shape(), (vec![2], vec![3, 1], Some(2), 1));
    cluster.unfence(1);
    assert_eq!(cluster.shape().2, Some(2));
}

#[test]
fn storage_that_is_gone_is_neither_in_sync_nor_eligible() {
    let mut cluster = Cluster::new();
    cluster.fence(2);
    cluster.fence(3);
    cluster.fence(1);
    assert_eq!(cluster.shape(), (vec![], vec![3, 1], None, 1));
    cluster.register(&start(1, 88));
    cluster.unfence(1);
    assert_eq!(cluster.shape().0, Vec::<i32>::new());
    assert_eq!(cluster.shape().1, [3]);
    let mut damaged = start(3, 3);
    damaged.damaged = vec![(TOPIC, 0)];
    cluster.register(&damaged);
    cluster.unfence(3);
    assert_eq!(cluster.shape().2, None, "nobody is known to have everything");
}

#[test]
fn storage_that_is_gone_before_it_was_told_what_is_on_it_is_gone_all_the_same() {
    for (next, eligible) in [(88, vec![3, 1]), (99, vec![1])] {
        let mut cluster = Cluster::new();
        cluster.fence(2);
        // It has told where its replica was, and not yet where that is on a new disk.
        cluster.take(vec![Record::PartitionChange(crate::metadata::PartitionChange {
            storage_ids: Some([1, 2, 3].map(|id| Uuid([id; 16])).to_vec()),
            ..crate::metadata::PartitionChange::new(TOPIC, 0)
        })]);
        cluster.register(&start(3, 88));
        cluster.unfence(3);
        cluster.set_isr(&[1, 3]);
        cluster.register(&start(3, next));
        cluster.fence(1);
        let mut told = cluster.shape().1;
        told.sort_by_key(|id| std::cmp::Reverse(*id));
        assert_eq!(told, eligible, "storage {next}");
    }
}

#[test]
fn two_brokers_with_one_id_are_told_apart_by_their_storage() {
    let mut cluster = Cluster::new();
    let mut other = start(1, 88);
    other.has_session = true;
    assert_eq!(register(&cluster.image, &other), Err(DuplicateBroker(BrokerId(1))));
    let mut same = start(1, 1);
    same.has_session = true;
    cluster.register(&same);
}

#[test]
fn page_caches_lost_count_as_storage_lost_where_nobody_waits_for_disks() {
    let mut cluster = Cluster::new();
    cluster.take(vec![Record::Config {
        resource: ConfigResource::Topic(TOPIC),
        key: "flush.mode".to_owned(),
        value: Some("os".to_owned()),
    }]);
    cluster.set_isr(&[1]);
    let mut clean = start(2, 2);
    clean.was_clean = true;
    cluster.register(&clean);
    assert_eq!(cluster.shape().1, [2, 3]);
    cluster.register(&start(2, 2));
    assert_eq!(cluster.shape().1, [3]);
}

#[test]
fn only_the_leader_of_now_alters_the_partition_of_now() {
    let mut cluster = Cluster::new();
    let refused = |cluster: &Cluster, question: &AlterPartition| {
        let (records, answer) = alter_partition(&cluster.image, TOPIC, 0, question);
        assert_eq!(records, []);
        match answer {
            AlterAnswer::Refused(refusal) => refusal,
            altered @ AlterAnswer::Altered { .. } => panic!("{altered:?}"),
        }
    };
    let right = cluster.question(&[1, 2]);
    let with = |change: fn(&mut AlterPartition)| {
        let mut question = right.clone();
        change(&mut question);
        question
    };
    let fenced = with(|question| question.leader_epoch = LeaderEpoch(-1));
    assert_eq!(refused(&cluster, &fenced), AlterRefusal::FencedLeaderEpoch);
    let stale = with(|question| question.broker_epoch = BrokerEpoch(0));
    assert_eq!(refused(&cluster, &stale), AlterRefusal::StaleBrokerEpoch);
    let without_itself =
        with(|question| question.in_sync.retain(|replica| replica.broker != BrokerId(1)));
    assert_eq!(refused(&cluster, &without_itself), AlterRefusal::IneligibleReplica);
    let unknown = alter_partition(&cluster.image, Uuid([3; 16]), 0, &right).1;
    assert_eq!(unknown, AlterAnswer::Refused(AlterRefusal::UnknownPartition));
    assert!(matches!(cluster.alter(&right), AlterAnswer::Altered { .. }));
    assert_eq!(refused(&cluster, &right), AlterRefusal::InvalidUpdateVersion, "it was asked twice");
}

#[test]
fn who_joins_is_live_and_the_process_that_caught_up() {
    let mut cluster = Cluster::new();
    cluster.set_isr(&[1, 2]);
    let question = cluster.question(&[1, 2, 3]);
    cluster.fence(3);
    let unfit = AlterAnswer::Refused(AlterRefusal::IneligibleReplica);
    assert_eq!(cluster.alter(&question), unfit);
    cluster.start(3);
    assert_eq!(cluster.alter(&question), unfit, "another process than the one that was seen");
    let stranger = cluster.question(&[1, 2, 4]);
    assert_eq!(cluster.alter(&stranger), unfit);
    cluster.set_isr(&[1, 2, 3]);
}

#[test]
fn a_question_that_is_withdrawn_is_taken_in_no_copy() {
    let mut cluster = Cluster::new();
    cluster.set_isr(&[1, 2]);
    let question = cluster.question(&[1, 2, 3]);
    cluster.fence(3);
    let unfit = AlterAnswer::Refused(AlterRefusal::IneligibleReplica);
    assert_eq!(cluster.alter(&question), unfit);
    let before = cluster.state().partition_epoch;
    assert!(matches!(cluster.alter(&cluster.question(&[1, 2])), AlterAnswer::Altered { .. }));
    assert_eq!((cluster.state().partition_epoch, cluster.state().isr), (before + 1, ids(&[1, 2])));
    cluster.unfence(3);
    let late = AlterAnswer::Refused(AlterRefusal::InvalidUpdateVersion);
    assert_eq!(cluster.alter(&question), late);
}

#[test]
fn a_broker_that_leaves_hands_over_and_the_last_in_sync_stays_until_it_is_relieved() {
    let mut cluster = Cluster::new();
    cluster.take(shut_down(&cluster.image, BrokerId(1)));
    assert_eq!(cluster.shape(), (vec![2, 3], vec![], Some(2), 1));
    assert!(is_released(&cluster.image, BrokerId(1)));
    cluster.fence(3);
    cluster.take(shut_down(&cluster.image, BrokerId(2)));
    assert_eq!(cluster.shape(), (vec![2], vec![3], Some(2), 1));
    assert!(!is_released(&cluster.image, BrokerId(2)));
    cluster.unfence(3);
    let question = cluster.question(&[2, 3]);
    let moved = AlterAnswer::Refused(AlterRefusal::NewLeaderElected);
    assert_eq!(cluster.alter(&question), moved);
    assert_eq!(cluster.shape(), (vec![3], vec![2], Some(3), 2));
    assert!(is_released(&cluster.image, BrokerId(2)));
}

#[test]
fn replicas_move_once_the_new_ones_are_in_sync() {
    let mut cluster = Cluster::new();
    cluster.take(reassign(&cluster.image, TOPIC, 0, &ids(&[4, 5, 1])).unwrap());
    let state = cluster.state();
    assert_eq!(state.replicas, ids(&[4, 5, 1, 2, 3]));
    assert_eq!((state.adding, state.removing), (ids(&[4, 5]), ids(&[2, 3])));
    cluster.set_isr(&[1, 2, 3, 4]);
    assert_eq!(cluster.state().replicas.len(), 5, "5 is missing");
    let question = cluster.question(&[1, 2, 3, 4, 5]);
    let moved = AlterAnswer::Refused(AlterRefusal::NewLeaderElected);
    assert_eq!(cluster.alter(&question), moved, "replicas are gone: another epoch");
    assert_eq!(cluster.state().replicas, ids(&[4, 5, 1]));
    assert_eq!(cluster.shape(), (vec![1, 4, 5], vec![], Some(1), 1));
    assert!(cluster.state().adding.is_empty() && cluster.state().removing.is_empty());
}

#[test]
fn a_leader_that_moves_away_is_followed_by_a_new_replica() {
    let mut cluster = Cluster::new();
    cluster.take(reassign(&cluster.image, TOPIC, 0, &ids(&[2, 3])).unwrap());
    assert_eq!(cluster.state().replicas, ids(&[2, 3]), "nothing is added: at once");
    assert_eq!(cluster.shape(), (vec![2, 3], vec![], Some(2), 1));
    cluster.take(reassign(&cluster.image, TOPIC, 0, &ids(&[3, 2])).unwrap());
    assert_eq!(cluster.state().replicas, ids(&[3, 2]), "the preferred leader is another");
    assert_eq!(cluster.shape(), (vec![2, 3], vec![], Some(2), 1));
}

#[test]
fn a_reassignment_that_is_replaced_takes_away_what_the_one_before_added() {
    let mut cluster = Cluster::new();
    cluster.take(reassign(&cluster.image, TOPIC, 0, &ids(&[4, 5])).unwrap());
    cluster.set_isr(&[1, 2, 3, 4]);
    cluster.take(reassign(&cluster.image, TOPIC, 0, &ids(&[5, 2])).unwrap());
    let state = cluster.state();
    assert_eq!(state.replicas, ids(&[5, 2, 4, 1, 3]));
    assert_eq!((state.adding, state.removing), (ids(&[5, 4]), ids(&[4, 1, 3])));
    cluster.take(cancel_reassignment(&cluster.image, TOPIC, 0).unwrap());
    let state = cluster.state();
    assert_eq!((state.replicas, state.adding, state.removing), (ids(&[2, 1, 3]), vec![], vec![]));
    assert!(reassign(&cluster.image, TOPIC, 0, &ids(&[2, 2])).is_err());
    assert!(reassign(&cluster.image, TOPIC, 0, &ids(&[2, 77])).is_err());
}

#[test]
fn nobody_goes_before_enough_of_those_that_stay_are_in_sync() {
    let mut cluster = Cluster::new();
    let none = cancel_reassignment(&cluster.image, TOPIC, 0);
    assert_eq!(none, Err(ReassignmentError::NoneInProgress));
    cluster.take(reassign(&cluster.image, TOPIC, 0, &ids(&[4, 5])).unwrap());
    cluster.fence(2);
    cluster.fence(3);
    cluster.set_isr(&[1, 4]);
    cluster.take(cancel_reassignment(&cluster.image, TOPIC, 0).unwrap());
    let state = cluster.state();
    assert_eq!(state.isr, ids(&[1, 4]), "what 4 has counts until another has it");
    assert_eq!((state.replicas, state.removing), (ids(&[1, 2, 3, 4, 5]), ids(&[4, 5])));
    cluster.unfence(2);
    let question = cluster.question(&[1, 4, 2]);
    let moved = AlterAnswer::Refused(AlterRefusal::NewLeaderElected);
    assert_eq!(cluster.alter(&question), moved);
    assert_eq!(cluster.state().replicas, ids(&[1, 2, 3]));
    assert_eq!(cluster.shape(), (vec![1, 2], vec![], Some(1), 1));
}

#[test]
fn the_preferred_replica_leads_when_asked_for_once_it_is_in_sync() {
    let mut cluster = Cluster::new();
    let asked = [(TOPIC, 0), (TOPIC, 9), (Uuid([3; 16]), 0)];
    let unknown = Err(ElectionError::UnknownPartition);
    let (records, results) = elect(&cluster.image, Election::Preferred, &asked);
    assert_eq!(results, [Err(ElectionError::NotNeeded), unknown, unknown]);
    assert_eq!(records, []);
    cluster.fence(1);
    cluster.unfence(1);
    let not_in_sync = Err(ElectionError::PreferredNotAvailable(BrokerId(1)));
    assert_eq!(elect(&cluster.image, Election::Preferred, &asked[..1]).1, [not_in_sync]);
    cluster.set_isr(&[1, 2, 3]);
    let (records, results) = elect(&cluster.image, Election::Preferred, &asked[..1]);
    assert_eq!(results, [Ok(Elected { leader: BrokerId(1), is_unclean: false })]);
    cluster.take(records);
    assert_eq!(cluster.shape(), (vec![1, 2, 3], vec![], Some(1), 2));
    cluster.take(shut_down(&cluster.image, BrokerId(1)));
    assert_eq!(elect(&cluster.image, Election::Preferred, &asked[..1]).1, [not_in_sync]);
}

#[test]
fn an_unclean_election_takes_who_lives_only_where_nobody_eligible_does() {
    let mut cluster = Cluster::new();
    let elect_one = |cluster: &mut Cluster| {
        let (records, mut results) = elect(&cluster.image, Election::Unclean, &[(TOPIC, 0)]);
        cluster.take(records);
        results.remove(0)
    };
    assert_eq!(elect_one(&mut cluster), Err(ElectionError::NotNeeded));
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    assert_eq!(cluster.shape(), (vec![], vec![2, 1], None, 1));
    assert_eq!(elect_one(&mut cluster), Err(ElectionError::NobodyAvailable));
    cluster.unfence(3);
    let elected = Elected { leader: BrokerId(3), is_unclean: true };
    assert_eq!(elect_one(&mut cluster), Ok(elected));
    let shape = (vec![3], vec![], Some(3), 2);
    assert_eq!(cluster.shape(), shape, "what the others had counts no more");
    cluster.unfence(2);
    cluster.fence(3);
    assert_eq!(cluster.shape().2, None, "2 may lack what 3 acknowledged");
}

#[test]
fn a_broker_is_forgotten_with_all_it_was_said_to_have() {
    let mut cluster = Cluster::new();
    let running = Err(RemovalError::Running(BrokerId(2)));
    assert_eq!(unregister(&cluster.image, BrokerId(2)), running);
    let unknown = Err(RemovalError::Unknown(BrokerId(77)));
    assert_eq!(unregister(&cluster.image, BrokerId(77)), unknown);
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    let old = cluster.epoch(2);
    cluster.take(unregister(&cluster.image, BrokerId(2)).unwrap());
    assert!(cluster.image.broker(BrokerId(2)).is_none());
    assert_eq!(cluster.shape(), (vec![], vec![1], None, 1));
    assert_eq!(cluster.state().replicas, ids(&[1, 2, 3]), "its replicas stay assigned");
    cluster.start(2);
    assert!(cluster.epoch(2) > old);
    assert_eq!(cluster.shape().2, None, "it may have come back with empty disks");
}

#[test]
fn topics_of_the_brokers_own_get_three_copies_once_there_are_brokers_for_them() {
    let mut cluster = Cluster::new();
    let groups = Uuid([8; 16]);
    cluster.take(vec![
        Record::Topic { name: "__consumer_offsets".to_owned(), id: groups },
        Record::Partition(PartitionRecord {
            topic: groups,
            index: 0,
            replicas: ids(&[2]),
            isr: ids(&[2]),
            elr: vec![],
            leader: Some(BrokerId(2)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            adding: vec![],
            removing: vec![],
            storage_ids: vec![],
        }),
    ]);
    for id in [3, 4, 5] {
        cluster.fence(id);
    }
    assert_eq!(raise_internal(&cluster.image), [], "two brokers are too few");
    cluster.unfence(4);
    cluster.take(raise_internal(&cluster.image));
    let topic = cluster.image.topic("__consumer_offsets").unwrap().clone();
    let state = topic.partition(0).unwrap();
    let mut replicas = state.replicas.clone();
    replicas.sort();
    assert_eq!((replicas, state.replicas[0]), (ids(&[1, 2, 4]), BrokerId(2)));
    assert_eq!(state.adding.len(), 2);
    assert_eq!(state.min_in_sync(&topic.resolved), 1, "it takes commits while it is copied");
    assert_eq!(raise_internal(&cluster.image), [], "it is under way");
    assert_eq!(cluster.state().replicas.len(), 3, "other topics are nobody's business");
}

#[test]
fn nobody_stays_eligible_once_fewer_may_acknowledge() {
    let mut cluster = Cluster::new();
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!(cluster.shape(), (vec![1], vec![3], Some(1), 0));
    assert_eq!(settle(&cluster.image), [], "as many as before");
    cluster.take(vec![Record::Config {
        resource: ConfigResource::Topic(TOPIC),
        key: "min.insync.replicas".to_owned(),
        value: Some("1".to_owned()),
    }]);
    let records = settle(&cluster.image);
    cluster.take(records);
    assert_eq!(cluster.shape(), (vec![1], vec![], Some(1), 0));
    cluster.fence(1);
    assert_eq!(cluster.shape(), (vec![], vec![1], None, 1), "who acknowledged alone");
}

#[test]
fn nobody_stays_eligible_where_one_that_was_elected_acknowledges_alone() {
    let mut cluster = Cluster::new();
    for id in [2, 3, 1] {
        cluster.fence(id);
    }
    assert_eq!(cluster.shape(), (vec![], vec![3, 1], None, 1));
    cluster.take(vec![Record::Config {
        resource: ConfigResource::Topic(TOPIC),
        key: "min.insync.replicas".to_owned(),
        value: Some("1".to_owned()),
    }]);
    assert_eq!(settle(&cluster.image), [], "whoever of them comes first has everything");
    cluster.unfence(3);
    // What it acknowledges now broker 1 has not.
    assert_eq!(cluster.shape(), (vec![3], vec![], Some(3), 2));
}
