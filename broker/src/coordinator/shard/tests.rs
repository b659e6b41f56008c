//! A shard on a log on a simulated disk: what is answered survives, and what cannot be kept is
//! refused.

use std::path::{Path, PathBuf};

use super::*;
use crate::base::disk::Disk as _;
use crate::base::disk_sim::{Fault, SimDisk};
use crate::base::{BrokerId, DataDirectory, SystemClock, Timestamp, TopicPartition};
use crate::config::{BrokerConfig, TopicConfig};
use crate::coordinator::tests::driver::{
    assign, at, cluster, commit, fetch_all, group, heartbeat, join, sync,
};
use crate::coordinator::*;
use crate::replication::{LogDirectory, LogView, PartitionCore};
use crate::storage::{Log, LogOptions};

const ME: BrokerId = BrokerId(1);

struct Node {
    disk: SimDisk,
    home: Arc<LogDirectory>,
    partition: Arc<Partition>,
    shard: Arc<Shard>,
    keeper: tokio::task::JoinHandle<()>,
}

fn config() -> Arc<TopicConfig> {
    Arc::new(BrokerConfig::default().topic_defaults())
}

impl Node {
    fn first() -> Self {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/data/topics")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        Self::start(disk)
    }

    fn start(disk: SimDisk) -> Self {
        let clock = Arc::new(SystemClock::new());
        let data = DataDirectory::new(Arc::new(disk.clone()), "/data".into());
        let home = LogDirectory::start(data, clock.clone()).unwrap();
        let path = PathBuf::from("/data/topics/groups-0");
        let options = LogOptions { segment_bytes: 64 * 1024, ..LogOptions::default() };
        let opened = Log::open(Arc::new(disk.clone()), path, options, Timestamp(0)).unwrap();
        let log = opened.log;
        let view =
            LogView { start: log.log_start(), end: log.log_end(), durable: log.durable_end() };
        let core = PartitionCore::new(ME, view, opened.epochs, opened.producers);
        let name = TopicPartition { topic: "groups".into(), partition: 0 };
        let partition = Arc::new(Partition::new(name, core, log, config(), home.clone()));
        partition.apply(LeaderEpoch(0), &[ME], config());
        home.join(&partition);
        let options = GroupOptions {
            initial_rebalance_delay: Duration::from_millis(20),
            ..GroupOptions::default()
        };
        let images = Arc::new(ImageCell::new(cluster(&[])));
        let shard = Arc::new(Shard::new(
            partition.clone(),
            clock,
            images,
            options,
            Arc::new(Semaphore::new(1)),
        ));
        let keeper = tokio::spawn(shard.clone().keep());
        Self { disk, home, partition, shard, keeper }
    }

    /// The power fails, and comes back.
    fn restart(self, seed: u64) -> Self {
        self.keeper.abort();
        let disk = self.disk.restart(seed);
        self.home.flusher().stop();
        Self::start(disk)
    }

    /// Leads anew, as the metadata says from now on.
    fn lead(&self, epoch: i32) {
        self.partition.apply(LeaderEpoch(epoch), &[ME], config());
        self.shard.look_at_leadership();
    }

    /// Asks as clients do: again, while the coordinator is not ready.
    async fn ask<A: Ask<Answer = Result<T, GroupError>> + Clone, T>(
        &self,
        ask: A,
    ) -> Result<T, GroupError> {
        loop {
            match self.shard.ask(ask.clone()).await {
                Err(GroupError::LoadInProgress) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    }

    async fn committed(&self) -> Vec<i64> {
        let fetched = self.ask(fetch_all()).await.unwrap();
        fetched.into_iter().map(|it| it.committed.unwrap().unwrap().offset.0).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
        self.home.flusher().stop();
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

#[test]
fn what_is_answered_survives_a_power_cut() {
    run(async {
        let mut node = Node::first();
        for seed in 0..20 {
            let value = i64::try_from(seed).unwrap();
            let answer = node.ask(commit(None, Generation::NONE, value)).await;
            assert_eq!(answer, Ok(vec![Ok(())]));
            node = node.restart(seed);
            assert_eq!(node.committed().await, [value]);
        }
    });
}

#[test]
fn members_share_a_group_and_find_it_again_after_a_restart() {
    run(async {
        let node = Node::first();
        assert_eq!(node.committed().await, []);
        let (a, b) = tokio::join!(node.shard.ask(join("a")), node.shard.ask(join("b")));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.generation, a.members.len()), (b.generation, 2));
        let (synced, _) = tokio::join!(
            node.shard.ask(sync("b", a.generation)),
            node.shard.ask(assign("a", a.generation, &["a", "b"])),
        );
        assert_eq!(synced.unwrap().assignment, "b");
        let node = node.restart(7);
        assert_eq!(node.ask(heartbeat("a", a.generation)).await, Ok(()));
        assert_eq!(node.ask(sync("b", a.generation)).await.unwrap().assignment, "b");
    });
}

#[test]
fn whoever_waits_is_told_when_the_leadership_changes() {
    run(async {
        let node = Node::first();
        assert_eq!(node.committed().await, []);
        let mut slow = join("a");
        slow.rebalance_timeout = Duration::from_secs(600);
        let generation = node.shard.ask(slow.clone()).await.unwrap().generation;
        node.shard.ask(assign("a", generation, &["a"])).await.unwrap();
        let (refused, ()) = tokio::join!(node.shard.ask(join("b")), async {
            node.lead(1);
        });
        assert_eq!(refused.unwrap_err().error, GroupError::NotCoordinator);
        assert_eq!(node.ask(heartbeat("a", generation)).await, Ok(()), "read again from the log");
    });
}

#[test]
fn a_leadership_that_ended_writes_and_confirms_nothing() {
    run(async {
        let node = Node::first();
        assert_eq!(node.ask(commit(None, Generation::NONE, 1)).await, Ok(vec![Ok(())]));
        let end = node.partition.log_end();
        assert_eq!(node.shard.committed(LeaderEpoch(0), Offset(0)).await, Ok(()));
        // Nobody has told the shard yet.
        node.partition.apply(LeaderEpoch(1), &[ME], config());
        let answer = node.shard.ask(commit(None, Generation::NONE, 2)).await;
        assert_eq!(answer, Err(GroupError::NotCoordinator));
        assert_eq!(node.partition.log_end(), end);
        let late = node.shard.committed(LeaderEpoch(0), Offset(0)).await;
        assert_eq!(late, Err(GroupError::NotCoordinator), "it may be another record by now");
        assert_eq!(node.committed().await, [1]);
    });
}

#[test]
fn who_leads_no_more_is_no_coordinator_and_rests() {
    run(async {
        let node = Node::first();
        assert_eq!(node.ask(commit(None, Generation::NONE, 1)).await, Ok(vec![Ok(())]));
        node.partition.delete().unwrap();
        node.shard.look_at_leadership();
        let answer = node.shard.ask(fetch_all()).await;
        assert_eq!(answer, Err(GroupError::NotCoordinator));
        let answer = node.shard.ask(heartbeat("a", Generation(1))).await;
        assert_eq!(answer, Err(GroupError::NotCoordinator));
    });
}

#[test]
fn a_full_disk_refuses_commits_and_disturbs_nobody() {
    run(async {
        let node = Node::first();
        assert_eq!(node.ask(commit(None, Generation::NONE, 1)).await, Ok(vec![Ok(())]));
        node.disk.fill_up(true);
        let mut refused = 0;
        for value in 2..2_000 {
            let mut large = commit(None, Generation::NONE, value);
            large.offsets[0].metadata = "x".repeat(4000).into();
            large.offsets[0].partition = at("large", 0);
            match node.ask(large).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, GroupError::NotAvailable);
                    refused += 1;
                    break;
                }
            }
        }
        assert_eq!(refused, 1, "the segment ends, and there is no room for another");
        assert_eq!(node.committed().await.last(), Some(&1));
    });
}

#[test]
fn a_disk_that_fails_answers_nothing_as_committed() {
    run(async {
        let node = Node::first();
        assert_eq!(node.ask(commit(None, Generation::NONE, 1)).await, Ok(vec![Ok(())]));
        node.disk.plan(1, Fault::Io);
        let answer = node.ask(commit(None, Generation::NONE, 2)).await;
        assert_eq!(answer, Err(GroupError::NotCoordinator));
        let again = node.shard.ask(DescribeGroup { group: group() }).await;
        assert!(again.is_err());
    });
}
