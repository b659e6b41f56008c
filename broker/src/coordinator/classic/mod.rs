//! A group of the classic protocol: members agree on a protocol, one of them assigns.
//!
//! ```text
//!            join            everyone joined, or time is up         leader's SyncGroup
//!   Empty ────────► PreparingRebalance ────────► CompletingRebalance ────────► Stable
//!     ▲                 │     ▲                        │                         │
//!     └─────────────────┘     └────────────────────────┴─────────────────────────┘
//!       nobody is left            a member comes, goes, changes, or is late
//! ```
//!
//! The state is in memory; a record is written when a generation has its assignment, when the
//! group becomes empty, and when a static member is replaced. What a restart brings back is the
//! last such record, so a rebalance that was under way starts again from the members before it.

mod convert;
mod group;
mod join;
mod leave;
mod member;
mod rebalance;
mod subscription;
mod sync;

pub(super) use convert::Convert;
pub(super) use group::ClassicGroup;

/// How many members, in words.
fn members_in_words(count: usize) -> String {
    if count == 1 { "1 member".to_owned() } else { format!("{count} members") }
}
