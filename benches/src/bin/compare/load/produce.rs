//! Producing as fast as the client can.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::{DEADLINE, Values, config, histogram};
use crate::Failure;

/// What is produced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlatOut {
    pub(crate) records: u64,
    pub(crate) bytes: usize,
    pub(crate) partitions: i32,
    pub(crate) acks: &'static str,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Produced {
    /// From the first record to the last confirmation.
    pub(crate) elapsed: Duration,
    /// From handing a record to the client to its confirmation, in microseconds. Flat-out, most of
    /// it is the wait in the client's own queue.
    pub(crate) acks: Histogram<u64>,
}

/// What the confirmations of one run add up to.
#[derive(Debug)]
struct Confirmed {
    times: Histogram<u64>,
    failure: Option<String>,
}

struct Confirmations {
    started: Instant,
    confirmed: Mutex<Confirmed>,
}

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    /// Microseconds from the start to the sending.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: usize) {
        let now = micros(self.started);
        let mut confirmed =
            self.confirmed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(_) => confirmed.times.saturating_record(now.saturating_sub(sent as u64).max(1)),
            Err((error, _)) => confirmed.failure = Some(error.to_string()),
        }
    }
}

/// Produces and waits for every confirmation. The connection is made and each partition written
/// once before the clock starts.
///
/// The settings are librdkafka's defaults, spelled out so that another release changes nothing.
pub(crate) fn produce(address: &str, topic: &str, what: FlatOut) -> Result<Produced, Failure> {
    let context = Confirmations {
        started: Instant::now(),
        confirmed: Mutex::new(Confirmed { times: histogram()?, failure: None }),
    };
    let producer: BaseProducer<Confirmations> = config(address)
        .set("acks", what.acks)
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "1048576")
        .create_with_context(context)?;
    let values = Values::new(what.bytes);
    let confirmed = &producer.context().confirmed;
    for partition in 0..what.partitions {
        send(&producer, topic, partition, values.value(0))?;
    }
    producer.flush(DEADLINE)?;
    confirmed.lock().map_err(|_| "poisoned")?.times.reset();

    let started = Instant::now();
    let mut partition = 0;
    for number in 0..what.records {
        send(&producer, topic, partition, values.value(number))?;
        partition = if partition + 1 == what.partitions { 0 } else { partition + 1 };
        if number % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
            if started.elapsed() > DEADLINE {
                return Err("producing took too long".into());
            }
        }
    }
    producer.flush(DEADLINE)?;
    let elapsed = started.elapsed();

    let confirmed = confirmed.lock().map_err(|_| "poisoned")?;
    if let Some(failure) = &confirmed.failure {
        return Err(format!("a record was not confirmed: {failure}").into());
    }
    if confirmed.times.len() != what.records {
        return Err(format!("{} of {} were confirmed", confirmed.times.len(), what.records).into());
    }
    Ok(Produced { elapsed, acks: confirmed.times.clone() })
}

fn send(
    producer: &BaseProducer<Confirmations>,
    topic: &str,
    partition: i32,
    value: &[u8],
) -> Result<(), Failure> {
    let sent = usize::try_from(micros(producer.context().started))?;
    let mut record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, sent)
        .payload(value)
        .partition(partition);
    let mut waits = 0;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                waits += 1;
                if waits > FULL_WAITS_MAX {
                    return Err("the client's queue stays full".into());
                }
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

pub(crate) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

const POLL_EVERY: u64 = 256;

/// Of a millisecond each.
const FULL_WAITS_MAX: u32 = 60_000;
