//! Members of the classic protocol, in groups of either.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};

use super::client::{Call, Phase};
use super::world::World;
use crate::coordinator::tests::driver::{client, group};
use crate::coordinator::*;

/// Partitions that came while a static leader was away. Its new process takes the place of the old one
/// without a rebalance (KIP-345) and takes the topics for what the assignment was made of: it sees no
/// change, and they are read by nobody until the next rebalance. So it is in Apache Kafka, with either
/// version of JoinGroup: `GroupMetadataManager.updateStaticMemberThenRebalanceOrCompleteJoin`, and where
/// the process hears that it leads (KIP-814), `ConsumerCoordinator.onLeaderElected`.
#[derive(Debug)]
pub(super) struct Unseen {
    leader: MemberId,
    generation: i32,
    partitions: Range<i32>,
}

impl World {
    /// Before `record`, written for the request of `call`, is told.
    pub(super) fn note_returned_leader(&mut self, call: &Call, record: &Record) {
        let Request::Join(JoinGroup { instance: Some(_), member: None, .. }) = &call.request else {
            return;
        };
        let Record::Group { value: Some(group), .. } = record else { return };
        let (Some(old), Some(new)) = (self.told.leader.clone(), group.leader.clone()) else {
            return;
        };
        let generation = group.generation.0;
        let client = &self.clients[call.place];
        if self.told.epoch != generation || old == new || client.process != call.process {
            return;
        }
        let Some(shared) = self.shared_out.get(&(generation, old)).copied() else { return };
        self.shared_out.insert((generation, new.clone()), shared);
        let partitions = shared..client.known_partitions;
        self.unseen = Some(Unseen { leader: new, generation, partitions });
    }

    /// Partitions nobody reads, and nobody has to.
    pub(super) fn unseen(&self) -> Range<i32> {
        let is_now = |unseen: &&Unseen| {
            !self.told.is_consumer
                && self.told.leader.as_ref() == Some(&unseen.leader)
                && self.told.epoch == unseen.generation
        };
        self.unseen.as_ref().filter(is_now).map_or(0..0, |unseen| unseen.partitions.clone())
    }

    pub(super) fn classic_join(&mut self, place: usize) {
        if !self.is_cooperative {
            self.read(place, BTreeSet::new());
        }
        let known_partitions = self.partitions;
        let known = &mut self.clients[place];
        known.phase = Phase::Joining;
        known.known_partitions = known_partitions;
        let owned =
            TopicPartition { topic: "orders", partitions: known.owned.iter().copied().collect() };
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["orders"],
            owned_partitions: vec![owned],
            ..Default::default()
        };
        let name = if self.is_cooperative { "cooperative-sticky" } else { "range" };
        let protocol = Protocol { name: name.into(), metadata: subscription.to_bytes(3) };
        let request = JoinGroup {
            group: group(),
            member: known.id.clone(),
            instance: known.instance.clone(),
            fresh_member: "".into(),
            client: client(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(15),
            reason: None,
            knows_member_id_required: true,
            knows_skip_assignment: false,
        };
        self.send(place, request.into_request());
    }

    pub(super) fn classic_beat(&mut self, place: usize) {
        let known = &self.clients[place];
        let Some(id) = known.id.clone() else { return };
        if known.known_partitions != self.partitions {
            return self.classic_join(place);
        }
        let request = Heartbeat {
            group: group(),
            member: id,
            instance: known.instance.clone(),
            generation: Generation(known.epoch),
        };
        self.send(place, request.into_request());
    }

    /// The leader shares the partitions out. What somebody still reads goes to nobody else.
    fn classic_sync(&mut self, place: usize, everyone: &[(MemberId, BTreeSet<i32>)]) {
        let known = &self.clients[place];
        let Some(id) = known.id.clone() else { return };
        if !everyone.is_empty() {
            self.shared_out.insert((known.epoch, id.clone()), known.known_partitions);
        }
        let request = SyncGroup {
            group: group(),
            member: id,
            instance: known.instance.clone(),
            generation: Generation(known.epoch),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: shares(everyone, known.known_partitions),
        };
        self.send(place, request.into_request());
    }

    pub(super) fn on_classic_reply(&mut self, place: usize, reply: Reply) {
        match reply {
            Reply::Join(Ok(joined)) => {
                let everyone: Vec<_> = joined
                    .members
                    .iter()
                    .map(|it| (it.member.clone(), owned(&it.metadata)))
                    .collect();
                let client = &mut self.clients[place];
                client.epoch = joined.generation.0;
                client.id = Some(joined.member);
                client.phase = Phase::Syncing(everyone.clone());
                self.classic_sync(place, &everyone);
            }
            Reply::Join(Err(refused)) => {
                self.on_classic_error(place, refused.error, refused.member);
            }
            Reply::Sync(Ok(synced)) => {
                let assignment =
                    ConsumerProtocolAssignment::from_bytes(&synced.assignment).unwrap();
                let topics = assignment.assigned_partitions.iter();
                let assigned: BTreeSet<i32> =
                    topics.flat_map(|topic| topic.partitions.iter().copied()).collect();
                let has_lost = !self.clients[place].owned.is_subset(&assigned);
                self.read(place, assigned);
                self.clients[place].phase = Phase::Active;
                if has_lost && self.is_cooperative {
                    self.totals.revoked += 1;
                    self.classic_join(place);
                }
            }
            Reply::Sync(Err(error)) | Reply::Heartbeat(Err(error)) => {
                self.on_classic_error(place, error, None);
            }
            _ => {}
        }
    }

    pub(super) fn on_classic_error(
        &mut self,
        place: usize,
        error: GroupError,
        given: Option<MemberId>,
    ) {
        match error {
            GroupError::MemberIdRequired => {
                self.clients[place].id = given;
                self.classic_join(place);
            }
            GroupError::RebalanceInProgress => self.clients[place].phase = Phase::Joining,
            GroupError::IllegalGeneration => {
                self.read(place, BTreeSet::new());
                self.clients[place].phase = Phase::Joining;
            }
            GroupError::UnknownMember
            | GroupError::GroupIdNotFound
            | GroupError::InconsistentProtocol => {
                self.totals.fenced += 1;
                self.read(place, BTreeSet::new());
                self.clients[place].phase = Phase::Joining;
                self.clients[place].id = None;
            }
            GroupError::FencedInstance if !self.is_calm => {
                self.totals.fenced += 1;
                self.die(place);
            }
            _ => {}
        }
    }
}

fn owned(metadata: &Bytes) -> BTreeSet<i32> {
    let subscription = ConsumerProtocolSubscription::from_bytes(metadata).unwrap();
    let topics = subscription.owned_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().copied()).collect()
}

fn shares(everyone: &[(MemberId, BTreeSet<i32>)], partitions: i32) -> Vec<(MemberId, Bytes)> {
    let count = i32::try_from(everyone.len()).unwrap().max(1);
    let most = usize::try_from(partitions / count + i32::from(partitions % count != 0)).unwrap();
    let mut taken = BTreeSet::new();
    let mut shares: BTreeMap<&MemberId, Vec<i32>> = BTreeMap::new();
    for (member, owned) in everyone {
        let kept = owned.iter().copied().filter(|it| taken.insert(*it)).collect::<Vec<_>>();
        shares.insert(member, kept.into_iter().take(most).collect());
    }
    for partition in (0..partitions).filter(|partition| !taken.contains(partition)) {
        if let Some(share) = shares.values_mut().min_by_key(|share| share.len()) {
            share.push(partition);
        }
    }
    let assignment = |partitions: Vec<i32>| {
        let assigned = TopicPartition { topic: "orders", partitions };
        ConsumerProtocolAssignment { assigned_partitions: vec![assigned], user_data: None }
    };
    let each = shares.into_iter();
    each.map(|(member, share)| (member.clone(), assignment(share).to_bytes(3))).collect()
}
