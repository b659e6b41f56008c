//! Committed offsets: kept, told, and forgotten once nobody can need them.
//!
//! An offset is forgotten when it is deleted, when its topic is, or `offsets.retention.minutes`
//! after its group became empty or stopped reading the topic. Never while members come and go: who
//! joins may subscribe to anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::core::Groups;
use super::group::{Group, OffsetAge};
use super::record::{OffsetRecord, Record};
use super::timeline::EventKind;
use super::turn::Turn;
use super::types::{
    Committed, FetchedOffset, GroupError, GroupId, GroupState, OffsetCommit, OffsetDelete,
    OffsetFetch,
};
use crate::base::{Timestamp, TopicPartition};

impl Groups {
    pub(super) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        request: OffsetCommit,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        match self.find_mut(turn, &request.group) {
            Some(group) => group.accept_commit(turn, &request)?,
            // A consumer that only keeps its offsets here; the first makes the group.
            None if request.generation.0 < 0 => {}
            None if request.knows_member_epochs => return Err(GroupError::GroupIdNotFound),
            None => return Err(GroupError::IllegalGeneration),
        }
        let committed_at = turn.now.wall;
        let expires_at = request.retention.map(|keep| after(committed_at, keep.as_millis()));
        let results = request.offsets.into_iter().map(|offset| {
            if offset.metadata.len() > turn.options.offset_metadata_bytes_max {
                return Err(GroupError::OffsetMetadataTooLarge);
            }
            turn.write(Record::Offset {
                group: request.group.clone(),
                partition: offset.partition,
                value: Some(OffsetRecord {
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata,
                    committed_at,
                    expires_at,
                }),
            });
            Ok(())
        });
        Ok(results.collect())
    }

    pub(super) fn fetch(
        &self,
        turn: &mut Turn<'_>,
        request: OffsetFetch,
    ) -> Result<Vec<FetchedOffset>, GroupError> {
        let group = self.find(turn, &request.group);
        if let Some(group) = group {
            group.accept_fetch(&request)?;
        }
        let Some(partitions) = request.partitions else {
            let all = group.iter().flat_map(|group| &group.offsets);
            return Ok(all.map(|(at, value)| fetched(at.clone(), Some(value))).collect());
        };
        let stored = |at: &TopicPartition| group.and_then(|group| group.offsets.get(at));
        let answers = partitions.into_iter().map(|at| {
            let value = stored(&at);
            fetched(at, value)
        });
        Ok(answers.collect())
    }

    pub(super) fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        request: &OffsetDelete,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if request.group.as_str().is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let group = self.find(turn, &request.group).ok_or(GroupError::GroupIdNotFound)?;
        if group.state() != GroupState::Empty && !group.is_of_consumers() {
            return Err(GroupError::NonEmptyGroup);
        }
        let mut forgotten = BTreeSet::new();
        let results = request.partitions.iter().map(|at| {
            if group.reads(&at.topic) {
                return Err(GroupError::GroupSubscribedToTopic);
            }
            if group.offsets.contains_key(at) {
                forgotten.insert(at.clone());
            }
            Ok(())
        });
        let results = results.collect();
        forget(turn, &request.group, forgotten);
        Ok(results)
    }

    /// The topics are gone, and the offsets in them mean nothing.
    pub(super) fn forget_topics(&self, turn: &mut Turn<'_>, topics: &[Arc<str>]) {
        for (id, group) in &self.by_id {
            let gone: BTreeSet<_> =
                group.offsets.keys().filter(|at| topics.contains(&at.topic)).cloned().collect();
            forget(turn, id, gone);
        }
    }

    /// Forgets offsets past their retention, and groups nothing is left of.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        for (id, group) in &mut self.by_id {
            let expired = expired_offsets(turn, group);
            let is_left = expired.len() < group.offsets.len();
            if !expired.is_empty() {
                group.note(turn, EventKind::OffsetsExpired { count: expired.len() });
            }
            forget(turn, id, expired);
            if !is_left && group.is_unused() {
                group.write_tombstones(turn, id);
            }
        }
    }
}

fn expired_offsets(turn: &Turn<'_>, group: &Group) -> BTreeSet<TopicPartition> {
    let Some(age) = group.offsets_age_from() else { return BTreeSet::new() };
    let retention = turn.options.offsets_retention.as_millis();
    let is_expired = |value: &OffsetRecord| match (value.expires_at, age) {
        (Some(expires_at), _) => turn.now.wall >= expires_at,
        (None, OffsetAge::Committed) => turn.now.wall >= after(value.committed_at, retention),
        // Kafka counts from `since` alone: what an operator commits for a group that has long been
        // empty would be gone at once.
        (None, OffsetAge::Since(since)) => {
            turn.now.wall >= after(since.max(value.committed_at), retention)
        }
    };
    let unused = group
        .offsets
        .iter()
        .filter(|(at, _)| !group.reads(&at.topic) || planted!(ExpireOffsetsInUse));
    unused.filter(|(_, value)| is_expired(value)).map(|(at, _)| at.clone()).collect()
}

fn after(time: Timestamp, ms: u128) -> Timestamp {
    Timestamp(time.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}

fn forget(turn: &mut Turn<'_>, group: &GroupId, partitions: BTreeSet<TopicPartition>) {
    for partition in partitions {
        turn.write(Record::Offset { group: group.clone(), partition, value: None });
    }
}

fn fetched(partition: TopicPartition, value: Option<&OffsetRecord>) -> FetchedOffset {
    let committed = value.map(|value| Committed {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
    });
    FetchedOffset { partition, committed: Ok(committed) }
}
