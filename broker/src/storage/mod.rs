//! One partition's log on local disk: segments, indexes, producer state, recovery.
//!
//! Knows nothing of roles: offsets and epochs are given, what is committed is decided elsewhere.
//! [`Log`] is the writer, one per partition; [`LogReader`] reads beside it from any thread.
//! [`ProducerTable`] and [`EpochCache`] are pure; they live here because they are recovered with
//! the log.
//!
//! Always holds: bytes below the published end of a segment never change; a failed write or sync is
//! final for the log; every file but the `.log` can be rebuilt from it, and is checked before it is
//! trusted.

mod checkpoint;
mod closing;
mod compact;
pub(crate) mod envelope;
mod epochs;
mod error;
mod first_read;
mod flush;
mod index;
mod index_file;
mod log;
pub(crate) mod mmap;
mod offline;
mod producers;
mod quarantine;
mod reader;
mod recency;
mod recovery;
mod scan;
mod scrub;
mod segment;
#[cfg(test)]
mod tests;

pub use closing::Closing;
pub use compact::{
    Compaction, CompactionError, CompactionLimits, CompactionOptions, CompactionReport,
    CompactionRules, Dirtiness, KeyHasher, Rebuild, RebuildError, Rebuilt, Replacement, StopSignal,
    SwapTicket, Throttle,
};
pub use epochs::EpochCache;
pub use error::{ReadError, StorageError};
pub use flush::{FlushTicket, Flushed};
pub use log::{Appended, CompactionScope, Cut, Log, LogOptions, RepairScope};
pub use offline::{InUse, Problem, Repaired, Verified, log_bytes, repair_index, verify_log};
pub use producers::{ProducerError, ProducerInfo, ProducerTable, Sequence};
pub use quarantine::QuarantinedRange;
pub use reader::{LogReader, TimedOffset};
pub use recovery::{Recovered, RecoveryReport, Unsynced};
#[cfg(any(test, feature = "sim"))]
pub(crate) use scrub::FullSegment;
pub use scrub::{LogScrubber, Pace, ScrubFailed, Scrubbed};
