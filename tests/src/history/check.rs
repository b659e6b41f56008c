//! Whether what clients were told and what replicas hold can both be true.
//!
//! Every check is one pass over its input. Of each property the first few violations are kept, each with
//! who, which record, where, and when, so that the fault that was at work can be found.

use std::collections::BTreeMap;
use std::fmt;

use super::{Acked, History, Micros, PartitionLog, RecordAt, Replica, Run, Sent};

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// What was acknowledged is in the log.
    NothingLost,
    /// It is where it was said to be.
    OffsetsHold,
    /// No record is there twice.
    NothingTwice,
    /// What is there was sent, to that partition, with these bytes.
    NothingInvented,
    /// Records of a producer are in the order it sent them, without a gap but for what failed.
    ProducerOrder,
    /// A consumer sees each record once, in order.
    ConsumerOrder,
    /// A record acknowledged before another was sent has the lower offset.
    RealTime,
    /// The end of a partition is past what was acknowledged before the question.
    FreshEnd,
    /// What a consumer saw is in the log, there.
    NothingDirty,
    /// The end of a partition never goes back.
    EndGrows,
    /// All replicas have the same bytes.
    ReplicasEqual,
    /// No client gives up.
    NothingFails,
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What does not hold.
    pub property: Property,
    /// When it happened, where that is known.
    pub at: Option<Micros>,
    /// The example.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.what)
    }
}

/// What a check went through, and found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Records that were acknowledged.
    pub acked: u64,
    /// Records that consumers saw.
    pub seen: u64,
    /// Records in the logs of one replica.
    pub records: u64,
    /// Bytes of batches, of all replicas.
    pub bytes: u64,
    /// How often each property is violated.
    pub counts: BTreeMap<Property, u64>,
    /// The first few violations of each.
    pub violations: Vec<Violation>,
}

impl Checked {
    fn add(&mut self, property: Property, at: Option<Micros>, what: impl FnOnce() -> String) {
        let count = self.counts.entry(property).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            self.violations.push(Violation { property, at, what: what() });
        }
    }
}

/// How many examples of each property are told.
const EXAMPLES: u64 = 3;

/// Checks a history against the replicas of its topic, all of which were in sync at the end.
///
/// # Panics
/// Without a replica.
pub fn check(history: &History, replicas: &[Replica]) -> Checked {
    let mut checked = Checked::default();
    let first = replicas.first().expect("a replica");
    for replica in replicas {
        check_replica(&mut checked, first, replica);
    }
    for (partition, log) in &first.partitions {
        checked.records += log.records.len() as u64;
        check_log(&mut checked, history, *partition, log);
        check_time(&mut checked, history, *partition);
        check_ends(&mut checked, history, *partition);
    }
    for sent in history.producers.values() {
        check_sent(&mut checked, sent, first);
    }
    for consumer in &history.consumers {
        for wrong in &consumer.wrong {
            checked.add(Property::NothingInvented, None, || format!("{}: {wrong}", consumer.name));
        }
        check_seen(&mut checked, &consumer.name, &consumer.runs, first);
    }
    checked
}

fn check_replica(checked: &mut Checked, first: &Replica, replica: &Replica) {
    for (partition, log) in &replica.partitions {
        checked.bytes += log.bytes;
        for wrong in &log.wrong {
            checked.add(Property::NothingInvented, None, || {
                format!("{}: partition {partition}: {wrong}", replica.name)
            });
        }
        let Some(model) = first.partitions.get(partition) else { continue };
        let differs = model.batches.iter().zip(&log.batches).find(|(one, other)| one != other);
        if let Some((one, other)) = differs {
            checked.add(Property::ReplicasEqual, None, || {
                let (a, b) = (&first.name, &replica.name);
                format!("partition {partition}: {a} has {one:?}, {b} {other:?}")
            });
        } else if model.batches.len() != log.batches.len() {
            checked.add(Property::ReplicasEqual, None, || {
                let end = |log: &PartitionLog| log.batches.last().map_or(0, |last| last.next);
                let (a, b) = (&first.name, &replica.name);
                format!("partition {partition}: {a} ends at {}, {b} at {}", end(model), end(log))
            });
        }
    }
}

/// Each producer's records are there once, in order, and were sent.
fn check_log(checked: &mut Checked, history: &History, partition: i32, log: &PartitionLog) {
    let mut nexts: BTreeMap<u32, u64> = BTreeMap::new();
    for (offset, RecordAt { producer, number }) in (0i64..).zip(log.records.iter().copied()) {
        let place = || format!("partition {partition} offset {offset}: number {number}");
        let Some(sent) = history.producers.get(&producer) else {
            checked.add(Property::NothingInvented, None, || {
                format!("{} of producer {producer}, which there is not", place())
            });
            continue;
        };
        if sent.totals.get(&partition).is_some_and(|total| number >= *total) {
            checked.add(Property::NothingInvented, None, || {
                format!("{} of {}, which sent {:?}", place(), sent.name, sent.totals)
            });
        }
        let next = nexts.entry(producer).or_default();
        if number < *next {
            checked.add(Property::NothingTwice, None, || {
                let earlier = log.records[..usize::try_from(offset).expect("64 bits")]
                    .iter()
                    .position(|record| *record == RecordAt { producer, number });
                match earlier {
                    Some(at) => format!("{} of {}, also at {at}", place(), sent.name),
                    None => format!("{} of {}, after {}", place(), sent.name, *next - 1),
                }
            });
            continue;
        }
        let failed =
            |number| sent.failed.iter().any(|f| (f.partition, f.number) == (partition, number));
        if let Some(missing) = (*next..number).find(|missing| !failed(*missing)) {
            checked.add(Property::ProducerOrder, None, || {
                format!("{} of {}, without {missing} before it", place(), sent.name)
            });
        }
        *next = number + 1;
    }
}

/// What was acknowledged is there.
fn check_sent(checked: &mut Checked, sent: &Sent, replica: &Replica) {
    for failed in &sent.failed {
        checked.add(Property::NothingFails, Some(failed.at), || {
            let (partition, number, why) = (failed.partition, failed.number, &failed.why);
            format!("{} partition {partition} number {number}: {why}", sent.name)
        });
    }
    for Acked { run, done, .. } in &sent.acked {
        checked.acked += run.count;
        let Some((place, wanted, found)) = first_difference(run, replica) else { continue };
        let log = replica.partitions.get(&run.partition);
        let elsewhere = log.and_then(|log| log.records.iter().position(|one| *one == wanted));
        // The broker may only have known that it is there.
        if run.offset < 0 && elsewhere.is_some() {
            continue;
        }
        let property = match elsewhere {
            Some(_) => Property::OffsetsHold,
            None => Property::NothingLost,
        };
        checked.add(property, Some(*done), || {
            format!(
                "{} partition {} number {}: acknowledged at offset {place}; there is {found:?}, and it is at {elsewhere:?}",
                sent.name, run.partition, wanted.number
            )
        });
    }
}

/// What a consumer saw is there, and nothing was passed over.
fn check_seen(checked: &mut Checked, name: &str, runs: &[Run], replica: &Replica) {
    let mut nexts: BTreeMap<i32, i64> = BTreeMap::new();
    for run in runs {
        checked.seen += run.count;
        let next = nexts.entry(run.partition).or_default();
        if run.offset != *next {
            checked.add(Property::ConsumerOrder, None, || {
                format!("{name} partition {}: offset {} after {next}", run.partition, run.offset)
            });
        }
        *next = run.offset.saturating_add_unsigned(run.count);
        if let Some((place, wanted, found)) = first_difference(run, replica) {
            checked.add(Property::NothingDirty, None, || {
                format!(
                    "{name} partition {} offset {place}: saw {wanted:?}, there is {found:?}",
                    run.partition
                )
            });
        }
    }
}

/// Where the log is not as a run says.
fn first_difference(run: &Run, replica: &Replica) -> Option<(i64, RecordAt, Option<RecordAt>)> {
    let log = replica.partitions.get(&run.partition);
    let (producer, first, offset) = (run.producer, run.first, run.offset);
    let records = (0..run.count)
        .map(|n| (offset.saturating_add_unsigned(n), RecordAt { producer, number: first + n }));
    let mut found = records.map(|(at, wanted)| (at, wanted, log.and_then(|log| log.at(at))));
    found.find(|(_, wanted, found)| *found != Some(*wanted))
}

/// What was acknowledged before something else was sent stands before it.
fn check_time(checked: &mut Checked, history: &History, partition: i32) {
    let all = history.producers.values().flat_map(|sent| sent.acked.iter().map(move |a| (a, sent)));
    let mut invoked: Vec<(&Acked, &Sent)> = all
        .filter(|(acked, _)| acked.run.partition == partition && acked.run.offset >= 0)
        .collect();
    let mut done = invoked.clone();
    invoked.sort_unstable_by_key(|(acked, _)| acked.invoked);
    done.sort_unstable_by_key(|(acked, _)| acked.done);
    let mut done = done.into_iter().peekable();
    let mut highest: Option<(&Acked, &Sent)> = None;
    for (later, sender) in invoked {
        while let Some(earlier) = done.next_if(|(earlier, _)| earlier.done < later.invoked) {
            if highest.is_none_or(|(highest, _)| highest.run.offset < earlier.0.run.offset) {
                highest = Some(earlier);
            }
        }
        if let Some((earlier, by)) = highest.filter(|(one, _)| one.run.offset > later.run.offset) {
            checked.add(Property::RealTime, Some(later.invoked), || {
                format!(
                    "{} {:?} was acknowledged before {} sent {:?}",
                    by.name, earlier.run, sender.name, later.run
                )
            });
        }
    }
}

/// Ends are past what was acknowledged before they were asked for, and never go back.
fn check_ends(checked: &mut Checked, history: &History, partition: i32) {
    let all = history.producers.values().flat_map(|sent| &sent.acked);
    let mut done: Vec<&Acked> = all.filter(|acked| acked.run.partition == partition).collect();
    done.sort_unstable_by_key(|acked| acked.done);
    let mut done = done.into_iter().peekable();
    let (mut acked_end, mut seen_end) = (0, 0);
    for looked in history.looked.iter().filter(|looked| looked.partition == partition) {
        while let Some(acked) = done.next_if(|acked| acked.done < looked.asked) {
            acked_end = acked_end.max(acked.run.offset.saturating_add_unsigned(acked.run.count));
        }
        if looked.end < acked_end {
            checked.add(Property::FreshEnd, Some(looked.asked), || {
                format!(
                    "partition {partition}: ends at {}, acknowledged to {acked_end}",
                    looked.end
                )
            });
        }
        if looked.end < seen_end {
            checked.add(Property::EndGrows, Some(looked.asked), || {
                format!("partition {partition}: ends at {}, before at {seen_end}", looked.end)
            });
        }
        seen_end = seen_end.max(looked.end);
    }
}
