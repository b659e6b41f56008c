//! A group of the consumer protocol (KIP-848): the broker assigns, and members follow one by one.
//!
//! ```text
//!   subscriptions, topics ──► group epoch ──► target assignment ──► current assignments
//!     (heartbeats, images)      bumped          of that epoch         member by member
//! ```
//!
//! Three epochs, each following the one before. The *group epoch* rises when who shall have what may
//! have changed. The *assignment epoch* is the group epoch the targets are for; a large group is
//! behind while its assignment is being computed elsewhere. A *member's epoch* is the assignment epoch
//! it has come to. On its way there it first gives back what it shall not keep ([`Step::Unrevoked`]),
//! then takes what nobody else holds, waiting for the rest ([`Step::Unreleased`]).
//!
//! Always holds: a partition is held by one member at most. It is held from the reply that gives it
//! until the member says it has stopped using it, or is removed.
//!
//! Everything is written as it changes, so a restart brings all of it back; only timers start anew.
//!
//! [`Step::Unrevoked`]: super::record::Step::Unrevoked
//! [`Step::Unreleased`]: super::record::Step::Unreleased

mod classic;
mod convert;
mod group;
mod heartbeat;
mod leave;
mod member;
mod reconcile;
mod replay;
mod requests;
pub(super) mod stored;
mod subscription;
mod target;

pub(super) use group::ConsumerGroup;
pub use target::{AssignDone, AssignJob};
