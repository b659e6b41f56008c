//! Facts about what the controller decides, and transcripts of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;

use super::replicas::BrokerStart;
use super::*;
use crate::base::disk_real::RealDisk;
use crate::base::{
    BrokerEpoch, BrokerId, Clock, DataDirectory, ManualClock, SystemClock, Threads, Timestamp,
};
use crate::config::{BrokerConfig, Endpoint, Sources};
use crate::metadata::{
    AlterAnswer, AlterPartition, Image, InSyncReplica, MetadataOffset, Random, Record, SeededRandom,
};
use crate::quorum::{
    Entry, LocalLogOptions, LocalMetadataLog, LogError, LogEvent, LogRole, MetadataLog, Recovered,
    Snapshot, Wake,
};

mod asking;
mod members;

/// A cluster without a log: decides and applies.
struct Cluster {
    image: Image,
    sessions: Sessions,
    now: Duration,
    random: SeededRandom,
}

impl Cluster {
    fn of(brokers: i32, settings: &[(&str, &str)]) -> Self {
        let sources =
            settings.iter().fold(Sources::new(), |s, (key, value)| s.flag("-X", key, value));
        let config = Arc::new(sources.load().unwrap().with_node_id(1));
        let image = Image::empty(SeededRandom::new(1).next_uuid(), config);
        let mut cluster = Self {
            image,
            sessions: Sessions::new(BrokerId(1)),
            now: Duration::ZERO,
            random: SeededRandom::new(42),
        };
        for id in 1..=brokers {
            cluster.start(id, 1);
        }
        cluster
    }

    fn ask_all(&mut self, requests: &[Request]) -> (Vec<Response>, usize) {
        let Decision { records, responses } =
            decide(&self.image, &mut self.sessions, requests, self.now, &mut self.random);
        if !records.is_empty() {
            self.image = self.image.applied(self.image.offset().next(), &records).unwrap();
            self.image.check();
        }
        (responses, records.len())
    }

    fn ask(&mut self, request: Request) -> Response {
        self.ask_all(&[request]).0.remove(0)
    }

    /// A broker's process starts and is heard of; returns its epoch.
    fn start(&mut self, id: i32, incarnation: u8) -> i64 {
        let mut start = registration(id);
        start.registration.incarnation = Uuid([incarnation; 16]);
        let Response::RegisterBroker(Ok(epoch)) = self.ask(Request::RegisterBroker(start)) else {
            panic!("broker {id} is refused")
        };
        assert!(!self.beat(id, self.image.offset()).fenced);
        epoch
    }

    fn beat(&mut self, id: i32, applied: MetadataOffset) -> Standing {
        let epoch = self.image.broker(BrokerId(id)).unwrap().epoch;
        let beat = Heartbeat { broker: BrokerId(id), epoch, applied, wants_to_leave: false };
        match self.ask(Request::Heartbeat(beat)) {
            Response::Heartbeat(Ok(standing)) => standing,
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, topics: Vec<CreateTopic>) -> Vec<Result<CreatedTopic, AdminError>> {
        match self.ask(Request::CreateTopics { topics, validate_only: false }) {
            Response::CreateTopics(results) => results,
            other => panic!("{other:?}"),
        }
    }

    fn create_one(&mut self, topic: CreateTopic) -> Result<CreatedTopic, AdminError> {
        self.create(vec![topic]).remove(0)
    }

    fn refusal(&mut self, topic: CreateTopic) -> String {
        let before = self.image.clone();
        let text = self.create_one(topic).unwrap_err().to_string();
        assert_eq!(self.image, before, "a refused topic leaves nothing: {text}");
        text
    }

    fn alter(&mut self, target: ConfigTarget, change: Alteration) -> Result<(), AdminError> {
        let resources = vec![AlterConfigs { target, change }];
        match self.ask(Request::AlterConfigs { resources, validate_only: false }) {
            Response::AlterConfigs(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn grow(&mut self, topic: CreatePartitions) -> Result<(), AdminError> {
        match self.ask(Request::CreatePartitions { topics: vec![topic], validate_only: false }) {
            Response::CreatePartitions(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, topic: DeleteTopic) -> Result<(String, Uuid), AdminError> {
        match self.ask(Request::DeleteTopics(vec![topic])) {
            Response::DeleteTopics(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

/// A cluster of `brokers` with `topics`, as broker 1 sees it.
pub(crate) fn sample(brokers: i32, settings: &[(&str, &str)], topics: &[&str]) -> Arc<Image> {
    let mut cluster = Cluster::of(brokers, settings);
    for topic in topics {
        cluster.create_one(named(topic)).unwrap();
    }
    Arc::new(cluster.image)
}

fn registration(id: i32) -> BrokerStart {
    BrokerStart {
        registration: Registration {
            id: BrokerId(id),
            incarnation: Uuid([7; 16]),
            storage_ids: vec![Uuid([u8::try_from(id).unwrap(); 16])],
            listeners: vec![Endpoint {
                name: "PLAINTEXT".to_owned(),
                host: format!("broker-{id}.example"),
                port: 9092,
            }],
            peer: None,
            rack: None,
        },
        was_clean: false,
        damaged: Vec::new(),
        gives_up_missing: false,
        has_session: false,
    }
}

fn named(name: &str) -> CreateTopic {
    CreateTopic { name: name.to_owned(), ..CreateTopic::default() }
}

fn sized(name: &str, partitions: i32, factor: i16) -> CreateTopic {
    let (partitions, replication_factor) = (Some(partitions), Some(factor));
    CreateTopic { partitions, replication_factor, ..named(name) }
}

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn change(name: &str, operation: ConfigOperation, value: Option<&str>) -> Alteration {
    let value = value.map(str::to_owned);
    Alteration::Incremental(vec![ConfigChange { name: name.to_owned(), operation, value }])
}

#[test]
fn a_topic_gets_the_defaults_it_does_not_name() {
    let mut cluster = Cluster::of(1, &[("num.partitions", "3")]);
    let created = cluster.create_one(named("orders")).unwrap();
    assert_eq!((created.partitions, created.replication_factor), (3, 1));
    let topic = cluster.image.topic("orders").unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (created.id, 3));
    for partition in &topic.partitions {
        assert_eq!(partition.leader, Some(BrokerId(1)));
        assert_eq!(partition.isr, ids(&[1]));
        assert_eq!((partition.leader_epoch.0, partition.partition_epoch), (0, 0));
    }
}

#[test]
fn names_that_are_no_names_are_refused() {
    let mut cluster = Cluster::of(1, &[]);
    let long = "x".repeat(249);
    assert!(cluster.create_one(named(&long)).is_ok());
    for (name, reason) in [
        ("", "it is empty"),
        (".", "it names a directory"),
        ("..", "it names a directory"),
        ("a b", "only ASCII letters"),
        ("a/../b", "only ASCII letters"),
        ("größe", "only ASCII letters"),
        ("a\0", "only ASCII letters"),
        (&"y".repeat(250), "it has 250 bytes"),
        ("__consumer_offsets", "reserved"),
    ] {
        let text = cluster.refusal(named(name));
        assert!(text.contains(reason), "{name:?}: {text}");
    }
    assert!(cluster.create_one(named("A-z.0_9")).is_ok());
}

#[test]
fn existing_and_colliding_names_are_refused() {
    let mut cluster = Cluster::of(1, &[]);
    cluster.create_one(named("a.b")).unwrap();
    assert_eq!(cluster.refusal(named("a.b")), "topic \"a.b\" already exists");
    assert!(cluster.refusal(named("a_b")).contains("collides with existing topic \"a.b\""));
    assert!(cluster.create_one(named("a-b")).is_ok());
    assert!(cluster.create_one(named("a.bb")).is_ok());
}

#[test]
fn counts_and_factors_out_of_range_are_refused() {
    let mut cluster = Cluster::of(2, &[]);
    for partitions in [0, -2, 10_001, i32::MIN] {
        assert!(cluster.refusal(sized("t", partitions, 1)).contains("a topic has 1 to 10000"));
    }
    for factor in [0, -2, 3, i16::MAX] {
        let text = cluster.refusal(sized("t", 1, factor));
        assert!(text.contains("must be 1 to the number of brokers, 2"), "{text}");
    }
}

#[test]
fn topics_of_one_request_succeed_and_fail_on_their_own() {
    let mut cluster = Cluster::of(1, &[]);
    let results =
        cluster.create(vec![named("a"), named(""), named("b"), named("dup"), named("dup")]);
    let shown: Vec<_> = results.iter().map(|r| r.as_ref().map(|t| t.name.as_str()).ok()).collect();
    assert_eq!(shown, [Some("a"), None, Some("b"), None, None]);
    assert_eq!(results[3], Err(AdminError::DuplicateTopic("dup".to_owned())));
    assert_eq!(cluster.image.topic_count(), 2);
}

#[test]
fn requests_decided_together_see_each_other() {
    let mut cluster = Cluster::of(1, &[]);
    let create =
        |name: &str| Request::CreateTopics { topics: vec![named(name)], validate_only: false };
    let requests = [
        create("a"),
        create("a"),
        Request::DeleteTopics(vec![DeleteTopic::Name("a".to_owned())]),
        create("a"),
        Request::AllocateProducerIds { broker: BrokerId(1) },
        Request::AllocateProducerIds { broker: BrokerId(1) },
    ];
    let (responses, _) = cluster.ask_all(&requests);
    let Response::CreateTopics(first) = &responses[0] else { panic!() };
    let Response::CreateTopics(second) = &responses[1] else { panic!() };
    let Response::CreateTopics(last) = &responses[3] else { panic!() };
    assert!(first[0].is_ok() && last[0].is_ok());
    assert_eq!(second[0], Err(AdminError::TopicExists("a".to_owned())));
    assert_ne!(first[0].as_ref().unwrap().id, last[0].as_ref().unwrap().id);
    assert_eq!(responses[4], Response::AllocateProducerIds(Ok((0, 1000))));
    assert_eq!(responses[5], Response::AllocateProducerIds(Ok((1000, 1000))));
    assert_eq!(cluster.image.topic("a").unwrap().id, last[0].as_ref().unwrap().id);
}

#[test]
fn validating_changes_nothing() {
    let mut cluster = Cluster::of(1, &[]);
    cluster.create_one(named("old")).unwrap();
    let grown = CreatePartitions { name: "old".to_owned(), count: 5, assignments: None };
    let requests = [
        Request::CreateTopics { topics: vec![named("new"), named("old")], validate_only: true },
        Request::CreatePartitions { topics: vec![grown], validate_only: true },
    ];
    let (responses, records) = cluster.ask_all(&requests);
    assert_eq!(records, 0);
    let Response::CreateTopics(results) = &responses[0] else { panic!() };
    assert!(results[0].as_ref().unwrap().id.is_zero());
    assert!(results[1].is_err());
    assert_eq!(responses[1], Response::CreatePartitions(vec![Ok(())]));
}

#[test]
fn one_request_cannot_ask_for_everything() {
    let mut cluster = Cluster::of(1, &[]);
    let results =
        cluster.create(vec![sized("a", 6000, 1), sized("b", 6000, 1), sized("c", 4000, 1)]);
    assert!(results[0].is_ok());
    assert_eq!(results[1], Err(AdminError::TooManyPartitions));
    assert!(results[2].is_ok());
}

#[test]
fn settings_are_checked_stored_canonical_and_resolved() {
    let mut cluster = Cluster::of(1, &[]);
    let with = |pairs: &[(&str, Option<&str>)]| CreateTopic {
        configs: pairs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect(),
        ..named("t")
    };
    assert!(
        cluster
            .refusal(with(&[("retention.sm", Some("1"))]))
            .contains("did you mean \"retention.ms\"?")
    );
    let lags = [("min.compaction.lag.ms", Some("9")), ("max.compaction.lag.ms", Some("8"))];
    assert!(cluster.refusal(with(&lags)).contains("is larger than"));
    assert!(cluster.refusal(with(&[("retention.ms", None)])).contains("has no value"));
    let created = cluster.create_one(with(&[("retention.ms", Some("2h"))])).unwrap();
    assert_eq!(created.configs["retention.ms"], "7200000");
    assert_eq!(cluster.image.topic("t").unwrap().resolved.retention_ms, Some(7_200_000));
}

#[test]
fn replicas_are_spread_and_leaders_take_turns() {
    let mut cluster = Cluster::of(3, &[]);
    cluster.create_one(sized("t", 6, 3)).unwrap();
    let topic = cluster.image.topic("t").unwrap();
    let mut led = [0; 3];
    for partition in &topic.partitions {
        let mut replicas = partition.replicas.clone();
        replicas.sort_unstable();
        assert_eq!(replicas, ids(&[1, 2, 3]), "three different brokers");
        assert_eq!(partition.leader, partition.replicas.first().copied());
        led[usize::try_from(partition.replicas[0].0 - 1).unwrap()] += 1;
    }
    assert_eq!(led, [2, 2, 2]);
}

#[test]
fn replicas_chosen_by_hand_are_checked() {
    let mut cluster = Cluster::of(3, &[]);
    let by_hand = |assignments: &[(i32, &[i32])]| CreateTopic {
        assignments: assignments.iter().map(|(index, brokers)| (*index, ids(brokers))).collect(),
        ..named("t")
    };
    for (assignments, reason) in [
        (&[(0, &[1, 1][..])][..], "named twice for one partition"),
        (&[(0, &[9][..])][..], "broker 9 does not exist"),
        (&[(0, &[][..])][..], "at least 1"),
        (&[(1, &[1][..])][..], "numbered 0, 1, 2"),
        (&[(0, &[1][..]), (0, &[2][..])][..], "partition 0 is named twice"),
        (&[(0, &[1][..]), (1, &[2, 3][..])][..], "same number of replicas"),
    ] {
        let text = cluster.refusal(by_hand(assignments));
        assert!(text.contains(reason), "{text}");
    }
    let both = CreateTopic { partitions: Some(1), ..by_hand(&[(0, &[1])]) };
    assert!(cluster.refusal(both).contains("at -1"));
    cluster.create_one(by_hand(&[(1, &[3, 1]), (0, &[2, 3])])).unwrap();
    let topic = cluster.image.topic("t").unwrap();
    assert_eq!(topic.partitions[0].replicas, ids(&[2, 3]));
    assert_eq!(topic.partitions[1].leader, Some(BrokerId(3)));
}

#[test]
fn topics_are_deleted_by_name_and_by_id_unless_forbidden() {
    let mut cluster = Cluster::of(1, &[]);
    let a = cluster.create_one(named("a")).unwrap().id;
    let b = cluster.create_one(named("b")).unwrap().id;
    assert_eq!(cluster.delete(DeleteTopic::Name("a".to_owned())), Ok(("a".to_owned(), a)));
    assert_eq!(cluster.delete(DeleteTopic::Id(a)), Err(AdminError::UnknownTopicId(a)));
    assert_eq!(cluster.delete(DeleteTopic::Id(b)), Ok(("b".to_owned(), b)));
    let gone = cluster.delete(DeleteTopic::Name("b".to_owned()));
    assert_eq!(gone, Err(AdminError::UnknownTopic("b".to_owned())));

    let mut kept = Cluster::of(1, &[("delete.topic.enable", "false")]);
    kept.create_one(named("a")).unwrap();
    assert_eq!(kept.delete(DeleteTopic::Name("a".to_owned())), Err(AdminError::DeletionDisabled));
}

#[test]
fn partitions_only_grow() {
    let mut cluster = Cluster::of(2, &[]);
    cluster.create_one(sized("t", 2, 2)).unwrap();
    let to = |count, assignments: Option<&[&[i32]]>| CreatePartitions {
        name: "t".to_owned(),
        count,
        assignments: assignments.map(|all| all.iter().map(|brokers| ids(brokers)).collect()),
    };
    for (growth, reason) in [
        (to(2, None), "has 2 partitions: they can only grow, and 2 is not more"),
        (to(1, None), "1 is not more"),
        (to(0, None), "1 to 10000"),
        (to(10_001, None), "1 to 10000"),
        (to(4, Some(&[&[1, 2]])), "2 partitions are added but 1 are assigned"),
        (to(3, Some(&[&[1]])), "same number of replicas, here 2"),
    ] {
        let text = cluster.grow(growth).unwrap_err().to_string();
        assert!(text.contains(reason), "{text}");
    }
    cluster.grow(to(3, Some(&[&[2, 1]]))).unwrap();
    cluster.grow(to(5, None)).unwrap();
    let topic = cluster.image.topic("t").unwrap();
    assert_eq!(topic.partitions[2].replicas, ids(&[2, 1]));
    assert!(topic.partitions.iter().all(|p| p.replicas.len() == 2));
    assert_eq!(topic.partitions.len(), 5);
}

#[test]
fn replacing_settings_drops_the_others_and_incremental_keeps_them() {
    let mut cluster = Cluster::of(1, &[]);
    cluster.create_one(named("t")).unwrap();
    let topic = || ConfigTarget::Topic("t".to_owned());
    let own = |cluster: &Cluster| {
        let configs = &cluster.image.topic("t").unwrap().configs;
        configs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    };
    let replace = |pairs: &[(&str, &str)]| {
        let own = |text: &str| text.to_owned();
        Alteration::Replace(pairs.iter().map(|(k, v)| (own(k), Some(own(v)))).collect())
    };
    cluster.alter(topic(), replace(&[("retention.ms", "1"), ("segment.ms", "2")])).unwrap();
    assert_eq!(own(&cluster), "retention.ms=1 segment.ms=2");
    cluster.alter(topic(), replace(&[("segment.ms", "3")])).unwrap();
    assert_eq!(own(&cluster), "segment.ms=3");
    cluster.alter(topic(), change("retention.ms", ConfigOperation::Set, Some("1d"))).unwrap();
    assert_eq!(own(&cluster), "retention.ms=86400000 segment.ms=3");
    cluster.alter(topic(), change("segment.ms", ConfigOperation::Delete, None)).unwrap();
    cluster.alter(topic(), change("segment.ms", ConfigOperation::Delete, None)).unwrap();
    assert_eq!(own(&cluster), "retention.ms=86400000");
    cluster
        .alter(topic(), change("cleanup.policy", ConfigOperation::Append, Some("delete")))
        .unwrap();
    assert_eq!(own(&cluster), "cleanup.policy=delete retention.ms=86400000");
}

#[test]
fn a_change_that_is_none_is_not_recorded() {
    let mut cluster = Cluster::of(1, &[]);
    cluster.create_one(named("t")).unwrap();
    let set = || Request::AlterConfigs {
        resources: vec![AlterConfigs {
            target: ConfigTarget::Topic("t".to_owned()),
            change: change("retention.ms", ConfigOperation::Set, Some("5")),
        }],
        validate_only: false,
    };
    assert_eq!(cluster.ask_all(&[set()]).1, 1);
    assert_eq!(cluster.ask_all(&[set()]).1, 0);
}

#[test]
fn changes_that_cannot_be_are_refused_whole() {
    let mut cluster = Cluster::of(1, &[]);
    cluster.create_one(named("t")).unwrap();
    let topic = || ConfigTarget::Topic("t".to_owned());
    let group = |name: &str| ConfigTarget::Group(name.to_owned());
    let operation = ConfigOperation::Set;
    for (target, alteration, reason) in [
        (topic(), change("retention.ms", ConfigOperation::Append, Some("1")), "is not a list"),
        (
            topic(),
            change("cleanup.policy", ConfigOperation::Subtract, Some("delete")),
            "expected delete or compact",
        ),
        (topic(), change("retention.ms", operation, None), "has no value"),
        (topic(), change("retention.ms", operation, Some("x")), "milliseconds"),
        (topic(), change("num.partitions", operation, Some("1")), "unknown topic setting"),
        (
            ConfigTarget::Topic("no".to_owned()),
            change("retention.ms", operation, Some("1")),
            "does not exist",
        ),
        (
            ConfigTarget::Broker(BrokerId(9)),
            change("num.partitions", operation, Some("1")),
            "broker 9",
        ),
        (ConfigTarget::Cluster, change("node.id", operation, Some("1")), "cannot be changed while"),
        (ConfigTarget::Cluster, change("num.partition", operation, Some("1")), "did you mean"),
        (group(""), change("consumer.session.timeout.ms", operation, Some("50s")), "not 0"),
        (group("g"), change("consumer.session.timeout.ms", operation, Some("1s")), "is below"),
        (group("g"), change("retention.ms", operation, Some("1")), "unknown group setting"),
    ] {
        let before = cluster.image.clone();
        let text = cluster.alter(target, alteration).unwrap_err().to_string();
        assert!(text.contains(reason), "{text}");
        assert_eq!(cluster.image, before);
    }
    let set = |name: &str, value: &str| ConfigChange {
        name: name.to_owned(),
        operation,
        value: Some(value.to_owned()),
    };
    let mixed = Alteration::Incremental(vec![set("retention.ms", "1"), set("segment.ms", "no")]);
    assert!(cluster.alter(topic(), mixed).is_err());
    assert!(cluster.image.topic("t").unwrap().configs.is_empty(), "all or nothing");
}

#[test]
fn a_group_has_its_own_settings_until_they_are_taken_back() {
    let mut cluster = Cluster::of(1, &[]);
    let timeout =
        |cluster: &Cluster, group| cluster.image.group_config(group).consumer_session_timeout_ms;
    let name = "consumer.session.timeout.ms";
    let g = || ConfigTarget::Group("g".to_owned());
    cluster.alter(g(), change(name, ConfigOperation::Set, Some("50s"))).unwrap();
    assert_eq!((timeout(&cluster, "g"), timeout(&cluster, "h")), (50_000, 45_000));
    assert_eq!(cluster.image.configured_groups().map(|g| &**g).collect::<Vec<_>>(), ["g"]);
    cluster.alter(g(), change(name, ConfigOperation::Delete, None)).unwrap();
    assert_eq!(timeout(&cluster, "g"), 45_000);
    assert_eq!(cluster.image.configured_groups().len(), 0, "nothing is left of it");
}

#[test]
fn broker_settings_reach_the_topics_that_inherit_them() {
    let mut cluster = Cluster::of(1, &[]);
    cluster.create_one(named("t")).unwrap();
    let set = |value| change("log.retention.ms", ConfigOperation::Set, Some(value));
    let retention = |cluster: &Cluster| cluster.image.topic("t").unwrap().resolved.retention_ms;
    cluster.alter(ConfigTarget::Cluster, set("11")).unwrap();
    assert_eq!(retention(&cluster), Some(11));
    cluster.alter(ConfigTarget::Broker(BrokerId(1)), set("12")).unwrap();
    assert_eq!(retention(&cluster), Some(12));
    let delete = change("log.retention.ms", ConfigOperation::Delete, None);
    cluster.alter(ConfigTarget::Broker(BrokerId(1)), delete).unwrap();
    assert_eq!(retention(&cluster), Some(11));
}

#[test]
fn every_registration_gets_a_higher_epoch() {
    let mut cluster = Cluster::of(2, &[]);
    let mut last = cluster.image.broker(BrokerId(2)).unwrap().epoch;
    for incarnation in 2..5 {
        let epoch = cluster.start(1, incarnation);
        assert!(epoch > last);
        last = epoch;
    }
}

#[test]
fn one_seed_decides_a_whole_run() {
    let run = || {
        let mut cluster = Cluster::of(3, &[]);
        for name in ["a", "b", "c"] {
            cluster.create_one(sized(name, 5, 2)).unwrap();
        }
        cluster.image
    };
    assert_eq!(run(), run());
}

/// A log in memory that can be told to fail.
#[derive(Debug)]
struct MemoryLog {
    last: MetadataOffset,
    events: Vec<LogEvent>,
    fails: Arc<AtomicBool>,
    limit: usize,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            last: MetadataOffset::NONE,
            events: vec![LogEvent::Role(LogRole::Leader { term: 1 })],
            fails: Arc::default(),
            limit: 0,
        }
    }
}

impl MetadataLog for MemoryLog {
    fn propose(&mut self, records: Vec<Record>) -> Result<MetadataOffset, LogError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(LogError::Offline("no disk".to_owned()));
        }
        if self.limit > 0 && records.len() > self.limit {
            return Err(LogError::TooLarge { bytes: records.len(), limit: self.limit });
        }
        self.last = self.last.next();
        self.events.push(LogEvent::Entry(Entry { offset: self.last, records }));
        Ok(self.last)
    }

    fn poll(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }

    fn on_news(&mut self, _: Wake) {}

    fn wants_snapshot(&self) -> bool {
        false
    }

    fn store_snapshot(&mut self, _: &Snapshot) -> Result<(), LogError> {
        Ok(())
    }
}

fn start(log: Box<dyn MetadataLog>, recovered: Recovered) -> Controller {
    Controller::start(ControllerOptions {
        cluster_id: Uuid([5; 16]),
        config: Arc::new(BrokerConfig::default().with_node_id(1)),
        log,
        recovered,
        random: Box::new(SeededRandom::new(3)),
        clock: Arc::new(SystemClock::new()),
        link: Arc::new(NoLink),
        threads: Threads::Real,
    })
    .unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Counts topics at every change.
#[derive(Default)]
struct Counter {
    changes: AtomicUsize,
    seen: Mutex<Vec<(usize, usize)>>,
}

impl ImageSubscriber for Counter {
    fn image_changed(&self, old: &Image, new: &Arc<Image>) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().push((old.topic_count(), new.topic_count()));
    }
}

#[test]
fn subscribers_know_before_the_request_is_answered() {
    block_on(async {
        let controller = start(Box::new(MemoryLog::default()), Recovered::default());
        controller.register_broker(registration(1)).await.unwrap();
        let counter = Arc::new(Counter::default());
        let seen = controller.images().load();
        let subscribed = controller.subscribe(counter.clone(), &seen);
        let mut watch = controller.watch();
        let before = watch.get().offset();
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            let results = controller.create_topics(vec![named(name)], false).await;
            assert!(results[0].is_ok());
            assert_eq!(counter.seen.lock().last(), Some(&(at, at + 1)));
            assert_eq!(controller.images().load().topic_count(), at + 1);
        }
        assert_eq!(counter.changes.load(Ordering::SeqCst), 3);
        assert_eq!(subscribed.topic_count(), 0);
        assert!(watch.get().offset() > before);
        assert_eq!(watch.get().topic_count(), 3);
    });
}

#[test]
fn many_callers_at_once_are_all_answered() {
    block_on(async {
        let controller = Arc::new(start(Box::new(MemoryLog::default()), Recovered::default()));
        controller.register_broker(registration(1)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tokio::task::LocalSet::new()
            .run_until(async {
                for n in 0..200 {
                    let controller = controller.clone();
                    tasks.spawn_local(async move {
                        let name = format!("t{}", n % 100);
                        let created = controller.create_topics(vec![named(&name)], false).await;
                        let ids = controller.allocate_producer_ids().await.unwrap();
                        (created[0].is_ok(), ids.start)
                    });
                }
                let answers = tasks.join_all().await;
                assert_eq!(answers.iter().filter(|(created, _)| *created).count(), 100);
                let mut starts: Vec<_> = answers.iter().map(|(_, start)| *start).collect();
                starts.sort_unstable();
                assert!(
                    starts.iter().enumerate().all(|(n, s)| *s == i64::try_from(n).unwrap() * 1000)
                );
            })
            .await;
    });
}

#[test]
fn what_was_answered_is_there_after_a_restart_with_and_without_snapshots() {
    for snapshot_after_bytes in [1, 500, u64::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let options = LocalLogOptions {
            directory: DataDirectory::new(Arc::new(RealDisk::new()), dir.path().to_path_buf()),
            cluster_id: Uuid([5; 16]),
            snapshot_after_bytes,
        };
        let open = || {
            let (log, recovered, _) = LocalMetadataLog::open(&options).unwrap();
            start(Box::new(log), recovered)
        };
        let mut before: Option<Arc<Image>> = None;
        for round in 0..4 {
            let controller = open();
            if let Some(before) = &before {
                assert_eq!(*controller.images().load(), **before, "round {round}");
            }
            block_on(async {
                controller.register_broker(registration(1)).await.unwrap();
                let topic = sized(&format!("t{round}"), 3, 1);
                assert!(controller.create_topics(vec![topic], false).await[0].is_ok());
                controller.allocate_producer_ids().await.unwrap();
            });
            before = Some(controller.images().load());
        }
        assert_eq!(before.unwrap().topic_count(), 4);
    }
}

#[test]
fn a_log_that_fails_refuses_every_part_and_changes_nothing() {
    let fails = Arc::new(AtomicBool::new(false));
    let log = MemoryLog { fails: fails.clone(), ..MemoryLog::default() };
    let controller = start(Box::new(log), Recovered::default());
    block_on(async {
        controller.register_broker(registration(1)).await.unwrap();
        fails.store(true, Ordering::Relaxed);
        let results = controller.create_topics(vec![named("a"), named("b")], false).await;
        let offline = "the metadata log is offline: no disk".to_owned();
        assert_eq!(results, vec![Err(AdminError::Storage(offline.clone())); 2]);
        assert_eq!(controller.images().load().topic_count(), 0);
        let error = controller.allocate_producer_ids().await.unwrap_err();
        assert_eq!(error.to_string(), offline);
    });
}

#[test]
fn what_is_too_large_together_is_done_one_by_one() {
    let log = MemoryLog { limit: 3, ..MemoryLog::default() };
    let controller = start(Box::new(log), Recovered::default());
    block_on(async {
        controller.register_broker(registration(1)).await.unwrap();
        let small = |n: i32| controller.create_topics(vec![sized(&format!("s{n}"), 2, 1)], false);
        let (a, b, c) = tokio::join!(small(1), small(2), small(3));
        assert!(a[0].is_ok() && b[0].is_ok() && c[0].is_ok());
        let large = controller.create_topics(vec![sized("large", 9, 1)], false).await;
        assert!(
            matches!(&large[0], Err(AdminError::Storage(why)) if why.contains("make it in parts"))
        );
    });
}

#[test]
fn a_log_that_makes_no_sense_is_refused_at_start() {
    let recovered = Recovered {
        snapshot: Snapshot::default(),
        entries: vec![Entry {
            offset: MetadataOffset(1),
            records: vec![Record::RemoveTopic { id: Uuid([1; 16]) }],
        }],
    };
    let refused = Controller::start(ControllerOptions {
        cluster_id: Uuid([5; 16]),
        config: Arc::new(BrokerConfig::default()),
        log: Box::new(MemoryLog::default()),
        recovered,
        random: Box::new(SeededRandom::new(3)),
        clock: Arc::new(SystemClock::new()),
        link: Arc::new(NoLink),
        threads: Threads::Real,
    });
    assert!(matches!(refused, Err(ControllerError::Apply(_))));
}
