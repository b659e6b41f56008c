//! The loads, all over librdkafka, the same for every broker.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::Failure;

/// Longest any one load may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// One flat-out write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) records: u64,
    pub(crate) bytes: usize,
    pub(crate) partitions: i32,
    pub(crate) acks: &'static str,
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Creates a topic; `settings` are its own.
pub(crate) fn create_topic(
    address: &str,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = config(address).create()?;
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let results = futures_executor::block_on(admin.create_topics([&topic], &AdminOptions::new()))?;
    for result in results {
        result.map_err(|(name, code)| format!("cannot create {name}: {code}"))?;
    }
    Ok(())
}

/// Bytes no codec and no disk can shrink.
fn payload(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut payload = Vec::with_capacity(bytes);
    while payload.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend(state.to_be_bytes());
    }
    payload.truncate(bytes);
    payload
}

/// Writes as fast as the client can; returns the time from the first record to the last
/// confirmation.
pub(crate) fn write(address: &str, topic: &str, what: Write) -> Result<Duration, Failure> {
    let producer: BaseProducer = config(address)
        .set("acks", what.acks)
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "500000")
        .set("queue.buffering.max.kbytes", "1048576")
        .create()?;
    let payload = payload(what.bytes);
    let started = Instant::now();
    for number in 0..what.records {
        let partition = i32::try_from(number % u64::try_from(what.partitions)?)?;
        let mut record = BaseRecord::<(), [u8]>::to(topic).payload(&payload).partition(partition);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if number % 1024 == 0 {
            producer.poll(Duration::ZERO);
        }
        if started.elapsed() > DEADLINE {
            return Err("writing took too long".into());
        }
    }
    producer.flush(DEADLINE)?;
    Ok(started.elapsed())
}

/// Reads `records` records from the start of every partition.
pub(crate) fn read(
    address: &str,
    topic: &str,
    partitions: i32,
    records: u64,
) -> Result<Duration, Failure> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", "compare")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.min.messages", "500000")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let started = Instant::now();
    consumer.assign(&list)?;
    let mut seen = 0;
    while seen < records {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => seen += 1,
            // A broker without groups says so in passing.
            Some(Err(_)) | None => {}
        }
        if started.elapsed() > DEADLINE {
            return Err(format!("reading took too long: {seen} of {records}").into());
        }
    }
    Ok(started.elapsed())
}

/// Counts confirmations as they come.
struct AckTimes {
    started: Instant,
    times: std::sync::Mutex<Histogram<u64>>,
}

impl ClientContext for AckTimes {}

impl ProducerContext for AckTimes {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: Box<u64>) {
        if result.is_ok() {
            let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut times = self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            times.saturating_record(now.saturating_sub(*intended).max(1));
        }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    pub(crate) ack: Histogram<u64>,
    pub(crate) end_to_end: Histogram<u64>,
}

/// Writes 1 KiB records at a fixed rate and reads them beside. Both times count from the moment a
/// record was due, not from when the client got round to it (no coordinated omission).
pub(crate) fn latency(
    address: &str,
    topic: &str,
    rate: u64,
    seconds: u64,
) -> Result<Latencies, Failure> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", "compare")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "500")
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::End)?;
    consumer.assign(&list)?;
    // The consumer is at the end once its first long poll is under way.
    let settle = Instant::now();
    while settle.elapsed() < Duration::from_secs(2) {
        drop(consumer.poll(Duration::from_millis(100)));
    }
    let started = Instant::now();
    let context = AckTimes {
        started,
        times: std::sync::Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
    };
    let producer: BaseProducer<AckTimes> =
        config(address).set("acks", "all").set("linger.ms", "0").create_with_context(context)?;
    let total = rate * seconds;
    let reader = std::thread::spawn(move || -> Result<Histogram<u64>, String> {
        let mut times = Histogram::new_with_bounds(1, 60_000_000, 3).map_err(|e| e.to_string())?;
        let mut seen = 0;
        while seen < total {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                let now = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                let due = message.payload().and_then(|payload| payload.first_chunk::<8>());
                let due = due.map_or(now, |bytes| u64::from_be_bytes(*bytes));
                times.saturating_record(now.saturating_sub(due).max(1));
                seen += 1;
            }
            if started.elapsed() > DEADLINE {
                return Err(format!("{seen} of {total} records came"));
            }
        }
        Ok(times)
    });
    let mut bytes = payload(1024);
    for number in 0..total {
        let due = number * 1_000_000 / rate;
        loop {
            let now = u64::try_from(started.elapsed().as_micros())?;
            if now >= due {
                break;
            }
            let wait = Duration::from_micros(due - now);
            producer.poll(wait.min(Duration::from_micros(200)));
            if wait > Duration::from_micros(80) {
                std::thread::sleep(
                    (wait - Duration::from_micros(60)).min(Duration::from_micros(500)),
                );
            }
        }
        bytes[..8].copy_from_slice(&due.to_be_bytes());
        let record = BaseRecord::<(), [u8], Box<u64>>::with_opaque_to(topic, Box::new(due))
            .payload(&bytes)
            .partition(0);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(DEADLINE)?;
    let end_to_end = reader.join().map_err(|_| "the reader panicked")??;
    let ack = producer.context().times.lock().map_err(|_| "poisoned")?.clone();
    Ok(Latencies { ack, end_to_end })
}

/// From now until one record is confirmed.
pub(crate) fn first_ack(address: &str, topic: &str) -> Result<Duration, Failure> {
    let started = Instant::now();
    write(address, topic, Write { records: 1, bytes: 100, partitions: 1, acks: "all" })?;
    Ok(started.elapsed())
}
