//! What groups go through, on any broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sawlog_client::{
    Client, ConsumerOptions, GroupOptions, Producer, ProducerOptions, RecordRef, ResetPolicy,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log::{Key, Log};
use super::member::Member;
use crate::load::{DEADLINE, create};

/// Classic sessions here; broker settings allow them.
pub(crate) const SESSION: Duration = Duration::from_secs(3);

/// Options for short lives.
pub(crate) fn options(group: &str) -> GroupOptions {
    GroupOptions {
        session_timeout: SESSION,
        heartbeat_interval: Duration::from_millis(100),
        max_poll_interval: Duration::from_secs(20),
        commit_interval: Some(Duration::from_millis(50)),
        consumer: ConsumerOptions {
            reset: ResetPolicy::Earliest,
            max_records: 20,
            retry_backoff_max: Duration::from_millis(200),
            ..ConsumerOptions::default()
        },
        ..GroupOptions::new(group)
    }
}

/// Awaits a condition.
pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or(|| what.to_owned(), holds).await;
}

/// The same with more to say.
async fn until_or(what: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(DEADLINE, wait).await.is_ok(), "not within the deadline: {}", what());
}

/// Numbered records into a topic, a few at a time, until it is stopped.
pub(crate) struct Source {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Source {
    pub(crate) fn start(client: &Client, topic: &str, partitions: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let producer = Producer::new(client.clone(), ProducerOptions::default());
        let (topic, stopped) = (topic.to_owned(), stop.clone());
        let task = tokio::spawn(async move {
            let mut number = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let mut deliveries = Vec::new();
                for partition in 0..partitions {
                    let value = number.to_be_bytes();
                    let record = RecordRef {
                        partition: Some(partition),
                        value: Some(&value),
                        ..RecordRef::default()
                    };
                    deliveries.push(producer.send_ref(&topic, record).await.expect("taken in"));
                    number += 1;
                }
                for delivery in deliveries {
                    delivery.confirmed().await.expect("in the log");
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            number
        });
        Self { stop, task }
    }

    /// Stops and returns how many records there are.
    pub(crate) async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let count = timeout(DEADLINE, self.task).await.expect("it stops").expect("no panic");
        usize::try_from(count).expect("few")
    }
}

/// Asks for the committed offsets of a group all the while: they must not go back, nor beyond what
/// was processed.
pub(crate) struct Auditor {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Offsets it looks at before it stops.
const LOOKS_MIN: usize = 10;

impl Auditor {
    pub(crate) fn start(client: &Client, group: &str, log: &Arc<Log>) -> Self {
        let log = log.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let (client, group, stopped) = (client.clone(), group.to_owned(), stop.clone());
        let task = tokio::spawn(async move {
            let mut last: BTreeMap<Key, i64> = BTreeMap::new();
            let mut looks = 0;
            // A short life is over before a few looks, which would prove little.
            while looks <= LOOKS_MIN || !stopped.load(Ordering::Relaxed) {
                // Fails while no broker is there.
                for one in client.committed_offsets(&group).await.unwrap_or_default() {
                    let key = (Arc::from(one.topic.as_str()), one.partition);
                    let done = log.done(&key);
                    assert!(
                        log.has_others || one.offset <= done,
                        "only {done} are processed: {one:?}"
                    );
                    let before = last.insert(key, one.offset).unwrap_or(0);
                    assert!(one.offset >= before, "{before} was committed: {one:?}");
                    looks += 1;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        timeout(DEADLINE, self.task).await.expect("it saw offsets").expect("never back");
    }
}

/// A group under load: what it reads, and what its members saw.
pub(crate) struct Life {
    pub(crate) client: Client,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    pub(crate) options: GroupOptions,
    pub(crate) log: Arc<Log>,
    pub(crate) members: BTreeMap<usize, Member>,
    source: Source,
    auditor: Auditor,
    next: usize,
}

impl Life {
    pub(crate) async fn start(client: &Client, options: GroupOptions, log: Log) -> Self {
        let (topic, partitions) = (format!("topic-{}", options.group), 6);
        create(client, &topic, partitions).await;
        let log = Arc::new(log);
        Self {
            source: Source::start(client, &topic, partitions),
            auditor: Auditor::start(client, &options.group, &log),
            client: client.clone(),
            topic,
            partitions,
            options,
            log,
            members: BTreeMap::new(),
            next: 0,
        }
    }

    /// Starts a member and returns its number.
    pub(crate) fn join(&mut self) -> usize {
        let options = self.options.clone();
        self.join_with(options)
    }

    pub(crate) fn join_with(&mut self, options: GroupOptions) -> usize {
        let index = self.next;
        self.next += 1;
        self.join_as(index, options);
        index
    }

    /// A member that was there before, by its instance.
    pub(crate) fn join_as(&mut self, index: usize, options: GroupOptions) {
        let topic = self.topic.as_str();
        let member = Member::start(&self.client, topic, options, (index, &self.log));
        self.members.insert(index, member);
    }

    /// Waits until exactly these members have shares that differ by one at most, and read.
    pub(crate) async fn settled(&self) {
        let members: Vec<usize> = self.members.keys().copied().collect();
        let all = usize::try_from(self.partitions).expect("few");
        let say = || format!("{members:?} share {all} partitions: {:?}", self.log.shares());
        until_or(say, || {
            let mut shares = self.log.shares();
            shares.retain(|_, count| *count > 0);
            let even = shares.values().max().copied().unwrap_or(0)
                - shares.values().min().copied().unwrap_or(0);
            let there = shares.keys().copied().eq(members.iter().copied());
            there && even <= 1 && shares.values().sum::<usize>() == all
        })
        .await;
        let seen = self.log.distinct();
        until("records come", || self.log.distinct() > seen).await;
    }

    /// A member stays away until the others have everything, and comes back.
    pub(crate) async fn away(&mut self, index: usize) {
        let log = self.log.clone();
        let lost = log.lost();
        self.members[&index].pause().await;
        log.died(index);
        let all = usize::try_from(self.partitions).expect("few");
        until_or(
            || format!("the others have everything: {:?}", log.shares()),
            || {
                let shares = log.shares();
                !shares.contains_key(&index) && shares.values().sum::<usize>() == all
            },
        )
        .await;
        self.members[&index].resume();
        until("it hears that it lost what it had", || log.lost() > lost).await;
    }

    pub(crate) async fn kill(&mut self, index: usize) {
        self.members.remove(&index).expect("it lives").kill().await;
    }

    pub(crate) async fn close(&mut self, index: usize) {
        let member = self.members.remove(&index).expect("it lives");
        member.close().await.expect("everything is committed");
    }

    /// Everything is read, everybody leaves, and everything is checked.
    pub(crate) async fn end(mut self) -> Arc<Log> {
        let total = self.source.stop().await;
        let log = self.log.clone();
        until("every record is handed out", || log.distinct() >= total).await;
        for (_, member) in std::mem::take(&mut self.members) {
            member.close().await.expect("everything is committed");
        }
        self.auditor.stop().await;
        assert_eq!(log.distinct(), total);
        committed_all(&self.client, &self.options.group, (self.partitions, total)).await;
        log.check();
        log
    }

    /// As [`Life::end`], where others that write nothing down read some of it.
    pub(crate) async fn end_with_others(mut self) {
        let total = self.source.stop().await;
        let everything = async {
            loop {
                let told = self.client.committed_offsets(&self.options.group).await;
                let done: i64 = told.unwrap_or_default().iter().map(|one| one.offset).sum();
                if usize::try_from(done).expect("offsets") == total {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, everything).await.expect("all of it is committed");
        for (_, member) in std::mem::take(&mut self.members) {
            member.close().await.expect("everything is committed");
        }
        self.auditor.stop().await;
        committed_all(&self.client, &self.options.group, (self.partitions, total)).await;
        self.log.check();
    }
}

/// Everything in the topic is committed, and nothing else.
async fn committed_all(client: &Client, group: &str, (partitions, total): (i32, usize)) {
    let committed = client.committed_offsets(group).await.expect("told");
    let each = i64::try_from(total).expect("few") / i64::from(partitions);
    let expected: Vec<(i32, i64)> = (0..partitions).map(|index| (index, each)).collect();
    let found: Vec<_> = committed.iter().map(|one| (one.partition, one.offset)).collect();
    assert_eq!(found, expected, "all that was read is committed");
}

/// Members come, die, leave and stay away, and the broker dies; to five members and back.
pub(crate) async fn whole(
    client: &Client,
    options: GroupOptions,
    log: Log,
    restart: impl FnOnce(),
) -> Arc<Log> {
    let mut life = Life::start(client, options, log).await;
    let first = life.join();
    life.settled().await;
    let second = life.join();
    life.join();
    life.settled().await;
    life.kill(second).await;
    life.settled().await;
    let away = GroupOptions { max_poll_interval: Duration::from_secs(1), ..life.options.clone() };
    let away = life.join_with(away);
    life.join();
    life.settled().await;
    life.join();
    life.settled().await;

    restart();
    life.settled().await;

    life.away(away).await;
    life.settled().await;

    life.close(first).await;
    life.settled().await;
    life.end().await
}
