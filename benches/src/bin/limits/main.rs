//! The storage beside what the machine can do: appends beside bare `pwrite`, fetches beside bare
//! `sendfile`, restarts after kill -9 by the amount of sealed data, and syncs for each record.
//!
//! `cargo run --release -p sawlog-benches --bin sawlog-limits -- --sawlog target/release/sawlog`
//! measures all of it in a temporary directory (`--data`); `append`, `read`, `restart` or `syncs`
//! one of them.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod append;
#[path = "../compare/process.rs"]
#[allow(dead_code, reason = "shared with the comparison, which uses all of it")]
mod process;
mod read;
mod restart;
#[path = "../shared/sawlog.rs"]
#[allow(dead_code, reason = "shared: each program uses a part")]
mod sawlog;
mod syncs;
#[path = "../shared/wire.rs"]
#[allow(dead_code, reason = "shared: each program uses a part")]
mod wire;

use std::path::PathBuf;

use bytes::Bytes;
use sawlog_protocol::records::{BatchBuilder, Compression};

pub(crate) type Failure = Box<dyn std::error::Error>;

struct Options {
    sawlog: PathBuf,
    data: PathBuf,
    what: Vec<String>,
    gib: Vec<u64>,
}

fn main() -> Result<(), Failure> {
    let options = options()?;
    println!("{}", process::machine_name());
    let wants = |what: &str| options.what.is_empty() || options.what.iter().any(|w| w == what);
    if wants("append") {
        append::measure(&options.data)?;
    }
    if wants("read") {
        read::measure(&options.sawlog, &options.data)?;
    }
    if wants("restart") {
        restart::measure(&options.sawlog, &options.data, &options.gib)?;
    }
    if wants("syncs") {
        syncs::measure(&options.sawlog, &options.data)?;
    }
    Ok(())
}

/// A batch of about `bytes` in records of up to 1 KiB.
pub(crate) fn batch(bytes: usize) -> Result<Bytes, Failure> {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = [b'v'; 1024];
    let mut left = bytes;
    while left > 0 {
        let take = left.min(value.len());
        builder.append(1, None, value.get(..take), &[])?;
        left -= take;
    }
    Ok(builder.build())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        sawlog: PathBuf::from("target/release/sawlog"),
        data: std::env::temp_dir(),
        what: Vec::new(),
        gib: vec![1, 10],
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--sawlog" => options.sawlog = value()?.into(),
            "--data" => options.data = value()?.into(),
            "--gib" => {
                let sizes = value()?;
                options.gib = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "append" | "read" | "restart" | "syncs" => options.what.push(argument),
            _ => {
                return Err(
                    "usage: sawlog-limits [--sawlog PATH] [--data DIR] [--gib 1,10] [append] [read] \
                     [restart] [syncs]"
                        .into(),
                );
            }
        }
    }
    Ok(options)
}
