//! How a producer writes.

use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::records::Compression;
use tokio::sync::Semaphore;

use super::hooks::ProducerHooks;
use super::lane::IN_FLIGHT_MAX;

/// How much of a write is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing: sent, maybe lost.
    None,
    /// The leader has it, in memory.
    Leader,
    /// All in-sync replicas have it; with Sawlog's default, on disk.
    All,
}

/// How a producer writes. Values out of range are taken to the nearest within.
///
/// ```
/// use std::time::Duration;
/// use sawlog_client::{Compression, ProducerOptions};
///
/// let options = ProducerOptions {
///     compression: Compression::Zstd,
///     linger: Duration::from_millis(20),
///     ..ProducerOptions::default()
/// };
/// assert!(options.idempotent);
/// ```
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// What is confirmed. Default [`Acks::All`].
    pub acks: Acks,
    /// Codec of batches. The records of a batch are compressed in the task that fills it. Default
    /// none.
    pub compression: Compression,
    /// Level of gzip (0 to 9) or zstd (1 to 22); `None` for the codec's own default.
    pub compression_level: Option<i32>,
    /// Longest wait for a batch to fill. Under load batches also fill while others are on their way.
    /// Default 5 ms.
    pub linger: Duration,
    /// Size at which a batch is full, in bytes before compression. A larger record goes alone. At
    /// most what the topic takes (`max.message.bytes`, 1 MiB unless changed). Default 512 KiB.
    pub batch_bytes: usize,
    /// Bytes of records without an outcome; above, `send` waits. Default 32 MiB.
    pub buffer_bytes: usize,
    /// Longest time from `send` to the outcome, repeats included. Default 2 min.
    pub delivery_timeout: Duration,
    /// Whether the broker recognises repeats: nothing is doubled and the order is kept, whatever
    /// fails. Only with [`Acks::All`]. Default true.
    pub idempotent: bool,
    /// Batches of one partition on their way at once, 1 to 5. Without idempotence a repeat may
    /// overtake others unless it is 1. Default 5.
    pub in_flight_max: usize,
    /// Bound of the first pause before a repeat; it doubles with each failure in a row, each pause is
    /// drawn at random below it. Default 20 ms.
    pub retry_backoff: Duration,
    /// Bound of every pause. Repeats beyond a tenth of what succeeds all wait that long. Default 1 s.
    pub retry_backoff_max: Duration,
    /// Is told of what happens. Default nobody.
    pub hooks: Option<Arc<dyn ProducerHooks>>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            compression_level: None,
            linger: Duration::from_millis(5),
            batch_bytes: 512 * 1024,
            buffer_bytes: 32 * 1024 * 1024,
            delivery_timeout: Duration::from_mins(2),
            idempotent: true,
            in_flight_max: IN_FLIGHT_MAX,
            retry_backoff: Duration::from_millis(20),
            retry_backoff_max: Duration::from_secs(1),
            hooks: None,
        }
    }
}

impl ProducerOptions {
    pub(crate) fn bounded(mut self) -> Self {
        // A semaphore hands out at most so many at once.
        let most = Semaphore::MAX_PERMITS.min(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
        self.buffer_bytes = self.buffer_bytes.clamp(1, most);
        self.batch_bytes = self.batch_bytes.clamp(1, self.buffer_bytes);
        self.in_flight_max = self.in_flight_max.clamp(1, IN_FLIGHT_MAX);
        self.idempotent &= self.acks == Acks::All;
        self
    }
}
