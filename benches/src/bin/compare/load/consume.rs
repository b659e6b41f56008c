//! Consuming as fast as the client can, from the first offset on.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::{DEADLINE, config};
use crate::Failure;

/// What is there to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    pub(crate) bytes: usize,
}

/// Reads at least that many records of that size from the start of every partition, with a new
/// client and no group. Returns the time from the assignment, the connection in it, to the last one.
pub(crate) fn consume(address: &str, topic: &str, what: Written) -> Result<Duration, Failure> {
    consume_within(address, topic, what, DEADLINE)
}

fn consume_within(
    address: &str,
    topic: &str,
    what: Written,
    deadline: Duration,
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
    for partition in 0..what.partitions {
        assignment.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    let Written { records, bytes, .. } = what;
    let started = Instant::now();
    consumer.assign(&assignment)?;
    let mut seen = 0;
    let mut complaint = None;
    while seen < records {
        let came = match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.payload_len() == bytes => {
                seen += 1;
                true
            }
            Some(Ok(message)) => {
                return Err(format!("a record of {} bytes", message.payload_len()).into());
            }
            // A broker without groups says so in passing.
            Some(Err(error)) => {
                complaint = Some(error);
                false
            }
            None => false,
        };
        // The count stands still when nothing comes: then it must not decide whether to look.
        if (!came || seen % CLOCK_EVERY == 0) && started.elapsed() > deadline {
            return Err(format!("{seen} of {records} records came; {complaint:?}").into());
        }
    }
    Ok(started.elapsed())
}

const CLOCK_EVERY: u64 = 256;

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::load::{FlatOut, produce};

    #[test]
    fn a_broker_that_stops_half_way_is_given_up() -> Result<(), Failure> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic("short", 1, 1)?;
        let address = cluster.bootstrap_servers();
        let (records, bytes) = (10, 100);
        produce(&address, "short", FlatOut { records, bytes, partitions: 1, acks: "all" })?;
        // One more is there: the first, before the clock starts.
        let what = Written { partitions: 1, records: records + 1, bytes };
        consume_within(&address, "short", what, DEADLINE)?;

        let missing = Written { records: records + 2, ..what };
        let given_up = consume_within(&address, "short", missing, Duration::from_secs(2));
        let said = given_up.map_err(|error| error.to_string());
        assert!(said.is_err_and(|said| said.starts_with("11 of 12 records came")));
        Ok(())
    }
}
