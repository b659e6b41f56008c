//! Syncs of the whole broker process for each acknowledged record, by producers at once.
//!
//! Each producer is a connection of its own with one record of 100 B under way, acks=all. The syncs
//! are counted by the kernel (`perf stat` on its tracepoints), so that nothing is slowed down by
//! being counted; perf and the right to use it are needed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::sawlog::Sawlog;
use crate::wire::Wire;

const TOPIC: &str = "syncs";

/// The system calls that sync.
const CALLS: [&str; 3] = ["fdatasync", "fsync", "syncfs"];

/// How long a load lasts; the directories and first segments are made before.
const LOAD: Duration = Duration::from_secs(5);

/// What perf needs to attach to every thread of the broker. It does not say when it has.
const ATTACH: Duration = Duration::from_millis(500);

/// Producers and partitions.
const LOADS: [(usize, usize); 6] = [(1, 1), (10, 1), (100, 1), (10, 10), (100, 10), (100, 100)];

pub(crate) fn measure(program: &Path, data: &Path) -> Result<(), Failure> {
    println!(
        "\n| producers | partitions | records/s | fdatasync a record | fsync | syncfs | all |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (producers, partitions) in LOADS {
        let scratch = tempfile::tempdir_in(data)?;
        let broker = Sawlog::start(program, scratch.path(), &[])?;
        let mut wire = Wire::connect(&broker.address)?;
        wire.create_topic(TOPIC, partitions)?;
        wire.produce(TOPIC, 0..partitions)?;
        let counting = Counting::start(broker.id(), scratch.path())?;
        let begun = Instant::now();
        let records = load(&broker.address, producers, partitions)?;
        let rate = f64::from(records) / begun.elapsed().as_secs_f64();
        let counts = counting.stop()?;
        let each = counts.map(|count| count / f64::from(records));
        let all: f64 = each.iter().sum();
        let [fdatasync, fsync, syncfs] = each;
        println!(
            "| {producers} | {partitions} | {rate:.0} | {fdatasync:.4} | {fsync:.4} | {syncfs:.4} | {all:.4} |"
        );
        broker.stop("-TERM")?;
    }
    Ok(())
}

/// Records acknowledged to all producers together.
fn load(address: &str, producers: usize, partitions: usize) -> Result<u32, Failure> {
    let until = Instant::now() + LOAD;
    let produce = |producer: usize| -> Result<u32, String> {
        let partition = producer % partitions;
        let mut wire = Wire::connect(address).map_err(|error| error.to_string())?;
        let mut records = 0;
        while Instant::now() < until {
            let produced = wire.produce(TOPIC, partition..partition + 1);
            produced.map_err(|error| error.to_string())?;
            records += 1;
        }
        Ok(records)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..producers).map(|one| scope.spawn(move || produce(one))).collect();
        let mut records = 0;
        for producer in running {
            records += producer.join().map_err(|_| "a producer panicked")??;
        }
        Ok(records)
    })
}

/// perf, counting the syncs of a process.
struct Counting {
    perf: Child,
    output: std::path::PathBuf,
}

impl Counting {
    fn start(process: u32, scratch: &Path) -> Result<Self, Failure> {
        let output = scratch.join("counts");
        let events = CALLS.map(|call| format!("syscalls:sys_enter_{call}")).join(",");
        let mut perf = Command::new("perf")
            .args(["stat", "-x", ";", "-e", &events, "-p", &process.to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("perf: {error}"))?;
        std::thread::sleep(ATTACH);
        match perf.try_wait()? {
            None => Ok(Self { perf, output }),
            Some(status) => {
                Err(format!("perf stat cannot count system calls here: {status}").into())
            }
        }
    }

    /// The counts, as [`CALLS`].
    fn stop(mut self) -> Result<[f64; 3], Failure> {
        let sent = Command::new("kill").args(["-INT", &self.perf.id().to_string()]).status()?;
        if !sent.success() {
            return Err("kill failed".into());
        }
        self.perf.wait()?;
        let text = std::fs::read_to_string(&self.output)?;
        let mut counts = [0.0; 3];
        for (call, count) in CALLS.iter().zip(&mut counts) {
            let event = format!("sys_enter_{call}");
            let line =
                text.lines().find(|line| line.split(';').any(|field| field.ends_with(&event)));
            let field = line.and_then(|line| line.split(';').next());
            *count = field.ok_or_else(|| format!("perf did not count {call}: {text}"))?.parse()?;
        }
        Ok(counts)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.perf.kill();
        let _gone = self.perf.wait();
    }
}
