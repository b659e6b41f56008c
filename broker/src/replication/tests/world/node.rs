//! A broker: its disk, and the process on it, if there is one.

use std::time::Duration;

use sawlog_protocol::Uuid;

use super::disk::{StoredLog, offset};
use super::event::{Asked, Life};
use super::weather::Weather;
use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch};
use crate::config::FlushMode;
use crate::replication::{LogView, PartitionCore};

/// After how long without catching up a follower is out of sync, here.
const LAG_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) life: Life,
    pub(super) process: Option<Process>,
    /// The disk's identity.
    pub(super) storage: Uuid,
    pub(super) logs: Vec<StoredLog>,
    /// Logs that have lost what was durable, which the controller has not heard of.
    pub(super) damaged: Vec<bool>,
    pub(super) hung_until: u64,
    pub(super) paused_until: u64,
    /// The last process closed its logs.
    pub(super) was_clean: bool,
    /// How far the last process had applied the metadata.
    pub(super) applied: usize,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) epoch: Option<BrokerEpoch>,
    /// The last metadata applied.
    pub(super) applied: usize,
    /// When it spoke to the controller last.
    pub(super) spoke_at: u64,
    pub(super) leaving_since: Option<u64>,
    pub(super) was_clean: bool,
    pub(super) damaged: Vec<usize>,
    pub(super) replicas: Vec<Option<Replica>>,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) core: PartitionCore,
    pub(super) flushing: bool,
    pub(super) waiting: Vec<Waiting>,
    /// Fetches that wait for news, and until when.
    pub(super) held: Vec<(Asked, u64)>,
    /// The high watermark looked at last.
    pub(super) seen: usize,
}

/// A write that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) client: usize,
    pub(super) call: u64,
    pub(super) epoch: LeaderEpoch,
    pub(super) at: usize,
    pub(super) value: u64,
}

impl Node {
    pub(super) fn new(partitions: usize, storage: Uuid) -> Self {
        Self {
            life: 0,
            process: None,
            storage,
            logs: vec![StoredLog::default(); partitions],
            damaged: vec![false; partitions],
            hung_until: 0,
            paused_until: 0,
            was_clean: true,
            applied: 0,
        }
    }

    /// A new process, which has synced what it found.
    pub(super) fn start(&mut self, applied: usize) -> Life {
        self.life += 1;
        for log in &mut self.logs {
            log.recover();
        }
        let damaged = self.damaged.iter().enumerate().filter(|(_, damaged)| **damaged);
        self.process = Some(Process {
            epoch: None,
            applied,
            spoke_at: 0,
            leaving_since: None,
            was_clean: std::mem::take(&mut self.was_clean),
            damaged: damaged.map(|(at, _)| at).collect(),
            replicas: self.logs.iter().map(|_| None).collect(),
        });
        self.life
    }

    /// The process is gone; its disk is as it was.
    pub(super) fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            self.applied = process.applied;
        }
        self.paused_until = 0;
    }

    /// Whether a log has failed under its process.
    pub(super) fn has_failed(&self) -> bool {
        let replicas = self.process.iter().flat_map(|process| process.replicas.iter().flatten());
        replicas.into_iter().any(|replica| replica.core.is_failed())
    }

    pub(super) fn is_alive(&self, life: Life) -> bool {
        self.process.is_some() && self.life == life
    }

    pub(super) fn replica(&mut self, partition: usize) -> Option<&mut Replica> {
        self.process.as_mut()?.replicas[partition].as_mut()
    }
}

impl Replica {
    pub(super) fn new(
        broker: BrokerId,
        epoch: BrokerEpoch,
        log: &StoredLog,
        weather: &Weather,
    ) -> Self {
        let view = LogView {
            start: offset(0),
            end: offset(log.entries.len()),
            durable: offset(log.durable),
        };
        let mut core = PartitionCore::new(broker, view, log.epochs(), log.producers());
        let mode = if weather.lazy { FlushMode::Os } else { FlushMode::Group };
        core.on_config(mode, weather.min_in_sync);
        core.on_lag_limit(LAG_MAX);
        core.on_registered(epoch);
        Self { core, flushing: false, waiting: Vec::new(), held: Vec::new(), seen: 0 }
    }
}
