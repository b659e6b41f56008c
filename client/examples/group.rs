//! Reads a topic in a group, until it is killed or after COUNT records:
//! `cargo run -p sawlog-client --example group -- 127.0.0.1:9092 TOPIC GROUP [COUNT [SESSION_SECONDS]]`.
//!
//! Started more than once with the same group, the partitions are shared, and shared again as members
//! come and go: others take over from one that is not heard of for SESSION_SECONDS. Progress is committed
//! in the background and at the end, and includes nothing that was not printed.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sawlog_client::{
    Client, ClientOptions, Consumer, ConsumerOptions, GroupOptions, Listening, Rebalance,
    RebalanceListener, ResetPolicy,
};

const USAGE: &str = "usage: group HOST:PORT TOPIC GROUP [COUNT [SESSION_SECONDS]]";

/// Says what changes hands.
#[derive(Debug)]
struct Saying;

impl RebalanceListener for Saying {
    fn assigned<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        Box::pin(async move { say("reading", rebalance) })
    }

    fn revoked<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        Box::pin(async move { say("done with", rebalance) })
    }

    fn lost<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        Box::pin(async move { say("lost", rebalance) })
    }
}

fn say(what: &str, rebalance: &Rebalance) {
    let partitions: Vec<i32> = rebalance.partitions.iter().map(|(_, index)| *index).collect();
    let generation = rebalance.generation;
    // Nobody may be listening.
    let _said = writeln!(std::io::stderr(), "{what} {partitions:?} in generation {generation}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or(USAGE);
    let (address, topic, group) = (argument()?, argument()?, argument()?);
    let count = arguments.next().map_or(Ok(u64::MAX), |text| text.parse())?;
    let session = arguments.next().map_or(Ok(45), |text| text.parse())?;

    let client = Client::connect(ClientOptions::new(&address)).await?;
    let reset = ResetPolicy::Earliest;
    let options = GroupOptions {
        listener: Some(Arc::new(Saying)),
        session_timeout: Duration::from_secs(session),
        heartbeat_interval: Duration::from_millis(session * 50),
        commit_interval: Some(Duration::from_millis(200)),
        consumer: ConsumerOptions { reset, ..ConsumerOptions::default() },
        ..GroupOptions::new(&group)
    };
    let mut consumer = Consumer::subscribe(&client, topic.as_str(), options)?;
    let mut seen = 0;
    while seen < count {
        let records = match consumer.next().await {
            Ok(records) => records,
            // The broker is away, or the member was: it goes on by itself.
            Err(error) if error.is_retriable() => continue,
            Err(error) => return Err(error.into()),
        };
        let mut out = std::io::stdout().lock();
        for record in records {
            let value = record.value.unwrap_or_default();
            let value = String::from_utf8_lossy(&value);
            writeln!(out, "{}-{}: {value}", record.partition, record.offset)?;
            seen += 1;
        }
    }
    consumer.close().await?;
    Ok(())
}
