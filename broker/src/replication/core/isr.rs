//! The in-sync set of a partition as its leader sees it, and the change of it that is under way.
//!
//! Always: at most one change is under way (S3), and what the controller may have committed counts.
//! A replica that is to join counts from the moment it is proposed, one that is to leave counts
//! until the controller has said so: whichever way the question is decided, the high watermark has
//! waited for every replica of the set that came out. A question that is not answered is asked again, and
//! either copy may be the one that is decided, whatever is said to the other: one that is refused is
//! withdrawn, by a change of nothing that makes all copies questions about an older state.

use std::time::Duration;

use crate::base::{BrokerEpoch, BrokerId, LeaderEpoch};
use crate::metadata::{AlterAnswer, AlterRefusal};

/// How long an unanswered question is left alone before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A change that is not committed yet, as far as the leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A replica joins; the registration it has caught up with.
    Expand(BrokerId, BrokerEpoch),
    /// Replicas leave.
    Shrink(Vec<BrokerId>),
    /// A replica that was refused does not join after all.
    Withdraw(BrokerId),
}

/// A question to the controller.
#[derive(Clone, Debug)]
struct Pending {
    change: Change,
    number: u64,
    /// None: it has not been asked yet.
    asked_at: Option<Duration>,
    /// The controller has refused because it knows more: only metadata says what is (S4).
    awaits_metadata: bool,
}

/// The in-sync set: `Committed`, `PendingExpand` or `PendingShrink`.
#[derive(Clone, Debug)]
pub(super) struct InSync {
    committed: Vec<BrokerId>,
    partition_epoch: i32,
    pending: Option<Pending>,
    numbers: u64,
}

impl InSync {
    pub(super) fn new(committed: &[BrokerId], partition_epoch: i32) -> Self {
        Self { committed: committed.to_vec(), partition_epoch, pending: None, numbers: 0 }
    }

    /// The set the controller has committed.
    pub(super) fn committed(&self) -> &[BrokerId] {
        &self.committed
    }

    pub(super) fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Whether the high watermark waits for `broker`: whether it is in the maximal set.
    pub(super) fn counts(&self, broker: BrokerId) -> bool {
        let Some(pending) = &self.pending else { return self.committed.contains(&broker) };
        match &pending.change {
            Change::Expand(joining, _) if *joining == broker => !planted!(CountExpandLate),
            Change::Shrink(leaving) if planted!(CountShrinkEarly) && leaving.contains(&broker) => {
                false
            }
            Change::Withdraw(joining) if *joining == broker => !planted!(BelieveOneRefusal),
            Change::Expand(..) | Change::Shrink(_) | Change::Withdraw(_) => {
                self.committed.contains(&broker)
            }
        }
    }

    /// How many replicas the gate of the high watermark sees (H2).
    pub(super) fn gate(&self) -> usize {
        let joining = matches!(
            &self.pending, Some(Pending { change: Change::Expand(..), .. }) if planted!(GateOnMaximal)
        );
        self.committed.len() + usize::from(joining)
    }

    /// Whether a change is under way.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Puts a change under way.
    pub(super) fn propose(&mut self, change: Change) {
        debug_assert!(self.pending.is_none(), "one change at a time");
        self.numbers += 1;
        self.pending =
            Some(Pending { change, number: self.numbers, asked_at: None, awaits_metadata: false });
    }

    /// The change to ask for now, if one is due, and its number.
    pub(super) fn due(&mut self, now: Duration) -> Option<(u64, &Change)> {
        let pending = self.pending.as_mut()?;
        let waits = pending.asked_at.is_some_and(|asked| now.saturating_sub(asked) < ASK_AGAIN);
        if pending.awaits_metadata || waits {
            return None;
        }
        pending.asked_at = Some(now);
        Some((pending.number, &pending.change))
    }

    /// When [`Self::due`] has something again.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let pending = self.pending.as_ref().filter(|pending| !pending.awaits_metadata)?;
        Some(pending.asked_at.map_or(Duration::ZERO, |asked| asked + ASK_AGAIN))
    }

    /// Metadata: whatever was under way has been decided, because a question about an older state
    /// of the partition is refused from now on.
    pub(super) fn on_image(&mut self, committed: &[BrokerId], partition_epoch: i32) {
        if partition_epoch <= self.partition_epoch {
            return;
        }
        self.committed.clear();
        self.committed.extend_from_slice(committed);
        self.partition_epoch = partition_epoch;
        self.pending = None;
    }

    /// The controller has answered question `number`. Returns the replica that it finds unfit.
    pub(super) fn on_answer(
        &mut self,
        leader_epoch: LeaderEpoch,
        number: u64,
        answer: &AlterAnswer,
    ) -> Option<BrokerId> {
        let pending = self.pending.as_mut().filter(|pending| pending.number == number)?;
        match answer {
            AlterAnswer::Altered { leader_epoch: of, partition_epoch, in_sync } => {
                if *of == leader_epoch {
                    self.on_image(in_sync, *partition_epoch);
                } else {
                    pending.awaits_metadata = true;
                }
                None
            }
            AlterAnswer::Refused(refusal) => match refusal {
                AlterRefusal::UnknownPartition
                | AlterRefusal::StaleBrokerEpoch
                | AlterRefusal::FencedLeaderEpoch
                | AlterRefusal::InvalidUpdateVersion
                | AlterRefusal::NewLeaderElected => {
                    pending.awaits_metadata = true;
                    None
                }
                AlterRefusal::IneligibleReplica => match pending.change {
                    Change::Expand(joining, _) => {
                        self.pending = None;
                        self.propose(Change::Withdraw(joining));
                        Some(joining)
                    }
                    // What counts already stays, whoever leaves.
                    Change::Shrink(_) => {
                        self.pending = None;
                        None
                    }
                    // A copy of the first question may still be taken: asked again.
                    Change::Withdraw(_) => None,
                },
                // Asked again when its time has come.
                AlterRefusal::NotController => None,
            },
        }
    }
}
