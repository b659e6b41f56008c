//! The classic protocol: members join a generation, one of them leads and shares the partitions out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};
use sawlog_protocol::messages::heartbeat::HeartbeatRequest;
use sawlog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use sawlog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use sawlog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use sawlog_protocol::{ErrorCode, decode_response};

use super::facts::Plan;
use super::{Member, PATIENCE, SHARED_TOPIC};

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;

/// The shortest there is.
const SESSION_MS: i32 = 6000;

/// How long a rebalance waits for a member.
const REBALANCE_MS: i32 = 3000;

/// Longer than a rebalance takes.
const JOIN_PATIENCE: Duration = Duration::from_secs(8);

/// What all of them say of themselves.
const CONSUMER: &str = "consumer";
const RANGE: &str = "range";

/// A generation that was joined.
struct Joined {
    generation: i32,
    /// Everybody, where it is to share out.
    members: Option<Vec<String>>,
}

impl Member {
    /// Joins, and learns what it is to read.
    pub(super) async fn join_classic(&mut self, at: i32) {
        let Some(joined) = self.ask_to_join(at).await else { return };
        if !self.is_over() && self.client.random.below(20) == 0 {
            return self.vanish().await;
        }
        self.sync(at, joined).await;
    }

    async fn ask_to_join(&mut self, at: i32) -> Option<Joined> {
        let asked = self.begin(at);
        let topics = vec![SHARED_TOPIC];
        let subscription = ConsumerProtocolSubscription { topics, ..Default::default() };
        let protocol = JoinGroupRequestProtocol { name: RANGE, metadata: subscription.to_bytes(1) };
        let (group, id) = (self.group.name.clone(), self.id.clone());
        let request = JoinGroupRequest {
            group_id: &group,
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: &id,
            protocol_type: CONSUMER,
            protocols: vec![protocol],
            ..Default::default()
        };
        let answer = self.ask(at, &request, JOIN, JOIN_PATIENCE).await?;
        let decoded = decode_response::<JoinGroupRequest<'_>>(&answer, JOIN);
        let (_, response) = decoded.expect("an answer that can be read");
        match response.error_code {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                response.member_id.clone_into(&mut self.id);
                self.client.shared.oracle.with(|known| known.totals.members += 1);
                return None;
            }
            error => {
                self.react(error);
                return None;
            }
        }
        let generation = response.generation_id;
        if self.is_sure(&asked) {
            let said = self.standing(&id, generation);
            let mut facts = self.group.facts.lock();
            facts.on_serving(asked.leads);
            facts.check_sure(&said, asked.moment);
        }
        let names = response.members.iter().map(|member| member.member_id.to_owned());
        let members = (response.leader == self.id).then(|| names.collect());
        Some(Joined { generation, members })
    }

    /// Who leads shares out; everybody is told.
    async fn sync(&mut self, at: i32, joined: Joined) {
        let asked = self.begin(at);
        // Who leads and is told of nobody has missed the end of the rebalance: it shares nothing out.
        let members = joined.members.filter(|members| !members.is_empty());
        let plan = members.map(|members| self.share_out(members)).unwrap_or_default();
        let number = (!plan.is_empty()).then(|| self.group.facts.lock().plan(plan.clone()));
        let assignments = plan.iter().map(|(id, reads)| SyncGroupRequestAssignment {
            member_id: id,
            assignment: assignment(reads, number.unwrap_or(0)),
        });
        let (group, id) = (self.group.name.clone(), self.id.clone());
        let request = SyncGroupRequest {
            group_id: &group,
            generation_id: joined.generation,
            member_id: &id,
            protocol_type: Some(CONSUMER),
            protocol_name: Some(RANGE),
            assignments: assignments.collect(),
            ..Default::default()
        };
        let Some(answer) = self.ask(at, &request, SYNC, JOIN_PATIENCE).await else { return };
        let decoded = decode_response::<SyncGroupRequest<'_>>(&answer, SYNC);
        let (_, response) = decoded.expect("an answer that can be read");
        if response.error_code != ErrorCode::NONE {
            return self.react(response.error_code);
        }
        let (plan, reads) = read(&response.assignment)
            .unwrap_or_else(|| panic!("(24) {id} is told of no plan in {}", joined.generation));
        let standing = self.standing(&id, joined.generation);
        let is_sure = self.is_sure(&asked);
        let is_new = {
            let mut facts = self.group.facts.lock();
            if is_sure {
                facts.check_sure(&standing, asked.moment);
            }
            facts.on_told(&standing);
            facts.on_assigned(joined.generation, &id, (plan, &reads))
        };
        let generations = u64::from(is_new);
        self.client.shared.oracle.with(|known| known.totals.generations += generations);
        self.settle(joined.generation, reads);
    }

    /// The partitions in turn, beginning with anybody.
    fn share_out(&mut self, mut members: Vec<String>) -> Plan {
        members.sort();
        let mut plan: Plan = members.iter().map(|member| (member.clone(), Vec::new())).collect();
        let first = self.client.random.below(u64::try_from(members.len()).unwrap_or(1));
        members.rotate_left(usize::try_from(first).unwrap_or(0));
        for (partition, member) in (0..self.group.crew.partitions).zip(members.iter().cycle()) {
            plan.entry(member.clone()).or_default().push(partition);
        }
        plan
    }

    pub(super) async fn beat_classic(&mut self, at: i32) {
        let Some(epoch) = self.epoch else { return };
        let asked = self.begin(at);
        let is_serving = self.group.facts.lock().is_serving(asked.leads);
        let (group, id) = (self.group.name.clone(), self.id.clone());
        let request = HeartbeatRequest {
            group_id: &group,
            generation_id: epoch,
            member_id: &id,
            ..Default::default()
        };
        let Some(answer) = self.ask(at, &request, HEARTBEAT, PATIENCE).await else { return };
        let decoded = decode_response::<HeartbeatRequest<'_>>(&answer, HEARTBEAT);
        let (_, response) = decoded.expect("an answer that can be read");
        match response.error_code {
            ErrorCode::NONE if self.is_sure(&asked) => {
                let standing = self.standing(&id, epoch);
                let mut facts = self.group.facts.lock();
                if is_serving {
                    facts.check_sure(&standing, asked.moment);
                }
                facts.on_confirmed(self.client.number, asked.moment);
            }
            ErrorCode::NONE => {}
            ErrorCode::REBALANCE_IN_PROGRESS => {
                // What it has read is committed before others go on with it.
                self.commit_one(at).await;
                self.react(ErrorCode::REBALANCE_IN_PROGRESS);
            }
            error => self.react(error),
        }
    }

    pub(super) async fn leave_classic(&mut self, at: i32) {
        let (group, id) = (self.group.name.clone(), self.id.clone());
        let members = vec![MemberIdentity { member_id: &id, ..Default::default() }];
        let request = LeaveGroupRequest { group_id: &group, members, ..Default::default() };
        // It is gone, whether that was heard or not.
        let _answer = self.ask(at, &request, LEAVE, PATIENCE).await;
    }
}

fn assignment(reads: &[i32], plan: usize) -> Bytes {
    let topic = TopicPartition { topic: SHARED_TOPIC, partitions: reads.to_vec() };
    let plan = u64::try_from(plan).unwrap_or(u64::MAX).to_be_bytes();
    let user_data = Some(Bytes::copy_from_slice(&plan));
    ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data }.to_bytes(1)
}

/// Plan and partitions of an assignment; none where there is no plan in it.
fn read(assignment: &Bytes) -> Option<(usize, BTreeSet<i32>)> {
    let assigned = ConsumerProtocolAssignment::from_bytes(assignment).ok()?;
    let plan = <[u8; 8]>::try_from(assigned.user_data.as_deref()?).ok()?;
    let reads = assigned.assigned_partitions.into_iter().flat_map(|topic| topic.partitions);
    Some((usize::try_from(u64::from_be_bytes(plan)).ok()?, reads.collect()))
}
