//! Writes lines of standard input to a topic, one record each, with an outcome for every one:
//! `cargo run -p sawlog-client --example produce -- 127.0.0.1:9092 TOPIC < FILE`.

use std::error::Error;
use std::io::BufRead as _;

use sawlog_client::{Client, ClientOptions, Producer, ProducerOptions, RecordRef};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: produce HOST:PORT TOPIC")?;
    let topic = arguments.next().ok_or("usage: produce HOST:PORT TOPIC")?;

    let client = Client::connect(ClientOptions::new(&address)).await?;
    let producer = Producer::new(client, ProducerOptions::default());
    let mut deliveries = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let record = RecordRef { value: Some(line.as_bytes()), ..RecordRef::default() };
        // Waits only while 32 MiB are on their way.
        deliveries.push(producer.send_ref(&topic, record).await?);
    }
    // Do not wait for more to come.
    producer.flush().await;
    for delivery in deliveries {
        let place = delivery.await?;
        writeln(&format!("partition {} offset {}", place.partition, place.offset))?;
    }
    Ok(())
}

fn writeln(line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}")
}
