//! `sawlog consume -g`: as a member of a group.
//!
//! What is printed is on standard output before more is asked for, so that what the group commits has been
//! written. Told to end, the member commits, leaves, and lets the others go on at once; told twice, it
//! ends as if it had died.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use sawlog_client::{
    Client, ClientError, ConsumedRecord, Consumer, ConsumerOptions, GroupConsumer, GroupOptions,
    ResetPolicy, Topics,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{OUTPUT_BYTES, flush};
use crate::failure::{Failure, Kind, say};
use crate::format::Format;
use crate::progress::Progress;

/// Longest wait for records before it is looked whether all is read.
const LOOK: Duration = Duration::from_millis(100);

/// A member without partitions for so long is not given any soon.
const WITHOUT: Duration = Duration::from_secs(3);

/// How to take part, and what to print.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) group: String,
    /// `group.instance.id`.
    pub(crate) instance: Option<String>,
    pub(crate) topics: Topics,
    /// Where a partition begins of which the group has committed nothing.
    pub(crate) reset: ResetPolicy,
    /// Stop after this many.
    pub(crate) count_max: u64,
    /// Stop at the end there is when a partition is assigned.
    pub(crate) exit: bool,
    pub(crate) format: Format,
}

impl Membership {
    /// Prints what the group assigns until the end, the count, a signal, or the reader of the output
    /// is gone; then leaves.
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let options = GroupOptions {
            instance: self.instance.clone(),
            consumer: ConsumerOptions { reset: self.reset, ..ConsumerOptions::default() },
            ..GroupOptions::new(&self.group)
        };
        let mut consumer = Consumer::subscribe(client, self.topics.clone(), options)?;
        let failed = |error| Failure::failed(format!("cannot handle signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let outcome = tokio::select! {
            // Dropping a request for records loses none.
            outcome = self.print(&mut consumer) => outcome,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
        };
        let left = tokio::select! {
            // The second signal is for those who cannot wait.
            left = consumer.close() => left,
            _ = tokio::signal::ctrl_c() => return Err(interrupted()),
            _ = terminate.recv() => return Err(interrupted()),
        };
        outcome?;
        left.map_err(|error| {
            let group = &self.group;
            Failure::failed(format!(
                "what was printed last is not committed in \"{group}\": {error}"
            ))
        })
    }

    async fn print(&self, consumer: &mut GroupConsumer) -> Result<(), Failure> {
        let shown = !std::io::stdout().is_terminal();
        let is_bounded = self.count_max < u64::MAX;
        let mut progress = Progress::new("records", is_bounded.then_some(self.count_max), shown);
        let mut end = End::default();
        let mut printed = 0u64;
        let mut out = Vec::new();
        while printed < self.count_max {
            let records = match tokio::time::timeout(LOOK, next(consumer, is_bounded)).await {
                Ok(Ok(records)) => records,
                Ok(Err(error)) if error.is_retriable() => {
                    say(format!("{error}; trying again"));
                    continue;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.exit && end.is_reached(consumer, Instant::now()) => return Ok(()),
                Err(_) => continue,
            };
            for record in &records {
                printed += 1;
                self.format.write(record, printed, &mut out);
                if out.len() >= OUTPUT_BYTES {
                    flush(&mut out)?;
                }
            }
            flush(&mut out)?;
            progress.update(printed);
            if self.exit && end.is_reached(consumer, Instant::now()) {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted")
}

/// The next records; a single one where no more than a count may be taken: what was handed out is
/// committed in the end, and no record must be that is not printed.
async fn next(
    consumer: &mut GroupConsumer,
    is_single: bool,
) -> Result<Vec<ConsumedRecord>, ClientError> {
    if !is_single {
        return consumer.next().await;
    }
    let mut stream = consumer.stream();
    match std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        Some(record) => Ok(vec![record?]),
        None => Err(ClientError::Closed),
    }
}

/// Where each partition ended when it was first looked at.
#[derive(Debug, Default)]
struct End {
    ends: HashMap<(Arc<str>, i32), i64>,
    /// Since when the member has been in the group without a partition.
    without: Option<Instant>,
}

impl End {
    /// Whether the member is in the group and has read all it has, or has nothing to read.
    fn is_reached(&mut self, consumer: &GroupConsumer, now: Instant) -> bool {
        let parts = consumer.lag();
        if consumer.member().is_none() {
            self.without = None;
            return false;
        }
        if parts.is_empty() {
            return now.duration_since(*self.without.get_or_insert(now)) >= WITHOUT;
        }
        self.without = None;
        parts.into_iter().all(|part| {
            // Before the first fetch there is no end.
            if part.end_offset < 0 {
                return false;
            }
            let key = (part.topic, part.partition);
            part.position >= *self.ends.entry(key).or_insert(part.end_offset)
        })
    }
}
