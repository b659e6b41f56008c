//! What the reader and the fetching task of a consumer share: partitions, and records fetched ahead.
//!
//! Pure. Each partition has two offsets: `position`, which the reader gets next, and `fetch_offset`,
//! which is fetched next; between them lies what is in `ready`. A seek changes the partition's
//! generation: what was fetched for an older one is thrown away unseen.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::options::Position;
use super::session::PartitionKey;
use crate::error::ClientError;

/// What holds a partition up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It can be fetched.
    Fetching,
    /// Its offset is asked for; nothing to fetch until it is there.
    Resolving(Position),
    /// The log is compared with what was read, after a new leader took over (KIP-320).
    Validating,
    /// Reading failed for good: it needs a seek.
    Stopped,
}

/// Where reading goes on, and the epoch of the record before, -1 if unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
}

/// Where a partition begins that its group assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where the group committed last: the log is compared with it first, as far as the epoch tells.
    At(Place),
    /// Nothing was committed.
    From(Position),
    /// Nothing was committed, and nobody said where to begin: it waits for a seek.
    Nowhere,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: PartitionKey,
    /// Changes with every seek; ids of old data do not match.
    pub(crate) generation: u64,
    pub(crate) state: State,
    pub(crate) position: i64,
    /// Epoch of what was handed out last, -1 if unknown.
    pub(crate) position_epoch: i32,
    pub(crate) fetch_offset: i64,
    /// Epoch of the last record fetched, -1 for none.
    pub(crate) last_epoch: i32,
    /// Epoch of the leader that is fetched from, -1 if unknown.
    pub(crate) leader_epoch: i32,
    /// Exclusive.
    pub(crate) until: Option<i64>,
    pub(crate) is_paused: bool,
    /// A question about it is on its way.
    pub(crate) is_asking: bool,
    /// Bytes in `ready`.
    pub(crate) buffered: usize,
    /// -1 before the first reply.
    pub(crate) high_watermark: i64,
    /// Of the last record handed out, in milliseconds since the Unix epoch.
    pub(crate) last_timestamp: Option<i64>,
    /// Failures in a row and the time of the first.
    pub(crate) failures: u32,
    pub(crate) failing_since: Option<Instant>,
    /// Nothing is asked before.
    pub(crate) not_before: Option<Instant>,
    /// A replica nearer than the leader, and until when.
    pub(crate) read_from: Option<(i32, Instant)>,
}

impl Entry {
    fn place(&self) -> Place {
        Place { offset: self.position, epoch: self.position_epoch }
    }

    /// Whether everything up to its end was handed out.
    pub(crate) fn is_done(&self) -> bool {
        self.until.is_some_and(|until| self.position >= until)
    }

    /// Whether there is nothing more to fetch.
    pub(crate) fn is_fetched(&self) -> bool {
        self.until.is_some_and(|until| self.fetch_offset >= until)
    }

    /// Notes a success.
    pub(crate) fn recovered(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.not_before = None;
    }
}

/// Something for the reader.
#[derive(Debug)]
pub(crate) enum Ready {
    /// Batches of a partition.
    Batches { id: usize, generation: u64, bytes: Bytes },
    /// A partition failed.
    Failure { id: usize, generation: u64, error: ClientError },
}

/// The partitions and what is ready.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// By id; `None` for those that were removed.
    entries: Vec<Option<Entry>>,
    ids: HashMap<PartitionKey, usize>,
    ready: VecDeque<Ready>,
    /// Bytes in `ready`.
    pub(crate) buffered: usize,
    /// The fetching task holds back until the reader has taken some.
    pub(crate) waits_for_reader: bool,
    next_generation: u64,
    /// Where the partition that was taken from last had been before, by id and generation.
    before: Option<(usize, u64, Place)>,
}

impl Board {
    /// Adds a partition, or puts a known one at another place.
    pub(crate) fn add(&mut self, key: PartitionKey, from: Position, until: Option<i64>) -> usize {
        let id = match self.ids.get(&key) {
            Some(id) => *id,
            None => {
                let id = self.entries.len();
                self.ids.insert(key.clone(), id);
                self.entries.push(None);
                id
            }
        };
        self.next_generation += 1;
        let entry = Entry {
            key,
            generation: self.next_generation,
            state: State::Resolving(from),
            position: -1,
            position_epoch: -1,
            fetch_offset: -1,
            last_epoch: -1,
            leader_epoch: -1,
            until,
            is_paused: false,
            is_asking: false,
            buffered: 0,
            high_watermark: -1,
            last_timestamp: None,
            failures: 0,
            failing_since: None,
            not_before: None,
            read_from: None,
        };
        if let Some(place) = self.entries.get_mut(id) {
            *place = Some(entry);
        }
        self.drop_stale();
        self.seek(id, from);
        id
    }

    /// Adds a partition that a group assigned.
    pub(crate) fn place(&mut self, key: PartitionKey, start: Start) {
        let from = match start {
            Start::At(place) => Position::Offset(place.offset),
            Start::From(position) => position,
            Start::Nowhere => Position::Start,
        };
        let id = self.add(key, from, None);
        let Some(entry) = self.entry_mut(id) else { return };
        match start {
            Start::At(place) if place.epoch >= 0 => {
                (entry.position_epoch, entry.last_epoch) = (place.epoch, place.epoch);
                entry.state = State::Validating;
            }
            Start::Nowhere => entry.state = State::Stopped,
            Start::At(_) | Start::From(_) => {}
        }
    }

    /// Where each partition goes on, as far as it is known.
    pub(crate) fn places(&self) -> Vec<(PartitionKey, Place)> {
        let known = self.entries().filter(|(_, entry)| entry.position >= 0);
        known.map(|(_, entry)| (entry.key.clone(), entry.place())).collect()
    }

    /// As [`Board::places`], without what was taken since [`Board::forget_before`].
    pub(crate) fn places_before(&self) -> Vec<(PartitionKey, Place)> {
        let mut places = self.places();
        if let Some((id, generation, before)) = self.before
            && let Some(entry) = self.entry(id).filter(|entry| entry.generation == generation)
        {
            let taken = places.iter_mut().filter(|(key, _)| *key == entry.key);
            taken.for_each(|(_, place)| *place = before);
        }
        places
    }

    /// What was taken so far is in the reader's hands.
    pub(crate) fn forget_before(&mut self) {
        self.before = None;
    }

    /// Records are taken for the reader: the partition goes on at `next`. An epoch of -1 leaves the
    /// one before.
    pub(crate) fn take(
        &mut self,
        id: usize,
        generation: u64,
        (next, has_records): (Place, bool),
    ) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(id)?.as_mut()?;
        if entry.generation != generation {
            return None;
        }
        if has_records {
            self.before = Some((id, generation, entry.place()));
        }
        entry.position = next.offset;
        if next.epoch >= 0 {
            entry.position_epoch = next.epoch;
        }
        Some(entry)
    }

    /// Removes a partition with what was fetched of it.
    pub(crate) fn remove(&mut self, key: &PartitionKey) -> bool {
        let id = self.ids.get(key).copied();
        let place = id.and_then(|id| self.entries.get_mut(id));
        let was_there = place.is_some_and(|place| place.take().is_some());
        self.drop_stale();
        was_there
    }

    pub(crate) fn id(&self, topic: &str, index: i32) -> Option<usize> {
        let key = (Arc::from(topic), index);
        self.ids.get(&key).copied().filter(|id| self.entry(*id).is_some())
    }

    pub(crate) fn entry(&self, id: usize) -> Option<&Entry> {
        self.entries.get(id).and_then(Option::as_ref)
    }

    pub(crate) fn entry_mut(&mut self, id: usize) -> Option<&mut Entry> {
        self.entries.get_mut(id).and_then(Option::as_mut)
    }

    /// The entry, if it was not moved since `generation`.
    pub(crate) fn current(&mut self, id: usize, generation: u64) -> Option<&mut Entry> {
        self.entry_mut(id).filter(|entry| entry.generation == generation)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let known = self.entries.iter().enumerate();
        known.filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    /// Whether every partition is at its end. False without partitions.
    pub(crate) fn is_done(&self) -> bool {
        let mut entries = self.entries().peekable();
        entries.peek().is_some() && entries.all(|(_, entry)| entry.is_done())
    }

    /// Moves a partition; what was fetched of it is thrown away.
    pub(crate) fn seek(&mut self, id: usize, to: Position) {
        self.next_generation += 1;
        let generation = self.next_generation;
        let Some(entry) = self.entry_mut(id) else { return };
        entry.generation = generation;
        entry.is_asking = false;
        (entry.last_epoch, entry.position_epoch) = (-1, -1);
        entry.read_from = None;
        entry.recovered();
        match to {
            Position::Offset(offset) => {
                entry.state = State::Fetching;
                (entry.position, entry.fetch_offset) = (offset, offset);
            }
            other => entry.state = State::Resolving(other),
        }
        self.drop_stale();
    }

    /// Puts something where the reader finds it.
    pub(crate) fn push(&mut self, ready: Ready) {
        if let Ready::Batches { id, bytes, .. } = &ready {
            let weight = bytes.len();
            self.buffered += weight;
            if let Some(entry) = self.entry_mut(*id) {
                entry.buffered += weight;
            }
        }
        self.ready.push_back(ready);
    }

    /// The next of what is ready, of partitions that are not paused.
    pub(crate) fn pop(&mut self) -> Option<Ready> {
        let is_wanted = |ready: &Ready| {
            let (id, _) = ready.of();
            self.entry(id).is_none_or(|entry| !entry.is_paused)
        };
        let at = self.ready.iter().position(is_wanted)?;
        let ready = self.ready.remove(at)?;
        self.taken(&ready);
        Some(ready)
    }

    fn taken(&mut self, ready: &Ready) {
        if let Ready::Batches { id, generation, bytes } = ready {
            self.buffered = self.buffered.saturating_sub(bytes.len());
            if let Some(entry) = self.current(*id, *generation) {
                entry.buffered = entry.buffered.saturating_sub(bytes.len());
            }
        }
    }

    /// Throws away what belongs to no partition as it is now.
    fn drop_stale(&mut self) {
        for ready in std::mem::take(&mut self.ready) {
            let (id, generation) = ready.of();
            if self.current(id, generation).is_some() {
                self.ready.push_back(ready);
            } else if let Ready::Batches { bytes, .. } = ready {
                self.buffered = self.buffered.saturating_sub(bytes.len());
            }
        }
        let mut held: HashMap<usize, usize> = HashMap::new();
        for ready in &self.ready {
            if let Ready::Batches { id, bytes, .. } = ready {
                *held.entry(*id).or_default() += bytes.len();
            }
        }
        for (id, entry) in self.entries.iter_mut().enumerate() {
            if let Some(entry) = entry {
                entry.buffered = held.get(&id).copied().unwrap_or(0);
            }
        }
    }
}

impl Ready {
    /// Of which partition it is.
    pub(crate) fn id(&self) -> usize {
        self.of().0
    }

    fn of(&self) -> (usize, u64) {
        match self {
            Self::Batches { id, generation, .. } | Self::Failure { id, generation, .. } => {
                (*id, *generation)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> (Board, usize, usize) {
        let mut board = Board::default();
        let one = board.add((Arc::from("t"), 0), Position::Offset(5), None);
        let other = board.add((Arc::from("t"), 1), Position::Offset(0), Some(10));
        (board, one, other)
    }

    fn push(board: &mut Board, id: usize, length: usize) {
        let generation = board.entry(id).expect("a partition").generation;
        board.push(Ready::Batches { id, generation, bytes: Bytes::from(vec![0; length]) });
    }

    fn popped(board: &mut Board) -> Option<usize> {
        board.pop().map(|ready| ready.of().0)
    }

    #[test]
    fn a_seek_throws_away_what_was_fetched() {
        let (mut board, one, other) = board();
        push(&mut board, one, 100);
        push(&mut board, other, 10);
        let before = board.entry(one).expect("there").generation;
        board.seek(one, Position::Offset(3));
        assert_eq!((board.buffered, board.entry(one).expect("there").buffered), (10, 0));
        // A reply to a fetch of before comes in later.
        assert!(board.current(one, before).is_none());
        assert_eq!(popped(&mut board), Some(other));
        assert_eq!(popped(&mut board), None);
        assert_eq!(board.buffered, 0);
    }

    #[test]
    fn paused_partitions_keep_what_they_have_and_others_pass() {
        let (mut board, one, other) = board();
        push(&mut board, one, 1);
        push(&mut board, other, 1);
        board.entry_mut(one).expect("there").is_paused = true;
        assert_eq!(popped(&mut board), Some(other));
        assert_eq!(popped(&mut board), None);
        board.entry_mut(one).expect("there").is_paused = false;
        assert_eq!(popped(&mut board), Some(one));
    }

    #[test]
    fn where_a_group_goes_on_is_compared_with_the_log_if_its_epoch_is_known() {
        let mut board = Board::default();
        let key = |index| (Arc::from("t"), index);
        board.place(key(0), Start::At(Place { offset: 7, epoch: 3 }));
        board.place(key(1), Start::At(Place { offset: 7, epoch: -1 }));
        board.place(key(2), Start::From(Position::End));
        board.place(key(3), Start::Nowhere);
        let states: Vec<State> = board.entries().map(|(_, entry)| entry.state).collect();
        let expected =
            [State::Validating, State::Fetching, State::Resolving(Position::End), State::Stopped];
        assert_eq!(states, expected);
        let places =
            [(key(0), Place { offset: 7, epoch: 3 }), (key(1), Place { offset: 7, epoch: -1 })];
        assert_eq!(board.places(), places, "the others are not known yet");
    }

    #[test]
    fn it_is_done_when_every_partition_is_at_its_end() {
        let (mut board, one, other) = board();
        assert!(!Board::default().is_done(), "without partitions more may come");
        board.entry_mut(other).expect("there").position = 10;
        assert!(!board.is_done(), "one has no end");
        let key = board.entry(one).expect("there").key.clone();
        assert!(board.remove(&key));
        assert!(board.is_done());
        assert_eq!(board.id("t", 0), None);
    }
}
