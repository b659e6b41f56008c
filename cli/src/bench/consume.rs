//! The reading side of a run.

use std::time::{Duration, Instant};

use sawlog_client::{Assignment, Client, Consumer, Position};
use tokio::sync::watch;

use super::latency::Latencies;
use super::produce::{RunId, Schedule, due_of, send};
use super::topic::Target;
use super::{Figures, Load};
use crate::failure::Failure;
use crate::progress::Progress;

/// Records a second of an end-to-end run, where none are given: latency, not throughput.
const RATE: u64 = 1_000;

/// How long records may be on their way after the last was confirmed.
const GRACE: Duration = Duration::from_secs(30);

/// Reads all there is, once; fills a topic made for this first.
pub(super) async fn measure(
    client: &Client,
    target: &Target,
    load: &Load,
) -> Result<Figures, Failure> {
    let mut failed = 0;
    if target.made {
        let schedule = Schedule::new(load, load.rate, Instant::now());
        failed = send(client, target, load, &schedule).await?.failed;
    }
    let assignments = assign(target, Position::Start, Some(Position::End));
    let started = Instant::now();
    let mut consumer = Consumer::assign(client, &assignments).await?;
    let mut progress = Progress::new("records", load.count, true);
    let (mut records, mut bytes) = (0u64, 0u64);
    // A topic made for this is read to its end: what was written in time is read in time.
    let in_time = || target.made || started.elapsed() < load.duration;
    while in_time() && load.count.is_none_or(|count| records < count) {
        let Some(batch) = consumer.next().await? else { break };
        for record in &batch {
            let lengths =
                [&record.key, &record.value].map(|part| part.as_ref().map_or(0, |p| p.len()));
            bytes += u64::try_from(lengths.iter().sum::<usize>()).unwrap_or(0);
            records += 1;
        }
        progress.update(records);
    }
    let elapsed = started.elapsed();
    Ok(Figures { what: "consume", records, failed, bytes, elapsed, latencies: None })
}

/// Writes at a rate and reads at the same time; a latency begins when its record was due.
pub(super) async fn measure_end_to_end(
    client: &Client,
    target: &Target,
    load: &Load,
) -> Result<Figures, Failure> {
    let consumer = Consumer::assign(client, &assign(target, Position::End, None)).await?;
    let schedule = Schedule::new(load, Some(load.rate.unwrap_or(RATE)), Instant::now());
    let (expected, expecting) = watch::channel(None);
    let reader = tokio::spawn(read(consumer, schedule.run(), schedule.started(), expecting));
    let outcome = match send(client, target, load, &schedule).await {
        Ok(outcome) => outcome,
        Err(failure) => {
            reader.abort();
            return Err(failure);
        }
    };
    expected.send_replace(Some(outcome.confirmed));
    let read = tokio::time::timeout(GRACE, reader).await.map_err(|_| {
        Failure::failed(format!(
            "not all of {} confirmed records could be read within {} s",
            outcome.confirmed,
            GRACE.as_secs()
        ))
    })?;
    let read = read.map_err(|error| Failure::failed(format!("the reader ended: {error}")))?;
    let (records, latencies) = read?;
    let size = u64::try_from(load.size).unwrap_or(u64::MAX);
    Ok(Figures {
        what: "e2e",
        records,
        failed: outcome.failed,
        bytes: records.saturating_mul(size),
        elapsed: schedule.started().elapsed(),
        latencies: Some(latencies),
    })
}

/// Reads the run's records until as many came as are expected, which is told at the end.
async fn read(
    mut consumer: Consumer,
    run: RunId,
    started: Instant,
    mut expecting: watch::Receiver<Option<u64>>,
) -> Result<(u64, Latencies), Failure> {
    let mut latencies = Latencies::new();
    let mut seen = 0u64;
    loop {
        if expecting.borrow_and_update().is_some_and(|expected| seen >= expected) {
            return Ok((seen, latencies));
        }
        // Nothing is lost by dropping either: records stay queued, the number stays told.
        let records = tokio::select! {
            records = consumer.next() => records?,
            _ = expecting.changed() => continue,
        };
        let elapsed = started.elapsed();
        for record in records.unwrap_or_default() {
            let value = record.value.as_deref().unwrap_or_default();
            if let Some(due) = due_of(value, run) {
                seen += 1;
                latencies.record(elapsed.saturating_sub(due));
            }
        }
    }
}

fn assign(target: &Target, from: Position, until: Option<Position>) -> Vec<Assignment> {
    let partitions = target.info.partitions.iter();
    partitions
        .map(|partition| Assignment {
            topic: target.info.name.clone(),
            partition: partition.index,
            from,
            until,
        })
        .collect()
}
