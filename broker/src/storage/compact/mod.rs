//! Compaction: a log that keeps the last record of every key.
//!
//! [`decide`], [`plan`], [`transactions`] and [`key_map`] decide and know of no file. The rest reads
//! full segments, writes what stays of some of them into one new file, and puts that in their place:
//! at once for readers, and at every moment undone or finished by the next start. A damaged segment is
//! made whole the same way ([`rebuild`]), compacted or not.
//!
//! Always holds: offsets are never given anew, and records keep their order; every segment ends with
//! the batch that holds its last offset, emptied if it must be, so that the segments of a compacted
//! log still lead up to one another, and a reader at any offset finds a next batch.

mod decide;
mod hash;
mod input;
mod key_map;
mod output;
mod pass;
mod plan;
mod progress;
mod rebuild;
mod survey;
mod swap;
#[cfg(test)]
mod tests;
mod throttle;
mod transactions;

pub use hash::KeyHasher;
pub use pass::{Compaction, CompactionOptions, CompactionReport};
pub use plan::{CompactionLimits, CompactionRules, Dirtiness};
pub use rebuild::{Rebuild, RebuildError, Rebuilt};
pub use swap::{Replacement, SwapTicket};
pub use throttle::{CompactionError, StopSignal, Throttle};

pub(super) use output::Written;
pub(super) use pass::Scope;
pub(super) use plan::{SegmentFacts, assess};
pub(super) use progress::ProgressStore;
pub(super) use rebuild::Broken;
pub(super) use swap::recover;
