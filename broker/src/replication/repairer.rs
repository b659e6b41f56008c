//! Makes damaged logs whole: what is missing is asked of the other replicas, and put in its place.
//!
//! What is damaged is told to the controller only where that has not helped: most damage is gone before
//! anybody but the disk's owner has to hear of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::core::LogGeneration;
use super::exchange::{Range, records_in};
use super::partition::Partition;
use super::partitions::Partitions;
use crate::base::{BrokerId, Offset, PartitionId, tasks};
use crate::metadata::ImageCell;
use crate::peer::{PeerNet, Service};
use crate::storage::{Rebuild, RebuildError, RepairScope};

/// How long another replica may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Between two attempts at the same log, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct RepairCounters {
    segments: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
}

/// What was done so far, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepairTotals {
    /// Segments that are whole again.
    pub(crate) segments: u64,
    /// Bytes of records that came from other replicas.
    pub(crate) bytes: u64,
    /// Attempts that came to nothing.
    pub(crate) failures: u64,
}

impl RepairCounters {
    pub(crate) fn totals(&self) -> RepairTotals {
        let Self { segments, bytes, failures } = self;
        RepairTotals {
            segments: segments.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
        }
    }
}

/// Repairs the logs of this broker.
pub(super) struct Repairer {
    pub(super) partitions: Arc<Partitions>,
    pub(super) images: Arc<ImageCell>,
    pub(super) peers: Arc<dyn PeerNet>,
}

/// When a log is tried again.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Repairer {
    /// Repairs as long as the runtime lives.
    pub(super) async fn run(self) {
        let mut waiting: BTreeMap<PartitionId, Retry> = BTreeMap::new();
        loop {
            let next = waiting.values().map(|retry| retry.at).min();
            let told = self.partitions.exchange().holes();
            // Dropping the wait loses nothing: who is told is looked at below.
            match next {
                Some(at) => drop(timeout_at(at, told).await),
                None => told.await,
            }
            let now = Instant::now();
            let damaged = self.partitions.damaged();
            waiting.retain(|id, _| damaged.iter().any(|(other, _)| other == id));
            for (id, partition) in damaged {
                if waiting.get(&id).is_some_and(|retry| retry.at > now) {
                    continue;
                }
                let is_whole = self.repair(id, &partition).await;
                // What is left of the damage is told from here on.
                partition.look_for_holes();
                if is_whole {
                    waiting.remove(&id);
                } else {
                    let pause =
                        waiting.get(&id).map_or(RETRY_MIN, |r| (r.pause * 2).min(RETRY_MAX));
                    waiting.insert(id, Retry { at: Instant::now() + pause, pause });
                }
            }
        }
    }

    /// Repairs one log, segment by segment. Returns whether it is whole.
    async fn repair(&self, id: PartitionId, partition: &Arc<Partition>) -> bool {
        let mut after = None;
        loop {
            // What is damaged of a segment, and where, has to be known to the byte.
            let looked_at = partition.clone();
            let scope = blocking(move || looked_at.repair_scope(after)).await.flatten();
            let Some((segment, of, scope)) = scope else { break };
            match self.make_whole(id, partition, (of, scope)).await {
                Ok(bytes) => {
                    let counters = self.partitions.repairs();
                    counters.segments.fetch_add(1, Ordering::Relaxed);
                    counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                    info!(
                        partition = %partition.name, segment = segment.0, bytes,
                        "a damaged segment is whole again: other replicas had what was missing"
                    );
                }
                Err(why) => {
                    self.partitions.repairs().failures.fetch_add(1, Ordering::Relaxed);
                    warn!(
                        partition = %partition.name, segment = segment.0, %why,
                        "a damaged segment cannot be repaired now"
                    );
                    after = Some(segment);
                }
            }
        }
        !partition.has_damage()
    }

    /// Makes one segment whole. Returns the bytes that came from others.
    async fn make_whole(
        &self,
        id: PartitionId,
        partition: &Arc<Partition>,
        (of, scope): (LogGeneration, RepairScope),
    ) -> Result<u64, RebuildError> {
        let mut rebuild = in_background(move || scope.begin()).await?;
        let mut bytes = 0;
        while let Some((from, to)) = rebuild.wanted() {
            let Some(records) = self.ask(Range { partition: id, from, to }).await else {
                discard(rebuild).await;
                return Err(RebuildError::Unfit(format!("nobody has offsets {from} to {to}")));
            };
            bytes += u64::try_from(records.len()).unwrap_or(0);
            let supplied = in_background(move || match rebuild.supply(&records) {
                Ok(()) => Ok(rebuild),
                Err(error) => {
                    rebuild.discard()?;
                    Err(error)
                }
            });
            rebuild = supplied.await?;
        }
        let partition = partition.clone();
        let put =
            move || partition.put_repaired(rebuild.finish()?, of).map_err(RebuildError::Storage);
        if in_background(put).await? {
            Ok(bytes)
        } else {
            Err(RebuildError::Unfit("the log has changed meanwhile".to_owned()))
        }
    }

    /// Asks the other replicas one after another, the leader first.
    async fn ask(&self, range: Range) -> Option<Bytes> {
        for broker in self.others(range.partition) {
            let call = self.peers.call(broker, Service::Replication, range.encode(), ANSWER_MAX);
            match call.await {
                Ok(answer) => {
                    if let Some(records) = records_in(answer) {
                        return Some(records);
                    }
                }
                Err(error) => debug!(%broker, %error, "a replica does not answer"),
            }
        }
        None
    }

    /// Those with other replicas: who leads, who is in sync, and the rest that runs.
    fn others(&self, id: PartitionId) -> Vec<BrokerId> {
        let image = self.images.load();
        let state = image.topic_by_id(id.topic).and_then(|topic| topic.partition(id.index));
        let Some(state) = state else { return Vec::new() };
        let mut others: Vec<BrokerId> = Vec::new();
        for broker in state.leader.iter().chain(&state.isr).chain(&state.replicas) {
            let runs = image.broker(*broker).is_some_and(|known| !known.fenced);
            if runs && *broker != self.partitions.broker() && !others.contains(broker) {
                others.push(*broker);
            }
        }
        others
    }
}

async fn discard(rebuild: Rebuild) {
    // The next start removes what is left.
    let _removed = blocking(move || rebuild.discard()).await;
}

/// Runs what waits for the disk where that is allowed.
async fn in_background<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, RebuildError> + Send + 'static,
) -> Result<T, RebuildError> {
    let stopped = || Err(RebuildError::Unfit("the broker stops".to_owned()));
    blocking(run).await.unwrap_or_else(stopped)
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tasks::blocking(run).await.ok()
}

impl Partition {
    /// The first segment behind `after` that is damaged and can be repaired, read again first.
    fn repair_scope(
        self: &Arc<Self>,
        after: Option<Offset>,
    ) -> Option<(Offset, LogGeneration, RepairScope)> {
        let start = self.log_start();
        let known = self.quarantined();
        let mut damaged: Vec<Offset> = known
            .iter()
            .filter(|range| range.to > start && after.is_none_or(|after| range.segment > after))
            .map(|range| range.segment)
            .collect();
        damaged.dedup();
        let found = damaged.iter().find_map(|segment| {
            let scrubber = self.scrubber()?;
            // Where it cannot be read as a whole, what was known of it has to do.
            let _read_again = scrubber.scrub_at(*segment, self.directory().now());
            let (of, scope) = self.scope_at(*segment)?;
            Some((*segment, of, scope))
        });
        if found.is_none() && !damaged.is_empty() {
            // What a start has read is completed by the next flush, and can be replaced from then on.
            self.directory().flusher().request(self);
        }
        found
    }
}
