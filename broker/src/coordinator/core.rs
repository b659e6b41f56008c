//! The groups of one partition of `__consumer_offsets`, and every decision about them.
//!
//! Pure: an input and `now` go in, records and replies come out. The shell appends the records as
//! one batch, reports where they went ([`GroupCore::on_appended`]) before the next input, and lets
//! a reply go once those records, and what the reply tells of, are committed. If it cannot append,
//! it drops the core and replays a new one: what was decided on top of lost records is lost too.
//!
//! Committed offsets change only when their record has its place in the log, so a refused append
//! of nothing but offsets leaves the core as it was ([`Output::is_offsets_only`]).
//!
//! Always holds: the groups rebuilt from the records below the log end are the groups here, but for
//! the rebalances under way and the clients that have not joined yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::classic::ClassicGroup;
use super::consumer::{AssignDone, AssignJob};
use super::group::{Group, Members};
use super::options::GroupOptions;
use super::record::{ConsumerPart, OffsetRecord, Record};
use super::timeline::Event;
use super::timers::{Timer, TimerKey, TimerQueue};
use super::topics::Topics;
use super::turn::Turn;
use super::types::{
    Beat, ConsumerHeartbeat, DeleteGroup, DescribeConsumerGroup, DescribeGroup,
    DescribedConsumerGroup, DescribedGroup, FetchedOffset, GroupError, GroupId, GroupState,
    GroupTimeline, GroupType, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, LeftMember,
    ListGroups, ListedGroup, Now, OffsetCommit, OffsetDelete, OffsetFetch, SyncGroup, Synced,
    TopicsDeleted,
};
use crate::base::Offset;
use crate::metadata::Image;

/// A request that waits for its reply; the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

macro_rules! requests {
    ($($name:ident: $ask:ty => $answer:ty,)*) => {
        /// What the core can be asked.
        #[derive(Clone, Debug)]
        pub enum Request {
            $(
                #[doc = concat!("See [`", stringify!($ask), "`].")]
                $name($ask),
            )*
        }

        /// What it answers.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reply {
            $(
                #[doc = concat!("To [`", stringify!($ask), "`].")]
                $name($answer),
            )*
        }

        impl Request {
            /// The reply that refuses it.
            #[must_use]
            pub fn refuse(&self, error: GroupError) -> Reply {
                match self {
                    $(Self::$name(_) => Reply::$name(Err(error.into())),)*
                }
            }
        }

        $(
            impl Ask for $ask {
                type Answer = $answer;

                fn into_request(self) -> Request {
                    Request::$name(self)
                }

                fn answer(reply: Reply) -> Option<Self::Answer> {
                    match reply {
                        Reply::$name(answer) => Some(answer),
                        _ => None,
                    }
                }

                fn refused(error: GroupError) -> Self::Answer {
                    Err(error.into())
                }
            }
        )*
    };
}

/// A kind of request and its kind of answer.
pub trait Ask: Sized {
    /// What comes back.
    type Answer;

    /// As one of all requests.
    fn into_request(self) -> Request;

    /// The answer in `reply`, if it is one to this kind of request.
    fn answer(reply: Reply) -> Option<Self::Answer>;

    /// The answer that refuses it.
    fn refused(error: GroupError) -> Self::Answer;
}

requests! {
    Join: JoinGroup => Result<Joined, JoinRefused>,
    Sync: SyncGroup => Result<Synced, GroupError>,
    Heartbeat: Heartbeat => Result<(), GroupError>,
    Leave: LeaveGroup => Result<Vec<LeftMember>, GroupError>,
    Commit: OffsetCommit => Result<Vec<Result<(), GroupError>>, GroupError>,
    Fetch: OffsetFetch => Result<Vec<FetchedOffset>, GroupError>,
    DeleteOffsets: OffsetDelete => Result<Vec<Result<(), GroupError>>, GroupError>,
    Delete: DeleteGroup => Result<(), GroupError>,
    Describe: DescribeGroup => Result<Option<DescribedGroup>, GroupError>,
    ConsumerHeartbeat: ConsumerHeartbeat => Result<Beat, GroupError>,
    DescribeConsumer: DescribeConsumerGroup => Result<Option<DescribedConsumerGroup>, GroupError>,
    List: ListGroups => Result<Vec<ListedGroup>, GroupError>,
    Timeline: GroupTimeline => Result<Option<Vec<Event>>, GroupError>,
    TopicsDeleted: TopicsDeleted => Result<(), GroupError>,
}

impl From<GroupError> for JoinRefused {
    fn from(error: GroupError) -> Self {
        Self { error, member: None }
    }
}

/// A reply on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To this request.
    pub request: RequestId,
    /// The reply.
    pub reply: Reply,
    /// Not before the record at this offset is committed, besides those of the same output.
    pub after: Option<Offset>,
}

/// What an input led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// To be appended, as one batch.
    pub records: Vec<Record>,
    /// To be sent once `records` are committed.
    pub replies: Vec<Outgoing>,
    /// To be run anywhere else, and brought to [`GroupCore::on_assigned`].
    pub jobs: Vec<AssignJob>,
}

impl Output {
    /// Whether the core is as it was if `records` cannot be appended.
    #[must_use]
    pub fn is_offsets_only(&self) -> bool {
        self.records.iter().all(|record| matches!(record, Record::Offset { .. }))
    }
}

/// All groups, apart from what a turn borrows beside them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_id: BTreeMap<GroupId, Group>,
    /// The last record that removed something: who hears that it is gone waits for it.
    pub(super) removed_at: Option<Offset>,
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupCore {
    options: GroupOptions,
    groups: Groups,
    topics: Topics,
    timers: TimerQueue,
    expiry: Timer,
    /// Records that have been handed out and not been reported back.
    unreported: usize,
}

impl GroupCore {
    /// No groups yet, in this cluster.
    #[must_use]
    pub fn new(options: GroupOptions, image: Arc<Image>) -> Self {
        Self {
            options,
            topics: Topics::new(image),
            groups: Groups::default(),
            timers: TimerQueue::default(),
            expiry: Timer::default(),
            unreported: 0,
        }
    }

    /// Takes in a record of the log, in the order of the log, before [`Self::on_loaded`].
    pub fn replay(&mut self, record: Record, at: Offset) {
        self.groups.replay(record, at);
    }

    /// The log has been replayed: members have as long as after a heartbeat to be heard of.
    pub fn on_loaded(&mut self, now: Now) -> Output {
        let (at, key) = (now.monotonic + self.options.offsets_check_interval, || TimerKey::Expiry);
        self.timers.set(&mut self.expiry, at, key);
        self.turn(now, |groups, turn| groups.on_loaded(turn))
    }

    /// The cluster looks like this from now on. What follows for groups is decided with the next
    /// heartbeats of their members.
    pub fn see(&mut self, image: &Arc<Image>) {
        self.topics.see(image);
    }

    /// An assignment this core asked for has been computed.
    pub fn on_assigned(&mut self, now: Now, done: AssignDone) -> Output {
        self.turn(now, |groups, turn| groups.on_assigned(turn, done))
    }

    /// Decides about a request.
    pub fn on_request(&mut self, now: Now, id: RequestId, request: Request) -> Output {
        self.turn(now, |groups, turn| groups.on_request(turn, id, request))
    }

    /// The records of the last output are in the log, from `base` on.
    pub fn on_appended(&mut self, records: Vec<Record>, base: Offset) {
        assert_eq!(self.unreported, records.len(), "records are reported as they were handed out");
        self.unreported = 0;
        for (index, record) in (0..).zip(records) {
            self.groups.on_appended(record, base.plus(index));
        }
        self.check_in_debug();
    }

    /// The records of the last output, all of them offsets, could not be appended.
    pub fn on_refused(&mut self) {
        self.unreported = 0;
    }

    /// When to call [`Self::on_timers`] next, in monotonic time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Time has passed. Decides about one deadline that is over; call again until there is none.
    pub fn on_timers(&mut self, now: Now) -> Output {
        let Some((entry, key)) = self.timers.pop(now.monotonic) else { return Output::default() };
        if key == TimerKey::Expiry {
            let is_over =
                self.timers.is_over(&mut self.expiry, entry, now.monotonic, || TimerKey::Expiry);
            if !is_over {
                return Output::default();
            }
            let at = now.monotonic + self.options.offsets_check_interval;
            self.timers.set(&mut self.expiry, at, || TimerKey::Expiry);
            return self.turn(now, |groups, turn| groups.expire(turn));
        }
        self.turn(now, |groups, turn| groups.on_timer(turn, entry, key))
    }

    fn turn(&mut self, now: Now, decide: impl FnOnce(&mut Groups, &mut Turn<'_>)) -> Output {
        assert_eq!(self.unreported, 0, "the records of the last output were not reported");
        let mut out = Output::default();
        let Self { options, groups, topics, timers, .. } = self;
        decide(groups, &mut Turn { now, options, topics, timers, out: &mut out, after: None });
        self.unreported = out.records.len();
        if self.unreported == 0 {
            self.check_in_debug();
        }
        out
    }

    /// Asserts what always holds, between inputs.
    pub fn check(&self) {
        for group in self.groups.by_id.values() {
            group.check();
        }
    }

    fn check_in_debug(&self) {
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// Requests that wait for something to happen.
    #[must_use]
    pub fn waiting_requests(&self) -> Vec<RequestId> {
        self.groups.by_id.values().flat_map(Group::waiting_requests).collect()
    }
}

impl Groups {
    fn replay(&mut self, record: Record, at: Offset) {
        match record {
            Record::Offset { group, partition, value } => {
                self.apply_offset(group, partition, value, at);
            }
            Record::Group { group, value: Some(value) } => {
                let known = self.by_id.remove(&group);
                let members = ClassicGroup::from_record(group.clone(), value);
                let mut loaded = Group::new(Members::Classic(members));
                loaded.offsets = known.map(|known| known.offsets).unwrap_or_default();
                loaded.written_at = Some(at);
                self.by_id.insert(group, loaded);
            }
            Record::Group { group, value: None } => self.remove(&group, at),
            Record::Consumer { group, part: ConsumerPart::Epoch(None) } => {
                self.remove(&group, at);
            }
            Record::Consumer { group, part } => {
                if !is_tombstone(&part) || self.by_id.get(&group).is_some_and(Group::is_consumer) {
                    self.replay_consumer(&group, part);
                }
                if let Some(known) = self.by_id.get_mut(&group) {
                    known.written_at = Some(at);
                }
            }
        }
    }

    fn on_appended(&mut self, record: Record, at: Offset) {
        match record {
            Record::Offset { group, partition, value } => {
                self.apply_offset(group, partition, value, at);
            }
            Record::Group { group, value: Some(_) } => {
                if let Some(known) = self.by_id.get_mut(&group) {
                    known.written_at = Some(at);
                }
            }
            Record::Group { group, value: None }
            | Record::Consumer { group, part: ConsumerPart::Epoch(None) } => {
                match self.by_id.get_mut(&group) {
                    // It went over to the other protocol.
                    Some(known) if !known.is_unused() => known.written_at = Some(at),
                    _ => self.remove(&group, at),
                }
            }
            Record::Consumer { group, .. } => {
                if let Some(known) = self.by_id.get_mut(&group) {
                    known.written_at = Some(at);
                }
            }
        }
    }

    /// A tombstone of the group itself. Offsets have their own.
    fn remove(&mut self, id: &GroupId, at: Offset) {
        self.removed_at = Some(at);
        let Some(known) = self.by_id.remove(id) else { return };
        if !known.offsets.is_empty() {
            let mut empty = Group::empty(id.clone());
            empty.offsets = known.offsets;
            empty.written_at = Some(at);
            self.by_id.insert(id.clone(), empty);
        }
    }

    fn apply_offset(
        &mut self,
        id: GroupId,
        partition: crate::base::TopicPartition,
        value: Option<OffsetRecord>,
        at: Offset,
    ) {
        match value {
            Some(value) => {
                let group = self.get_or_create(&id);
                group.offsets.insert(partition, value);
                group.written_at = Some(at);
            }
            None => {
                self.removed_at = Some(at);
                if let Some(group) = self.by_id.get_mut(&id) {
                    group.offsets.remove(&partition);
                    group.written_at = Some(at);
                }
            }
        }
        self.forget_if_nothing(&id);
    }

    /// The group `id`, which is made if there is none: empty, and known to nobody else.
    pub(super) fn get_or_create(&mut self, id: &GroupId) -> &mut Group {
        self.by_id.entry(id.clone()).or_insert_with(|| Group::empty(id.clone()))
    }

    /// Drops a group of which nothing is in the log and nothing is going on.
    pub(super) fn forget_if_nothing(&mut self, id: &GroupId) {
        if self.by_id.get(id).is_some_and(Group::is_nothing) {
            self.by_id.remove(id);
        }
    }

    fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        for group in self.by_id.values_mut() {
            turn.after = group.written_at;
            group.on_loaded(turn);
        }
    }

    fn on_request(&mut self, turn: &mut Turn<'_>, id: RequestId, request: Request) {
        match request {
            Request::Join(request) => self.join(turn, id, request),
            Request::Sync(request) => self.sync(turn, id, request),
            Request::Heartbeat(request) => {
                let result = self.heartbeat(turn, &request);
                turn.reply_at_once(id, Reply::Heartbeat(result));
            }
            Request::Leave(request) => {
                let left = self.leave(turn, request);
                turn.reply(id, Reply::Leave(left));
            }
            Request::Commit(request) => {
                let result = self.commit(turn, request);
                turn.reply(id, Reply::Commit(result));
            }
            Request::Fetch(request) => {
                let result = self.fetch(turn, request);
                turn.reply(id, Reply::Fetch(result));
            }
            Request::DeleteOffsets(request) => {
                let result = self.delete_offsets(turn, &request);
                turn.reply(id, Reply::DeleteOffsets(result));
            }
            Request::Delete(request) => {
                let result = self.delete(turn, &request.group);
                turn.reply(id, Reply::Delete(result));
            }
            Request::Describe(request) => {
                let group = self.find(turn, &request.group);
                let described = group.map(Group::describe).transpose();
                turn.reply(id, Reply::Describe(described));
            }
            Request::ConsumerHeartbeat(request) => {
                let result = self.consumer_heartbeat(turn, &request);
                turn.reply(id, Reply::ConsumerHeartbeat(result));
            }
            Request::DescribeConsumer(request) => {
                let described = self.describe_consumer(turn, &request);
                turn.reply(id, Reply::DescribeConsumer(described));
            }
            Request::List(request) => {
                let listed = self.list(&request);
                turn.reply_at_once(id, Reply::List(Ok(listed)));
            }
            Request::Timeline(request) => {
                let events = self.by_id.get_mut(&request.group).map(Group::events);
                turn.reply_at_once(id, Reply::Timeline(Ok(events)));
            }
            Request::TopicsDeleted(request) => {
                self.forget_topics(turn, &request.topics);
                turn.reply_at_once(id, Reply::TopicsDeleted(Ok(())));
            }
        }
    }

    fn on_timer(&mut self, turn: &mut Turn<'_>, entry: Duration, key: TimerKey) {
        let (TimerKey::Join(id)
        | TimerKey::Sync(id)
        | TimerKey::Session(id, _)
        | TimerKey::Progress(id, _)) = &key
        else {
            return;
        };
        let Some(group) = self.by_id.get_mut(id) else { return };
        turn.after = group.written_at;
        group.on_timer(turn, entry, &key);
        let id = id.clone();
        if turn.out.records.is_empty() {
            self.forget_if_nothing(&id);
        }
    }

    /// The group `id`, to tell of it; replies wait for its last record, or for the one that removed
    /// it.
    pub(super) fn find(&self, turn: &mut Turn<'_>, id: &GroupId) -> Option<&Group> {
        let group = self.by_id.get(id);
        turn.after = group.map_or(self.removed_at, |group| group.written_at);
        group
    }

    /// As [`Self::find`], to change it.
    pub(super) fn find_mut(&mut self, turn: &mut Turn<'_>, id: &GroupId) -> Option<&mut Group> {
        let group = self.by_id.get_mut(id);
        turn.after = group.as_ref().map_or(self.removed_at, |group| group.written_at);
        group
    }

    fn list(&self, request: &ListGroups) -> Vec<ListedGroup> {
        let states = |state: &GroupState| request.states.as_ref().is_none_or(|s| s.contains(state));
        let types = |kind: &GroupType| request.types.as_ref().is_none_or(|t| t.contains(kind));
        let groups = self.by_id.iter().filter(|(_, group)| !group.is_invisible());
        groups
            .map(|(id, group)| group.listed(id))
            .filter(|listed| states(&listed.state) && types(&listed.group_type))
            .collect()
    }
}

impl GroupCore {
    /// Adds its groups to `counts`.
    pub(super) fn count_into(&self, counts: &mut BTreeMap<(GroupType, GroupState), usize>) {
        for (id, group) in self.groups.by_id.iter().filter(|(_, group)| !group.is_invisible()) {
            let listed = group.listed(id);
            *counts.entry((listed.group_type, listed.state)).or_insert(0) += 1;
        }
    }
}

fn is_tombstone(part: &ConsumerPart) -> bool {
    match part {
        ConsumerPart::Epoch(value) => value.is_none(),
        ConsumerPart::Member(_, value) => value.is_none(),
        ConsumerPart::TargetEpoch(value) => value.is_none(),
        ConsumerPart::Target(_, value) => value.is_none(),
        ConsumerPart::Current(_, value) => value.is_none(),
        ConsumerPart::Pattern(_, value) => value.is_none(),
    }
}
