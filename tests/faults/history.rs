//! What was acknowledged, and whether it is all there.
//!
//! Values say which they are: partition, number, and a length and content that follow from both.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use bytes::Bytes;
use sawlog_protocol::ErrorCode;
use sawlog_protocol::records::{Batch, check_crc, split};

use super::client::{Client, TOPIC};

/// Everything acknowledged, and everything that was tried, by partition.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Number to offset.
    acknowledged: BTreeMap<i32, BTreeMap<u64, i64>>,
    next: HashMap<i32, u64>,
}

/// How writing ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The number of batches asked for is acknowledged.
    Done,
    /// The broker refused a batch.
    Refused(ErrorCode),
    /// The connection broke.
    Gone,
}

fn value(partition: i32, number: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{partition}/{number}/{bytes}/").into_bytes();
    let seed = u64::try_from(partition).unwrap() + number;
    value.extend(
        (0..u64::try_from(bytes).unwrap()).map(|at| u8::try_from((seed + at) % 251).unwrap()),
    );
    value
}

fn check(read: &[u8], partition: i32) -> u64 {
    let parts: Vec<&[u8]> = read.splitn(4, |byte| *byte == b'/').collect();
    let number = |at: usize| std::str::from_utf8(parts[at]).unwrap().parse::<u64>().unwrap();
    assert_eq!(i32::try_from(number(0)).unwrap(), partition, "in its own partition");
    let bytes = usize::try_from(number(2)).unwrap();
    assert_eq!(read, value(partition, number(1), bytes), "as it was written");
    number(1)
}

impl History {
    /// Writes up to `batches` batches with a record of `bytes` each, one after another, round about
    /// the partitions.
    pub(crate) fn write(
        &mut self,
        address: SocketAddr,
        partitions: std::ops::Range<i32>,
        batches: usize,
        bytes: usize,
    ) -> End {
        let Ok(mut client) = Client::connect(address) else { return End::Gone };
        for partition in partitions.cycle().take(batches) {
            let next = self.next.entry(partition).or_default();
            let number = *next;
            *next += 1;
            match client.produce(TOPIC, partition, &[value(partition, number, bytes)]) {
                Ok(Ok(offset)) => {
                    let acknowledged = self.acknowledged.entry(partition).or_default();
                    acknowledged.insert(number, offset);
                }
                Ok(Err(error)) => return End::Refused(error),
                Err(_) => return End::Gone,
            }
        }
        End::Done
    }

    /// Batches acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.values().map(BTreeMap::len).sum()
    }

    /// What was acknowledged of a partition: numbers and offsets.
    pub(crate) fn offsets(&self, partition: i32) -> Vec<(u64, i64)> {
        let acknowledged = self.acknowledged.get(&partition).into_iter().flatten();
        acknowledged.map(|(number, offset)| (*number, *offset)).collect()
    }

    /// The record at `offset`, the first of `bytes`, is the one with that number, as it was written.
    /// So is the checksum of every batch.
    pub(crate) fn check_first(&self, partition: i32, wanted: u64, offset: i64, bytes: &Bytes) {
        let mut found = None;
        for part in split(bytes) {
            let (header, bytes) = part.unwrap();
            check_crc(&bytes, &header).unwrap();
            for record in Batch::parse(bytes).unwrap().records(1 << 24).unwrap() {
                let record = record.unwrap();
                let number = check(&record.value.unwrap(), partition);
                if record.offset == offset {
                    found = Some(number);
                }
            }
        }
        assert_eq!(found, Some(wanted), "partition {partition} offset {offset}");
    }

    /// Reads everything: what was acknowledged is where it was acknowledged, what is there was
    /// written by us and is there once, in order.
    pub(crate) fn verify(&self, address: SocketAddr) {
        let mut client = Client::connect(address).unwrap();
        for (partition, acknowledged) in &self.acknowledged {
            let records = client.read_from(TOPIC, *partition, 0).unwrap().unwrap();
            let mut found = HashMap::new();
            let mut last = None;
            for (expected, (offset, read)) in (0..).zip(&records) {
                assert_eq!(*offset, expected, "offsets of partition {partition} are dense");
                let number = check(read, *partition);
                assert!(last < Some(number), "{number} after {last:?} in partition {partition}");
                last = Some(number);
                found.insert(number, *offset);
            }
            for (number, offset) in acknowledged {
                assert_eq!(
                    found.get(number),
                    Some(offset),
                    "partition {partition} record {number}"
                );
            }
        }
    }
}
