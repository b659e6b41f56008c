//! A member of a group in a task of its own: reads, writes down what it read, and can be killed.

use std::sync::Arc;
use std::time::Duration;

use sawlog_client::{Client, CommitError, Consumer, GroupConsumer, GroupOptions, Topics};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log::{Log, Witness};
use crate::load::DEADLINE;

/// A running member.
pub(crate) struct Member {
    index: usize,
    log: Arc<Log>,
    stop: Option<oneshot::Sender<()>>,
    paused: watch::Sender<bool>,
    rests: watch::Receiver<bool>,
    task: JoinHandle<Result<(), CommitError>>,
}

impl Member {
    pub(crate) fn start(
        client: &Client,
        topics: impl Into<Topics>,
        mut options: GroupOptions,
        (index, log): (usize, &Arc<Log>),
    ) -> Self {
        options.listener = Some(Arc::new(Witness { log: log.clone(), member: index }));
        let is_manual = options.commit_interval.is_none();
        let consumer = Consumer::subscribe(client, topics, options).expect("good options");
        let (stop, stopped) = oneshot::channel();
        let (paused, pauses) = watch::channel(false);
        let (resting, rests) = watch::channel(false);
        let reading = Reading { index, log: log.clone(), is_manual, pauses, resting };
        let task = tokio::spawn(reading.run(consumer, stopped));
        Self { index, log: log.clone(), stop: Some(stop), paused, rests, task }
    }

    /// As if its process had died.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // Aborted, or over before.
        let _ended = self.task.await;
        self.log.died(self.index);
    }

    /// It leaves.
    pub(crate) async fn close(mut self) -> Result<(), CommitError> {
        drop(self.stop.take());
        timeout(DEADLINE, self.task).await.expect("it leaves").expect("no panic")
    }

    /// It asks for nothing from when this returns until [`Member::resume`].
    pub(crate) async fn pause(&self) {
        self.paused.send_replace(true);
        let mut rests = self.rests.clone();
        let resting = rests.wait_for(|rests| *rests);
        timeout(DEADLINE, resting).await.expect("records come").expect("it lives");
    }

    pub(crate) fn resume(&self) {
        self.paused.send_replace(false);
    }
}

struct Reading {
    index: usize,
    log: Arc<Log>,
    is_manual: bool,
    pauses: watch::Receiver<bool>,
    resting: watch::Sender<bool>,
}

impl Reading {
    async fn run(
        mut self,
        mut consumer: GroupConsumer,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<(), CommitError> {
        loop {
            let records = tokio::select! {
                records = consumer.next() => records,
                _ = &mut stopped => break,
            };
            if *self.pauses.borrow() {
                self.resting.send_replace(true);
                // What it has by then is others' work.
                let _resumed = self.pauses.wait_for(|paused| !*paused).await;
                self.resting.send_replace(false);
                continue;
            }
            let records = match records {
                Ok(records) => records,
                Err(error) => {
                    assert!(error.is_retriable(), "member {}: {error}", self.index);
                    continue;
                }
            };
            for record in &records {
                self.log.record(self.index, record);
            }
            // Work takes its time, so that partitions change hands in the midst of it.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Some(last) = records.last() {
                self.log.processed((last.topic.clone(), last.partition), last.offset + 1);
            }
            if self.is_manual {
                match consumer.commit().await {
                    Ok(()) => {}
                    // Others repeat the records, or it commits later.
                    Err(CommitError::Rebalancing | CommitError::NotMember { .. }) => {}
                    Err(CommitError::Failed(error)) if error.is_retriable() => {}
                    Err(error) => panic!("member {}: {error}", self.index),
                }
            }
        }
        consumer.close().await
    }
}
