//! A manifest says what a topic holds, small enough to compare: one line per key.
//!
//! ```text
//! KEY \t PARTITION \t NUMBER OF VALUES \t THEIR BYTES \t CRC-32, hexadecimal
//! ```
//! The CRC-32 runs over the key's values in the order they were read, each with its length
//! (4 bytes, big endian) before it: one byte, one lost record, or two swapped ones change it.

use std::collections::BTreeMap;

use crc32fast::Hasher;

#[derive(Clone, Debug, Default)]
struct Digest {
    partition: i32,
    count: usize,
    bytes: usize,
    crc: Hasher,
}

/// Builds a manifest from records in the order they are read.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    keys: BTreeMap<Vec<u8>, Digest>,
}

impl Manifest {
    pub(crate) fn add(&mut self, partition: i32, key: &[u8], value: &[u8]) {
        let digest = self
            .keys
            .entry(key.to_vec())
            .or_insert_with(|| Digest { partition, ..Digest::default() });
        assert_eq!(digest.partition, partition, "key {:?}", String::from_utf8_lossy(key));
        digest.count += 1;
        digest.bytes += value.len();
        let length = u32::try_from(value.len()).expect("a record is below 4 GiB");
        digest.crc.update(&length.to_be_bytes());
        digest.crc.update(value);
    }

    /// The lines, sorted by their bytes as the other programs sort them.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |(key, d): (&Vec<u8>, &Digest)| {
            let key = String::from_utf8_lossy(key);
            format!(
                "{key}\t{}\t{}\t{}\t{:08x}",
                d.partition,
                d.count,
                d.bytes,
                d.crc.clone().finalize()
            )
        };
        let mut lines: Vec<String> = self.keys.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }
}

/// The same lines without the partition, which the producer chose.
pub(crate) fn without_partition(lines: &[String]) -> Vec<String> {
    let strip = |line: &String| {
        let mut fields: Vec<&str> = line.split('\t').collect();
        fields.remove(1);
        fields.join("\t")
    };
    lines.iter().map(strip).collect()
}

/// Fails with the first difference, not with both manifests.
pub(crate) fn assert_same(what: &str, expected: &[String], seen: &[String]) {
    let differing = expected.iter().zip(seen).find(|(a, b)| a != b);
    assert!(differing.is_none(), "{what}: expected and seen: {differing:#?}");
    assert_eq!(expected.len(), seen.len(), "{what}: number of keys");
}

#[test]
fn manifest_changes_with_order_bytes_and_boundaries() {
    let line = |values: &[&str]| {
        let mut manifest = Manifest::default();
        values.iter().for_each(|value| manifest.add(3, b"key", value.as_bytes()));
        manifest.lines()
    };
    assert_eq!(line(&["a", "b"]), ["key\t3\t2\t2\t3cf28e08"]);
    assert_ne!(line(&["a", "b"]), line(&["b", "a"]));
    assert_ne!(line(&["a", "b"]), line(&["a", "c"]));
    assert_ne!(line(&["a", "bc"]), line(&["ab", "c"]));
}
