//! Clients that commit offsets for a group of their own, one higher than the other, as a consumer that
//! assigns itself does, and ask in between, and in the end, what is committed.
//!
//! (24) What is told is the last that was acknowledged, or one of those of which nobody knows what became
//! of them: a commit that was acknowledged is never lost, and nothing goes back behind it. A broker that was
//! deposed and has not heard of it yet may tell what was; not for long, which `tests/cluster` shows.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use sawlog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use sawlog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use sawlog_protocol::{ErrorCode, decode_response};

use super::clients::Client;
use super::machine::GROUP_PARTITIONS;
use crate::coordinator::partition_for;

const FIND_COORDINATOR: i16 = 4;
/// Versions without topic ids.
const COMMIT: i16 = 8;
const FETCH: i16 = 8;

/// The topic that offsets are committed of: nobody deletes it, and with it what is committed.
pub(super) const COMMITTED_TOPIC: &str = "kept";

/// A group, and what was sent for it.
#[derive(Debug)]
struct Group {
    name: String,
    /// The last commit that was acknowledged; -1 before there is one.
    acknowledged: i64,
    /// Those that may have come to be at any time since they were sent.
    uncertain: BTreeSet<i64>,
}

impl Group {
    fn check(&self, found: i64) {
        assert!(
            found == self.acknowledged || self.uncertain.contains(&found),
            "(24) {} has {found} committed: {} was acknowledged last, and nothing is known of {:?}",
            self.name,
            self.acknowledged,
            self.uncertain
        );
    }
}

impl Client {
    /// Commits until the world is at its end, and looks whether it is there then.
    pub(super) async fn commit(mut self) {
        let name = format!("group-{}", self.number);
        let mut group = Group { name, acknowledged: -1, uncertain: BTreeSet::new() };
        *self.shared.open.lock() += 1;
        let mut next = 0;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.pause(300).await;
            let Some(coordinator) = self.coordinator(&group.name).await else { continue };
            if self.random.below(3) == 0 {
                self.look(coordinator, &group).await;
                continue;
            }
            next += 1;
            if self.commit_one(coordinator, &group.name, next).await {
                group.acknowledged = next;
                self.shared.oracle.with(|known| known.totals.offsets += 1);
            } else {
                group.uncertain.insert(next);
            }
        }
        loop {
            if let Some(coordinator) = self.coordinator(&group.name).await
                && self.look(coordinator, &group).await
            {
                break;
            }
            self.pause(300).await;
        }
        *self.shared.open.lock() -= 1;
    }

    /// Asks what is committed. Returns whether who coordinates all the while has told.
    async fn look(&self, coordinator: i32, group: &Group) -> bool {
        let home = partition_for(&group.name, GROUP_PARTITIONS).unwrap_or(0);
        let leads = || self.shared.oracle.coordinates(coordinator, home);
        let led = leads();
        let found = self.committed(coordinator, &group.name, (COMMITTED_TOPIC, 0)).await;
        let Some(found) = found.filter(|_| led.is_some() && led == leads()) else { return false };
        group.check(found);
        true
    }

    /// Who coordinates a group, as some broker says.
    pub(super) async fn coordinator(&mut self, group: &str) -> Option<i32> {
        let at = self.any_broker();
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![group], ..Default::default() };
        let answer = self.ask(at, &request, FIND_COORDINATOR).await?;
        let decoded = decode_response::<FindCoordinatorRequest<'_>>(&answer, FIND_COORDINATOR);
        let (_, response) = decoded.expect("an answer that can be read");
        let found = response.coordinators.first()?;
        (found.error_code == ErrorCode::NONE).then_some(found.node_id)
    }

    /// Whether it was acknowledged.
    async fn commit_one(&self, coordinator: i32, group: &str, offset: i64) -> bool {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: COMMITTED_TOPIC,
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: group,
            generation_id_or_member_epoch: -1,
            retention_time_ms: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let Some(answer) = self.ask(coordinator, &request, COMMIT).await else { return false };
        let decoded = decode_response::<OffsetCommitRequest<'_>>(&answer, COMMIT);
        let (_, response) = decoded.expect("an answer that can be read");
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        partition.is_some_and(|partition| partition.error_code == ErrorCode::NONE)
    }

    /// What is committed, -1 for nothing; none where the broker does not say.
    pub(super) async fn committed(
        &self,
        coordinator: i32,
        group: &str,
        (topic, partition): (&str, i32),
    ) -> Option<i64> {
        let topic = OffsetFetchRequestTopics {
            name: topic,
            partition_indexes: vec![partition],
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: group,
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let answer = self.ask(coordinator, &request, FETCH).await?;
        let decoded = decode_response::<OffsetFetchRequest<'_>>(&answer, FETCH);
        let (_, response) = decoded.expect("an answer that can be read");
        let group = response.groups.first()?;
        if group.error_code != ErrorCode::NONE {
            return None;
        }
        let partition = group.topics.first()?.partitions.first()?;
        (partition.error_code == ErrorCode::NONE).then_some(partition.committed_offset)
    }
}
