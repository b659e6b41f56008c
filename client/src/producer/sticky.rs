//! Where records without a key go (KIP-794): to one partition until a batch's worth of bytes went
//! there, then to another, drawn at random. A partition with a longer queue is drawn less often, one
//! without a leader never, so that a slow broker gets less and not the whole producer waits for it.

use crate::backoff::Random;

/// What the choice is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Batches that wait or are on their way.
    pub(crate) batches: usize,
    /// Whether somebody leads the partition.
    pub(crate) is_led: bool,
}

/// The partition in use for one topic.
#[derive(Debug)]
pub(crate) struct Sticky {
    random: Random,
    current: Option<usize>,
    /// Bytes that went there.
    bytes: usize,
}

impl Sticky {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, current: None, bytes: 0 }
    }

    /// The partition for the next record, of `count`; `loads` is only asked for a new choice.
    pub(crate) fn partition(&mut self, count: usize, loads: impl FnOnce() -> Vec<Load>) -> usize {
        match self.current.filter(|current| *current < count) {
            Some(current) => current,
            None => {
                let chosen = choose(&loads(), &mut self.random);
                self.current = Some(chosen);
                self.bytes = 0;
                chosen
            }
        }
    }

    /// Notes a record that went there. Moves on after a batch's worth, at the next batch's begin:
    /// so no batch is left half full, unless it would take two (KIP-794).
    pub(crate) fn wrote(&mut self, bytes: usize, began_a_batch: bool, batch_bytes: usize) {
        self.bytes += bytes;
        let enough = self.bytes >= batch_bytes && began_a_batch;
        if enough || self.bytes >= batch_bytes.saturating_mul(2) {
            self.current = None;
        }
    }
}

fn choose(loads: &[Load], random: &mut Random) -> usize {
    let any_is_led = loads.iter().any(|load| load.is_led);
    let candidates = || loads.iter().enumerate().filter(|(_, load)| load.is_led || !any_is_led);
    let longest = candidates().map(|(_, load)| load.batches).max().unwrap_or(0);
    let weight = |load: &Load| u64::try_from(longest - load.batches + 1).unwrap_or(1);
    let total = candidates().map(|(_, load)| weight(load)).sum();
    let mut draw = random.below(total);
    for (index, load) in candidates() {
        match draw.checked_sub(weight(load)) {
            Some(left) => draw = left,
            None => return index,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(batches: usize) -> Load {
        Load { batches, is_led: true }
    }

    fn counts(loads: &[Load]) -> Vec<usize> {
        let mut random = Random::seeded(7);
        let mut counts = vec![0; loads.len()];
        for _ in 0..10_000 {
            counts[choose(loads, &mut random)] += 1;
        }
        counts
    }

    #[test]
    fn equal_queues_are_drawn_equally_and_long_ones_less() {
        for count in counts(&[load(3), load(3), load(3), load(3)]) {
            assert!((2300..2700).contains(&count), "{count}");
        }
        // Weights 1, 6 and 3 of 10 (KIP-794's own example turned round).
        let [slow, fast, middle] = counts(&[load(5), load(0), load(3)])[..] else { panic!() };
        assert!((800..1200).contains(&slow), "{slow}");
        assert!((5700..6300).contains(&fast), "{fast}");
        assert!((2700..3300).contains(&middle), "{middle}");
    }

    #[test]
    fn a_partition_without_leader_is_drawn_only_if_none_has_one() {
        let away = Load { batches: 0, is_led: false };
        assert_eq!(counts(&[away, load(9), away]), [0, 10_000, 0]);
        assert!(counts(&[away, away]).iter().all(|count| *count > 4000));
    }

    #[test]
    fn a_partition_is_kept_for_a_batch_and_left_at_the_next_ones_begin() {
        let mut sticky = Sticky::new(Random::seeded(1));
        let first = sticky.partition(100, || vec![load(0); 100]);
        sticky.wrote(900, true, 1000);
        sticky.wrote(50, false, 1000);
        sticky.wrote(100, false, 1000);
        let again = sticky.partition(100, || panic!("no new choice inside a batch"));
        assert_eq!(again, first);
        sticky.wrote(100, true, 1000);
        let mut asked = false;
        sticky.partition(100, || {
            asked = true;
            vec![load(0); 100]
        });
        assert!(asked, "a batch's worth went there and the next one began");
    }
}
