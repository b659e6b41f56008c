//! Records that wait to be sent, by partition.
//!
//! Whoever sends a record encodes it into the open batch of its partition, and ends the batch when it
//! is full; the producer's task takes batches from the front. A partition with something new for that
//! task is listed once in [`Dirty`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use sawlog_protocol::records::Compression;
use tokio::sync::Notify;

use super::batch::{Batch, OpenBatch};
use super::delivery::{Delivery, Settlement};
use super::record::RecordRef;
use crate::error::ClientError;

/// How batches are filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    /// Codec and level.
    pub(crate) codec: (Compression, Option<i32>),
    pub(crate) batch_bytes: usize,
}

/// Room reserved for a partition's first batch; later ones get what the last one took.
const FIRST_CAPACITY: usize = 1024;

/// What one partition has to send.
#[derive(Debug)]
pub(crate) struct PartitionQueue {
    pub(crate) topic: Arc<str>,
    pub(crate) index: i32,
    /// Its place among the producer's partitions.
    pub(crate) lane: usize,
    waiting: Mutex<Waiting>,
    /// Batches without an outcome.
    unsettled: AtomicUsize,
    is_listed: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    sealed: VecDeque<Batch>,
    open: Option<OpenBatch>,
    /// Bytes of the last batch.
    capacity: usize,
    /// Of batches that may have no outcome yet, oldest first.
    unsettled: VecDeque<Arc<Settlement>>,
    /// Nobody takes batches any more.
    is_closed: bool,
}

/// A record taken in.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) delivery: Delivery,
    /// It is the first of a batch.
    pub(crate) began_a_batch: bool,
}

impl PartitionQueue {
    pub(crate) fn new(topic: Arc<str>, index: i32, lane: usize) -> Self {
        let waiting = Waiting {
            sealed: VecDeque::new(),
            open: None,
            capacity: FIRST_CAPACITY,
            unsettled: VecDeque::new(),
            is_closed: false,
        };
        Self {
            topic,
            index,
            lane,
            waiting: Mutex::new(waiting),
            unsettled: AtomicUsize::new(0),
            is_listed: AtomicBool::new(false),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A record that panicked half way is not counted, and its batch's records count does not
        // include it.
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Batches that wait or are on their way.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::Relaxed)
    }

    /// One batch has its outcome.
    pub(crate) fn settled(&self) {
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
    }

    /// A batch became two.
    pub(crate) fn split(&self) {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a record in, which may end a batch and begin another.
    pub(crate) fn append(
        &self,
        record: &RecordRef<'_>,
        weight: usize,
        now_ms: i64,
        filling: &Filling,
    ) -> Result<Appended, ClientError> {
        let mut waiting = self.waiting();
        let Waiting { sealed, open, capacity, unsettled, is_closed } = &mut *waiting;
        if *is_closed {
            return Err(ClientError::Closed);
        }
        if let Some(full) = open.take_if(|open| !open.takes(weight, filling.batch_bytes)) {
            // Room for the next one: an eighth more than this one took, within the bound.
            *capacity = (full.bytes() + full.bytes() / 8).min(filling.batch_bytes);
            sealed.push_back(full.seal());
        }
        let began_a_batch = open.is_none();
        let batch = open.get_or_insert_with(|| {
            self.unsettled.fetch_add(1, Ordering::Relaxed);
            let new = OpenBatch::new(filling.codec, (*capacity).max(weight), Instant::now());
            while unsettled.pop_front_if(|oldest| oldest.is_settled()).is_some() {}
            unsettled.push_back(new.settlement().clone());
            new
        });
        match batch.append(record, weight, self.index, now_ms) {
            Ok(delivery) => Ok(Appended { delivery, began_a_batch }),
            Err(error) => {
                if began_a_batch {
                    *open = None;
                    unsettled.pop_back();
                    self.settled();
                }
                Err(error)
            }
        }
    }

    /// Makes what is there go out without waiting for more.
    pub(crate) fn make_due(&self) {
        if let Some(open) = &mut self.waiting().open {
            open.is_due = true;
        }
    }

    /// Who tells of every batch there is, sent or not.
    pub(crate) fn settlements(&self) -> Vec<Arc<Settlement>> {
        let waiting = self.waiting();
        waiting.unsettled.iter().filter(|one| !one.is_settled()).cloned().collect()
    }

    /// When the batch at the front may go out, and when its first record came; `None` for an empty
    /// queue.
    pub(crate) fn front(&self, linger: std::time::Duration) -> Option<Front> {
        let waiting = self.waiting();
        if let Some(sealed) = waiting.sealed.front() {
            return Some(Front { created: sealed.created, due_at: sealed.created });
        }
        let open = waiting.open.as_ref()?;
        let due_at = if open.is_due { open.created } else { open.created + linger };
        Some(Front { created: open.created, due_at })
    }

    /// Takes no more, and gives up what is there.
    pub(crate) fn close(&self) {
        self.waiting().is_closed = true;
        // A batch that is dropped says that it was closed.
        while self.take().is_some() {}
    }

    /// Takes the batch at the front, ended as it is.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting();
        if let Some(sealed) = waiting.sealed.pop_front() {
            return Some(sealed);
        }
        let open = waiting.open.take()?;
        waiting.capacity = (open.bytes() + open.bytes() / 8).max(FIRST_CAPACITY);
        // Compressed outside of the lock: the next batch may begin meanwhile, it stays behind.
        drop(waiting);
        Some(open.seal())
    }
}

/// The batch at the front of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) created: Instant,
    pub(crate) due_at: Instant,
}

/// Partitions with something new for the producer's task.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    queues: Mutex<Vec<Arc<PartitionQueue>>>,
    pub(crate) wake: Notify,
}

impl Dirty {
    /// Lists a partition and wakes the producer's task.
    pub(crate) fn list(&self, queue: &Arc<PartitionQueue>) {
        if !queue.is_listed.swap(true, Ordering::AcqRel) {
            self.queues().push(queue.clone());
            self.wake.notify_one();
        }
    }

    /// Takes what is listed. What comes from now on is listed again.
    pub(crate) fn take(&self) -> Vec<Arc<PartitionQueue>> {
        let queues = std::mem::take(&mut *self.queues());
        for queue in &queues {
            queue.is_listed.store(false, Ordering::Release);
        }
        queues
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Arc<PartitionQueue>>> {
        self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
