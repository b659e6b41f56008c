//! Latency at a fixed rate: one record at a time, sent when it is due.
//!
//! Both latencies count from the moment a record was due, not from when the client got round to
//! it: a pause is charged to every record it delayed (no coordinated omission).

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::produce::micros;
use super::{DEADLINE, Values, config, histogram};
use crate::Failure;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedRate {
    /// Records a second.
    pub(crate) rate: u64,
    pub(crate) bytes: usize,
    /// Records before the first one that counts.
    pub(crate) warm_up: u64,
    pub(crate) records: u64,
}

/// In microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    /// Due to confirmed.
    pub(crate) ack: Histogram<u64>,
    /// Due to consumed.
    pub(crate) end_to_end: Histogram<u64>,
}

struct Confirmations {
    started: Instant,
    counts_from: u64,
    times: Mutex<Histogram<u64>>,
}

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    /// When the record was due: microseconds from the start.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        let due = due as u64;
        if result.is_ok() && due >= self.counts_from {
            let late = micros(self.started).saturating_sub(due).max(1);
            let mut times = self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            times.saturating_record(late);
        }
    }
}

/// Sends to partition 0 of the new topic and reads beside it, in one process with one clock.
pub(crate) fn latency(address: &str, topic: &str, what: FixedRate) -> Result<Latencies, Failure> {
    let started = Instant::now();
    let counts_from = what.due(what.warm_up);
    let context = Confirmations { started, counts_from, times: Mutex::new(histogram()?) };
    let producer: ThreadedProducer<Confirmations> = config(address)
        .set("acks", "all")
        .set("linger.ms", "0")
        // As every idempotent producer has it. More would let single records queue up in the
        // sockets where a broker is slower than the rate, instead of in batches.
        .set("max.in.flight", "5")
        .set("socket.nagle.disable", "true")
        .create_with_context(context)?;
    let reader = read(address, topic, what, started)?;
    let sent = send(&producer, topic, what, started);
    let flushed = producer.flush(DEADLINE);
    // The reader has its own deadline.
    let end_to_end = reader.join().map_err(|_| "the reader panicked")??;
    sent?;
    flushed?;
    let ack = producer.context().times.lock().map_err(|_| "poisoned")?.clone();
    if ack.len() != what.records {
        return Err(format!("{} of {} records were confirmed", ack.len(), what.records).into());
    }
    Ok(Latencies { ack, end_to_end })
}

impl FixedRate {
    /// When a record is due: microseconds from the start.
    pub(crate) fn due(self, number: u64) -> u64 {
        START_MICROS + number * 1_000_000 / self.rate
    }
}

fn send(
    producer: &ThreadedProducer<Confirmations>,
    topic: &str,
    what: FixedRate,
    started: Instant,
) -> Result<(), Failure> {
    // By default the kernel may wake a sleeper 50 µs late, which would count as latency.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000))?;
    let values = Values::new(what.bytes);
    let mut value = Vec::with_capacity(what.bytes);
    for number in 0..what.warm_up + what.records {
        let due = what.due(number);
        wait_until(started, due);
        value.clear();
        value.extend_from_slice(values.value(number));
        value[..DUE_BYTES].copy_from_slice(&due.to_le_bytes());
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, usize::try_from(due)?)
            .payload(&value)
            .partition(0);
        producer.send(record).map_err(|(error, _)| error)?;
        if started.elapsed() > DEADLINE {
            return Err("sending took too long".into());
        }
    }
    Ok(())
}

/// Sleeps, and spins for the last moment only: the broker needs the two cores, too.
pub(crate) fn wait_until(started: Instant, due: u64) {
    loop {
        let left = due.saturating_sub(micros(started));
        if left == 0 {
            return;
        }
        if left > SPIN_MICROS {
            std::thread::sleep(Duration::from_micros(left - SPIN_MICROS));
        } else {
            std::hint::spin_loop();
        }
    }
}

type Reader = JoinHandle<Result<Histogram<u64>, String>>;

fn read(address: &str, topic: &str, what: FixedRate, started: Instant) -> Result<Reader, Failure> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", "sawlog-compare")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("socket.nagle.disable", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(0))?;
    consumer.assign(&assignment)?;
    let mut times = histogram()?;
    let counts_from = what.due(what.warm_up);
    let total = what.warm_up + what.records;
    Ok(std::thread::spawn(move || {
        let mut seen = 0;
        while seen < total {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let now = micros(started);
                let due = message.payload().and_then(|value| value.first_chunk::<DUE_BYTES>());
                let due = due.map(|bytes| u64::from_le_bytes(*bytes)).ok_or("a short record")?;
                if due >= counts_from {
                    times.saturating_record(now.saturating_sub(due).max(1));
                }
                seen += 1;
            }
            if started.elapsed() > DEADLINE {
                return Err(format!("{seen} of {total} records came"));
            }
        }
        Ok(times)
    }))
}

/// Leaves both clients time to connect.
const START_MICROS: u64 = 1_000_000;

/// About what it takes a sleeper to be running again.
const SPIN_MICROS: u64 = 15;

const DUE_BYTES: usize = 8;
