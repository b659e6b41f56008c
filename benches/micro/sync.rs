//! What it costs to make a set of dirty files durable: one after another, in four threads, or with
//! the whole file system. Where the lines cross is where the flusher changes its method.
//!
//! `cargo bench -p sawlog-benches --bench sync`, with `SAWLOG_BENCH_DIR` on the file system in
//! question. Medians; what others write to the file system at the same time is in the last column.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails and talks")]

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sawlog_broker::base::disk::{Create, Disk as _, DiskFile};
use sawlog_broker::base::disk_real::RealDisk;

const SETS: [usize; 10] = [1, 2, 3, 4, 6, 8, 16, 32, 64, 128];
const FILE_BYTES: u64 = 8 << 20;
const ROUNDS: u64 = 60;
const THREADS: usize = 4;

fn sync_in_threads(files: &[Arc<dyn DiskFile>]) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            file.sync_data().unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
}

fn median(mut times: Vec<Duration>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2].as_micros()
}

fn main() {
    let scratch = match std::env::var_os("SAWLOG_BENCH_DIR") {
        Some(directory) => tempfile::tempdir_in(directory).unwrap(),
        None => tempfile::tempdir_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))).unwrap(),
    };
    let disk = RealDisk::new();
    let whole = disk.file_system(scratch.path()).unwrap();
    let files: Vec<Arc<dyn DiskFile>> = (0..SETS[SETS.len() - 1])
        .map(|n| {
            let file = disk.open(&scratch.path().join(n.to_string()), Create::IfMissing).unwrap();
            file.allocate(FILE_BYTES).unwrap();
            file.sync_data().unwrap();
            file
        })
        .collect();
    for bytes in [4096, 65_536] {
        println!("{bytes} bytes in each file; median of {ROUNDS}, in microseconds");
        println!("{:>6} {:>10} {:>10} {:>10}", "files", "in turn", "4 threads", "syncfs");
        let buffer = vec![7; bytes];
        let mut written = 0;
        let mut measure = |set: &[Arc<dyn DiskFile>], sync: &dyn Fn()| {
            let times = (0..ROUNDS).map(|_| {
                let step = u64::try_from(bytes).unwrap();
                written = (written + step) % (FILE_BYTES - step);
                for file in set {
                    file.write_at(&[IoSlice::new(&buffer)], written).unwrap();
                }
                let begun = Instant::now();
                sync();
                begun.elapsed()
            });
            median(times.collect())
        };
        for count in SETS {
            let set = &files[..count];
            let in_turn = measure(set, &|| set.iter().for_each(|file| file.sync_data().unwrap()));
            let threads = measure(set, &|| sync_in_threads(set));
            let at_once = whole.as_ref().map(|whole| measure(set, &|| whole.sync().unwrap()));
            let at_once = at_once.map_or("-".to_owned(), |time| time.to_string());
            println!("{count:>6} {in_turn:>10} {threads:>10} {at_once:>10}");
        }
    }
}
