//! Partitions of this broker: what they decide, and how it is carried out on their logs.
//!
//! [`core`] is pure; the rest is its shell. [`exchange`] carries what replicas say to each other.

mod cleaner;
mod closing;
mod core;
mod directory;
mod exchange;
mod flusher;
mod high_watermarks;
mod metrics;
mod partition;
mod partitions;
mod placement;
mod pulse;
mod repairer;
mod scrubber;
mod sync_choice;
#[cfg(test)]
mod tests;
mod threads;
mod throttles;
mod waiters;

pub use self::core::{
    AckState, Acks, AppendRefusal, Decision, DurableReport, EpochMismatch, FetchAnswer,
    FetchRefusal, FetchRequest, Fetched, FollowerStep, ImageOutcome, LogGeneration, LogView,
    PartitionCore, ReplicaFetch,
};
pub(crate) use cleaner::Cleaner;
pub use cleaner::CompactionStats;
pub(crate) use directory::LogDirectory;
pub(crate) use exchange::{AlterAnswers, AskAlter};
pub(crate) use partition::{Accepted, AppendError, DeleteError, Partition, Slice, View};
pub use partitions::RecoveryProgress;
pub(crate) use partitions::{LocalTopic, Partitions, Recovered};
pub use scrubber::ScrubTotals;
#[cfg(any(test, feature = "sim"))]
pub(crate) use scrubber::scrub_once;
pub(crate) use scrubber::{ScrubOptions, Scrubber};
pub(crate) use waiters::Signal;
