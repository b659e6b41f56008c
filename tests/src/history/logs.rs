//! The segment files of a replica, read as they are on disk by nobody's code but the decoder of batches.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sawlog_protocol::records::{self, split};

use super::decode_value;

/// Far above what a batch of these tests inflates to.
const INFLATED_MAX: usize = 64 << 20;

/// Who sent a record, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    /// Who sent it.
    pub producer: u32,
    /// Its number.
    pub number: u64,
}

/// A batch: where it is, and a checksum over all of it, base offset and leader epoch included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
    pub base: i64,
    /// Offset after its last.
    pub next: i64,
    /// CRC-32 of its bytes.
    pub crc: u32,
}

/// A partition as one replica has it: its records from offset 0 on.
#[derive(Clone, Debug, Default)]
pub struct PartitionLog {
    /// Its batches, in order.
    pub batches: Vec<Batch>,
    /// Its records, by offset.
    pub records: Vec<RecordAt>,
    /// Bytes of batches.
    pub bytes: u64,
    /// What cannot be: holes, damage, values nobody wrote.
    pub wrong: Vec<String>,
}

/// A replica of a topic.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// Whose it is, for people.
    pub name: String,
    /// Its partitions.
    pub partitions: BTreeMap<i32, PartitionLog>,
}

impl Replica {
    /// Reads partitions 0 to `count` of a topic from the data directory of a broker that was stopped
    /// cleanly. A partition without a directory is empty.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(name: &str, data: &Path, topic: &str, count: i32) -> io::Result<Replica> {
        let mut replica = Replica { name: name.to_owned(), partitions: BTreeMap::new() };
        let directories: Vec<PathBuf> = paths(&data.join("topics"))?;
        for partition in 0..count {
            let starts = format!("{topic}-{partition}.");
            let is_it = |path: &&PathBuf| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(&starts) && !name.ends_with(".deleted")
            };
            let log = match directories.iter().find(is_it) {
                Some(directory) => PartitionLog::read(directory, partition)?,
                None => PartitionLog::default(),
            };
            replica.partitions.insert(partition, log);
        }
        Ok(replica)
    }
}

fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

impl PartitionLog {
    fn read(directory: &Path, partition: i32) -> io::Result<PartitionLog> {
        let mut log = PartitionLog::default();
        let mut segments = paths(directory)?;
        segments.retain(|path| path.extension().is_some_and(|end| end == "log"));
        segments.sort_unstable();
        for segment in segments {
            log.add(Bytes::from(fs::read(&segment)?), partition, &segment);
        }
        Ok(log)
    }

    fn add(&mut self, bytes: Bytes, partition: i32, segment: &Path) {
        let mut batches = split(&bytes);
        for batch in batches.by_ref() {
            match batch {
                Ok((header, bytes)) => {
                    let end = self.batches.last().map_or(0, |last| last.next);
                    if header.base_offset != end {
                        self.wrong.push(format!("{end} is followed by {}", header.base_offset));
                    }
                    let crc = crc32fast::hash(&bytes);
                    self.bytes += bytes.len() as u64;
                    self.batches.push(Batch {
                        base: header.base_offset,
                        next: header.next_offset(),
                        crc,
                    });
                    if let Err(why) = self.add_records(bytes, partition) {
                        self.wrong.push(format!("batch at {}: {why}", header.base_offset));
                    }
                }
                Err(error) => self.wrong.push(format!("{}: {error}", segment.display())),
            }
        }
        if !batches.rest().is_empty() {
            let (count, file) = (batches.rest().len(), segment.display());
            self.wrong.push(format!("{file}: {count} bytes after the last batch"));
        }
    }

    fn add_records(&mut self, bytes: Bytes, partition: i32) -> Result<(), String> {
        let batch = records::Batch::parse(bytes).map_err(|error| error.to_string())?;
        for record in batch.records(INFLATED_MAX).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            if usize::try_from(record.offset) != Ok(self.records.len()) {
                return Err(format!("a record at {}", record.offset));
            }
            let value = record.value.as_deref().unwrap_or_default();
            let (producer, number) = decode_value(value, partition)?;
            self.records.push(RecordAt { producer, number });
        }
        Ok(())
    }

    /// The record at an offset.
    pub fn at(&self, offset: i64) -> Option<RecordAt> {
        self.records.get(usize::try_from(offset).ok()?).copied()
    }
}
