//! One replica, as it was at its process's last step, and what a step may change.

use std::sync::{Arc, Weak};

use sawlog_protocol::Uuid;
use sawlog_protocol::records::{Batch, BatchHeader, Record, check_crc, split};

use super::decay::Spare;
use super::ledger::Entry;
use super::{Known, Seen, Value};
use crate::base::{BrokerId, Offset, PartitionId};
use crate::config::FlushMode;
use crate::metadata::Image;
use crate::replication::{LogGeneration, Partition, PartitionCore};

/// Bytes read of a log at once.
const READ_BYTES: usize = 1 << 20;

/// A replica.
#[derive(Debug, Default)]
pub(super) struct Replica {
    life: u64,
    /// Which one, of those that a process has had one after another.
    pub(super) partition: Weak<Partition>,
    pub(super) log: Vec<Entry>,
    pub(super) durable: usize,
    /// Its log start, as it is written down.
    pub(super) start: usize,
    high_watermark: usize,
    leads: Option<i32>,
    /// The epoch of the leader it follows.
    follows: Option<i32>,
    generation: LogGeneration,
    is_failed: bool,
    /// Its log is about to be thrown away, for one that begins further on.
    begins_anew: bool,
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).expect("an offset")
}

/// The records of a log from `from` to `to`; those that may be damaged, or are deleted, as they were.
fn read(partition: &Partition, from: usize, to: usize, spare: Spare<'_>) -> Vec<Entry> {
    let mut found = Vec::new();
    let start = index(partition.log_start());
    while from + found.len() < to {
        let at = from + found.len();
        let upto = if at < start { Err(to.min(start)) } else { spare.upto(at, to) };
        let whole = match upto {
            Err(upto) => spare.committed.get(at..upto).map(<[_]>::to_vec),
            Ok(upto) => Some(try_read(partition, at, upto).unwrap_or_else(|why| panic!("{why}"))),
        };
        found.extend(whole.expect("(3) what is damaged or deleted was committed"));
    }
    found
}

/// The records of a log from `from` to `to`, or why they cannot be read.
pub(super) fn try_read(
    partition: &Partition,
    from: usize,
    to: usize,
) -> Result<Vec<Entry>, String> {
    let mut found = Vec::new();
    let offset = |at: usize| Offset(i64::try_from(at).expect("an offset"));
    while from + found.len() < to {
        let at = offset(from + found.len());
        let bytes = partition.reader().read(at, offset(to), READ_BYTES, true);
        let bytes = bytes.map_err(|error| format!("cannot read at {at}: {error}"))?;
        if bytes.is_empty() {
            return Err(format!("nothing at {at} of {to}"));
        }
        for batch in split(&bytes) {
            let whole = batch.and_then(|(header, batch)| {
                check_crc(&batch, &header)?;
                Ok((header, batch))
            });
            let (header, batch) =
                whole.map_err(|error| format!("no whole batch behind {at}: {error}"))?;
            found.extend(
                entries(&header, batch)
                    .skip(index(at).saturating_sub(index(Offset(header.base_offset)))),
            );
        }
    }
    Ok(found)
}

fn entries(header: &BatchHeader, batch: bytes::Bytes) -> impl Iterator<Item = Entry> + use<> {
    let (epoch, producer) = (header.partition_leader_epoch, header.producer_id);
    let first = header.base_sequence;
    let values = values(batch);
    (0..).zip(values).map(move |(at, value)| {
        let sequence = if producer >= 0 { first + at } else { -1 };
        Entry { epoch, value, producer, sequence }
    })
}

/// What the records of a batch say: those of clients, which have no key, a number; those of groups what
/// tells them apart.
pub(in crate::sim) fn values(batch: bytes::Bytes) -> Vec<Value> {
    let batch = Batch::parse(batch).expect("a batch");
    let records = batch.records(1 << 20).expect("records");
    let value = |record: Record| match record.key {
        None => {
            let value = record.value.expect("a value");
            Value::from_be_bytes(*value.first_chunk().expect("eight bytes"))
        }
        Some(key) => {
            let value = record.value.unwrap_or_default();
            key.iter().chain(&value).fold(0, |sum: Value, byte| {
                (sum ^ Value::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
            })
        }
    };
    records.map(|record| value(record.expect("a record"))).collect()
}

impl Known {
    /// (25) What a start finds begins with what was durable, unless the disk is another one.
    pub(super) fn on_recovered(
        &mut self,
        key: (i32, PartitionId),
        life: u64,
        partition: &Arc<Partition>,
    ) {
        let (end, high_watermark, durable, generation) = partition.inspect(|core| {
            let log = core.log();
            (index(log.end), index(core.high_watermark()), index(log.durable), core.generation())
        });
        let start = index(partition.inspect(PartitionCore::kept_start));
        let ledger = self.ledgers.entry(key.1).or_default();
        let ranges = self.decayed.get(&key.1).filter(|_| self.bad_disk == Some(key.0));
        let ranges = ranges.map_or(&[][..], |ranges| ranges);
        let spare = Spare { committed: &ledger.committed, ranges };
        let log = read(partition, 0, end, spare);
        if let Some(before) = self.replicas.get(&key) {
            let was = before.start;
            assert!(start >= was, "(28) broker {} starts at {start}, {was} was kept", key.0);
            let kept = before.log.get(..before.durable).unwrap_or_default();
            // Of one that begins anew either is there.
            assert!(
                ledger.is_lossy || before.begins_anew || log.starts_with(kept),
                "(25) broker {} has {} of {} durable records",
                key.0,
                log.iter().zip(kept).take_while(|(a, b)| a == b).count(),
                kept.len()
            );
        }
        // A write that failed may be on the disk all the same; with it the leader that made it ended.
        let (had, led) = self.replicas.get(&key).map_or((0, None), |it| (it.log.len(), it.leads));
        for at in 0..log.len() {
            let is_left = at >= had && led.is_some() && log.get(at).map(|it| it.epoch) == led;
            if is_left && !ledger.is_written(&log, at) {
                ledger.on_written(&log, at, false);
            } else {
                ledger.on_replicated(&log, at);
            }
        }
        assert!(high_watermark <= ledger.committed.len(), "(3) a start exposes {high_watermark}");
        self.note(&[2, i64::from(key.0), i64::try_from(end).unwrap_or(0)]);
        let partition = Arc::downgrade(partition);
        let replica = Replica {
            life,
            partition,
            log,
            durable,
            start,
            high_watermark,
            generation,
            ..Replica::default()
        };
        self.replicas.insert(key, replica);
    }

    /// The disk of a broker is gone with all that is on it.
    pub(in crate::sim) fn on_wiped(&mut self, broker: i32) {
        self.storages.insert(broker, None);
        let gone: Vec<_> = self.replicas.keys().filter(|(at, _)| *at == broker).copied().collect();
        for key in gone {
            let Some(replica) = self.replicas.remove(&key) else { continue };
            if let Some(ledger) = self.ledgers.get_mut(&key.1) {
                ledger.lost.push(replica.log.get(..replica.durable).unwrap_or_default().to_vec());
            }
        }
    }

    /// A step was made by the process that has this replica.
    pub(super) fn look_at(
        &mut self,
        key: (i32, PartitionId),
        life: u64,
        partition: &Arc<Partition>,
        Seen { image, incarnation, is_new }: Seen<'_>,
    ) {
        let (end, high_watermark, durable, generation, leads, follows, in_sync, mode) = partition
            .inspect(|core| {
                let log = core.log();
                (
                    index(log.end),
                    index(core.high_watermark()),
                    index(log.durable),
                    core.generation(),
                    core.leader_epoch().map(|epoch| epoch.0),
                    core.following().map(|(_, epoch)| epoch.0),
                    core.in_sync().len(),
                    core.flush_mode(),
                )
            });
        let (is_failed, partition_epoch, start) = partition.inspect(|core| {
            core.check();
            (core.is_failed(), core.partition_epoch(), index(core.kept_start()))
        });
        self.check_told(key, partition_epoch);
        let mut replica = self.replicas.remove(&key).unwrap_or_default();
        let is_same = Weak::ptr_eq(&replica.partition, &Arc::downgrade(partition))
            && (replica.log.len(), replica.high_watermark, replica.durable)
                == (end, high_watermark, durable)
            && (replica.leads, replica.generation) == (leads, generation);
        if !is_failed {
            replica.start = start;
        }
        replica.begins_anew = partition.begins_anew();
        if is_same || is_failed {
            (replica.is_failed, replica.follows) = (is_failed, follows);
            self.replicas.insert(key, replica);
            return;
        }
        if replica.life != life || !Weak::ptr_eq(&replica.partition, &Arc::downgrade(partition)) {
            // It came to this process while it ran: new here, or all over again.
            let partition = Arc::downgrade(partition);
            let begins_anew = replica.begins_anew;
            replica = Replica { life, partition, start, begins_anew, ..Replica::default() };
        }
        let (broker, id) = key;
        self.note(&[3, i64::from(broker), i64::from(id.index)]);
        self.note(&[
            i64::try_from(end).unwrap_or(0),
            i64::try_from(high_watermark).unwrap_or(0),
            i64::try_from(durable).unwrap_or(0),
            i64::from(leads.unwrap_or(-1)),
        ]);
        self.tell(|| {
            let role = leads.map_or_else(String::new, |epoch| format!(", leads epoch {epoch}"));
            format!(
                "broker {broker} {}: end {end}, durable {durable}, committed {high_watermark}{role}",
                partition.name
            )
        });
        let current =
            self.image().topic_by_id(id.topic).and_then(|topic| topic.partition(id.index));
        // Of the only replica nobody can tell a process from the one before: it keeps its epoch.
        let is_only = current.is_none_or(|state| state.replicas.len() == 1);
        // What a leader of the past has it cut is missed by nobody who does not count on it.
        let is_free = current.is_some_and(|state| {
            replica.follows.is_some_and(|epoch| epoch < state.leader_epoch.0)
                && !state.isr.iter().chain(&state.elr).any(|member| member.0 == broker)
        });
        let current = current.map(|state| state.leader_epoch.0);
        let ledger = self.ledgers.entry(id).or_default();
        if generation != replica.generation || end < replica.log.len() {
            let to = end.min(replica.log.len());
            let ranges = self.decayed.get_mut(&id).filter(|_| self.bad_disk == Some(broker));
            let known = ranges.as_deref().map_or(&[][..], |ranges| ranges);
            let spare = Spare { committed: &ledger.committed, ranges: known };
            let actual = read(partition, 0, to, spare);
            let common = actual.iter().zip(&replica.log).take_while(|(a, b)| a == b).count();
            if !is_free {
                ledger.on_cut(&replica.log, common);
            }
            replica.log.truncate(common);
            if let Some(ranges) = ranges {
                ranges.retain(|(_, end)| *end <= common);
            }
            self.totals.cuts += 1;
        }
        let ledger = self.ledgers.entry(id).or_default();
        let from = replica.log.len();
        if end > from {
            let ranges = self.decayed.get(&id).filter(|_| self.bad_disk == Some(broker));
            let ranges = ranges.map_or(&[][..], |ranges| ranges);
            let spare = Spare { committed: &ledger.committed, ranges };
            replica.log.extend(read(partition, from, end, spare));
            for at in from..end {
                let epoch = replica.log.get(at).map(|entry| entry.epoch);
                if epoch.is_some() && epoch == leads {
                    ledger.on_written(&replica.log, at, is_only);
                } else {
                    ledger.on_replicated(&replica.log, at);
                }
            }
        }
        if let Some(epoch) = leads.filter(|_| leads != replica.leads) {
            self.totals.elections += 1;
            let known = image.broker(BrokerId(broker));
            assert!(
                known.is_some_and(|known| known.incarnation == incarnation),
                "(15) broker {broker} leads by metadata of another process"
            );
            let is_known = self.replicas.iter().any(|((at, of), other)| {
                *of == id && *at != broker && other.log.iter().any(|entry| entry.epoch == epoch)
            });
            if is_only || !is_known {
                ledger.on_begun_again(broker, epoch, replica.log.len());
            }
            ledger.on_leader((broker, life), epoch, current == Some(epoch), &replica.log);
        }
        if leads.is_some() && leads == replica.leads {
            assert!(
                high_watermark >= replica.high_watermark,
                "(12) the high watermark of broker {broker} falls from {} to {high_watermark}",
                replica.high_watermark
            );
        }
        let moved = (replica.high_watermark, high_watermark);
        // What ends a role may come in one step with what is committed in it; none begins unseen.
        let has_led = leads.is_some() || replica.leads.is_some();
        let start = index(partition.log_start());
        let advanced = ledger.on_high_watermark(&replica.log, moved, start, has_led);
        (replica.high_watermark, replica.durable) = (high_watermark, durable);
        (replica.leads, replica.follows, replica.generation) = (leads, follows, generation);
        self.replicas.insert(key, replica);
        if advanced {
            self.totals.committed += u64::try_from(moved.1.saturating_sub(moved.0)).unwrap_or(0);
            let topic = image.topic_by_id(id.topic);
            if let Some((topic, state)) =
                topic.and_then(|topic| Some((topic, topic.partition(id.index)?)))
            {
                let least = state.min_in_sync(&topic.resolved);
                // What is new in an image may let go what was held back by what it replaces, and what
                // ends a leadership leaves nobody to count.
                assert!(
                    in_sync >= least || is_new || leads.is_none(),
                    "(9) {in_sync} in sync of at least {least}"
                );
            }
            if mode == FlushMode::Group {
                self.check_members(id, "an advance");
            }
        }
    }

    /// (8, 11, 14) Who is in sync or eligible has all that is committed on disk.
    pub(super) fn check_members(&self, id: PartitionId, after: &str) {
        let Some(ledger) = self.ledgers.get(&id) else { return };
        let Some(topic) = self.image().topic_by_id(id.topic) else { return };
        let Some(state) = topic.partition(id.index) else { return };
        if ledger.is_lossy || topic.resolved.flush_mode == FlushMode::Os {
            return;
        }
        for member in state.isr.iter().chain(&state.elr) {
            let registered = self.image().broker(*member).and_then(|it| it.storage_ids.first());
            let current = self.storages.get(&member.0).and_then(Option::as_ref);
            if registered != current {
                // Its disk is gone, and it has not said so yet.
                continue;
            }
            let replica = self.replicas.get(&(member.0, id));
            let (log, durable) =
                replica.map_or((&[][..], 0), |replica| (&replica.log[..], replica.durable));
            assert!(
                durable >= ledger.committed.len() && ledger.is_whole(log),
                "(8) after {after}: broker {member} has {durable} durable of {} committed: {state:?}",
                ledger.committed.len()
            );
            let start = replica.map_or(0, |replica| replica.start);
            assert!(
                start >= ledger.deleted,
                "(28) after {after}: broker {member} begins at {start}, {} are deleted: {state:?}",
                ledger.deleted
            );
        }
    }

    /// (10) What is acknowledged is committed, and durable on enough disks.
    pub(super) fn check_acknowledged(&mut self, id: PartitionId, offset: i64, value: Value) {
        let Some(ledger) = self.ledgers.get_mut(&id) else { return };
        let at = usize::try_from(offset).expect("an offset");
        ledger.acknowledged.push((at, value));
        if ledger.is_lossy {
            return;
        }
        let committed = ledger.committed.get(at).map(|entry| entry.value);
        assert_eq!(committed, Some(value), "(10) acknowledged at {at}");
        let ledger = self.ledgers.get(&id);
        let Some((ledger, topic)) = ledger.zip(self.image().topic_by_id(id.topic)) else { return };
        let Some(state) = topic.partition(id.index) else { return };
        if topic.resolved.flush_mode == FlushMode::Os {
            return;
        }
        let entry = ledger.committed.get(at);
        let has = |log: &[Entry], durable: usize| at < durable && log.get(at) == entry;
        let there = self
            .replicas
            .iter()
            .filter(|((_, on), replica)| *on == id && has(&replica.log, replica.durable));
        let lost = ledger.lost.iter().filter(|lost| has(lost, lost.len()));
        let copies = there.count() + lost.count();
        // The answer was on its way while replicas went and settings changed.
        let least = state.min_in_sync(&topic.resolved).min(state.replicas.len());
        let least = if state.elr.is_empty() && state.isr.len() >= least { least } else { 1 };
        assert!(copies >= least, "(10) {at} is on {copies} disks of at least {least}: {state:?}");
    }

    /// The log of a replica, its durable part, and its high watermark.
    pub(in crate::sim) fn replica(
        &self,
        broker: i32,
        id: PartitionId,
    ) -> Option<(&[Entry], usize, usize)> {
        let replica = self.replicas.get(&(broker, id))?;
        Some((&replica.log, replica.durable, replica.high_watermark))
    }

    /// Where the log of a replica starts, as it is written down.
    pub(in crate::sim) fn start(&self, broker: i32, id: PartitionId) -> usize {
        self.replicas.get(&(broker, id)).map_or(0, |replica| replica.start)
    }

    /// (28) A client was told that everything below `low_watermark` is gone.
    pub(in crate::sim) fn on_deleted(&mut self, id: PartitionId, name: &str, low_watermark: i64) {
        let low_watermark = usize::try_from(low_watermark).expect("an offset");
        // A broker that knows an earlier topic of this name may have meant that one.
        let is_other = |image: &Image| image.topic(name).is_some_and(|topic| topic.id != id.topic);
        if self.images.since(0).any(is_other) {
            return;
        }
        self.totals.trimmed += 1;
        self.note(&[9, i64::from(id.index)]);
        let ledger = self.ledgers.entry(id).or_default();
        ledger.deleted = ledger.deleted.max(low_watermark);
        self.check_members(id, "a deletion");
    }

    /// A broker does not have partitions any more that it had.
    pub(super) fn forget_absent(&mut self, broker: i32, present: &[PartitionId], image: &Image) {
        let first = PartitionId { topic: Uuid([0; 16]), index: i32::MIN };
        let last = PartitionId { topic: Uuid([255; 16]), index: i32::MAX };
        if self.replicas.range((broker, first)..=(broker, last)).count() == present.len() {
            return;
        }
        let id = BrokerId(broker);
        self.replicas.retain(|(at, partition), _| {
            let topic = image.topic_by_id(partition.topic);
            let state = topic.and_then(|topic| topic.partition(partition.index));
            *at != broker
                || present.contains(partition)
                || state.is_some_and(|state| state.replicas.contains(&id))
        });
    }
}
