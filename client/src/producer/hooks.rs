//! Where metrics and interceptors look at a producer.

use std::fmt::Debug;
use std::time::Duration;

use super::record::RecordRef;
use crate::error::ClientError;

/// A batch on its way, as hooks see it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BatchInfo<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Records in it.
    pub records: u32,
    /// Its size on the wire, in bytes.
    pub bytes: usize,
    /// How often it was sent.
    pub attempts: u32,
    /// Time since its first record was sent to the producer.
    pub age: Duration,
}

/// What a producer tells of its work. Every method does nothing unless implemented.
///
/// They are called on the producer's own path: they should count, and must not block. [`on_send`]
/// runs in the sending task, for every record; the others in the producer's task, once a batch.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sawlog_client::{BatchInfo, ProducerHooks};
///
/// #[derive(Debug, Default)]
/// struct Counters {
///     delivered: AtomicU64,
/// }
///
/// impl ProducerHooks for Counters {
///     fn on_delivered(&self, batch: &BatchInfo<'_>, _base_offset: i64) {
///         self.delivered.fetch_add(u64::from(batch.records), Ordering::Relaxed);
///     }
/// }
/// ```
///
/// [`on_send`]: ProducerHooks::on_send
pub trait ProducerHooks: Debug + Send + Sync {
    /// A record was taken in.
    fn on_send(&self, topic: &str, partition: i32, record: &RecordRef<'_>) {
        let _ = (topic, partition, record);
    }

    /// A batch is confirmed; `base_offset` is -1 if not told.
    fn on_delivered(&self, batch: &BatchInfo<'_>, base_offset: i64) {
        let _ = (batch, base_offset);
    }

    /// A batch failed for good.
    fn on_failed(&self, batch: &BatchInfo<'_>, error: &ClientError) {
        let _ = (batch, error);
    }

    /// An attempt failed, the batch goes out again.
    fn on_retry(&self, batch: &BatchInfo<'_>, error: &ClientError) {
        let _ = (batch, error);
    }
}
