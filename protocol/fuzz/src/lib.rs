//! What the fuzz targets check. A failed check is a panic, which the fuzzer reports with its input.
//!
//! Inputs start with bytes that choose what is decoded, so that one target covers every API and
//! version: see [`messages`], [`structures`] and [`batches`].

pub mod batches;
pub mod messages;
pub mod structures;

use std::alloc::System;
use std::path::{Path, PathBuf};

use cap::Cap;

/// More than any input may make us hold. Going over it ends the process, and so is found.
const HEAP_BYTES_MAX: usize = 64 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, HEAP_BYTES_MAX);

/// Bytes `run` allocates, whether it frees them or not, and what it gives.
fn allocated_by<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATOR.total_allocated();
    let outcome = run();
    (ALLOCATOR.total_allocated() - before, outcome)
}

/// If `SAWLOG_SEEDS` names a directory, writes `seeds` there and ends the process: a corpus to start
/// from, by our own encoder.
pub fn write_seeds_if_asked(seeds: impl FnOnce() -> Vec<(String, Vec<u8>)>) {
    let Some(directory) = std::env::var_os("SAWLOG_SEEDS").map(PathBuf::from) else { return };
    let write = |directory: &Path| {
        std::fs::create_dir_all(directory)?;
        let seeds = seeds();
        for (name, bytes) in &seeds {
            std::fs::write(directory.join(name), bytes)?;
        }
        Ok::<usize, std::io::Error>(seeds.len())
    };
    match write(&directory) {
        Ok(count) => println!("{count} seeds in {}", directory.display()),
        Err(error) => panic!("{}: {error}", directory.display()),
    }
    std::process::exit(0);
}
