//! Creates a topic, changes a setting, looks at it, and deletes it again:
//! `cargo run -p sawlog-client --example admin -- 127.0.0.1:9092`.

use std::error::Error;
use std::io::Write as _;

use sawlog_client::{Client, ClientOptions, ConfigChange, ConfigResource, NewTopic};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: admin HOST:PORT")?;
    let client = Client::connect(ClientOptions::new(&address)).await?;
    let name = "example-admin";
    let topic = NewTopic {
        name,
        partitions: 3,
        replication_factor: -1,
        configs: &[("retention.ms".to_owned(), "3600000".to_owned())],
        validate_only: false,
    };
    client.create_topic(&topic).await?;

    let change = ConfigChange::Set("retention.ms".to_owned(), "7200000".to_owned());
    client.alter_configs(ConfigResource::Topic(name), &[change], false).await?;

    let mut out = std::io::stdout().lock();
    for partition in client.refresh(name).await?.partitions {
        let (start, end) = client.offsets(name, partition.index).await?;
        writeln!(out, "partition {}: offsets {start} to {end}", partition.index)?;
    }
    for entry in client.configs(ConfigResource::Topic(name)).await? {
        if entry.name == "retention.ms" {
            let value = entry.value.as_deref().unwrap_or_default();
            writeln!(out, "{} = {value} ({})", entry.name, entry.source_name())?;
        }
    }
    client.delete_topic(name).await?;
    Ok(())
}
