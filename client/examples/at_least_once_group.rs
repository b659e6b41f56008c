//! Copies a topic to another, in a group, so that a crash at any moment loses nothing:
//! `cargo run -p sawlog-client --example at_least_once_group -- 127.0.0.1:9092 FROM TO GROUP`.
//!
//! Nothing is committed before the copies of it are confirmed. After a crash, or when partitions
//! change hands, some records are copied again, none is left out. Ends when there was nothing to
//! copy for five seconds.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use sawlog_client::{
    Client, ClientOptions, ConsumedRecord, Consumer, ConsumerOptions, Delivery, GroupOptions,
    Producer, ProducerOptions, RecordRef, ResetPolicy,
};

const USAGE: &str = "usage: at_least_once_group HOST:PORT FROM TO GROUP";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or(USAGE);
    let (address, from, to, group) = (argument()?, argument()?, argument()?, argument()?);

    let client = Client::connect(ClientOptions::new(&address)).await?;
    let producer = Producer::new(client.clone(), ProducerOptions::default());
    let reset = ResetPolicy::Earliest;
    let options = GroupOptions {
        // Only what is done is committed, and only here.
        commit_interval: None,
        consumer: ConsumerOptions { reset, ..ConsumerOptions::default() },
        ..GroupOptions::new(&group)
    };
    let mut consumer = Consumer::subscribe(&client, from.as_str(), options)?;
    loop {
        let records = consumer.poll(Duration::from_secs(5)).await?;
        if records.is_empty() {
            break;
        }
        copy(&producer, &to, &records).await?;
        if let Err(error) = consumer.commit().await {
            // A member commits it later, with what comes next. Otherwise whoever has the partitions
            // now copies the records again. Nothing is lost either way.
            writeln!(std::io::stderr(), "not committed: {error}")?;
        }
    }
    consumer.close().await?;
    Ok(())
}

/// Returns once every copy is in the log.
async fn copy(
    producer: &Producer,
    to: &str,
    records: &[ConsumedRecord],
) -> Result<(), Box<dyn Error>> {
    let mut deliveries: Vec<Delivery> = Vec::with_capacity(records.len());
    for record in records {
        let copy = RecordRef {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp: Some(record.timestamp),
            ..RecordRef::default()
        };
        deliveries.push(producer.send_ref(to, copy).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(())
}
