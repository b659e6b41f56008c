//! What clients of a world did and were told, and what its replicas held in the end: for a checker
//! that knows nothing of brokers, the one that histories of real clusters are held against, too.
//!
//! The oracle looks into brokers at every step; this sees what users see, and nothing else.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::oracle::{Known, Ledger, Totals, Value};
use crate::base::{BrokerId, PartitionId};

/// Microseconds since the world began.
pub type Micros = u64;

/// A batch that a client sent.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Who sent it; one after another, each until it was acknowledged, if it is `is_safe`.
    pub client: u32,
    /// Where to: partitions are numbered as they come up.
    pub partition: usize,
    /// The first of its values, which count up; no other batch has them.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Whether it was sent with acks=all by an idempotent producer; else with acks=1, once.
    pub is_safe: bool,
    /// When it was sent first.
    pub invoked: Micros,
    /// At which offset and when it was acknowledged.
    pub acknowledged: Option<(i64, Micros)>,
}

/// A batch that a client read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who read it, and for the how manieth time from the beginning; from there on in order.
    pub reader: (u32, u32),
    /// Where from.
    pub partition: usize,
    /// Offset of the first value.
    pub offset: i64,
    /// The values.
    pub values: Vec<u64>,
}

/// A replica at the end.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Whose.
    pub broker: i32,
    /// Of which partition.
    pub partition: usize,
    /// Value and leader epoch of each record.
    pub records: Vec<(u64, i32)>,
}

/// A world that was lived through.
#[derive(Clone, Debug, Default)]
pub struct Lived {
    /// What there was of everything.
    pub totals: Totals,
    /// What was sent, in the order of the first attempts.
    pub writes: Vec<Write>,
    /// What was read, in order.
    pub reads: Vec<Read>,
    /// The replicas of partitions that are there at the end and promise to keep what they acknowledge.
    pub copies: Vec<Copy>,
}

/// Writes it down.
#[derive(Debug)]
pub(super) struct Chronicle {
    begun: Instant,
    places: BTreeMap<PartitionId, usize>,
    lived: Lived,
}

impl Chronicle {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, places: BTreeMap::new(), lived: Lived::default() }
    }

    fn now(&self) -> Micros {
        Micros::try_from(self.begun.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    fn place(&mut self, id: PartitionId) -> usize {
        let next = self.places.len();
        *self.places.entry(id).or_insert(next)
    }

    /// A client sends a batch. Returns what to call it.
    pub(super) fn on_write(
        &mut self,
        (client, is_safe): (u32, bool),
        id: PartitionId,
        (first, count): (Value, u64),
    ) -> usize {
        let (partition, invoked) = (self.place(id), self.now());
        let write = Write { client, partition, first, count, is_safe, invoked, acknowledged: None };
        self.lived.writes.push(write);
        self.lived.writes.len() - 1
    }

    /// A batch was acknowledged.
    pub(super) fn on_acknowledged(&mut self, write: usize, offset: i64) {
        let now = self.now();
        if let Some(write) = self.lived.writes.get_mut(write) {
            write.acknowledged = Some((offset, now));
        }
    }

    /// A client read a batch.
    pub(super) fn on_read(
        &mut self,
        reader: (u32, u32),
        id: PartitionId,
        offset: i64,
        values: &[Value],
    ) {
        let partition = self.place(id);
        self.lived.reads.push(Read { reader, partition, offset, values: values.to_vec() });
    }

    /// The world is over, and at rest.
    pub(super) fn finish(&mut self, known: &Known) -> Lived {
        let mut lived = std::mem::take(&mut self.lived);
        lived.totals = known.totals.clone();
        let image = known.image();
        for (id, place) in &self.places {
            let topic = image.topic_by_id(id.topic);
            let Some(state) = topic.and_then(|topic| topic.partition(id.index)) else { continue };
            let keeps = |ledger: &Ledger| !ledger.is_lossy && !ledger.has_forgotten;
            let keeps = known.ledgers.get(id).is_some_and(keeps);
            // Nobody may have everything where all disks were lost.
            if !keeps || state.isr.is_empty() {
                continue;
            }
            for BrokerId(broker) in &state.replicas {
                let (log, ..) = known.replica(*broker, *id).unwrap_or_default();
                let records = log.iter().map(|entry| (entry.value, entry.epoch)).collect();
                lived.copies.push(Copy { broker: *broker, partition: *place, records });
            }
        }
        lived
    }
}
