//! Records of a group one by one.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::GroupConsumer;
use crate::consumer::ConsumedRecord;
use crate::error::ClientError;

/// The records of a group's consumer as a `futures::Stream`, see [`GroupConsumer::stream`]. Dropping
/// it loses nothing.
#[derive(Debug)]
pub struct GroupStream<'a> {
    consumer: &'a mut GroupConsumer,
}

impl<'a> GroupStream<'a> {
    pub(crate) fn new(consumer: &'a mut GroupConsumer) -> Self {
        Self { consumer }
    }
}

impl Stream for GroupStream<'_> {
    type Item = Result<ConsumedRecord, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.consumer.poll_record(cx).map(Some)
    }
}

impl Drop for GroupStream<'_> {
    fn drop(&mut self) {
        self.consumer.desk.stop_waiting();
    }
}
