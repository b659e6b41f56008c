//! Everything that was written, and what a reader made of what it found.

use std::collections::HashMap;
use std::sync::Mutex;

use sawlog_client::ConsumedRecord;

/// A small generator of its own, so that a seed means the same for ever (splitmix64).
pub(crate) struct Number(u64);

impl Number {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Makes it so long with bytes that no codec makes smaller.
    pub(crate) fn fill(&mut self, bytes: &mut Vec<u8>, length: usize) {
        while bytes.len() < length {
            bytes.extend(self.below(u64::MAX).to_le_bytes());
        }
        bytes.truncate(length);
    }
}

#[derive(Default)]
struct Partition {
    /// By offset: a checksum of what was written there, 0 while it is not known.
    checksums: Vec<u32>,
    /// By key: where its last record is, and whether it has a value.
    last: HashMap<Vec<u8>, (i64, bool)>,
    written: u64,
}

/// Everything that was written and confirmed.
pub(crate) struct History {
    partitions: Vec<Mutex<Partition>>,
}

impl History {
    pub(crate) fn new(partitions: i32) -> Self {
        Self { partitions: (0..partitions).map(|_| Mutex::default()).collect() }
    }

    fn partition(&self, partition: i32) -> std::sync::MutexGuard<'_, Partition> {
        self.partitions[usize::try_from(partition).unwrap()].lock().unwrap()
    }

    pub(crate) fn wrote(&self, partition: i32, offset: i64, key: Vec<u8>, value: Option<Vec<u8>>) {
        let mut known = self.partition(partition);
        let at = usize::try_from(offset).unwrap();
        if known.checksums.len() <= at {
            known.checksums.resize(at + 1, 0);
        }
        assert_eq!(known.checksums[at], 0, "offset {offset} of {partition} given twice");
        known.checksums[at] = checksum(&key, value.as_deref());
        known.written += 1;
        let last = known.last.entry(key).or_insert((offset, value.is_some()));
        if offset > last.0 {
            *last = (offset, value.is_some());
        }
    }

    /// Records written.
    pub(crate) fn written(&self) -> u64 {
        (0..).zip(&self.partitions).map(|(at, _)| self.partition(at).written).sum()
    }

    /// The offset behind the last record of each partition.
    pub(crate) fn ends(&self) -> Vec<i64> {
        let end = |at| i64::try_from(self.partition(at).checksums.len()).unwrap();
        (0..).zip(&self.partitions).map(|(at, _)| end(at)).collect()
    }

    /// Checks that a replay of all there was to read says what all that was written says.
    pub(crate) fn check(&self, partition: i32, replay: &Replay, who: &str) {
        let known = self.partition(partition);
        for (key, (offset, has_value)) in &known.last {
            let key_text = String::from_utf8_lossy(key);
            match replay.last.get(key) {
                Some(found) => assert_eq!(found, &(*offset, *has_value), "{who}: {key_text}"),
                // A tombstone may be gone, with all that it deleted.
                None => assert!(!has_value, "{who}: {key_text} at {offset} is gone"),
            }
        }
        for key in replay.last.keys() {
            assert!(known.last.contains_key(key), "{who}: a key nobody wrote");
        }
    }
}

/// What a reader found in a partition.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) last: HashMap<Vec<u8>, (i64, bool)>,
    pub(crate) last_offset: i64,
    pub(crate) records: u64,
}

impl Replay {
    /// Takes in the next record, which must be what was written at its offset.
    pub(crate) fn read(&mut self, history: &History, record: &ConsumedRecord) {
        let ConsumedRecord { partition, offset, key, value, .. } = record;
        let in_order = self.records == 0 || *offset > self.last_offset;
        assert!(in_order, "{partition}: {offset} after {}", self.last_offset);
        let key = key.as_ref().unwrap().to_vec();
        let at = usize::try_from(*offset).unwrap();
        // One that is read before its writer was told is checked by its neighbours in time.
        let written = history.partition(*partition).checksums.get(at).copied().unwrap_or(0);
        let found = checksum(&key, value.as_deref());
        assert!(written == 0 || written == found, "{partition}: another record at {offset}");
        self.last.insert(key, (*offset, value.is_some()));
        self.last_offset = *offset;
        self.records += 1;
    }
}

/// Never 0.
fn checksum(key: &[u8], value: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[u8::from(value.is_some())]);
    hasher.update(value.unwrap_or_default());
    hasher.finalize().max(1)
}
