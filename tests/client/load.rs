//! Numbered records into a topic, and the proof that they are in its log once and in order.

use std::collections::BTreeMap;
use std::time::Duration;

use sawlog_client::{
    Assignment, Client, ClientError, ClientOptions, Consumer, Delivered, Delivery, NewTopic,
    Position, Producer, RecordRef,
};
use tokio::time::timeout;

/// Longest anything here may take; only what is broken does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn connect(options: ClientOptions) -> Client {
    Client::connect(options).await.expect("the broker is there")
}

pub(crate) async fn create(client: &Client, topic: &str, partitions: i32) {
    let topic = NewTopic {
        name: topic,
        partitions,
        replication_factor: 1,
        configs: &[],
        validate_only: false,
    };
    client.create_topic(&topic).await.expect("a new topic");
}

/// What a load wrote: for each record its number, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) outcomes: Vec<(u64, i32, Result<Delivered, ClientError>)>,
}

impl Written {
    pub(crate) fn failures(&self) -> usize {
        self.outcomes.iter().filter(|(_, _, outcome)| outcome.is_err()).count()
    }
}

/// Sends numbered records to the partitions in turn until `is_over` says so of the next number, and
/// waits for all outcomes.
pub(crate) async fn write(
    producer: &Producer,
    topic: &str,
    partitions: i32,
    mut is_over: impl FnMut(u64) -> bool,
) -> Written {
    let mut deliveries: Vec<(u64, Delivery)> = Vec::new();
    let mut number = 0u64;
    while !is_over(number) {
        let value = number.to_be_bytes();
        let partition = i32::try_from(number % u64::try_from(partitions).expect("few")).ok();
        let record = RecordRef { partition, value: Some(&value), ..RecordRef::default() };
        let sent = timeout(DEADLINE, producer.send_ref(topic, record)).await;
        deliveries.push((number, sent.expect("room comes free").expect("a good record")));
        number += 1;
        if number.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
    timeout(DEADLINE, producer.flush()).await.expect("everything gets an outcome");
    let mut written = Written::default();
    for (number, delivery) in deliveries {
        let partition = delivery.partition();
        let outcome = delivery.try_confirmed().expect("a flush waits for outcomes");
        written.outcomes.push((number, partition, outcome));
    }
    written
}

/// Everything in a topic: offsets and numbers, by partition.
pub(crate) async fn read_all(
    client: &Client,
    topic: &str,
    partitions: i32,
) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let assignment = |partition| Assignment {
        topic: topic.to_owned(),
        partition,
        from: Position::Start,
        until: Some(Position::End),
    };
    let all: Vec<Assignment> = (0..partitions).map(assignment).collect();
    let mut consumer = Consumer::assign(client, &all).await.expect("partitions to read");
    let mut found: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    loop {
        let next = timeout(DEADLINE, consumer.next()).await.expect("records come");
        let Some(records) = next.expect("readable records") else { return found };
        for record in records {
            let value = record.value.expect("a number");
            let number = u64::from_be_bytes(value[..].try_into().expect("eight bytes"));
            found.entry(record.partition).or_default().push((record.offset, number));
        }
    }
}

/// Checks that every confirmed record is where it was said to be, that nothing is there twice or out
/// of order, and nothing that was not sent.
pub(crate) async fn check(client: &Client, topic: &str, partitions: i32, written: &Written) {
    let found = read_all(client, topic, partitions).await;
    for (partition, records) in &found {
        for pair in records.windows(2) {
            let [(offset, number), (next_offset, next)] = pair else { continue };
            assert!(
                offset < next_offset && number < next,
                "partition {partition} has records twice or out of order: record {number} at {offset}, \
                 then record {next} at {next_offset}"
            );
        }
    }
    for (number, partition, outcome) in &written.outcomes {
        let there = found.get(partition).is_some_and(|records| match outcome {
            Ok(delivered) if delivered.offset >= 0 => records
                .binary_search_by_key(&delivered.offset, |(offset, _)| *offset)
                .is_ok_and(|at| records[at].1 == *number),
            Ok(_) => records.iter().any(|(_, found)| found == number),
            // Not confirmed says nothing.
            Err(_) => true,
        });
        assert!(there, "record {number} of partition {partition} is lost: {outcome:?}");
    }
    let total: usize = found.values().map(Vec::len).sum();
    assert!(total <= written.outcomes.len(), "{total} records, {} sent", written.outcomes.len());
}
