//! Copies a partition to another topic so that a crash at any moment loses nothing:
//! `cargo run -p sawlog-client --example at_least_once -- 127.0.0.1:9092 FROM TO FILE`.
//!
//! The position is kept in FILE, and is only moved once everything before it is confirmed. After a
//! crash some records are copied again, none is left out.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sawlog_client::{
    Assignment, Client, ClientOptions, Consumer, Delivery, Position, Producer, ProducerOptions,
    RecordRef,
};

const USAGE: &str = "usage: at_least_once HOST:PORT FROM TO FILE";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or(USAGE);
    let (address, from, to) = (argument()?, argument()?, argument()?);
    let file = PathBuf::from(argument()?);

    let client = Client::connect(ClientOptions::new(&address)).await?;
    let producer = Producer::new(client.clone(), ProducerOptions::default());
    let start = Assignment {
        topic: from.clone(),
        partition: 0,
        from: Position::Offset(saved(&file)?),
        until: Some(Position::End),
    };
    let mut consumer = Consumer::assign(&client, &[start]).await?;
    loop {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        if records.is_empty() {
            return Ok(());
        }
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(records.len());
        for record in &records {
            let copy = RecordRef {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                timestamp: Some(record.timestamp),
                ..RecordRef::default()
            };
            deliveries.push(producer.send_ref(&to, copy).await?);
        }
        for delivery in deliveries {
            delivery.await?;
        }
        // All of them are in: only now it may be forgotten that they were read.
        if let Some(position) = consumer.position(&from, 0) {
            save(&file, position)?;
        }
    }
}

fn saved(file: &Path) -> Result<i64, Box<dyn Error>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().parse()?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Whole or not at all: written beside, then renamed.
fn save(file: &Path, position: i64) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, position.to_string())?;
    std::fs::rename(beside, file)
}
