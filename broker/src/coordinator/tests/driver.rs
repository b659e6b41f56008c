//! A core with a log and a clock of its own: records are appended and committed at once, and the
//! replies come out by request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition};
use crate::config::BrokerConfig;
use crate::coordinator::*;
use crate::metadata::{self, Image};

/// 2026-11-21, or so.
const START: Timestamp = Timestamp(1_795_000_000_000);

#[derive(Debug)]
pub(in crate::coordinator) struct Driver {
    pub(in crate::coordinator) core: GroupCore,
    pub(in crate::coordinator) log: Vec<Record>,
    pub(in crate::coordinator) now: Now,
    pub(in crate::coordinator) image: Arc<Image>,
    /// Assignments nobody has computed yet, while `holds_jobs`.
    pub(in crate::coordinator) jobs: Vec<AssignJob>,
    pub(in crate::coordinator) holds_jobs: bool,
    replies: BTreeMap<RequestId, Reply>,
    next: u64,
}

impl Driver {
    pub(in crate::coordinator) fn new() -> Self {
        Self::with(GroupOptions::default())
    }

    pub(in crate::coordinator) fn with(options: GroupOptions) -> Self {
        let image = cluster(&[]);
        let mut driver = Self {
            core: GroupCore::new(options, image.clone()),
            image,
            jobs: Vec::new(),
            holds_jobs: false,
            log: Vec::new(),
            now: Now { monotonic: Duration::from_secs(100), wall: START },
            replies: BTreeMap::new(),
            next: 0,
        };
        let output = driver.core.on_loaded(driver.now);
        driver.take(output);
        driver
    }

    fn take(&mut self, output: Output) {
        let base = Offset(i64::try_from(self.log.len()).unwrap());
        for reply in &output.replies {
            assert!(reply.after.is_none_or(|after| after < base), "waits for what is not there");
        }
        self.log.extend(output.records.iter().cloned());
        self.core.on_appended(output.records, base);
        for reply in output.replies {
            let twice = self.replies.insert(reply.request, reply.reply);
            assert!(twice.is_none(), "{:?} answered twice", reply.request);
        }
        self.jobs.extend(output.jobs);
        if !self.holds_jobs {
            self.run_jobs();
        }
    }

    /// Computes what there is to compute.
    pub(in crate::coordinator) fn run_jobs(&mut self) {
        while let Some(job) = self.jobs.pop() {
            let output = self.core.on_assigned(self.now, job.run());
            self.take(output);
        }
    }

    /// The cluster has these topics, and numbers of partitions, from now on.
    pub(in crate::coordinator) fn topics(&mut self, topics: &[(&str, i32)]) {
        self.image = cluster(topics);
        self.core.see(&self.image);
    }

    /// The coordinator is restarted: what was only in memory is gone.
    pub(in crate::coordinator) fn restart(&mut self, options: GroupOptions) {
        self.core = GroupCore::new(options, self.image.clone());
        for (at, record) in (0..).zip(self.log.clone()) {
            self.core.replay(record, Offset(at));
        }
        let output = self.core.on_loaded(self.now);
        self.take(output);
    }

    /// Time passes, deadline by deadline.
    pub(in crate::coordinator) fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.jump(due);
            let output = self.core.on_timers(self.now);
            self.take(output);
        }
        self.jump(end);
    }

    fn jump(&mut self, to: Duration) {
        let by = to.saturating_sub(self.now.monotonic);
        self.now.monotonic += by;
        self.now.wall.0 += i64::try_from(by.as_millis()).unwrap();
    }

    /// Sends a request whose reply may come later.
    pub(in crate::coordinator) fn send(&mut self, ask: impl Ask) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        let output = self.core.on_request(self.now, id, ask.into_request());
        self.take(output);
        id
    }

    /// The reply that has come, if it has.
    pub(in crate::coordinator) fn reply<A: Ask>(&mut self, id: RequestId) -> Option<A::Answer> {
        A::answer(self.replies.remove(&id)?)
    }

    /// Sends a request that is answered at once.
    pub(in crate::coordinator) fn ask<A: Ask>(&mut self, ask: A) -> A::Answer {
        let id = self.send(ask);
        self.reply::<A>(id).expect("answered at once")
    }

    pub(in crate::coordinator) fn joined(&mut self, id: RequestId) -> Joined {
        self.reply::<JoinGroup>(id).expect("answered").expect("joined")
    }

    pub(in crate::coordinator) fn refused(&mut self, id: RequestId) -> GroupError {
        self.reply::<JoinGroup>(id).expect("answered").expect_err("refused").error
    }

    pub(in crate::coordinator) fn is_waiting(&self, id: RequestId) -> bool {
        !self.replies.contains_key(&id)
    }

    pub(in crate::coordinator) fn state(&mut self) -> GroupState {
        let described = self.ask(DescribeGroup { group: group() }).unwrap();
        described.map_or(GroupState::Dead, |described| described.state)
    }

    /// Lets `names` join an empty group as dynamic members, the first as its leader, and gives each
    /// its own name as its assignment.
    pub(in crate::coordinator) fn stable(&mut self, names: &[&str]) -> Generation {
        let joins: Vec<_> = names.iter().map(|name| self.send(join(name))).collect();
        while self.is_waiting(joins[0]) {
            self.pass(Duration::from_secs(1));
        }
        let joined: Vec<Joined> = joins.into_iter().map(|id| self.joined(id)).collect();
        let leader = joined[0].leader.clone();
        let assignments: Vec<(MemberId, Bytes)> = joined
            .iter()
            .map(|joined| (joined.member.clone(), joined.member.as_str().to_owned().into()))
            .collect();
        let generation = joined[0].generation;
        for name in names {
            let mut sync = sync(name, generation);
            if leader.as_str() == *name {
                sync.assignments = assignments.clone();
            }
            self.send(sync);
        }
        assert_eq!(self.state(), GroupState::Stable);
        generation
    }
}

/// A cluster with these topics, and numbers of partitions. A topic's id follows from its name.
pub(in crate::coordinator) fn cluster(topics: &[(&str, i32)]) -> Arc<Image> {
    cluster_of(&Arc::new(BrokerConfig::default().with_node_id(1)), topics)
}

/// As [`cluster`], with these settings.
pub(in crate::coordinator) fn cluster_of(
    config: &Arc<BrokerConfig>,
    topics: &[(&str, i32)],
) -> Arc<Image> {
    let mut records = Vec::new();
    for (name, partitions) in topics {
        let id = topic_id(name);
        records.push(metadata::Record::Topic { name: (*name).to_owned(), id });
        for index in 0..*partitions {
            records.push(metadata::Record::Partition(metadata::PartitionRecord {
                topic: id,
                index,
                replicas: vec![BrokerId(1)],
                isr: vec![BrokerId(1)],
                elr: vec![],
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                adding: vec![],
                removing: vec![],
                storage_ids: vec![],
            }));
        }
    }
    let empty = Image::empty(topic_id("cluster"), config.clone());
    Arc::new(empty.applied(metadata::MetadataOffset(1), &records).unwrap())
}

pub(in crate::coordinator) fn topic_id(name: &str) -> TopicId {
    let mut id = [0; 16];
    for (at, byte) in name.bytes().take(16).enumerate() {
        id[at] = byte;
    }
    sawlog_protocol::Uuid(id)
}

pub(in crate::coordinator) fn group() -> GroupId {
    "group".into()
}

pub(in crate::coordinator) fn protocols(names: &[&str]) -> Vec<Protocol> {
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06ordersxx");
    names.iter().map(|name| Protocol { name: (*name).into(), metadata: metadata.clone() }).collect()
}

pub(in crate::coordinator) fn client() -> Client {
    Client { id: "client".into(), host: "/127.0.0.1".into() }
}

/// An old client: it is let in without MEMBER_ID_REQUIRED, under the id `name`.
pub(in crate::coordinator) fn join(name: &str) -> JoinGroup {
    JoinGroup {
        group: group(),
        member: None,
        instance: None,
        fresh_member: name.into(),
        client: client(),
        protocol_type: "consumer".into(),
        protocols: protocols(&["range", "roundrobin"]),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        reason: None,
        knows_member_id_required: false,
        knows_skip_assignment: true,
    }
}

pub(in crate::coordinator) fn rejoin(name: &str) -> JoinGroup {
    JoinGroup { member: Some(name.into()), ..join(name) }
}

/// A static member `instance` whose process has just started and would be called `name`.
pub(in crate::coordinator) fn join_static(instance: &str, name: &str) -> JoinGroup {
    JoinGroup { instance: Some(instance.into()), ..join(name) }
}

pub(in crate::coordinator) fn sync(name: &str, generation: Generation) -> SyncGroup {
    SyncGroup {
        group: group(),
        member: name.into(),
        instance: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

/// A leader's SyncGroup, with every member's name as its assignment.
pub(in crate::coordinator) fn assign(
    name: &str,
    generation: Generation,
    members: &[&str],
) -> SyncGroup {
    let assignments = members
        .iter()
        .map(|member| (MemberId::from(*member), Bytes::from((*member).to_owned())))
        .collect();
    SyncGroup { assignments, ..sync(name, generation) }
}

pub(in crate::coordinator) fn heartbeat(name: &str, generation: Generation) -> Heartbeat {
    Heartbeat { group: group(), member: name.into(), instance: None, generation }
}

pub(in crate::coordinator) fn leave(name: &str) -> LeaveGroup {
    let member = LeavingMember { member: Some(name.into()), instance: None, reason: None };
    LeaveGroup { group: group(), members: vec![member] }
}

pub(in crate::coordinator) fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

/// A commit of `offset` in `orders-0` by `name`, or by nobody.
pub(in crate::coordinator) fn commit(
    name: Option<&str>,
    generation: Generation,
    offset: i64,
) -> OffsetCommit {
    OffsetCommit {
        group: group(),
        member: name.map(MemberId::from),
        instance: None,
        generation,
        retention: None,
        knows_member_epochs: true,
        offsets: vec![OffsetToCommit {
            partition: at("orders", 0),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(3),
            metadata: "note".into(),
        }],
    }
}

pub(in crate::coordinator) fn fetch_all() -> OffsetFetch {
    OffsetFetch { group: group(), member: None, member_epoch: -1, partitions: None }
}
