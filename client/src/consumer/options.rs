//! What to read, from where, and how.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Where to begin, or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the first record there is.
    Start,
    /// Behind the last record there is.
    End,
    /// At this offset.
    Offset(i64),
    /// This many records after the first.
    AfterStart(i64),
    /// This many records before the end.
    BeforeEnd(i64),
    /// At the first record with this timestamp, in milliseconds since the Unix epoch, or later; at
    /// the end if there is none.
    Time(i64),
}

/// A partition to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where to begin.
    pub from: Position,
    /// Where to stop (exclusive), as of now; `None` to go on for ever.
    pub until: Option<Position>,
}

/// What to do when the next offset is not in the log: deleted meanwhile, or never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetPolicy {
    /// Say so: reading the partition fails until the consumer seeks. The default, because every other
    /// choice skips records or repeats them.
    #[default]
    Error,
    /// Go on at the first record there is.
    Earliest,
    /// Go on behind the last record there is.
    Latest,
    /// Go on at the first record at most so old, or behind the last one (KIP-1106).
    ByDuration(Duration),
}

/// A position that was changed by a [`ResetPolicy`] and not by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset that was to be read next.
    pub from: i64,
    /// The offset that is now.
    pub to: i64,
    /// Whether the log was cut below `from` after it was read (KIP-320): records that were read are
    /// no longer there. Otherwise `from` was simply out of range.
    pub is_truncation: bool,
}

/// What a consumer tells of its work. Every method does nothing unless implemented. Called on the
/// consumer's own path: must not block.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use sawlog_client::{ConsumerHooks, Jump};
///
/// /// Counts records, and says where some were skipped.
/// #[derive(Debug, Default)]
/// struct Counted(AtomicUsize);
///
/// impl ConsumerHooks for Counted {
///     fn on_records(&self, _topic: &str, _partition: i32, records: usize, _last_offset: i64) {
///         self.0.fetch_add(records, Ordering::Relaxed);
///     }
///
///     fn on_jump(&self, jump: &Jump) {
///         eprintln!("{}-{}: from {} to {}", jump.topic, jump.partition, jump.from, jump.to);
///     }
/// }
/// ```
pub trait ConsumerHooks: Debug + Send + Sync {
    /// A position was reset: always told, for every policy but [`ResetPolicy::Error`].
    fn on_jump(&self, jump: &Jump) {
        let _ = jump;
    }

    /// A broker answered a fetch after so long, with so many bytes of records.
    fn on_fetch(&self, broker: i32, bytes: usize, took: Duration) {
        let _ = (broker, bytes, took);
    }

    /// Records were handed out: of a partition, so many, up to an offset (inclusive).
    fn on_records(&self, topic: &str, partition: i32, records: usize, last_offset: i64) {
        let _ = (topic, partition, records, last_offset);
    }
}

/// How a consumer reads.
///
/// ```
/// use sawlog_client::{ConsumerOptions, ResetPolicy};
///
/// let options = ConsumerOptions {
///     reset: ResetPolicy::Earliest,
///     prefetch_bytes: 4 * 1024 * 1024,
///     ..ConsumerOptions::default()
/// };
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// What to do about offsets that are not in the log. Default [`ResetPolicy::Error`].
    pub reset: ResetPolicy,
    /// Bytes fetched ahead of the reader, over all partitions; compressed batches count as they are
    /// on the wire. A single batch that is larger is still read. Default 32 MiB.
    pub prefetch_bytes: usize,
    /// Most bytes of one reply. Default 16 MiB.
    pub fetch_bytes: usize,
    /// Most bytes of one partition in a reply. Default 2 MiB.
    pub partition_bytes: usize,
    /// Bytes for which the broker waits before it replies. Default 1: it replies at once.
    pub fetch_min_bytes: usize,
    /// Longest wait of the broker for them. Default 500 ms.
    pub fetch_wait: Duration,
    /// Most records handed out at once. Default 1000.
    pub max_records: usize,
    /// Most bytes the records of one batch inflate to. Default 256 MiB.
    pub inflated_bytes: usize,
    /// Bound of the pause before a failed fetch is repeated, which grows from a fiftieth of it and is
    /// drawn at random. Default 1 s.
    pub retry_backoff_max: Duration,
    /// Is told of what happens. Default nobody.
    pub hooks: Option<Arc<dyn ConsumerHooks>>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            reset: ResetPolicy::Error,
            prefetch_bytes: 32 * 1024 * 1024,
            fetch_bytes: 16 * 1024 * 1024,
            partition_bytes: 2 * 1024 * 1024,
            fetch_min_bytes: 1,
            fetch_wait: Duration::from_millis(500),
            max_records: 1000,
            inflated_bytes: 256 * 1024 * 1024,
            retry_backoff_max: Duration::from_secs(1),
            hooks: None,
        }
    }
}

/// How far behind a partition's reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset that is read next.
    pub position: i64,
    /// The offset behind the last record as of the last fetch; -1 before the first.
    pub end_offset: i64,
    /// Records from the position to the end; 0 before the first fetch.
    pub records: i64,
    /// The age of the last record handed out while there are more, zero at the end; `None` while
    /// nothing was read.
    pub time: Option<Duration>,
}
