//! How far replicated partitions were committed when that was last written down: a file of each data
//! directory, read by the next start.
//!
//! Only a hint, as with Apache Kafka: a few seconds old, not synced, and gone where it is damaged.
//! Without it a leader that restarts, with too few others to go on, would serve nothing of what it
//! has. It never says more than was committed. Partitions with one replica need none.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use tracing::warn;

use super::directory::LogDirectory;
use super::partition::Partition;
use crate::base::disk::{Aside, Syncs, read_whole};
use crate::base::{DataDirectory, Offset, PartitionId};
use crate::storage::envelope;

/// The file.
const FILE: &str = "high-watermarks";

const MAGIC: [u8; 4] = *b"SLHW";
const VERSION: u16 = 1;

/// Longest file that is read: more than a broker has partitions.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of an entry.
const ENTRY_BYTES: usize = 28;

/// The hints of this start, and what was written last.
#[derive(Debug)]
pub(super) struct HighWatermarks {
    known: HashMap<PartitionId, Offset>,
    written: Mutex<HashMap<PathBuf, Vec<u8>>>,
}

impl HighWatermarks {
    /// Reads the files of `directories`.
    pub(super) fn load(directories: &[Arc<DataDirectory>]) -> Self {
        let mut known = HashMap::new();
        for data in directories {
            let path = data.path().join(FILE);
            match read_whole(&**data.disk(), &path, BYTES_MAX) {
                Ok(Some(bytes)) => match envelope::open(MAGIC, VERSION, &bytes) {
                    Some(entries) => known.extend(decode(entries)),
                    None => warn!(path = %path.display(), "damaged; it is written anew"),
                },
                Ok(None) => {}
                Err(error) => warn!(path = %path.display(), %error, "cannot read"),
            }
        }
        Self { known, written: Mutex::default() }
    }

    /// What was known of a partition.
    pub(super) fn known(&self, partition: PartitionId) -> Option<Offset> {
        self.known.get(&partition).copied()
    }

    /// Writes down what has changed since the last time.
    pub(super) fn store(
        &self,
        directories: &[Arc<LogDirectory>],
        partitions: &[(PartitionId, Arc<Partition>)],
    ) {
        let mut written = self.written.lock();
        for directory in directories.iter().filter(|directory| directory.data().is_online()) {
            let here = partitions.iter().filter(|(_, partition)| {
                partition.is_replicated() && Arc::ptr_eq(partition.directory(), directory)
            });
            let mut entries: Vec<_> =
                here.map(|(id, partition)| (*id, partition.high_watermark())).collect();
            entries.sort_unstable();
            let content = encode(&entries);
            let path = directory.data().path().join(FILE);
            let before = written.get(&path);
            if before.map_or(content.is_empty(), |before| *before == content) {
                continue;
            }
            let disk = directory.data().disk();
            let sealed = envelope::seal(MAGIC, VERSION, &content);
            let stored = Aside::write(&**disk, path.clone(), &sealed, Syncs::Shared)
                .and_then(|aside| aside.take_place(&**disk));
            match stored {
                Ok(()) => drop(written.insert(path, content)),
                Err(error) => warn!(path = %path.display(), %error, "cannot write"),
            }
        }
    }
}

fn encode(entries: &[(PartitionId, Offset)]) -> Vec<u8> {
    let mut content = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for (id, high_watermark) in entries {
        content.extend(id.topic.0);
        content.extend(id.index.to_be_bytes());
        content.extend(high_watermark.0.to_be_bytes());
    }
    content
}

fn decode(content: &[u8]) -> impl Iterator<Item = (PartitionId, Offset)> {
    content.as_chunks::<ENTRY_BYTES>().0.iter().filter_map(|entry| {
        let (topic, rest) = entry.split_first_chunk::<16>()?;
        let (index, offset) = rest.split_first_chunk::<4>()?;
        let offset = offset.first_chunk::<8>()?;
        let id = PartitionId { topic: Uuid(*topic), index: i32::from_be_bytes(*index) };
        Some((id, Offset(i64::from_be_bytes(*offset))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let id = |index| PartitionId { topic: Uuid([9; 16]), index };
        let entries = [(id(0), Offset(5)), (id(3), Offset(1 << 40))];
        assert_eq!(decode(&encode(&entries)).collect::<Vec<_>>(), entries);
        assert_eq!(decode(&[1, 2, 3]).count(), 0);
    }
}
