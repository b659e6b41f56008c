//! `sawlog log`: look into segment files, without a broker.

mod check;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Subcommand;
use sawlog_protocol::records::{BATCH_OVERHEAD, Batch, BatchHeader, check_crc};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, Rows};

/// Most bytes the records of one batch inflate to.
const INFLATED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Look into segment files.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Print the batches of a segment file, or of all in a partition's directory
    Dump {
        /// A .log file or a partition's directory
        path: PathBuf,
        /// Print the records too
        #[arg(short = 'r', long)]
        records: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Read a partition's directory, or all of a data directory, and say what is damaged
    ///
    /// Nothing is changed. One line for each problem on standard output; exit code 0 without any, 1
    /// with some. Works beside a running broker, but for the segments it is writing.
    Verify {
        /// A partition's directory or a data directory
        directory: PathBuf,
    },
    /// Write missing and damaged index files again, from the segments
    ///
    /// Also reads segments with quarantined records again: files restored from a copy are served
    /// again. Refused while a broker runs on the directory. Exit code 0 if all is well now, 7 if
    /// something could not be mended.
    RepairIndex {
        /// A partition's directory or a data directory
        directory: PathBuf,
    },
}

impl Log {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Dump { path, records, output } => dump_all(&path, records, &output),
            Self::Verify { directory } => check::verify(&directory),
            Self::RepairIndex { directory } => check::repair_index(&directory),
        }
    }
}

fn dump_all(path: &Path, records: bool, output: &Output) -> Result<(), Failure> {
    let files = segments(path)?;
    let mut rows = if records {
        Rows::new(&["file", "offset", "timestamp", "key", "value", "headers"])
    } else {
        Rows::new(&[
            "file",
            "position",
            "base offset",
            "last offset",
            "records",
            "bytes",
            "codec",
            "epoch",
            "producer",
            "sequence",
            "max timestamp",
            "crc",
        ])
    };
    let mut damaged = None;
    for file in &files {
        if let Err(what) = dump(file, records, &mut rows)? {
            damaged.get_or_insert(what);
        }
    }
    output.print(&rows)?;
    damaged.map_or(Ok(()), |what| Err(Failure::failed(what)))
}

fn segments(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::not_found(format!("no file or directory {}", path.display()))
        }
        _ => Failure::failed(format!("cannot read {}: {error}", path.display())),
    };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|suffix| suffix == "log") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::not_found(format!("no .log file in {}", path.display())));
    }
    Ok(files)
}

/// Adds the batches of one file; the inner error is damage found in it.
fn dump(file: &Path, records: bool, rows: &mut Rows) -> Result<Result<(), String>, Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    let bytes = Bytes::from(bytes);
    let name =
        file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let damage = |position: usize, why: String| {
        Ok(Err(format!("{} is damaged at byte {position}: {why}", file.display())))
    };
    let mut position = 0;
    while position < bytes.len() {
        let rest = bytes.slice(position..);
        if rest.iter().take(BATCH_OVERHEAD).all(|byte| *byte == 0) {
            // Allocated ahead and not written yet.
            return Ok(Ok(()));
        }
        let header = match BatchHeader::parse(&rest) {
            Ok(header) => header,
            Err(error) => return damage(position, error.to_string()),
        };
        let length = header.total_len();
        if length > rest.len() {
            return damage(position, format!("a batch of {length} bytes is cut off"));
        }
        let batch = rest.slice(..length);
        let crc = check_crc(&batch, &header);
        if records {
            let read = Batch::parse(batch).and_then(|batch| batch.records(INFLATED_BYTES_MAX));
            let list = match read {
                Ok(list) => list,
                Err(error) => return damage(position, error.to_string()),
            };
            for record in list {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => return damage(position, error.to_string()),
                };
                let headers = record.headers.iter().map(|(name, value)| {
                    let value = value.as_deref().map(String::from_utf8_lossy);
                    format!("{}={}", String::from_utf8_lossy(name), value.unwrap_or_default())
                });
                rows.push(vec![
                    json!(name),
                    json!(record.offset),
                    json!(record.timestamp),
                    json!(record.key.as_deref().map(String::from_utf8_lossy)),
                    json!(record.value.as_deref().map(String::from_utf8_lossy)),
                    json!(headers.collect::<Vec<_>>()),
                ]);
            }
        } else {
            rows.push(vec![
                json!(name),
                json!(position),
                json!(header.base_offset),
                json!(header.last_offset()),
                json!(header.records_count),
                json!(length),
                json!(header.compression().map_or("unknown", |codec| codec.name())),
                json!(header.partition_leader_epoch),
                json!((header.producer_id >= 0).then_some(header.producer_id)),
                json!((header.producer_id >= 0).then_some(header.base_sequence)),
                json!(header.max_timestamp),
                json!(if crc.is_ok() { "ok" } else { "WRONG" }),
            ]);
        }
        if let Err(error) = crc {
            return damage(position, error.to_string());
        }
        position += length;
    }
    Ok(Ok(()))
}
