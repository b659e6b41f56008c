//! What becomes of the records of a batch, for everybody who waits for one.
//!
//! A batch has one [`Settlement`]; a [`Delivery`] is a place in it. A batch that a broker finds too
//! large is sent in parts, so a settlement comes in parts, too.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::record::Delivered;
use crate::error::ClientError;

/// The outcome of a batch, told once for each of its records.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<Part>,
    /// Records settled so far.
    settled: u32,
    /// Records there are; 0 while the batch is filled.
    total: u32,
    /// Who waits for which record.
    waiting: HashMap<u32, Waker>,
    /// Who waits for all of them.
    waiting_for_all: Vec<Waker>,
}

#[derive(Debug)]
struct Part {
    records: Range<u32>,
    base_offset: Result<i64, ClientError>,
}

impl Settlement {
    fn state(&self) -> MutexGuard<'_, State> {
        // Parts are pushed whole: as good after a panic as before.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Says how many records there are.
    pub(crate) fn close_at(&self, total: u32) {
        self.state().total = total;
    }

    /// Settles some records. The offset is that of the first of them, -1 if not told.
    pub(crate) fn settle(&self, records: Range<u32>, base_offset: Result<i64, ClientError>) {
        let wakers: Vec<Waker> = {
            let mut state = self.state();
            state.settled += records.end - records.start;
            let mut wakers = Vec::new();
            if state.is_settled() {
                wakers.append(&mut state.waiting_for_all);
                wakers.extend(std::mem::take(&mut state.waiting).into_values());
            } else {
                let due = state.waiting.extract_if(|index, _| records.contains(index));
                wakers.extend(due.map(|(_, waker)| waker));
            }
            state.parts.push(Part { records, base_offset });
            wakers
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether all records are settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.state().is_settled()
    }

    /// Ready once all records are settled.
    pub(crate) fn poll_all(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_settled() {
            return Poll::Ready(());
        }
        if !state.waiting_for_all.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting_for_all.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.total > 0 && self.settled >= self.total
    }

    fn outcome(&self, index: u32) -> Option<Result<i64, ClientError>> {
        let part = self.parts.iter().find(|part| part.records.contains(&index))?;
        Some(match &part.base_offset {
            Ok(base) if *base < 0 => Ok(-1),
            Ok(base) => Ok(base + i64::from(index - part.records.start)),
            Err(error) => Err(error.clone()),
        })
    }
}

/// The confirmation of one record: a future, to be awaited or dropped.
///
/// Dropping it changes nothing for the record; its fate is then not told, but to
/// [`ProducerHooks`](super::ProducerHooks).
#[derive(Debug)]
pub struct Delivery {
    settlement: Arc<Settlement>,
    partition: i32,
    index: u32,
}

impl Delivery {
    pub(crate) fn new(settlement: Arc<Settlement>, partition: i32, index: u32) -> Self {
        Self { settlement, partition, index }
    }

    /// The partition the record goes to.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Waits for the confirmation; the same as awaiting the delivery.
    ///
    /// # Errors
    /// The record is not confirmed, and why. After a timeout or a broken connection it may still be
    /// in the log.
    ///
    /// ```no_run
    /// # async fn example(producer: sawlog_client::Producer) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::Record;
    ///
    /// let record = Record { value: Some(b"3 apples".to_vec()), ..Record::default() };
    /// let delivery = producer.send("orders", record).await?;
    /// println!("at offset {}", delivery.confirmed().await?.offset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn confirmed(self) -> Result<Delivered, ClientError> {
        self.await
    }

    /// The outcome if it is known by now.
    #[must_use]
    pub fn try_confirmed(&self) -> Option<Result<Delivered, ClientError>> {
        let outcome = self.settlement.state().outcome(self.index)?;
        Some(outcome.map(|offset| Delivered { partition: self.partition, offset }))
    }
}

impl Future for Delivery {
    type Output = Result<Delivered, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.settlement.state();
        match state.outcome(self.index) {
            Some(outcome) => {
                let partition = self.partition;
                Poll::Ready(outcome.map(|offset| Delivered { partition, offset }))
            }
            None => {
                state.waiting.insert(self.index, cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(settlement: &Arc<Settlement>, index: u32) -> Delivery {
        Delivery::new(settlement.clone(), 3, index)
    }

    #[tokio::test]
    async fn each_record_of_a_batch_has_its_own_offset() {
        let settlement = Arc::new(Settlement::default());
        let [first, last] = [0, 9].map(|index| delivery(&settlement, index));
        assert_eq!(first.try_confirmed(), None);
        let waiting = tokio::spawn(last);
        tokio::task::yield_now().await;
        settlement.close_at(10);
        settlement.settle(0..10, Ok(100));
        assert_eq!(first.await, Ok(Delivered { partition: 3, offset: 100 }));
        let last = waiting.await.expect("no panic");
        assert_eq!(last, Ok(Delivered { partition: 3, offset: 109 }));
    }

    #[tokio::test]
    async fn parts_settle_on_their_own() {
        let settlement = Arc::new(Settlement::default());
        settlement.close_at(4);
        settlement.settle(0..2, Ok(50));
        let [second, third] = [1, 2].map(|index| delivery(&settlement, index));
        assert_eq!(second.await, Ok(Delivered { partition: 3, offset: 51 }));
        assert_eq!(third.try_confirmed(), None);
        settlement.settle(2..4, Err(ClientError::Closed));
        assert_eq!(third.await, Err(ClientError::Closed));
        std::future::poll_fn(|cx| settlement.poll_all(cx)).await;
    }
}
