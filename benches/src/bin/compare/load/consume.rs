//! Consuming as fast as the client can, from the first offset on.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::{DEADLINE, config};
use crate::Failure;

/// Reads at least `records` records of `bytes` each from the start of every partition, with a new
/// client and no group. Returns the time from the assignment, the connection in it, to the last one.
pub(crate) fn consume(
    address: &str,
    topic: &str,
    partitions: i32,
    records: u64,
    bytes: usize,
) -> Result<Duration, Failure> {
    let consumer: BaseConsumer = config(address)
        // The client wants a name, though it never joins.
        .set("group.id", "sawlog-compare")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // By default it sleeps a second whenever its queue is full: that would be measured instead.
        .set("fetch.queue.backoff.ms", "1")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    let started = Instant::now();
    consumer.assign(&assignment)?;
    let mut seen = 0;
    let mut complaint = None;
    while seen < records {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.payload_len() == bytes => seen += 1,
            Some(Ok(message)) => {
                return Err(format!("a record of {} bytes", message.payload_len()).into());
            }
            // A broker without groups says so in passing.
            Some(Err(error)) => complaint = Some(error),
            None => {}
        }
        if seen % CLOCK_EVERY == 0 && started.elapsed() > DEADLINE {
            return Err(format!("{seen} of {records} records came; {complaint:?}").into());
        }
    }
    Ok(started.elapsed())
}

const CLOCK_EVERY: u64 = 256;
