//! What a partition does for its compaction. The work is done on the threads of
//! [`crate::replication::cleaner`]; here are the short steps under the partition's lock.

use std::sync::Arc;

use super::{Partition, State};
use crate::base::Timestamp;
use crate::config::TopicConfig;
use crate::storage::{
    CompactionLimits, CompactionRules, CompactionScope, Dirtiness, Replacement, StorageError,
};

impl Partition {
    /// How dirty the log is; none where the topic is not compacted or the log is offline.
    pub(crate) fn dirtiness(&self, now: Timestamp) -> Option<Dirtiness> {
        let config = self.config();
        if !config.cleanup_policy.compacts() {
            return None;
        }
        let state = self.state.lock();
        let rules = compaction_rules(&config);
        Some(state.log.as_ref()?.dirtiness(limits(&state), now, &rules))
    }

    /// What a pass over the log works on; none as with [`Self::dirtiness`].
    pub(crate) fn compaction_scope(
        &self,
        now: Timestamp,
    ) -> Option<(CompactionScope, CompactionRules)> {
        let config = self.config();
        if !config.cleanup_policy.compacts() {
            return None;
        }
        let state = self.state.lock();
        let rules = compaction_rules(&config);
        let log = state.log.as_ref()?;
        let scope = log.compaction_scope(limits(&state), now, &rules, state.core.producers());
        Some((scope, rules))
    }

    /// Puts a compacted segment in its place. False where what it stands for is gone, or the log.
    ///
    /// # Errors
    /// The files could not be changed; the log is offline.
    pub(crate) fn replace(
        self: &Arc<Self>,
        replacement: Replacement,
    ) -> Result<bool, StorageError> {
        let begun = match self.state.lock().log.as_mut() {
            Some(log) => log.begin_swap(replacement),
            None => Err(replacement),
        };
        let ticket = match begun {
            Ok(ticket) => ticket,
            Err(replacement) => {
                replacement.discard()?;
                return Ok(false);
            }
        };
        let swapped = ticket.run();
        let mut state = self.state.lock();
        // Deleted or failed meanwhile: the files are nobody's.
        let Some(log) = state.log.as_mut() else { return Ok(false) };
        if let Err(error) = log.end_swap(swapped) {
            self.fail(state, &error);
            return Err(error);
        }
        let waits = state.due.is_some();
        drop(state);
        if waits {
            self.directory.flusher().request(self);
        }
        Ok(true)
    }
}

/// Records that a consumer of any kind cannot see yet neither go nor take the place of others.
fn limits(state: &State) -> CompactionLimits {
    CompactionLimits {
        stable: state.core.last_stable_offset(),
        committed: state.core.high_watermark(),
    }
}

/// The part of a topic's settings its logs are compacted by.
fn compaction_rules(config: &Arc<TopicConfig>) -> CompactionRules {
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    CompactionRules {
        delete_retention_ms: ms(config.delete_retention_ms),
        min_lag_ms: ms(config.min_compaction_lag_ms),
        max_lag_ms: ms(config.max_compaction_lag_ms),
        min_dirty_ratio: config.min_cleanable_dirty_ratio,
        segment_bytes: u64::from(config.segment_bytes),
        index_interval_bytes: config.index_interval_bytes,
    }
}
