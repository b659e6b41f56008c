//! The consumer protocol (KIP-848): members say what they read, and are told what to let go of and what
//! to take.

use std::collections::BTreeSet;

use sawlog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use sawlog_protocol::{ErrorCode, decode_response};

use super::{Asked, Member, PATIENCE, SHARED_TOPIC};
use crate::sim::machine::SESSION;

/// Members bring their own ids.
const HEARTBEAT: i16 = 1;

/// Epochs of who joins and who leaves.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// Longer than a world lasts: who is asked to let go does.
const REBALANCE_MS: i32 = 300_000;

impl Member {
    /// Joins, or says that it lives; and what it reads, where the coordinator may not know.
    pub(super) async fn beat_consumer(&mut self, at: i32) {
        let Some(topic_id) = self.client.shared.oracle.topic(SHARED_TOPIC) else { return };
        if self.id.is_empty() {
            self.lives += 1;
            self.id = format!("member-{}-{}", self.client.number, self.lives);
            self.client.shared.oracle.with(|known| known.totals.members += 1);
        }
        let (group, id) = (self.group.name.clone(), self.id.clone());
        let asked = self.begin(at);
        let says_all = std::mem::take(&mut self.says_all) || self.epoch.is_none();
        let partitions = self.reads.iter().copied().collect();
        let owned = if self.reads.is_empty() {
            Vec::new()
        } else {
            vec![TopicPartitions { topic_id, partitions }]
        };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &group,
            member_id: &id,
            member_epoch: self.epoch.unwrap_or(JOIN),
            rebalance_timeout_ms: if says_all { REBALANCE_MS } else { -1 },
            subscribed_topic_names: says_all.then(|| vec![SHARED_TOPIC]),
            topic_partitions: says_all.then_some(owned),
            ..Default::default()
        };
        if says_all {
            self.group.facts.lock().on_released(&id, &self.reads);
        }
        let Some(answer) = self.ask(at, &request, HEARTBEAT, PATIENCE).await else { return };
        let decoded = decode_response::<ConsumerGroupHeartbeatRequest<'_>>(&answer, HEARTBEAT);
        let (_, response) = decoded.expect("an answer that can be read");
        match response.error_code {
            ErrorCode::NONE => self.on_told(&asked, &response),
            error => self.react(error),
        }
    }

    fn on_told(&mut self, asked: &Asked, told: &ConsumerGroupHeartbeatResponse<'_>) {
        let epoch = told.member_epoch;
        assert!(
            self.epoch.is_none_or(|before| before <= epoch),
            "(24) the epoch of {} falls from {:?} to {epoch}",
            self.id,
            self.epoch
        );
        let is_sure = self.is_sure(asked);
        let standing = self.standing(&self.id, epoch);
        let assigned = told.assignment.as_ref().map(|assignment| {
            let topics = assignment.topic_partitions.iter();
            topics.flat_map(|topic| topic.partitions.iter().copied()).collect::<BTreeSet<i32>>()
        });
        let mut facts = self.group.facts.lock();
        if is_sure {
            facts.check_sure(&standing, asked.moment);
            facts.on_heard(&self.id, asked.at);
        }
        let is_new = facts.on_told(&standing);
        if let Some(assigned) = assigned.as_ref().filter(|_| is_sure) {
            let more = assigned.difference(&self.reads).copied().collect();
            facts.on_given((&self.id, asked.at), &more, SESSION);
        }
        drop(facts);
        let epochs = u64::from(is_new);
        self.client.shared.oracle.with(|known| known.totals.generations += epochs);
        let reads = assigned.unwrap_or_else(|| self.reads.clone());
        if reads != self.reads || self.epoch != Some(epoch) {
            // What it has let go of or taken is said with the next heartbeat.
            self.says_all |= reads != self.reads;
            self.settle(epoch, reads);
        } else if is_sure {
            self.group.facts.lock().on_confirmed(self.client.number, asked.moment);
        }
    }

    pub(super) async fn leave_consumer(&mut self, at: i32) {
        let (group, id) = (self.group.name.clone(), self.id.clone());
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &group,
            member_id: &id,
            member_epoch: LEAVE,
            ..Default::default()
        };
        // From here on nobody needs to wait for it.
        self.group.facts.lock().on_released(&id, &BTreeSet::new());
        let Some(answer) = self.ask(at, &request, HEARTBEAT, PATIENCE).await else { return };
        let decoded = decode_response::<ConsumerGroupHeartbeatRequest<'_>>(&answer, HEARTBEAT);
        let (_, response) = decoded.expect("an answer that can be read");
        if response.error_code == ErrorCode::NONE {
            // Whatever comes of it afterwards is late.
            let gone = self.standing(&id, i32::MAX);
            self.group.facts.lock().on_told(&gone);
        }
    }
}
