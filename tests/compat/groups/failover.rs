//! Groups on three brokers, whose coordinators are killed again and again while they read and commit.
//!
//! The short form loses one coordinator to a group of each client. The long one has both protocols of each:
//!
//! ```sh
//! cargo test -p sawlog-tests --test compat failover -- --ignored --nocapture
//! ```
//!
//! `SAWLOG_COORDINATOR_KILLS` makes it longer still.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sawlog_client::{Client as Sawlog, ClientOptions, NewTopic, Producer, ProducerOptions, Record};
use sawlog_tests::cluster::Cluster;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::broker::SETTINGS;
use super::clients::Client;
use super::history::History;
use super::member::Member;
use super::{LOOK_AGAIN, SETTLE_WAIT_MAX};

const PARTITIONS: i32 = 6;
const OFFSETS: &str = "__consumer_offsets";
const RECORDS: usize = 300;

/// One group of each client, and both protocols.
const SHORT: [(Client, &str); 3] = [
    (Client::JavaNewest, "consumer"),
    (Client::Confluent, "cooperative"),
    (Client::FranzGo, "consumer"),
];

const ALL: [(Client, &str); 6] = [
    (Client::JavaNewest, "range"),
    (Client::JavaNewest, "consumer"),
    (Client::Confluent, "cooperative"),
    (Client::Confluent, "consumer"),
    (Client::FranzGo, "cooperative"),
    (Client::FranzGo, "consumer"),
];

/// A group of two members of one client.
#[derive(Debug)]
struct Group {
    client: Client,
    /// Of the topic and the group.
    name: String,
    protocol: &'static str,
    history: Arc<Mutex<History>>,
    members: Vec<Member>,
}

#[test]
fn groups_outlive_a_coordinator_and_lose_no_commit() {
    failover(&SHORT, 1);
}

#[test]
#[ignore = "takes minutes"]
fn groups_outlive_their_coordinators_and_lose_no_commit() {
    let kills = env::var("SAWLOG_COORDINATOR_KILLS").ok();
    failover(&ALL, kills.and_then(|text| text.parse().ok()).unwrap_or(6));
}

fn failover(wanted: &[(Client, &'static str)], kills: usize) {
    let wanted: Vec<_> = wanted.iter().copied().filter(|(one, _)| one.is_available()).collect();
    if !wanted.is_empty() {
        Failover::start(&wanted).run(kills);
    }
}

#[derive(Debug)]
struct Failover {
    cluster: Cluster,
    admin: Sawlog,
    groups: Vec<Group>,
    watches: Vec<JoinHandle<Option<String>>>,
    over: Arc<AtomicBool>,
    runtime: Runtime,
}

impl Failover {
    fn start(wanted: &[(Client, &'static str)]) -> Failover {
        let cluster = Cluster::start(3, &SETTINGS, None);
        let runtime = Runtime::new().expect("a runtime");
        let mut options = ClientOptions::new(&cluster.bootstrap());
        options.timeout = Duration::from_secs(10);
        options.reconnect_backoff_max = Duration::from_millis(200);
        let admin = runtime.block_on(Sawlog::connect(options)).expect("a broker");
        let over = Arc::<AtomicBool>::default();
        let (groups, watches) = (Vec::new(), Vec::new());
        let mut failover = Failover { cluster, admin, groups, watches, over, runtime };
        failover.wait("three brokers vote", |one| {
            let quorum = one.runtime.block_on(one.admin.describe_quorum());
            quorum.is_ok_and(|q| q.replicas.iter().filter(|one| one.is_voter).count() == 3)
        });
        for (client, protocol) in wanted {
            failover.form(*client, protocol);
        }
        failover
    }

    fn form(&mut self, client: Client, protocol: &'static str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let name = format!("{}-{protocol}-{now}", client.name());
        let (partitions, replication_factor, validate_only) = (PARTITIONS, 3, false);
        let topic =
            NewTopic { name: &name, partitions, replication_factor, configs: &[], validate_only };
        self.runtime.block_on(self.admin.create_topic(&topic)).expect("a new topic");
        let history = Arc::<Mutex<History>>::default();
        let member = |number| {
            let bootstrap = self.cluster.bootstrap();
            let command = client.member(&[&bootstrap, &name, &name, protocol]);
            Member::start(&format!("{name} {number}"), command, client.parse(), &history)
        };
        let members = vec![member(1), member(2)];
        let watch =
            watch(self.admin.clone(), name.clone(), Arc::clone(&history), Arc::clone(&self.over));
        self.watches.push(self.runtime.spawn(watch));
        self.groups.push(Group { client, name, protocol, history, members });
    }

    fn run(mut self, kills: usize) {
        self.produce();
        self.all_processed("at first");
        for kill in 0..kills {
            let group = kill % self.groups.len();
            // Some records are committed to the coordinator that is killed, some to the one after it.
            self.produce();
            let coordinator = self.coordinator_of(&self.groups[group].name);
            self.cluster.kill(coordinator);
            self.produce();
            self.all_processed(&format!("kill {kill}, of broker {coordinator}"));
            self.cluster.run(coordinator);
            self.cluster.wait_until_it_listens(coordinator);
            self.wait("everything is in sync again", Failover::is_whole);
        }
        self.produce();
        self.all_processed("at last");
        self.verdict();
    }

    /// Everybody leaves, and what was seen is checked.
    fn verdict(mut self) {
        let mut wrong = Vec::new();
        for group in &mut self.groups {
            let left: Result<(), String> = group.members.drain(..).try_for_each(Member::leave);
            wrong.extend(left.err().map(|why| format!("{}: {why}", group.name)));
        }
        self.over.store(true, Ordering::Relaxed);
        for watch in std::mem::take(&mut self.watches) {
            wrong.extend(self.runtime.block_on(watch).expect("the watcher ends"));
        }
        for group in &self.groups {
            let history = group.history.lock().expect("no holder panics");
            let generations = history.check_generations();
            wrong.extend(generations.err().map(|why| format!("{}: {why}", group.name)));
            if group.client.tells_what_is_lost() {
                let times = history.check_times();
                wrong.extend(times.err().map(|why| format!("{}: {why}", group.name)));
            }
        }
        for id in self.cluster.ids() {
            let output = self.cluster.output(id);
            let panicked = output.lines().find(|line| line.contains("panicked"));
            wrong.extend(panicked.map(|line| format!("broker {id}: {line}")));
        }
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n\n"), self.said());
    }

    /// The broker that leads the partition of `__consumer_offsets` the group belongs to.
    fn coordinator_of(&self, group: &str) -> i32 {
        let info = self.runtime.block_on(self.admin.describe(Some(&[OFFSETS]))).expect("a broker");
        let offsets = info.topics.first().expect("there are groups");
        let hash = group
            .bytes()
            .fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
        let count = i32::try_from(offsets.partitions.len()).expect("few");
        let partition = (hash & i32::MAX) % count;
        offsets.partition(partition).expect("it has it").leader
    }

    fn is_whole(&self) -> bool {
        let names: Vec<&str> =
            self.groups.iter().map(|group| group.name.as_str()).chain([OFFSETS]).collect();
        let info = self.runtime.block_on(self.admin.describe(Some(&names)));
        info.is_ok_and(|info| {
            let mut all = info.topics.iter().flat_map(|topic| &topic.partitions);
            info.topics.len() == names.len() && all.all(|one| one.leader > 0 && one.isr.len() == 3)
        })
    }

    /// Records in all partitions of all topics, all of them confirmed.
    fn produce(&self) {
        self.runtime.block_on(async {
            let producer = Producer::new(self.admin.clone(), ProducerOptions::default());
            for group in &self.groups {
                for number in 0..RECORDS {
                    let key = Some((number % 60).to_string().into_bytes());
                    let value = Some(number.to_string().into_bytes());
                    let record = Record { key, value, ..Record::default() };
                    producer.send(&group.name, record).await.expect("a good record");
                }
            }
            producer.flush().await;
        });
    }

    fn all_processed(&mut self, when: &str) {
        self.wait(when, |one| one.groups.iter().all(|group| one.has_processed(group)));
    }

    /// Whether every record was handed to a member, and that is committed.
    fn has_processed(&self, group: &Group) -> bool {
        let Ok(ends) = self.ends(group) else { return false };
        let processed = group.history.lock().expect("no holder panics").has_processed(&ends);
        processed && self.committed(group).is_ok_and(|committed| committed == ends)
    }

    fn ends(&self, group: &Group) -> Result<BTreeMap<i32, i64>, String> {
        self.runtime.block_on(async {
            let info =
                self.admin.describe(Some(&[&group.name])).await.map_err(|e| e.to_string())?;
            let ranges = self.admin.offset_ranges(&info.topics).await.map_err(|e| e.to_string())?;
            let ends: BTreeMap<i32, i64> =
                ranges.iter().map(|one| (one.partition, one.end)).collect();
            if ends.len() == usize::try_from(PARTITIONS).expect("few") {
                Ok(ends)
            } else {
                Err("a partition has no leader".to_owned())
            }
        })
    }

    fn committed(&self, group: &Group) -> Result<BTreeMap<i32, i64>, String> {
        let committed = self.runtime.block_on(self.admin.committed_offsets(&group.name));
        let committed = committed.map_err(|error| error.to_string())?;
        Ok(committed.iter().map(|one| (one.partition, one.offset)).collect())
    }

    fn wait(&mut self, when: &str, done: impl Fn(&Failover) -> bool) {
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        while !done(self) {
            let members = self.groups.iter_mut().flat_map(|group| &mut group.members);
            let ended: Vec<String> =
                members.filter_map(|one| one.has_ended().then(|| one.name.clone())).collect();
            assert!(ended.is_empty(), "{when}: {ended:?} ended\n{}", self.said());
            if Instant::now() > deadline {
                let state: Vec<String> =
                    self.groups.iter().map(|group| self.state(group)).collect();
                panic!(
                    "{when}: not within {SETTLE_WAIT_MAX:?}\n{}\n{}",
                    state.join("\n"),
                    self.said()
                );
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn state(&self, group: &Group) -> String {
        let (ends, committed) = (self.ends(group), self.committed(group));
        let history = group.history.lock().expect("no holder panics");
        let missing = ends.as_ref().map(|ends| history.unprocessed(ends));
        let owned: Vec<_> = group.members.iter().map(|m| history.owned(&m.name)).collect();
        format!(
            "{} ({}): not processed {missing:?}, ends {ends:?}, committed {committed:?}, owned {owned:?}",
            group.name, group.protocol
        )
    }

    fn said(&self) -> String {
        let mut said = String::new();
        for group in &self.groups {
            let history = group.history.lock().expect("no holder panics");
            let tail = history.said.len().saturating_sub(15);
            history.said[tail..].iter().for_each(|line| said.push_str(&format!("  {line}\n")));
        }
        said
    }
}

/// Asks the coordinator all the while, whoever that is: no committed offset moves back or falls behind what
/// was confirmed. Returns what was wrong.
async fn watch(
    admin: Sawlog,
    group: String,
    history: Arc<Mutex<History>>,
    over: Arc<AtomicBool>,
) -> Option<String> {
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Confirmed before the question, so the answer must have it.
        let confirmed = history.lock().expect("no holder panics").committed().clone();
        for (partition, offset) in confirmed {
            let least = highest.entry(partition).or_default();
            *least = offset.max(*least);
        }
        let Ok(committed) = admin.committed_offsets(&group).await else { continue };
        for (partition, least) in &mut highest {
            let found = committed.iter().find(|one| one.partition == *partition);
            let now = found.map_or(-1, |one| one.offset);
            if now < *least {
                return Some(format!(
                    "{group} partition {partition}: committed is {now}, was {least}"
                ));
            }
            *least = now;
        }
    }
    None
}
