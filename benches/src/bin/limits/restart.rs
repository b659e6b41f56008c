//! The first record after kill -9, by how much is in full segments.

use std::path::Path;

use crate::sawlog::Sawlog;
use crate::wire::Wire;
use crate::{Failure, batch};

const TOPIC: &str = "restart";
const BATCH_BYTES: usize = 1_000_000;

pub(crate) fn measure(program: &Path, data: &Path, sizes: &[u64]) -> Result<(), Failure> {
    let scratch = tempfile::tempdir_in(data)?;
    let settings = ["log.flush.mode=os".to_owned(), "log.segment.bytes=268435456".to_owned()];
    let batch = batch(BATCH_BYTES)?;
    println!(
        "\n| GiB in the log | kill -9 to listening, ms | to the first acknowledged record, ms |"
    );
    println!("|---|---|---|");
    let mut written = 0;
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    for gib in sizes {
        let broker = Sawlog::start(program, scratch.path(), &settings)?;
        let mut wire = Wire::connect(&broker.address)?;
        if written == 0 {
            wire.create_topic(TOPIC, 1)?;
        }
        while written < gib << 30 {
            wire.produce_batch(TOPIC, &batch)?;
            written += u64::try_from(batch.len())?;
        }
        broker.stop("-KILL")?;
        let broker = Sawlog::start(program, scratch.path(), &settings)?;
        Wire::connect(&broker.address)?.produce(TOPIC, 0..1)?;
        let acked = broker.begun.elapsed();
        println!(
            "| {gib} | {:.1} | {:.1} |",
            broker.started.as_secs_f64() * 1e3,
            acked.as_secs_f64() * 1e3
        );
        broker.stop("-KILL")?;
    }
    Ok(())
}
