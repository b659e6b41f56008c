//! Prints a topic from its start to its present end, all partitions:
//! `cargo run -p sawlog-client --example consume -- 127.0.0.1:9092 TOPIC`.

use std::error::Error;
use std::io::Write as _;

use sawlog_client::{Assignment, Client, ClientOptions, Consumer, Position};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: consume HOST:PORT TOPIC")?;
    let topic = arguments.next().ok_or("usage: consume HOST:PORT TOPIC")?;

    let client = Client::connect(ClientOptions::new(&address)).await?;
    let partitions = client.topic(&topic).await?.partitions;
    let assignments: Vec<Assignment> = partitions
        .iter()
        .map(|partition| Assignment {
            topic: topic.clone(),
            partition: partition.index,
            from: Position::Start,
            until: Some(Position::End),
        })
        .collect();
    let mut consumer = Consumer::assign(&client, &assignments).await?;
    let mut out = std::io::stdout().lock();
    while let Some(records) = consumer.next().await? {
        for record in records {
            let value = record.value.unwrap_or_default();
            let value = String::from_utf8_lossy(&value);
            writeln!(out, "{}-{}: {value}", record.partition, record.offset)?;
        }
    }
    Ok(())
}
