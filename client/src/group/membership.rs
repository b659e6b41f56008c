//! What both group protocols have in common: what happens to a membership, and what it wants done.
//!
//! A [`Membership`] is pure: inputs and the time go in, [`Action`]s come out until there are none. The
//! shell around it sends, waits, and has the reader take its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_protocol::{ErrorCode, Uuid};

use super::assignor::Layout;
use crate::consumer::PartitionKey;
use crate::error::ClientError;

/// Partitions of several topics.
pub(crate) type Partitions = BTreeSet<PartitionKey>;

/// Who a member is right now: what it signs commits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member: Arc<str>,
    /// Generation of a classic group, epoch of a member in one of the consumer protocol; -1 outside.
    pub(crate) generation: i32,
    /// Of the consumer protocol.
    pub(crate) is_epoch: bool,
}

/// What a group reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// For the broker to find topics by; `topics` is then empty in the consumer protocol.
    pub(crate) pattern: Option<Arc<str>>,
}

/// A change of what the reader has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    pub(crate) partitions: Partitions,
    /// What it has afterwards.
    pub(crate) owned: Partitions,
    /// In which it is assigned, revoked or lost.
    pub(crate) generation: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// Others wait for the partitions: progress is committed first.
    Revoke,
    /// They are no longer this member's; nothing can be committed.
    Lose,
    /// They are this member's from now on.
    Assign,
}

/// Whether a member that leaves will be back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    ForGood,
    /// A static member: what it had is kept for it for the session timeout.
    ToComeBack,
}

/// What a membership wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// JoinGroup; answered by [`Reply::Joined`].
    Join { topics: BTreeSet<Arc<str>>, claims: Claims, reason: String },
    /// Which partitions topics have; answered by [`Reply::Counted`].
    Count { topics: BTreeSet<Arc<str>> },
    /// SyncGroup, from the leader with everybody's share; answered by [`Reply::Synced`].
    Sync { protocol: &'static str, shares: Vec<(Arc<str>, Partitions)> },
    /// Heartbeat; answered by [`Reply::Beaten`].
    Heartbeat,
    /// ConsumerGroupHeartbeat; answered by [`Reply::Told`].
    Tell(Heartbeat),
    /// Names of topics; answered by [`Reply::Named`].
    Name { ids: BTreeSet<Uuid> },
    /// Says goodbye; answered by [`Reply::Left`] whatever comes of it.
    Leave { leaving: Leaving, reason: &'static str },
    /// Has the reader change what it has; answered by [`Membership::settled`].
    Step(Step),
    /// The step under way is in vain: it need not wait for the broker any more.
    Hurry,
    /// The coordinator is to be looked up anew.
    FindCoordinator,
    /// The reader is told.
    Report(ClientError),
    /// It is over.
    Done,
}

/// What a member that joins says to have, or to have had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// What its reader has.
    pub(crate) owned: Partitions,
    /// In which it was assigned, -1 before any.
    pub(crate) owned_generation: i32,
    /// What it was assigned last, in the same: also where it has let go of it since.
    pub(crate) previous: Partitions,
}

/// A heartbeat of the consumer protocol. `None`: as said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub(crate) member: Arc<str>,
    pub(crate) epoch: i32,
    /// Everything but what is owned: subscription, timeouts, rack, assignor.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) owned: Option<BTreeMap<Uuid, BTreeSet<i32>>>,
}

/// What came of a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) member: Arc<str>,
    pub(crate) protocol: String,
    /// Of the leader: who is there. Empty for the others.
    pub(crate) members: Vec<super::assignor::Subscriber>,
    pub(crate) is_leader: bool,
    /// The broker keeps the assignment there is (KIP-814).
    pub(crate) skip_assignment: bool,
}

/// What came of a heartbeat of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) member: Option<Arc<str>>,
    pub(crate) epoch: i32,
    pub(crate) interval: Duration,
    /// `None`: as before.
    pub(crate) assignment: Option<BTreeMap<Uuid, BTreeSet<i32>>>,
}

/// A failed join may bring an id to join with (KIP-394).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinFailure {
    pub(crate) error: ClientError,
    pub(crate) member: Option<Arc<str>>,
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Joined(Result<Joined, JoinFailure>),
    Counted(Result<Layout, ClientError>),
    Synced(Result<Partitions, ClientError>),
    Beaten(Result<(), ClientError>),
    Told(Result<Told, ClientError>),
    Named(Result<BTreeMap<Uuid, Arc<str>>, ClientError>),
    Left,
}

/// A member of a group.
pub(crate) trait Membership: Debug + Send {
    /// The next thing to do; asked again until there is none.
    fn next(&mut self, now: Instant) -> Option<Action>;

    /// When to ask again although nothing happened.
    fn timer(&self) -> Option<Instant>;

    /// An action was answered.
    fn replied(&mut self, reply: Reply, now: Instant);

    /// The reader took the step.
    fn settled(&mut self, now: Instant);

    /// A commit signed with `identity` was refused.
    fn commit_refused(&mut self, identity: &Identity, code: ErrorCode, now: Instant);

    /// What is read changed.
    fn want(&mut self, wanted: Wanted);

    /// Topics have these partitions now.
    fn counted(&mut self, layout: &Layout);

    /// The reader did not ask for records for too long.
    fn not_polled(&mut self);

    /// The reader is back.
    fn polled(&mut self);

    /// The member leaves.
    fn close(&mut self, leaving: Leaving, now: Instant);

    fn identity(&self) -> Identity;

    /// Topics whose partitions it wants to know the number of now and then.
    fn watched(&self) -> BTreeSet<Arc<str>>;
}

/// What an error means for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The coordinator is elsewhere, or cannot be reached.
    Coordinator,
    /// The same again, later.
    Again,
    /// The group rebalances.
    Rebalance,
    /// The group has no such member.
    Unknown,
    /// The member is there, and its generation or epoch is a former one.
    Outdated,
    /// Another member took over the instance id: it is over.
    Fenced,
    /// The broker will not have it.
    Refused,
}

impl Trouble {
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Broker { code, .. } => Self::of_code(*code),
            error if error.is_retriable() => Self::Coordinator,
            _ => Self::Refused,
        }
    }

    pub(crate) fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NOT_COORDINATOR
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::BROKER_NOT_AVAILABLE => Self::Coordinator,
            ErrorCode::REBALANCE_IN_PROGRESS => Self::Rebalance,
            ErrorCode::UNKNOWN_MEMBER_ID => Self::Unknown,
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::FENCED_MEMBER_EPOCH => Self::Outdated,
            ErrorCode::FENCED_INSTANCE_ID => Self::Fenced,
            // Of a commit or fetch: the next heartbeat brings the new epoch. Of an instance id: the
            // member before it is gone within its session timeout.
            ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::UNRELEASED_INSTANCE_ID => Self::Again,
            code if code.is_retriable() => Self::Again,
            _ => Self::Refused,
        }
    }
}

/// What the reasons are that a member gives for leaving (KIP-800).
pub(crate) const REASON_CLOSED: &str = "the consumer is being closed";
pub(crate) const REASON_NOT_POLLED: &str =
    "the consumer was not asked for records within its max poll interval";
