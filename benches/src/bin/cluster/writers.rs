//! What clients see: each writes one record after the other at a fixed rate, with acks=all and its own
//! settings otherwise, and notes what became of it.
//!
//! Latencies count from the moment a record was due: a client that cannot write is charged for
//! every record that had to wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use sawlog_client::{Client, ClientOptions, Producer, ProducerOptions, RecordRef};

use crate::Failure;

/// Longest wait for what was sent when a writer is to end.
const DEADLINE: Duration = Duration::from_secs(60);

const VALUE: [u8; 100] = [b'v'; 100];

/// Whose view it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Ours,
    Librdkafka,
}

pub(crate) const VIEWS: [View; 2] = [View::Ours, View::Librdkafka];

impl View {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "sawlog-client",
            Self::Librdkafka => "librdkafka",
        }
    }
}

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// Records a second, to the partitions in turn.
    pub(crate) rate: u32,
}

/// What became of one record.
#[derive(Clone, Debug)]
struct Fate {
    due: Instant,
    partition: i32,
    outcome: Option<Result<Instant, String>>,
}

/// What became of all of them.
#[derive(Debug, Default)]
struct Fates(Mutex<Vec<Fate>>);

impl Fates {
    fn lock(&self) -> MutexGuard<'_, Vec<Fate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, number: usize, outcome: Result<(), String>) {
        let outcome = outcome.map(|()| Instant::now());
        if let Some(fate) = self.lock().get_mut(number) {
            fate.outcome = Some(outcome);
        }
    }
}

/// A client that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) view: View,
    partitions: i32,
    fates: Arc<Fates>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Writer {
    pub(crate) fn start(view: View, what: &Writing) -> Self {
        let (fates, over) = (Arc::<Fates>::default(), Arc::<AtomicBool>::default());
        let partitions = what.partitions;
        let (what, shared, ends) = (what.clone(), fates.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let written = match view {
                View::Ours => write_ours(&what, &shared, &ends),
                View::Librdkafka => write_librdkafka(&what, &shared, &ends),
            };
            written.map_err(|error| error.to_string())
        });
        Self { view, partitions, fates, over, thread: Some(thread) }
    }

    /// Whether something that was due since then is written to every partition.
    pub(crate) fn writes_again(&self, since: Instant) -> bool {
        let fates = self.fates.lock();
        let written = |partition| {
            let mut recent = fates.iter().rev().take_while(|fate| fate.due > since);
            recent.any(|fate| fate.partition == partition && matches!(fate.outcome, Some(Ok(_))))
        };
        (0..self.partitions).all(written)
    }

    /// The longest any record waited that was due in that time.
    pub(crate) fn worst(&self, from: Instant, until: Instant) -> Duration {
        let fates = self.fates.lock();
        let due = fates.iter().filter(|fate| (from..until).contains(&fate.due));
        let waited = due.filter_map(|fate| match fate.outcome {
            Some(Ok(at)) => Some(at.saturating_duration_since(fate.due)),
            Some(Err(_)) | None => None,
        });
        waited.max().unwrap_or_default()
    }

    /// The errors it was told of, for records that were due in that time.
    pub(crate) fn errors(&self, from: Instant, until: Instant) -> Vec<String> {
        let fates = self.fates.lock();
        let due = fates.iter().filter(|fate| (from..until).contains(&fate.due));
        due.filter_map(|fate| fate.outcome.clone()?.err()).collect()
    }

    /// Ends it; everything it sent has an outcome then.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "a writer panicked")??;
        }
        let unsettled = self.fates.lock().iter().filter(|fate| fate.outcome.is_none()).count();
        if unsettled > 0 {
            return Err(
                format!("{}: {unsettled} records without an outcome", self.view.name()).into()
            );
        }
        Ok(())
    }
}

/// When each record is due, one after the other, until it is over; sleeps in between.
fn each_due(
    what: &Writing,
    fates: &Fates,
    over: &AtomicBool,
    mut send: impl FnMut(usize, i32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (started, step) = (Instant::now(), Duration::from_secs(1) / what.rate);
    let mut number = 0u32;
    while !over.load(Ordering::Relaxed) {
        let due = started + step * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let partition = i32::try_from(number).unwrap_or(0) % what.partitions;
        let at = {
            let mut fates = fates.lock();
            fates.push(Fate { due, partition, outcome: None });
            fates.len() - 1
        };
        send(at, partition)?;
        number += 1;
    }
    Ok(())
}

struct Outcomes(Arc<Fates>);

impl ClientContext for Outcomes {}

impl ProducerContext for Outcomes {
    /// The record's number.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = result.as_ref().map(drop).map_err(|(error, _)| error.to_string());
        self.0.settle(number, outcome);
    }
}

fn write_librdkafka(what: &Writing, fates: &Arc<Fates>, over: &AtomicBool) -> Result<(), Failure> {
    let producer: ThreadedProducer<Outcomes> = ClientConfig::new()
        .set("bootstrap.servers", &what.bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .create_with_context(Outcomes(fates.clone()))?;
    each_due(what, fates, over, |number, partition| {
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&what.topic, number)
            .payload(&VALUE)
            .partition(partition);
        Ok(producer.send(record).map_err(|(error, _)| error)?)
    })?;
    Ok(producer.flush(DEADLINE)?)
}

fn write_ours(what: &Writing, fates: &Arc<Fates>, over: &AtomicBool) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = runtime.block_on(Client::connect(ClientOptions::new(&what.bootstrap)))?;
    let producer = {
        let _entered = runtime.enter();
        Producer::new(client, ProducerOptions::default())
    };
    each_due(what, fates, over, |number, partition| {
        let record =
            RecordRef { partition: Some(partition), value: Some(&VALUE), ..RecordRef::default() };
        let delivery = runtime.block_on(producer.send_ref(&what.topic, record))?;
        let fates = fates.clone();
        runtime.spawn(async move {
            let outcome = delivery.await.map(drop).map_err(|error| error.to_string());
            fates.settle(number, outcome);
        });
        Ok(())
    })?;
    let flushed =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, producer.flush()).await });
    flushed.map_err(|_| "not everything was written")?;
    // The tasks that note it come after the flush.
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}
