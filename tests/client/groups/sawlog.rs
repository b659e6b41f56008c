//! Groups on our own broker.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sawlog_client::{
    Assignor, Client, ClientError, ClientOptions, CommitError, CommitOffset, Consumer,
    ConsumerOptions, GroupOptions, GroupProtocol, Position, ResetPolicy, Topics,
};
use tempfile::TempDir;
use tokio::time::timeout;

use super::log::Log;
use super::member::Member;
use super::scenario::{Life, SESSION, options, until, whole};
use crate::load::{DEADLINE, connect, create, write};
use crate::process::{BrokerProcess, free_address};
use crate::proxy::Proxy;

/// Sessions short enough to wait for their ends.
const SETTINGS: [&str; 6] = [
    "group.initial.rebalance.delay.ms=50",
    "group.min.session.timeout.ms=1000",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=3000",
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=200",
];

pub(crate) struct Bench {
    pub(crate) broker: BrokerProcess,
    directory: TempDir,
    pub(crate) client: Client,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let broker = Self::broker(&directory, free_address());
        let mut options = ClientOptions::new(&broker.address().to_string());
        options.metadata_max_age = Duration::from_millis(500);
        options.reconnect_backoff_max = Duration::from_millis(200);
        let client = connect(options).await;
        Self { broker, directory, client }
    }

    fn broker(directory: &TempDir, address: std::net::SocketAddr) -> BrokerProcess {
        let settings: Vec<&str> = SETTINGS.iter().flat_map(|one| ["-X", *one]).collect();
        BrokerProcess::start(directory.path(), address, &settings)
    }

    fn restart(&mut self) {
        let address = self.broker.address();
        self.broker.kill();
        self.broker = Self::broker(&self.directory, address);
    }

    /// A topic with so many numbered records.
    async fn topic(&self, topic: &str, partitions: i32, records: u64) {
        create(&self.client, topic, partitions).await;
        let producer = sawlog_client::Producer::new(
            self.client.clone(),
            sawlog_client::ProducerOptions::default(),
        );
        let written = write(&producer, topic, partitions, |number| number >= records).await;
        assert_eq!(written.failures(), 0);
    }
}

fn with(group: &str, assignors: &[Assignor]) -> GroupOptions {
    GroupOptions {
        protocol: GroupProtocol::Classic,
        assignors: assignors.to_vec(),
        ..options(group)
    }
}

/// A whole life on our broker.
async fn live(bench: &mut Bench, options: GroupOptions, log: Log) -> Arc<Log> {
    let client = bench.client.clone();
    whole(&client, options, log, || bench.restart()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_group_reads_everything_whoever_comes_dies_or_stays_away() {
    let mut bench = Bench::start().await;
    let log = live(&mut bench, with("eager", &[Assignor::Range]), Log::default()).await;
    assert!(log.lost() > 0, "who stayed away heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_group_reads_everything_whoever_comes_dies_or_stays_away() {
    let mut bench = Bench::start().await;
    live(&mut bench, with("cooperative", &[Assignor::CooperativeSticky]), Log::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_commits_by_hand_reads_everything() {
    let mut bench = Bench::start().await;
    let by_hand = GroupOptions {
        commit_interval: None,
        ..with("by-hand", &[Assignor::RoundRobin, Assignor::Range])
    };
    live(&mut bench, by_hand, Log::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_the_consumer_protocol_reads_everything_whoever_comes_dies_or_stays_away() {
    let mut bench = Bench::start().await;
    let served = GroupOptions { protocol: GroupProtocol::Consumer, ..options("consumer") };
    let log = live(&mut bench, served, Log { are_epochs: true, ..Log::default() }).await;
    assert!(log.lost() > 0, "who stayed away heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_both_protocols_share_a_group_that_moves_to_the_newer_one() {
    let bench = Bench::start().await;
    let cooperative = with("moves", &[Assignor::CooperativeSticky]);
    // Generations of some are compared with epochs of others: not here.
    let log = Log { are_epochs: true, ..Log::default() };
    let mut life = Life::start(&bench.client, cooperative, log).await;
    let first = life.join();
    life.join();
    life.settled().await;
    life.join_with(GroupOptions { protocol: GroupProtocol::Consumer, ..options("moves") });
    life.settled().await;
    life.close(first).await;
    life.join_with(options("moves"));
    life.settled().await;
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_not_heard_of_for_a_session_lose_everything_and_come_back() {
    let bench = Bench::start().await;
    let proxy = Proxy::start(bench.broker.address()).await;
    let mut cut_off = ClientOptions::new(&bench.broker.address().to_string());
    cut_off.connector = proxy.connector();
    cut_off.timeout = Duration::from_secs(1);
    cut_off.reconnect_backoff_max = Duration::from_millis(200);
    let cut_off = connect(cut_off).await;

    let mut life =
        Life::start(&bench.client, with("silent", &[Assignor::Range]), Log::default()).await;
    life.join();
    let log = life.log.clone();
    let behind = Member::start(&cut_off, life.topic.as_str(), life.options.clone(), (77, &log));
    until("both have their share", || log.shares().get(&77) == Some(&3)).await;
    proxy.swallow(true);
    // The log would object to its partitions going to the other while it has them: it cannot know.
    log.died(77);
    until("the other one has everything", || log.shares().get(&0) == Some(&6)).await;
    proxy.swallow(false);
    proxy.cut_all();
    until("it is back", || log.shares().get(&77) == Some(&3)).await;
    behind.close().await.expect("everything is committed");
    life.settled().await;
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_what_it_had_and_nobody_else_notices() {
    let bench = Bench::start().await;
    let options = with("static", &[Assignor::Range]);
    let mut life = Life::start(&bench.client, options.clone(), Log::default()).await;
    let instance = |name: &str| GroupOptions {
        instance: Some(name.to_owned()),
        session_timeout: DEADLINE,
        ..options.clone()
    };
    life.join_with(instance("one"));
    let second = life.join_with(instance("two"));
    life.settled().await;
    let (rebalances, revoked) = (life.log.rebalances(), life.log.revoked());
    life.close(second).await;
    life.join_as(second, instance("two"));
    life.settled().await;
    assert_eq!(life.log.rebalances(), rebalances + 1, "the one that came back, nobody else");
    assert_eq!(life.log.revoked(), revoked + 3, "what the one that went let go of");
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_instance_id_is_taken_is_told_and_stays_out() {
    let bench = Bench::start().await;
    bench.topic("taken", 1, 10).await;
    let options =
        GroupOptions { instance: Some("me".to_owned()), ..with("taken", &[Assignor::Range]) };
    let subscribe = || Consumer::subscribe(&bench.client, "taken", options.clone()).expect("good");
    let mut first = subscribe();
    assert_eq!(timeout(DEADLINE, first.next()).await.expect("records").expect("read").len(), 10);
    first.commit().await.expect("it is in");
    let mut second = subscribe();
    let fenced = async {
        loop {
            tokio::select! {
                told = first.next() => if let Err(error) = told { return error },
                _ = second.next() => {}
            }
        }
    };
    let error = timeout(DEADLINE, fenced).await.expect("told");
    assert_eq!(error.code().map(|code| code.name()), Some("FENCED_INSTANCE_ID"), "{error}");
    // Everything was committed: until the member is wound up, there is nothing to refuse.
    let refusal = async {
        loop {
            if let Err(refused) = first.commit().await {
                return refused;
            }
        }
    };
    let refused = timeout(DEADLINE, refusal).await.expect("it is out");
    assert!(!refused.is_member() || refused == CommitError::Failed(ClientError::Closed));
    assert!(first.next().await.is_err(), "for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_committed_the_reader_is_told_and_may_seek() {
    let bench = Bench::start().await;
    bench.topic("start", 1, 100).await;
    let strict = GroupOptions {
        consumer: ConsumerOptions { reset: ResetPolicy::Error, ..ConsumerOptions::default() },
        ..with("start", &[Assignor::Range])
    };
    let mut consumer = Consumer::subscribe(&bench.client, "start", strict.clone()).expect("good");
    let told = timeout(DEADLINE, consumer.next()).await.expect("told");
    let topic = "start".to_owned();
    assert_eq!(told, Err(ClientError::NoCommittedOffset { topic, partition: 0 }));
    consumer.seek("start", 0, Position::Offset(40)).expect("assigned");
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("read");
    assert_eq!(records[0].offset, 40);
    assert_eq!((consumer.lag()[0].records, consumer.lag()[0].time), (0, Some(Duration::ZERO)));
    consumer.commit_record(&records[9]).await.expect("its own");
    let back = consumer.commit_record(&records[5]).await.expect_err("more is committed");
    assert!(matches!(back, CommitError::Backwards { offset: 46, committed: 50, .. }), "{back}");
    let other = CommitOffset { partition: 7, ..CommitOffset::from(&records[20]) };
    let refused = consumer.commit_offsets(&[other]).await.expect_err("there is no such partition");
    assert!(refused.is_member() && matches!(refused, CommitError::NotOwned { partition: 7, .. }));
    let noted = CommitOffset { metadata: "so far".to_owned(), ..CommitOffset::from(&records[20]) };
    consumer.commit_offsets(&[noted]).await.expect("its own");
    let committed = bench.client.committed_offsets("start").await.expect("told");
    let at = &committed[0];
    assert_eq!((at.offset, at.metadata.as_str(), at.leader_epoch), (61, "so far", Some(0)));
    drop(consumer);

    let mut next = Consumer::subscribe(&bench.client, "start", strict).expect("good");
    let records = timeout(DEADLINE, next.next()).await.expect("records").expect("read");
    assert_eq!(records[0].offset, 61);
    next.close().await.expect("committed");
    let committed = bench.client.committed_offsets("start").await.expect("told");
    assert_eq!(committed[0].offset, 100, "closing commits what was handed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_topics_that_are_created_later() {
    let bench = Bench::start().await;
    bench.topic("found-1", 2, 10).await;
    bench.topic("lost-1", 2, 10).await;
    let options = with("pattern", &[Assignor::Range]);
    let topics = Topics::matching("found-[0-9]+");
    let mut consumer = Consumer::subscribe(&bench.client, topics, options).expect("good");
    let mut seen = std::collections::BTreeSet::new();
    let mut read = async |count: usize| {
        while seen.len() < count {
            let next = timeout(DEADLINE, consumer.next()).await.expect("records");
            for record in next.expect("readable") {
                seen.insert((record.topic, record.partition, record.offset));
            }
        }
        seen.len()
    };
    assert_eq!(read(10).await, 10);
    bench.topic("found-2", 3, 12).await;
    assert_eq!(read(22).await, 22);
    assert!(seen.iter().all(|(topic, ..)| topic.starts_with("found-")));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_shared_out() {
    let bench = Bench::start().await;
    bench.topic("grows", 1, 10).await;
    let options = with("grows", &[Assignor::CooperativeSticky]);
    let mut consumer = Consumer::subscribe(&bench.client, "grows", options).expect("good");
    assert_eq!(timeout(DEADLINE, consumer.next()).await.expect("read").expect("read").len(), 10);
    bench.client.create_partitions("grows", 3, false).await.expect("grown");
    let found = async {
        while consumer.lag().len() < 3 {
            consumer.poll(Duration::from_millis(5)).await.expect("no error");
        }
    };
    timeout(DEADLINE, found).await.expect("they are found");
    consumer.close().await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_group_counts_each_record_by_itself() {
    use futures_core::Stream as _;
    let bench = Bench::start().await;
    bench.topic("stream", 1, 50).await;
    let options = with("stream", &[Assignor::Range]);
    let mut consumer = Consumer::subscribe(&bench.client, "stream", options).expect("good");
    let committer = consumer.committer();
    let mut stream = Box::pin(consumer.stream());
    for number in 0..15 {
        let next = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx));
        let record = timeout(DEADLINE, next).await.expect("records").expect("no end");
        assert_eq!(record.expect("readable").offset, number);
    }
    committer.commit().await.expect("it is in");
    drop(stream);
    let committed = bench.client.committed_offsets("stream").await.expect("told");
    assert_eq!(committed[0].offset, 15);
    assert_eq!(consumer.positions(), [(Arc::from("stream"), 0, 15)]);
    let rest = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(rest[0].offset, 15, "dropping a stream loses nothing");
    consumer.close().await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_members_share_a_group_with_kcat() {
    if Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    {
        assert!(std::env::var("SAWLOG_COMPAT").as_deref() != Ok("required"), "kcat is missing");
        eprintln!("our_members_share_a_group_with_kcat: skipped: kcat is not installed");
        return;
    }
    let bench = Bench::start().await;
    let options = with("mixed", &[Assignor::Range]);
    let log = Log { has_others: true, ..Log::default() };
    let mut life = Life::start(&bench.client, options, log).await;
    life.join();
    life.settled().await;
    let address = bench.broker.address().to_string();
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &address, "-G", "mixed", "-q", "-u", "-f", "%p %o\\n"])
        .args(["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=3000"])
        .args(["-X", "heartbeat.interval.ms=100", "-X", "partition.assignment.strategy=range"])
        .arg(&life.topic)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut kcat = kcat.spawn().expect("kcat starts");
    let log = life.log.clone();
    until("kcat has half", || log.shares().get(&0) == Some(&3)).await;
    life.join();
    until("three share", || log.shares().values().sum::<usize>() == 4).await;
    tokio::time::sleep(SESSION / 2).await;
    kcat.kill().expect("our child can be killed");
    kcat.wait().expect("a killed child ends");
    life.settled().await;
    life.end_with_others().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_members_share_a_group_with_javas_sticky_ones_and_keep_what_they_have() {
    let test = "our_members_share_a_group_with_javas_sticky_ones_and_keep_what_they_have";
    let Some(jars) = crate::kafka::jars(test) else { return };
    let bench = Bench::start().await;
    let options = with("sticky", &[Assignor::Sticky]);
    let log = Log { has_others: true, ..Log::default() };
    let mut life = Life::start(&bench.client, options, log).await;
    let first = life.join();
    life.settled().await;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/compat/java/Member.java");
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{}/*", jars.display())).arg(program);
    java.args([&bench.broker.address().to_string(), "sticky", &life.topic, "sticky"]);
    java.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut java = java.spawn().expect("java starts");
    let log = life.log.clone();
    let before = log.owned(first);
    until("java has half", || log.owned(first).len() == 3).await;
    assert!(log.owned(first).is_subset(&before), "what it has is its own of before");

    // Shared out by our assignor, which reads what Java's member had.
    let second = life.join();
    until("three share", || log.owned(first).len() == 2 && log.owned(second).len() == 2).await;
    let before = log.owned(second);
    // And now by Java's, which reads what ours had: it came before the second.
    life.close(first).await;
    until("two share", || log.owned(second).len() == 3).await;
    assert!(before.is_subset(&log.owned(second)), "{before:?} are kept: {:?}", log.owned(second));
    java.kill().expect("our child can be killed");
    java.wait().expect("a killed child ends");
    life.settled().await;
    life.end_with_others().await;
}
