//! The writing side of a run.
//!
//! A task for each partition waits for confirmations in the order of sending, which is the order
//! they come in: a slow partition does not make the records of others look slow.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sawlog_client::{Client, Delivery, Producer, Record, partition_of};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::keys::Keys;
use super::latency::Latencies;
use super::topic::Target;
use super::{Figures, Load};
use crate::failure::Failure;
use crate::progress::Progress;

/// Records of a partition that wait for their confirmation before the sender waits, too.
const UNCONFIRMED_MAX: usize = 100_000;

/// Of the runtime's timers.
const TICK: Duration = Duration::from_millis(1);

/// Records without a key that go to a partition before the next has its turn; with a rate, each
/// goes to the next.
const TURN: u64 = 500;

/// A record on its way, and when its latency began.
type Sent = (Delivery, Instant);

/// Takes confirmations of one partition.
type Collector = JoinHandle<Confirmed>;

/// What a partition confirmed.
#[derive(Debug)]
struct Confirmed {
    records: u64,
    failed: u64,
    latencies: Latencies,
    error: Option<sawlog_client::ClientError>,
}

/// What a sender did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) confirmed: u64,
    pub(super) failed: u64,
    pub(super) latencies: Latencies,
    pub(super) elapsed: Duration,
}

/// Tells the records of a run from all others.
pub(super) type RunId = u64;

/// When to send, and when to end.
#[derive(Debug)]
pub(super) struct Schedule {
    run: RunId,
    started: Instant,
    duration: Duration,
    rate: Option<u64>,
    count_max: u64,
}

impl Schedule {
    pub(super) fn new(load: &Load, rate: Option<u64>, started: Instant) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Self {
            run: nanoseconds ^ u64::from(std::process::id()).rotate_left(48),
            started,
            duration: load.duration,
            rate,
            count_max: load.count.unwrap_or(u64::MAX),
        }
    }

    pub(super) fn run(&self) -> RunId {
        self.run
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// When the record of this number is due, from the start; `None` once the run is over.
    fn due(&self, number: u64) -> Option<Duration> {
        let due = match self.rate {
            None => self.started.elapsed(),
            Some(rate) => {
                let nanoseconds = u128::from(number) * 1_000_000_000 / u128::from(rate.max(1));
                Duration::from_nanos(u64::try_from(nanoseconds).ok()?)
            }
        };
        (number < self.count_max && due < self.duration).then_some(due)
    }

    /// How many there will be, if that is known.
    fn total(&self) -> Option<u64> {
        let by_rate = self.rate.map(|rate| {
            let total = self.duration.as_nanos() * u128::from(rate) / 1_000_000_000;
            u64::try_from(total).unwrap_or(u64::MAX)
        });
        let total = by_rate.unwrap_or(u64::MAX).min(self.count_max);
        (total < u64::MAX).then_some(total)
    }

    /// Waits for a time after the start. The runtime's timers tick in milliseconds; the last bit is
    /// slept by the thread itself.
    async fn wait_for(&self, due: Duration) {
        let at = self.started + due;
        let left = at.saturating_duration_since(Instant::now());
        if left > 2 * TICK {
            tokio::time::sleep(left - 2 * TICK).await;
        }
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            tokio::task::block_in_place(|| std::thread::sleep(left));
        }
    }
}

/// Writes at the rate asked for, or as fast as it goes.
pub(super) async fn measure(
    client: &Client,
    target: &Target,
    load: &Load,
) -> Result<Figures, Failure> {
    let schedule = Schedule::new(load, load.rate, Instant::now());
    let outcome = send(client, target, load, &schedule).await?;
    let size = u64::try_from(load.size).unwrap_or(u64::MAX);
    Ok(Figures {
        what: "produce",
        records: outcome.confirmed,
        failed: outcome.failed,
        bytes: outcome.confirmed.saturating_mul(size),
        elapsed: outcome.elapsed,
        latencies: Some(outcome.latencies),
    })
}

/// Sends by the schedule until it ends, and waits for the confirmations. Each value begins with the
/// nanoseconds from the schedule's start to when the record was due, and the run, 8 bytes each.
pub(super) async fn send(
    client: &Client,
    target: &Target,
    load: &Load,
    schedule: &Schedule,
) -> Result<Outcome, Failure> {
    let producer = Producer::new(client.clone(), load.producer_options());
    let partitions = target.info.partitions.len().max(1);
    let (queues, collectors): (Vec<_>, Vec<_>) = (0..partitions).map(|_| collect()).unzip();
    let mut keys = Keys::new(load.keys);
    let mut progress = Progress::new("records", schedule.total(), true);
    let filler = filler(load.size);
    let turn = if schedule.rate.is_some() { 1 } else { TURN };
    let mut number = 0u64;
    while let Some(due) = schedule.due(number) {
        schedule.wait_for(due).await;
        let key = keys.draw();
        let partition = match &key {
            Some(key) => partition_of(key, partitions),
            None => {
                let count = u64::try_from(partitions).unwrap_or(1);
                i32::try_from((number / turn) % count).unwrap_or(0)
            }
        };
        let record = Record {
            partition: Some(partition),
            key,
            value: Some(stamped(&filler, due, schedule.run)),
            ..Record::default()
        };
        let delivery = producer.send(&target.info.name, record).await?;
        let queue = usize::try_from(partition).ok().and_then(|at| queues.get(at));
        if let Some(queue) = queue
            && queue.send((delivery, schedule.started + due)).await.is_err()
        {
            // Its collector met an error that ends the run.
            break;
        }
        number += 1;
        progress.update(number);
    }
    producer.flush().await;
    drop(queues);
    let outcome = gather(collectors, schedule).await?;
    drop(progress);
    Ok(outcome)
}

/// A value's bytes: not all alike, so that a codec has something to do.
fn filler(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + u8::try_from((at * at / 7 + at) % 26).unwrap_or(0)).collect()
}

fn stamped(filler: &[u8], due: Duration, run: RunId) -> Vec<u8> {
    let mut value = filler.to_vec();
    let nanoseconds = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
    let stamp = [nanoseconds.to_be_bytes(), run.to_be_bytes()];
    for (place, bytes) in value.chunks_exact_mut(8).zip(stamp) {
        place.copy_from_slice(&bytes);
    }
    value
}

/// When the record was due; `None` if it is of another run.
pub(super) fn due_of(value: &[u8], run: RunId) -> Option<Duration> {
    let (nanoseconds, rest) = value.split_first_chunk::<8>()?;
    let own = rest.first_chunk::<8>().is_some_and(|bytes| *bytes == run.to_be_bytes());
    own.then(|| Duration::from_nanos(u64::from_be_bytes(*nanoseconds)))
}

/// Takes confirmations until no more can come, or the first that ends the run.
fn collect() -> (mpsc::Sender<Sent>, Collector) {
    let (queue, mut sent) = mpsc::channel::<Sent>(UNCONFIRMED_MAX);
    let collector = tokio::spawn(async move {
        let latencies = Latencies::new();
        let mut all = Confirmed { records: 0, failed: 0, latencies, error: None };
        while let Some((delivery, due)) = sent.recv().await {
            match delivery.confirmed().await {
                Ok(_) => {
                    all.records += 1;
                    all.latencies.record(due.elapsed());
                }
                Err(error) => {
                    all.failed += 1;
                    let lasting = !error.is_retriable();
                    all.error.get_or_insert(error);
                    if lasting {
                        break;
                    }
                }
            }
        }
        all
    });
    (queue, collector)
}

async fn gather(collectors: Vec<Collector>, schedule: &Schedule) -> Result<Outcome, Failure> {
    let mut outcome =
        Outcome { confirmed: 0, failed: 0, latencies: Latencies::new(), elapsed: Duration::ZERO };
    let mut failure = None;
    for collector in collectors {
        let all = collector.await;
        let all = all.map_err(|error| Failure::failed(format!("a task ended: {error}")))?;
        outcome.confirmed += all.records;
        outcome.failed += all.failed;
        outcome.latencies.add(&all.latencies);
        failure = failure.or(all.error);
    }
    outcome.elapsed = schedule.started.elapsed();
    match failure {
        Some(error) if outcome.confirmed == 0 => Err(error.into()),
        _ => Ok(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_by_its_own_run_alone() {
        let due = Duration::from_micros(1234);
        let value = stamped(&filler(100), due, 7);
        assert_eq!(value.len(), 100);
        assert_eq!(due_of(&value, 7), Some(due));
        assert_eq!(due_of(&value, 8), None);
        assert_eq!(due_of(b"short", 7), None);
    }

    #[test]
    fn records_are_due_by_rate_until_the_time_or_the_count_is_over() {
        let schedule = |count_max| Schedule {
            run: 1,
            started: Instant::now(),
            duration: Duration::from_secs(2),
            rate: Some(1000),
            count_max,
        };
        let all = schedule(u64::MAX);
        assert_eq!(all.due(1500), Some(Duration::from_millis(1500)));
        assert_eq!((all.due(1999).is_some(), all.due(2000)), (true, None));
        assert_eq!(all.total(), Some(2000));
        assert_eq!((schedule(10).due(10), schedule(10).total()), (None, Some(10)));
    }
}
