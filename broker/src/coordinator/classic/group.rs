//! The members of a classic group and what they have in common.
//!
//! Always holds, see [`ClassicGroup::check`]:
//! - the leader is a member; there is one exactly if there are members;
//! - every instance names the member that carries it, and no two members carry the same;
//! - `waiting` is the number of members whose JoinGroup waits; none waits but in
//!   `PreparingRebalance`;
//! - `votes` counts, per protocol, the members that know it; at least one protocol is known to all;
//! - an `Empty` group has no members, a `Stable` or `CompletingRebalance` one has some.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::member::Member;
use super::subscription::topics_of;
use crate::base::Timestamp;
use crate::coordinator::core::{Reply, RequestId};
use crate::coordinator::record::{GroupRecord, Record};
use crate::coordinator::timeline::Timeline;
use crate::coordinator::timers::{Timer, TimerKey};
use crate::coordinator::turn::Turn;
use crate::coordinator::types::{
    Client, DescribedGroup, Generation, GroupError, GroupId, GroupState, InstanceId, JoinRefused,
    MemberId, Protocol,
};

/// Protocol type of groups of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// What the join timer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum JoinWait {
    /// Members of the last generation join again.
    #[default]
    Rejoin,
    /// More members come to a group that was empty.
    Initial {
        /// The wait that is running.
        delay: Duration,
        /// By how much it may still be extended.
        remaining: Duration,
    },
}

/// A group of the classic protocol.
#[derive(Clone, Debug)]
pub(in crate::coordinator) struct ClassicGroup {
    pub(super) id: GroupId,
    pub(super) state: GroupState,
    pub(super) previous_state: GroupState,
    /// Since when it is in that state, if that is known.
    pub(super) state_since: Option<Timestamp>,
    pub(super) generation: Generation,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    /// Clients that were given a member id and have not joined with it yet.
    pub(super) pending: BTreeMap<MemberId, Timer>,
    /// Members that have not fetched the assignment of this generation.
    pub(super) unsynced: BTreeSet<MemberId>,
    pub(super) waiting: usize,
    votes: BTreeMap<Arc<str>, usize>,
    /// What consumers read; None if that is not known.
    pub(super) topics: Option<BTreeSet<Arc<str>>>,
    /// Somebody came during the first rebalance.
    pub(super) has_new_member: bool,
    /// What was read from the log waits for a rebalance that nobody has led to its end.
    pub(super) is_leaderless: bool,
    pub(super) join_timer: Timer,
    pub(super) join_wait: JoinWait,
    pub(super) sync_timer: Timer,
    pub(super) timeline: Timeline,
}

impl ClassicGroup {
    /// A group nobody has joined.
    pub(in crate::coordinator) fn new(id: GroupId, timeline: Timeline) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            previous_state: GroupState::Empty,
            state_since: None,
            generation: Generation(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            waiting: 0,
            votes: BTreeMap::new(),
            topics: None,
            has_new_member: false,
            is_leaderless: false,
            join_timer: Timer::default(),
            join_wait: JoinWait::Rejoin,
            sync_timer: Timer::default(),
            timeline,
        }
    }

    /// The group a record tells of.
    pub(in crate::coordinator) fn from_record(id: GroupId, record: GroupRecord) -> Self {
        let mut group = Self::new(id, Timeline::default());
        group.generation = record.generation;
        group.protocol_type = (!record.protocol_type.is_empty()).then_some(record.protocol_type);
        group.protocol = record.protocol;
        group.state_since = (record.state_since.0 >= 0).then_some(record.state_since);
        // Without a protocol, or twice, is not how this was written: such a member has to come anew.
        let members = if group.protocol.is_some() { record.members } else { Vec::new() };
        for member in members {
            let is_known = |instance| group.instances.contains_key(instance);
            if group.members.contains_key(&member.member)
                || member.instance.as_ref().is_some_and(is_known)
            {
                continue;
            }
            group.insert(Member::from_record(member, group.protocol.clone().as_ref()));
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
            group.previous_state = GroupState::Stable;
            let known = record.leader.filter(|leader| group.members.contains_key(leader));
            group.is_leaderless = known.is_none();
            group.leader = known.or(group.leader);
        }
        group.topics = group.subscribed_topics();
        group
    }

    /// What a restart is to bring back.
    pub(super) fn record(&self) -> Record {
        self.record_led_by(self.leader.clone())
    }

    /// As [`Self::record`], for members nobody has shared the partitions out to: with no leader in it,
    /// a restart brings back the rebalance they are in need of, too. Apache Kafka reads such a record
    /// as one of a stable group that the first of its members leads.
    pub(super) fn record_to_be_rebalanced(&self) -> Record {
        self.record_led_by(None)
    }

    fn record_led_by(&self, leader: Option<MemberId>) -> Record {
        let protocol = self.protocol.as_deref();
        Record::Group {
            group: self.id.clone(),
            value: Some(GroupRecord {
                protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader,
                state_since: self.state_since.unwrap_or(Timestamp::NONE),
                members: self.members.values().map(|member| member.to_record(protocol)).collect(),
            }),
        }
    }

    pub(in crate::coordinator) fn state(&self) -> GroupState {
        self.state
    }

    pub(in crate::coordinator) fn generation(&self) -> Generation {
        self.generation
    }

    /// A group nobody has joined, whose generations go on from `generation`.
    pub(in crate::coordinator) fn after(
        id: GroupId,
        generation: Generation,
        timeline: Timeline,
    ) -> Self {
        Self { generation, ..Self::new(id, timeline) }
    }

    pub(in crate::coordinator) fn state_since(&self) -> Option<Timestamp> {
        self.state_since
    }

    pub(in crate::coordinator) fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// Whether nothing of it is worth keeping but its offsets.
    pub(in crate::coordinator) fn is_unused(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    /// Whether the group is in use as one of consumers.
    pub(in crate::coordinator) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Topics its members read, where that is known.
    pub(in crate::coordinator) fn topics(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.topics.as_ref()
    }

    /// Whether a member may read `topic`: one cannot be sure before the first subscription.
    pub(in crate::coordinator) fn reads(&self, topic: &str) -> bool {
        self.topics.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    pub(in crate::coordinator) fn timeline(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    pub(in crate::coordinator) fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol.as_deref().filter(|_| self.state == GroupState::Stable);
        DescribedGroup {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            protocol: protocol.unwrap_or_default().into(),
            members: self.members.values().map(|member| member.described(protocol)).collect(),
        }
    }

    /// Takes `member` in. The caller has checked that its protocols fit.
    pub(super) fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.vote(&member.protocols);
        self.waiting += usize::from(member.joining.is_some());
        self.pending.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// The program behind a member.
    pub(super) fn client_of(&self, id: &MemberId) -> Option<Client> {
        self.members.get(id).map(|member| member.client.clone())
    }

    /// Lets a member or pending member go. Requests of it that wait are refused with `error`.
    pub(super) fn remove(&mut self, turn: &mut Turn<'_>, id: &MemberId, error: GroupError) {
        self.pending.remove(id);
        self.unsynced.remove(id);
        let Some(mut member) = self.members.remove(id) else { return };
        self.unvote(&member.protocols);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        if let Some(request) = member.joining.take() {
            self.waiting -= 1;
            refuse_join(turn, request, error, None);
        }
        if let Some(request) = member.syncing.take() {
            turn.reply(request, Reply::Sync(Err(error)));
        }
    }

    /// Replaces what a member says of itself by `request`, which waits from now on.
    pub(super) fn wait_to_join(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        request: RequestId,
        change: impl FnOnce(&mut Member),
    ) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = member.protocols.clone();
        change(member);
        let after = member.protocols.clone();
        match member.joining.replace(request) {
            // The client has given up waiting for that one.
            Some(_) if planted!(ForgetRepeatedJoin) => {}
            Some(old) => refuse_join(turn, old, GroupError::RebalanceInProgress, Some(id.clone())),
            None => self.waiting += 1,
        }
        self.unvote(&before);
        self.vote(&after);
    }

    /// The JoinGroup of `id` that waits; it waits no longer.
    pub(super) fn take_joining(&mut self, id: &MemberId) -> Option<RequestId> {
        let request = self.members.get_mut(id)?.joining.take()?;
        self.waiting -= 1;
        Some(request)
    }

    /// Whether `id` (and, for a static member, its instance) is a member.
    ///
    /// # Errors
    /// It is not, or another process has taken its instance.
    pub(super) fn validate(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != id => {
                    return Err(GroupError::FencedInstance);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    /// Whether a member with these protocols could be in the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.is_known_to_all(&protocol.name))
    }

    fn is_known_to_all(&self, protocol: &str) -> bool {
        self.votes.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol most members prefer among those all know; of equals the first by name.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let mut ballots: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(|known| self.is_known_to_all(&known.name));
            *ballots.entry(&choice?.name).or_default() += 1;
        }
        let most = ballots.values().copied().max()?;
        ballots.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    fn vote(&mut self, protocols: &[Protocol]) {
        for name in distinct(protocols) {
            *self.votes.entry(name.clone()).or_default() += 1;
        }
    }

    fn unvote(&mut self, protocols: &[Protocol]) {
        for name in distinct(protocols) {
            if let Some(count) = self.votes.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.votes.remove(name);
                }
            }
        }
    }

    /// What the members read, by their subscriptions for the protocol chosen.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(topics_of(&member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }

    /// The longest any member may take to join again.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn has_all_joined(&self) -> bool {
        self.waiting == self.members.len() && self.pending.is_empty()
    }

    pub(super) fn transition(&mut self, turn: &Turn<'_>, state: GroupState) {
        self.previous_state = self.state;
        self.state = state;
        self.state_since = Some(turn.now.wall);
    }

    /// A sign of life: the session of `id` begins anew.
    pub(in crate::coordinator) fn refresh(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        if let Some(timeout) = self.members.get(id).map(|member| member.session_timeout) {
            self.expect_within(turn, id, timeout);
        }
    }

    pub(super) fn expect_within(&mut self, turn: &mut Turn<'_>, id: &MemberId, timeout: Duration) {
        let Some(member) = self.members.get_mut(id) else { return };
        let at = turn.now.monotonic + timeout;
        turn.timers.set(&mut member.session, at, || TimerKey::Session(self.id.clone(), id.clone()));
    }

    /// The requests that wait here.
    pub(in crate::coordinator) fn waiting_requests(&self) -> impl Iterator<Item = RequestId> {
        self.members.values().flat_map(|member| member.joining.into_iter().chain(member.syncing))
    }

    /// Asserts what always holds.
    pub(in crate::coordinator) fn check(&self) {
        let id = &self.id;
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "{id}: leader");
        if let Some(leader) = &self.leader {
            assert!(self.members.contains_key(leader), "{id}: the leader {leader} is no member");
        }
        let instances: BTreeMap<_, _> = self
            .members
            .values()
            .filter_map(|member| Some((member.instance.clone()?, member.id.clone())))
            .collect();
        assert_eq!(instances, self.instances, "{id}: instances");
        let carriers = self.members.values().filter(|member| member.instance.is_some()).count();
        assert_eq!(carriers, self.instances.len(), "{id}: an instance twice");
        let waiting = self.members.values().filter(|member| member.joining.is_some()).count();
        assert_eq!(waiting, self.waiting, "{id}: waiting");
        let syncing = self.members.values().any(|member| member.syncing.is_some());
        match self.state {
            GroupState::Empty => {
                assert!(self.members.is_empty(), "{id}: members of an empty group");
            }
            GroupState::PreparingRebalance => {
                assert!(self.join_timer.is_set(), "{id}: a rebalance without an end");
                assert!(!syncing, "{id}: a SyncGroup waits for nobody");
            }
            GroupState::CompletingRebalance => {
                assert!(!self.members.is_empty() && waiting == 0, "{id}: completing");
                assert!(
                    self.sync_timer.is_set() || self.unsynced.is_empty(),
                    "{id}: an assignment without an end"
                );
            }
            GroupState::Stable => {
                assert!(!self.members.is_empty() && waiting == 0 && !syncing, "{id}: stable");
            }
            GroupState::Dead | GroupState::Assigning | GroupState::Reconciling => {
                panic!("{id}: a classic group is never {:?}", self.state)
            }
        }
        for member in self.unsynced.iter() {
            assert!(self.members.contains_key(member), "{id}: unsynced {member} is no member");
        }
        for (member, timer) in &self.pending {
            assert!(!self.members.contains_key(member), "{id}: pending {member} is a member");
            assert!(timer.is_set(), "{id}: pending {member} without an end");
        }
        for member in self.members.values() {
            assert!(
                member.session.is_set() || member.is_excused(),
                "{id}: nobody notices when {} dies",
                member.id
            );
        }
        assert!(
            self.members.is_empty() || self.votes.values().any(|v| *v == self.members.len()),
            "{id}: no protocol in common"
        );
    }
}

/// Each name once, however often a client repeats it.
fn distinct(protocols: &[Protocol]) -> BTreeSet<&Arc<str>> {
    protocols.iter().map(|protocol| &protocol.name).collect()
}

/// Refuses a JoinGroup.
pub(super) fn refuse_join(
    turn: &mut Turn<'_>,
    request: RequestId,
    error: GroupError,
    member: Option<MemberId>,
) {
    turn.reply_at_once(request, Reply::Join(Err(JoinRefused { error, member })));
}
