//! How fast a follower with an empty disk catches up.

use std::time::Instant;

use crate::Failure;
use crate::load::{FlatOut, produce};
use crate::report::Report;
use crate::stage::Stage;

const PARTITIONS: i32 = 6;
const RECORD_BYTES: usize = 1024;

/// Broker 3 loses its disk, and gets everything again.
pub(crate) fn refill(
    stage: &mut Stage,
    mebibytes: u64,
    rounds: u32,
    report: &mut Report,
) -> Result<(), Failure> {
    stage.create("refill", PARTITIONS, 3)?;
    let records = mebibytes << 10;
    let what = FlatOut { records, bytes: RECORD_BYTES, partitions: PARTITIONS, acks: "all" };
    produce(&stage.nodes.bootstrap(), &stage.topic, what)?;
    stage.await_whole()?;
    for round in 0..rounds {
        eprintln!("  empty follower, round {}", round + 1);
        stage.nodes.terminate(3)?;
        stage.nodes.wipe(3)?;
        let (begun, before) = (Instant::now(), stage.nodes.cpu_seconds()?);
        stage.nodes.spawn(3)?;
        stage.nodes.await_listening(3)?;
        let started = begun.elapsed();
        stage.await_whole()?;
        let took = begun.elapsed();
        let seconds = (took - started).as_secs_f64();
        let cpu = stage.nodes.cpu_seconds()? - before;
        report.add_time("empty follower: serves after", None, started);
        report.add_time("empty follower: everything in sync after", None, took);
        // Sizes here are far below what a float holds exactly.
        report.add("empty follower: catches up with", "MiB/s", mebibytes as f64 / seconds);
        report.add(
            "empty follower: CPU of all brokers",
            "s per GiB",
            cpu * 1024.0 / mebibytes as f64,
        );
        stage.await_voters()?;
    }
    Ok(())
}
