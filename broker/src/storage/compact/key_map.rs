//! The last offset of every key seen, in bounded memory.
//!
//! Open addressing over 24-byte slots: a hash of the key and an offset. It never grows: where it is
//! full, the pass that fills it ends there and another follows.

use super::hash::KeyHash;
use crate::base::Offset;

/// Bytes of one slot.
const SLOT_BYTES: usize = size_of::<Slot>();

/// How full the map gets, in tenths: beyond, lookups of absent keys take long walks.
const FULL_TENTHS: usize = 9;

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: KeyHash,
    /// -1 in a free slot.
    offset: i64,
}

const FREE: Slot = Slot { hash: KeyHash([0; 2]), offset: -1 };

/// The map.
#[derive(Debug)]
pub(super) struct KeyMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
}

impl KeyMap {
    /// An empty map for up to `keys` keys that takes at most `bytes`.
    pub(super) fn new(bytes: usize, keys: usize) -> Self {
        let wanted = keys.saturating_mul(10) / FULL_TENTHS + 2;
        let slots = (bytes / SLOT_BYTES).min(wanted).max(2);
        // One slot always stays free: a walk ends there.
        let used_max = (slots * FULL_TENTHS / 10).clamp(1, slots - 1);
        Self { slots: vec![FREE; slots], used: 0, used_max }
    }

    /// Notes that `key` is at `offset`, later than noted before. Returns false, and notes nothing,
    /// if the key is new and the map full.
    pub(super) fn put(&mut self, key: KeyHash, offset: Offset) -> bool {
        let at = self.find(key);
        let full = self.used >= self.used_max;
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if slot.offset < 0 {
            if full {
                return false;
            }
            *slot = Slot { hash: key, offset: offset.0 };
            self.used += 1;
        } else {
            slot.offset = slot.offset.max(offset.0);
        }
        true
    }

    /// The last offset noted for `key`.
    pub(super) fn get(&self, key: KeyHash) -> Option<Offset> {
        let slot = self.slots.get(self.find(key))?;
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    /// Keys noted.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// The slot of `key`, or the free one where it belongs.
    fn find(&self, key: KeyHash) -> usize {
        let count = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        let [low, _] = key.0;
        let mut at = usize::try_from(low % count).unwrap_or(0);
        // Bounded: a slot is always free.
        for _ in 0..self.slots.len() {
            match self.slots.get(at) {
                Some(slot) if slot.offset >= 0 && slot.hash != key => {}
                Some(_) | None => break,
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::disk_sim::SimRandom;

    #[test]
    fn keys_that_want_one_slot_are_all_kept() {
        let mut map = KeyMap::new(1 << 20, 500);
        for n in 0..500 {
            assert!(map.put(KeyHash([7, n]), Offset(i64::try_from(n).unwrap())));
        }
        for n in 0..500 {
            assert_eq!(map.get(KeyHash([7, n])), Some(Offset(i64::try_from(n).unwrap())));
        }
        assert_eq!(map.get(KeyHash([7, 500])), None);
    }

    #[test]
    fn the_map_agrees_with_a_tree_until_it_is_full() {
        for seed in 0..50 {
            let mut random = SimRandom::new(seed);
            let mut map = KeyMap::new(SLOT_BYTES * 100, 1_000_000);
            let mut tree = BTreeMap::new();
            for offset in 0..2000 {
                // Few hashes, so that walks cross and wrap.
                let key = KeyHash([random.below(120), random.below(3)]);
                let full = tree.len() == 90 && !tree.contains_key(&key);
                assert_eq!(map.put(key, Offset(offset)), !full);
                if !full {
                    tree.insert(key, Offset(offset));
                }
            }
            assert_eq!(map.len(), tree.len());
            for low in 0..120 {
                for high in 0..3 {
                    let key = KeyHash([low, high]);
                    assert_eq!(map.get(key), tree.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn memory_is_what_was_allowed_or_what_the_keys_need() {
        assert!(KeyMap::new(1 << 30, 100).slots.len() <= 120);
        assert_eq!(KeyMap::new(2400, 1 << 40).slots.capacity(), 100);
        let mut least = KeyMap::new(0, 0);
        assert!(least.put(KeyHash([1, 1]), Offset(1)), "a pass always makes progress");
        assert!(!least.put(KeyHash([2, 2]), Offset(2)));
        assert!(least.put(KeyHash([1, 1]), Offset(3)));
    }
}
