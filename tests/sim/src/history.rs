//! Holds what clients of a simulated world were told against the checker that histories of real
//! clusters are held against.

use std::collections::BTreeMap;

use sawlog_broker::sim::{Lived, Write};
use sawlog_tests::history::{
    Acked, Batch, History, PartitionLog, RecordAt, Replica, Run, Seen, check,
};

/// Producers that send each record once, and may lose it: each record is one of its own.
const CARELESS: u32 = 1_000_000;

/// What does not hold, if something does not.
pub(crate) fn violations(lived: &Lived) -> Vec<String> {
    let names = names(&lived.writes);
    let copies = replicas(lived, &names);
    let Some(first) = copies.first() else { return Vec::new() };
    let is_kept = |partition: usize| first.partitions.contains_key(&number(partition));
    let mut history = History::default();
    for write in lived.writes.iter().filter(|write| is_kept(write.partition)) {
        add_write(&mut history, write, &names);
    }
    let mut consumers: BTreeMap<(u32, u32), Seen> = BTreeMap::new();
    for read in lived.reads.iter().filter(|read| is_kept(read.partition)) {
        let seen = consumers.entry(read.reader).or_default();
        seen.name = format!("consumer {}, round {}", read.reader.0, read.reader.1);
        for (offset, value) in (read.offset..).zip(&read.values) {
            let partition = number(read.partition);
            match names.get(value) {
                Some(RecordAt { producer, number }) => seen.runs.push(Run {
                    partition,
                    offset,
                    count: 1,
                    producer: *producer,
                    first: *number,
                }),
                None => seen.wrong.push(format!("{partition}-{offset}: {value} was not written")),
            }
        }
    }
    history.consumers = consumers.into_values().collect();
    let checked = check(&history, &copies);
    checked.violations.iter().map(ToString::to_string).collect()
}

fn number(partition: usize) -> i32 {
    i32::try_from(partition).expect("few partitions")
}

/// Who wrote each value, as which of its records for that partition.
fn names(writes: &[Write]) -> BTreeMap<u64, RecordAt> {
    let mut next: BTreeMap<(u32, usize), u64> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (careless, write) in (CARELESS..).zip(writes) {
        let producer = if write.is_safe { write.client } else { careless };
        let number = next.entry((producer, write.partition)).or_default();
        for value in write.first..write.first + write.count {
            names.insert(value, RecordAt { producer, number: *number });
            *number += 1;
        }
    }
    names
}

fn add_write(history: &mut History, write: &Write, names: &BTreeMap<u64, RecordAt>) {
    let RecordAt { producer, number: first } = names[&write.first];
    let partition = number(write.partition);
    let sent = history.producers.entry(producer).or_default();
    sent.name = format!("client {}", write.client);
    *sent.totals.entry(partition).or_default() += write.count;
    // Who is careless may lose what was acknowledged.
    if let Some((offset, done)) = write.acknowledged.filter(|_| write.is_safe) {
        let run = Run { partition, offset, count: write.count, producer, first };
        sent.acked.push(Acked { run, invoked: write.invoked, done });
    }
}

/// The replicas of each broker; the first stands for all of them.
fn replicas(lived: &Lived, names: &BTreeMap<u64, RecordAt>) -> Vec<Replica> {
    let replica = |name: String| Replica { name, partitions: BTreeMap::new() };
    let mut first = replica("the first replica".to_owned());
    let mut brokers: BTreeMap<i32, Replica> = BTreeMap::new();
    for copy in &lived.copies {
        let mut log = PartitionLog::default();
        for (offset, (value, epoch)) in (0..).zip(&copy.records) {
            let known = names.get(value).copied();
            if known.is_none() {
                log.wrong.push(format!("{offset}: {value} was not written"));
            }
            log.records.push(known.unwrap_or(RecordAt { producer: u32::MAX, number: *value }));
            let crc = epoch.unsigned_abs();
            log.batches.push(Batch { base: offset, next: offset + 1, crc });
        }
        let partition = number(copy.partition);
        first.partitions.entry(partition).or_insert_with(|| log.clone());
        let name = format!("broker {}", copy.broker);
        let broker = brokers.entry(copy.broker).or_insert_with(|| replica(name));
        broker.partitions.insert(partition, log);
    }
    if brokers.is_empty() {
        return Vec::new();
    }
    std::iter::once(first).chain(brokers.into_values()).collect()
}
