//! A disk that decays: in some worlds, bits of one broker's full segments are not what they were.
//!
//! Which worlds these are, whose disk it is and what flips follow from the seed by numbers of their own: a
//! world without is what it always was. A bit flips while the broker runs, or while it does not, in what is
//! committed, was synced, and is on the disks of all other replicas: it can be had again. No disk is
//! replaced in such a world, which would be a second one lost.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::records::split;
use tokio::time::Instant;

use super::world::World;
use crate::base::PartitionId;
use crate::base::disk::{Create, Disk as _};
use crate::base::disk_sim::{SimDisk, SimRandom};
use crate::storage::FullSegment;

/// Sets its numbers apart.
const APART: u64 = 0x6465_6361_7904;

/// One world in so many decays.
const ONE_IN: u64 = 4;

/// The first byte of a batch that its checksum is about, or that is of the checksum.
const CHECKED_FROM: usize = 17;

/// The disk.
#[derive(Debug)]
pub(super) struct Decay {
    pub(super) broker: i32,
    random: SimRandom,
    /// On average, in milliseconds.
    every: u64,
    next: Instant,
}

/// A bit of a segment.
#[derive(Debug)]
pub(super) struct Flip {
    partition: PartitionId,
    segment: FullSegment,
    byte: usize,
    bit: u8,
}

impl Decay {
    /// The disk that decays in the world of a seed, if one does.
    pub(super) fn of(seed: u64, brokers: i32) -> Option<Self> {
        let mut random = SimRandom::new(seed ^ APART);
        if random.below(ONE_IN) > 0 {
            return None;
        }
        let broker = 1 + i32::try_from(random.below(u64::from(brokers.unsigned_abs()))).ok()?;
        let every = [500, 2000, 5000][usize::try_from(random.below(3)).ok()?];
        Some(Self { broker, random, every, next: Instant::now() })
    }

    fn is_due(&mut self) -> bool {
        let is_due = self.next <= Instant::now();
        if is_due {
            self.next += Duration::from_millis(1 + self.random.below(2 * self.every));
        }
        is_due
    }

    fn one_of<T>(&mut self, mut choices: Vec<T>) -> Option<T> {
        let count = u64::try_from(choices.len()).ok().filter(|count| *count > 0)?;
        Some(choices.swap_remove(usize::try_from(self.random.below(count)).ok()?))
    }

    /// A bit of one of `segments`.
    fn choose(
        &mut self,
        disk: &SimDisk,
        segments: Vec<(PartitionId, FullSegment)>,
    ) -> Option<Flip> {
        let (partition, segment) = self.one_of(segments)?;
        let path: &PathBuf = &segment.path;
        let mut bytes = vec![0; usize::try_from(segment.bytes).ok()?];
        disk.open(path, Create::Never).ok()?.read_at(&mut bytes, 0).ok()?;
        let mut batches = Vec::new();
        let mut position = 0;
        for batch in split(&Bytes::from(bytes)) {
            // Behind what is damaged already nobody knows where one begins.
            let Ok((_, batch)) = batch else { break };
            batches.push((position, batch.len()));
            position += batch.len();
        }
        let (position, length) = self.one_of(batches)?;
        let within = u64::try_from(length.checked_sub(CHECKED_FROM)?).ok()?;
        let byte = position + CHECKED_FROM + usize::try_from(self.random.below(within)).ok()?;
        let bit = u8::try_from(self.random.below(8)).ok()?;
        Some(Flip { partition, segment, byte, bit })
    }
}

impl World {
    /// Has a bit flip, if one is due.
    pub(super) fn decay(&mut self) {
        if !self.is_calm
            && self.decay.as_mut().is_some_and(Decay::is_due)
            && let Some(flip) = self.choose_flip()
        {
            self.flip(flip);
        }
    }

    /// A bit that flips while `broker`, which ends, does not run.
    pub(super) fn flip_while_away(&mut self, broker: i32) -> Option<Flip> {
        let decay = self.decay.as_mut().filter(|decay| decay.broker == broker)?;
        let is_one = !self.is_calm && decay.random.below(2) == 0;
        if is_one { self.choose_flip() } else { None }
    }

    fn choose_flip(&mut self) -> Option<Flip> {
        let decay = self.decay.as_mut()?;
        let machine = self.machines.get(&decay.broker)?;
        machine.running.as_ref()?;
        let segments = self.oracle.with(|known| known.can_decay(decay.broker));
        decay.choose(&machine.disk, segments)
    }

    pub(super) fn flip(&self, flip: Flip) {
        let Some(decay) = &self.decay else { return };
        let Some(machine) = self.machines.get(&decay.broker) else { return };
        let Flip { partition, segment, byte, bit } = flip;
        self.oracle.with(|known| {
            known.tell(|| {
                let path = segment.path.display();
                format!("broker {}: bit {bit} of byte {byte} of {path} flips", decay.broker)
            });
            known.on_flipped(partition, segment.range);
        });
        machine.disk.flip_bit(&segment.path, byte, bit);
    }
}
