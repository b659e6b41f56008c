//! What of a disk that decays may be lost, and whether it has been made whole in the end.
//!
//! What has flipped is committed, and so it is known what was there: until the end, where nothing may be
//! damaged any more, what cannot be trusted of that disk counts as what it was.

use super::Known;
use super::ledger::Entry;
use super::replica::{Replica, try_read};
use crate::base::{Offset, PartitionId};
use crate::config::FlushMode;
use crate::replication::Partitions;
use crate::storage::FullSegment;

fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).expect("an offset")
}

/// What a replica had that may be damaged, or deleted.
#[derive(Clone, Copy)]
pub(super) struct Spare<'a> {
    pub(super) committed: &'a [Entry],
    /// Offsets, in ranges.
    pub(super) ranges: &'a [(usize, usize)],
}

impl Spare<'_> {
    /// How far what begins at `at` may be damaged, or how far it is whole: at most to `to`.
    pub(super) fn upto(&self, at: usize, to: usize) -> Result<usize, usize> {
        let mut whole = to;
        for (from, end) in self.ranges {
            if (*from..*end).contains(&at) {
                return Err(to.min(*end));
            }
            if *from > at {
                whole = whole.min(*from);
            }
        }
        Ok(whole)
    }
}

impl Known {
    /// The full segments of `broker` that are committed and whole on the disks of all other replicas.
    pub(in crate::sim) fn can_decay(&self, broker: i32) -> Vec<(PartitionId, FullSegment)> {
        let mut found = Vec::new();
        for ((at, id), replica) in &self.replicas {
            if *at != broker || !self.is_safe_elsewhere(broker, *id) {
                continue;
            }
            let Some(ledger) = self.ledgers.get(id) else { continue };
            let scrubber = replica.partition.upgrade().and_then(|it| it.scrubber());
            let full = scrubber.map_or_else(Vec::new, |scrubber| scrubber.full());
            let has = |replica: &Replica, end: usize| {
                let last = end.checked_sub(1);
                replica.durable >= end
                    && ledger.committed.len() >= end
                    && last.is_some_and(|last| replica.log.get(last) == ledger.committed.get(last))
            };
            // A replica that does not know that they are committed would not repair them.
            let knows =
                |at: i32, end: usize| self.noted.get(&(at, *id)).is_some_and(|to| *to >= end);
            let everywhere = |end: usize| {
                let mut all = self.replicas.iter().filter(|((_, of), _)| of == id);
                all.all(|((at, _), replica)| has(replica, end) && knows(*at, end))
            };
            let safe = full.into_iter().filter(|segment| everywhere(index(segment.range.1)));
            found.extend(safe.map(|segment| (*id, segment)));
        }
        found
    }

    /// Whether others have replicas too, of which none is on its way, and all are kept.
    fn is_safe_elsewhere(&self, broker: i32, id: PartitionId) -> bool {
        let Some(topic) = self.image().topic_by_id(id.topic) else { return false };
        let Some(state) = topic.partition(id.index) else { return false };
        let has = |other: &i32| self.replicas.contains_key(&(*other, id));
        let others = state.replicas.iter().filter(|other| other.0 != broker);
        topic.resolved.flush_mode == FlushMode::Group
            && self.ledgers.get(&id).is_some_and(|ledger| !ledger.is_lossy)
            && state.adding.is_empty()
            && state.removing.is_empty()
            && others.clone().count() > 0
            && others.clone().count() < state.replicas.len()
            && others.clone().all(|other| has(&other.0))
    }

    /// A bit of a segment with these offsets has flipped.
    pub(in crate::sim) fn on_flipped(&mut self, id: PartitionId, range: (Offset, Offset)) {
        self.totals.flipped += 1;
        let range = (index(range.0), index(range.1));
        let ranges = self.decayed.entry(id).or_default();
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }

    /// A broker has written down how far its replicas are committed.
    pub(in crate::sim) fn on_noted(&mut self, broker: i32, partitions: &Partitions) {
        for (id, partition) in partitions.entries() {
            self.noted.insert((broker, id), index(partition.high_watermark()));
        }
    }

    /// The scrubber of `broker` has found damage, or its repairer has made segments whole.
    pub(in crate::sim) fn on_damage(&mut self, broker: i32, found: u64, repaired: u64) {
        assert_eq!(
            self.bad_disk,
            Some(broker),
            "(27) broker {broker} finds {found} damaged ranges where nothing has decayed"
        );
        self.totals.quarantined += found;
        self.totals.repaired += repaired;
    }

    /// A client was given what is not whole.
    pub(in crate::sim) fn on_unreadable(&mut self, broker: i32, at: i64, why: &str) {
        assert_eq!(
            self.bad_disk,
            Some(broker),
            "(27) broker {broker} serves at {at} what is not whole: {why}"
        );
    }

    /// What is still damaged or is not what was written, if anything: all logs are read from their disks.
    pub(in crate::sim) fn damage(&self) -> Option<String> {
        for ((broker, _), replica) in &self.replicas {
            let Some(partition) = replica.partition.upgrade() else { continue };
            let known = partition.quarantined();
            let place = || format!("(27) {} of broker {broker}", partition.name);
            if let Some(range) = known.first() {
                return Some(format!("{}: {range:?} is in quarantine", place()));
            }
            let start = index(partition.log_start());
            let written = replica.log.get(start..).unwrap_or_default();
            match try_read(&partition, start, replica.log.len()) {
                Err(why) => return Some(format!("{}: {why}", place())),
                Ok(log) if log != written => {
                    let equal = log.iter().zip(written).take_while(|(a, b)| a == b).count();
                    return Some(format!("{}: other records from {} on", place(), start + equal));
                }
                Ok(_) => {}
            }
        }
        None
    }
}
