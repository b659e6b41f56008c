//! What a follower asks one leader for, and when. Pure.
//!
//! Always: of each slot at most one question stands; what stands is forgotten when the session is
//! lost; a slot that is due is asked once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a leader that had no answer is left alone, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The slots of one session.
#[derive(Debug)]
pub(super) struct Slots {
    session: u64,
    /// Messages of this session so far.
    number: u64,
    slots: BTreeMap<u32, Slot>,
    due: BTreeSet<(Duration, u32)>,
    /// To be told that they are not followed any more.
    gone: Vec<u32>,
    failures: u32,
    paused_until: Duration,
}

#[derive(Debug, Default)]
struct Slot {
    /// The question that stands.
    asked: Option<u64>,
    /// When it is due.
    due: Option<Duration>,
}

impl Slots {
    pub(super) fn new(session: u64) -> Self {
        Self {
            session,
            number: 0,
            slots: BTreeMap::new(),
            due: BTreeSet::new(),
            gone: Vec::new(),
            failures: 0,
            paused_until: Duration::ZERO,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot may ask, from `at` on.
    pub(super) fn set_due(&mut self, slot: u32, at: Duration) {
        let entry = self.slots.entry(slot).or_default();
        if let Some(before) = entry.due.replace(at) {
            self.due.remove(&(before, slot));
        }
        self.due.insert((at, slot));
    }

    /// The slot is not followed any more.
    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(Slot { due, .. }) = self.slots.remove(&slot) {
            if let Some(due) = due {
                self.due.remove(&(due, slot));
            }
            self.gone.push(slot);
        }
    }

    /// Slots to ask for now, at most `count`; each is due no more.
    pub(super) fn take_due(&mut self, now: Duration, count: usize) -> Vec<u32> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((at, slot)) = self.due.first().copied().filter(|(at, _)| *at <= now)
        {
            self.due.remove(&(at, slot));
            if let Some(slot) = self.slots.get_mut(&slot) {
                slot.due = None;
            }
            taken.push(slot);
        }
        taken
    }

    /// When [`Self::take_due`] has something, and the leader is not left alone.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| (*at).max(self.paused_until))
    }

    /// Slots to be told of as gone.
    pub(super) fn take_gone(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.gone)
    }

    /// Question `number` is asked for the slot.
    pub(super) fn on_asked(&mut self, slot: u32, number: u64) {
        self.slots.entry(slot).or_default().asked = Some(number);
    }

    /// Whether a question of the slot stands.
    pub(super) fn stands(&self, slot: u32) -> bool {
        self.slots.get(&slot).is_some_and(|slot| slot.asked.is_some())
    }

    /// Question `number` of the slot is answered. Returns whether it stood.
    pub(super) fn on_answered(&mut self, slot: u32, number: u64) -> bool {
        let slot = self.slots.get_mut(&slot).filter(|slot| slot.asked == Some(number));
        slot.is_some_and(|slot| slot.asked.take().is_some())
    }

    /// Which message of which session the next one is.
    pub(super) fn next_message(&mut self) -> (u64, u64) {
        self.number += 1;
        (self.session, self.number - 1)
    }

    /// The leader has answered.
    pub(super) fn on_heard(&mut self) {
        self.failures = 0;
    }

    /// What was said is lost, or may be. Returns the questions that stood; all of their slots are due
    /// once the leader was left alone for a while.
    pub(super) fn on_lost(&mut self, now: Duration) -> Vec<(u32, u64)> {
        self.session = self.session.wrapping_add(1);
        self.number = 0;
        self.gone.clear();
        let pause = PAUSE_MIN * 2u32.saturating_pow(self.failures.min(8));
        self.failures += 1;
        self.paused_until = now + pause.min(PAUSE_MAX);
        let stood: Vec<(u32, u64)> = self
            .slots
            .iter_mut()
            .filter_map(|(slot, state)| Some((*slot, state.asked.take()?)))
            .collect();
        for (slot, _) in &stood {
            self.set_due(*slot, self.paused_until);
        }
        stood
    }

    /// Whether the leader is left alone.
    pub(super) fn is_paused(&self, now: Duration) -> bool {
        now < self.paused_until
    }

    pub(super) fn paused_until(&self) -> Duration {
        self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_slot_is_asked_once_until_it_is_answered() {
        let mut slots = Slots::new(7);
        slots.set_due(1, at(0));
        slots.set_due(2, at(0));
        slots.set_due(2, at(9));
        assert_eq!(slots.take_due(at(0), 10), [1]);
        slots.on_asked(1, 40);
        assert_eq!(slots.take_due(at(5), 10), []);
        assert_eq!(slots.due_at(), Some(at(9)));
        assert!(!slots.on_answered(1, 39), "an earlier question");
        assert!(slots.on_answered(1, 40));
        assert!(!slots.on_answered(1, 40), "answered twice");
        slots.set_due(1, at(6));
        assert_eq!(slots.take_due(at(9), 1), [1], "not more than there is room for");
        assert_eq!(slots.take_due(at(9), 1), [2]);
    }

    #[test]
    fn a_session_that_is_lost_asks_everything_that_stood_again() {
        let mut slots = Slots::new(7);
        for slot in 0..3 {
            slots.set_due(slot, at(0));
        }
        for slot in slots.take_due(at(0), 2) {
            slots.on_asked(slot, 5);
        }
        assert_eq!((slots.next_message(), slots.next_message()), ((7, 0), (7, 1)));
        slots.remove(1);
        assert_eq!(slots.on_lost(at(100)), [(0, 5)]);
        assert_eq!(slots.take_gone(), [], "nobody knows of it any more");
        assert_eq!(slots.next_message(), (8, 0));
        assert!(slots.is_paused(at(149)) && !slots.is_paused(at(150)));
        assert_eq!(slots.due_at(), Some(at(150)));
        assert_eq!(slots.take_due(at(150), 9), [2, 0]);
        slots.on_lost(at(150));
        assert!(slots.is_paused(at(249)), "longer, the second time");
    }

    #[test]
    fn what_is_not_followed_any_more_is_neither_asked_nor_answered() {
        let mut slots = Slots::new(7);
        slots.set_due(1, at(0));
        slots.on_asked(1, 3);
        slots.remove(1);
        slots.remove(1);
        assert_eq!(slots.take_gone(), [1]);
        assert!(!slots.on_answered(1, 3) && slots.is_empty());
        assert_eq!((slots.due_at(), slots.take_due(at(9), 9)), (None, vec![]));
    }
}
