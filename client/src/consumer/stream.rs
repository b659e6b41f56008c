//! Records one by one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{ConsumedRecord, Consumer};
use crate::error::ClientError;

/// The records of a consumer as a `futures::Stream`, see [`Consumer::stream`].
///
/// Records it has taken from the consumer and not yielded are lost when it is dropped: positions are
/// behind them.
#[derive(Debug)]
pub struct RecordStream<'a> {
    consumer: &'a mut Consumer,
    taken: std::vec::IntoIter<ConsumedRecord>,
}

impl<'a> RecordStream<'a> {
    pub(crate) fn new(consumer: &'a mut Consumer) -> Self {
        Self { consumer, taken: Vec::new().into_iter() }
    }
}

impl Stream for RecordStream<'_> {
    type Item = Result<ConsumedRecord, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(record) = this.taken.next() {
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(this.consumer.poll_records(cx)) {
                Ok(Some(records)) => this.taken = records.into_iter(),
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.taken.len(), None)
    }
}
