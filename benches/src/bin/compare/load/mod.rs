//! The loads over librdkafka, the same for every broker: its own settings unless said otherwise.

mod consume;
mod latency;
mod produce;

use std::time::Duration;

use hdrhistogram::Histogram;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

pub(crate) use consume::{Written, consume};
#[allow(unused_imports, reason = "for loads over other clients")]
pub(crate) use latency::{FixedRate, Latencies, latency, wait_until};
#[allow(unused_imports, reason = "for loads over other clients")]
pub(crate) use produce::{FlatOut, micros, produce};

use crate::Failure;

/// Longest any one load may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A longer latency counts as this, in microseconds.
const LATENCY_MICROS_MAX: u64 = 120_000_000;

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("client.id", "sawlog-compare");
    config
}

pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?)
}

/// Creates a topic without copies; `settings` are its own.
pub(crate) fn create_topic(
    address: &str,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<(), Failure> {
    create_copied_topic(address, name, (partitions, 1), settings)
}

/// Creates a topic with so many partitions, and so many copies of each.
pub(crate) fn create_copied_topic(
    address: &str,
    name: &str,
    (partitions, copies): (i32, i32),
    settings: &[(&str, &str)],
) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = config(address).create()?;
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().request_timeout(Some(DEADLINE));
    let results = futures_executor::block_on(admin.create_topics([&topic], &options))?;
    for result in results {
        result.map_err(|(name, code)| format!("cannot create {name}: {code}"))?;
    }
    Ok(())
}

/// Deletes topics a run has made on somebody else's broker.
pub(crate) fn delete_topics(address: &str, names: &[String]) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = config(address).create()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = AdminOptions::new().request_timeout(Some(DEADLINE));
    let results = futures_executor::block_on(admin.delete_topics(&names, &options))?;
    for result in results {
        result.map_err(|(name, code)| format!("cannot delete {name}: {code}"))?;
    }
    Ok(())
}

/// Record values no codec and no disk can shrink, each another slice of one random block.
pub(crate) struct Values {
    block: Vec<u8>,
    bytes: usize,
}

impl Values {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = Vec::with_capacity(BLOCK_BYTES + bytes);
        while block.len() < BLOCK_BYTES + bytes {
            // xorshift64: not secret, only without pattern.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend(state.to_le_bytes());
        }
        Self { block, bytes }
    }

    pub(crate) fn value(&self, number: u64) -> &[u8] {
        let at = usize::try_from(number.wrapping_mul(STRIDE_BYTES)).unwrap_or(0) % BLOCK_BYTES;
        &self.block[at..at + self.bytes]
    }
}

const BLOCK_BYTES: usize = 1 << 18;
const STRIDE_BYTES: u64 = 67;
