//! What replication comes to, in numbers.

use std::collections::BTreeMap;

use super::partitions::Partitions;
use crate::base::BrokerId;
use crate::metrics::Counter;

/// Counters of this broker's replicas.
#[derive(Debug, Default)]
pub(crate) struct ReplicationMetrics {
    /// Replicas that left in-sync sets of partitions led here.
    pub(crate) shrinks: Counter,
    /// Those that joined.
    pub(crate) expands: Counter,
    /// Changes the controller refused, or did not answer.
    pub(crate) refused: Counter,
    /// Bytes of records taken from leaders.
    pub(crate) fetched_bytes: Counter,
    /// Bytes of records sent to followers.
    pub(crate) served_bytes: Counter,
    /// Fetches without an answer of use.
    pub(crate) fetch_failures: Counter,
}

impl ReplicationMetrics {
    /// An in-sync set led here has another size.
    pub(super) fn on_in_sync(&self, before: usize, after: usize) {
        self.shrinks.add(crate::metrics::count(before.saturating_sub(after)));
        self.expands.add(crate::metrics::count(after.saturating_sub(before)));
    }
}

/// How far a follower is behind, over all partitions led here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Records it does not have.
    pub(crate) records: u64,
    /// Of the partition where that is most.
    pub(crate) records_max: u64,
    /// About how many bytes they are.
    pub(crate) bytes: u64,
}

impl Partitions {
    /// How far each follower is behind that has replicas of what is led here.
    pub(crate) fn lags(&self) -> BTreeMap<BrokerId, Lag> {
        let mut lags: BTreeMap<BrokerId, Lag> = BTreeMap::new();
        for partition in self.all() {
            if !partition.has_followers() {
                continue;
            }
            let end = partition.log_end();
            let start = partition.log_start();
            for (broker, reported) in partition.inspect(|core| core.follower_ends()) {
                let lag = lags.entry(broker).or_default();
                // Of one that has said nothing in this leadership nothing is known: all of it.
                let from = reported.unwrap_or(start).max(start);
                let records = u64::try_from(end.minus(from)).unwrap_or(0);
                lag.records += records;
                lag.records_max = lag.records_max.max(records);
                if records > 0 {
                    lag.bytes += partition.reader().bytes_behind(from);
                }
            }
        }
        lags
    }
}
