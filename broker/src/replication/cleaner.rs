//! The threads that compact logs.
//!
//! Each takes the log that needs it most, works on it pass by pass until nothing that was due is
//! left, and looks again; when none is due it rests. A log that cannot be compacted, because it is
//! damaged or its disk refuses, is left alone until the next start, and said so; a full disk is
//! tried again. Reading and writing is slowed to `log.cleaner.io.max.bytes.per.second`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::partition::Partition;
use super::partitions::Partitions;
use crate::base::{Clock, TopicPartition};
use crate::config::BrokerConfig;
use crate::metadata::{Random as _, SystemRandom};
use crate::storage::{
    CompactionError, CompactionOptions, CompactionReport, KeyHasher, StopSignal, StorageError,
    Throttle,
};

/// How compaction goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CompactionStats {
    /// Passes that were finished.
    pub passes: u64,
    /// Bytes of segments that were replaced, before and after.
    pub bytes_before: u64,
    /// Bytes of what took their place.
    pub bytes_after: u64,
    /// Time spent on passes that were finished.
    pub busy: Duration,
    /// Time since a thread last looked for work. More than the backoff and the longest pass means
    /// that compaction is stuck.
    pub age: Duration,
    /// The largest dirty share among compacted logs when last looked.
    pub dirty_ratio_max: f64,
    /// The longest a record waits beyond `max.compaction.lag.ms`, in milliseconds, when last looked.
    pub overdue_ms_max: i64,
    /// Logs left alone until the next start.
    pub uncleanable: usize,
}

/// What the threads go by.
#[derive(Clone, Copy, Debug)]
struct Options {
    backoff: Duration,
    /// Of one thread.
    key_map_bytes: usize,
    /// Of one thread.
    bytes_per_second: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    partitions: Arc<Partitions>,
    clock: Arc<dyn Clock>,
    options: Options,
    stop: Arc<StopSignal>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stats: CompactionStats,
    looked_at: Duration,
    /// Logs a thread works on.
    busy: BTreeSet<TopicPartition>,
    /// Logs left alone. By identity: a topic of the same name may come.
    uncleanable: BTreeMap<TopicPartition, Weak<Partition>>,
    /// Logs that could not be helped: by full disks, by transactions without an end. When they are
    /// looked at again, in monotonic time.
    resting: BTreeMap<TopicPartition, Duration>,
}

impl State {
    fn is_uncleanable(&self, partition: &Arc<Partition>) -> bool {
        let known = self.uncleanable.get(&partition.name);
        known.is_some_and(|known| known.ptr_eq(&Arc::downgrade(partition)))
    }
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct Cleaner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Cleaner {
    /// Starts as many threads as are configured.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(
        partitions: Arc<Partitions>,
        clock: Arc<dyn Clock>,
        config: &BrokerConfig,
    ) -> io::Result<Self> {
        let count = if config.log_cleaner_enable { config.log_cleaner_threads } else { 0 };
        let rate = config.log_cleaner_io_max_bytes_per_second;
        let unlimited = rate >= i64::MAX.unsigned_abs();
        let options = Options {
            backoff: Duration::from_millis(config.log_cleaner_backoff_ms),
            key_map_bytes: config.log_cleaner_dedupe_buffer_size
                / usize::try_from(count.max(1)).unwrap_or(1),
            bytes_per_second: (!unlimited).then_some((rate / u64::from(count.max(1))).max(1)),
        };
        let state = State { looked_at: clock.monotonic(), ..State::default() };
        let shared = Arc::new(Shared {
            partitions,
            clock,
            options,
            stop: Arc::default(),
            state: Mutex::new(state),
        });
        let mut threads = Vec::new();
        for number in 0..count {
            let shared = shared.clone();
            let name = format!("cleaner-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || shared.run())?);
        }
        Ok(Self { shared, threads })
    }

    /// How it goes.
    pub(crate) fn stats(&self) -> CompactionStats {
        self.shared.stats()
    }

    /// Tells how it goes, whenever it is asked.
    pub(crate) fn reporter(&self) -> impl Fn() -> CompactionStats + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.stats()
    }

    /// Ends the threads; what they were doing is left as it was.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.stop();
        for thread in self.threads.drain(..) {
            // A panic in the thread has been reported by its hook.
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn stats(&self) -> CompactionStats {
        let state = self.state.lock();
        CompactionStats {
            age: self.clock.monotonic().saturating_sub(state.looked_at),
            uncleanable: state.uncleanable.values().filter(|one| one.strong_count() > 0).count(),
            ..state.stats
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        while !self.stop.is_stopped() {
            let Some(partition) = self.take_dirtiest() else {
                self.stop.wait(self.options.backoff);
                continue;
            };
            let cleaned = self.clean(&partition);
            self.release(&partition, cleaned);
        }
    }

    /// The log that is due and needs it most: one whose records have waited too long, else the
    /// dirtiest.
    fn take_dirtiest(&self) -> Option<Arc<Partition>> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let at = self.clock.monotonic();
        state.looked_at = at;
        state.resting.retain(|_, until| *until > at);
        (state.stats.dirty_ratio_max, state.stats.overdue_ms_max) = (0.0, 0);
        let mut best: Option<((i64, f64), Arc<Partition>)> = None;
        for partition in self.partitions.all() {
            let Some(dirtiness) = partition.dirtiness(now) else { continue };
            let need = (dirtiness.overdue_ms, dirtiness.ratio());
            state.stats.overdue_ms_max = state.stats.overdue_ms_max.max(need.0);
            state.stats.dirty_ratio_max = state.stats.dirty_ratio_max.max(need.1);
            let free = !state.busy.contains(&partition.name)
                && !state.is_uncleanable(&partition)
                && !state.resting.contains_key(&partition.name);
            let more = best.as_ref().is_none_or(|(known, _)| need > *known);
            if dirtiness.is_due() && free && more {
                best = Some((need, partition));
            }
        }
        let (_, partition) = best?;
        state.busy.insert(partition.name.clone());
        Some(partition)
    }

    /// Passes over one log until nothing that was due is left. False where nothing could be done.
    fn clean(&self, partition: &Arc<Partition>) -> Result<bool, CompactionError> {
        let mut done = false;
        loop {
            let started = self.clock.monotonic();
            let Some(report) = self.pass(partition)? else { return Ok(done) };
            let took = self.clock.monotonic().saturating_sub(started);
            if report.records_before > 0 {
                self.report(partition, &report, took);
                done = true;
            }
            if report.complete || report.records_before == 0 {
                return Ok(done);
            }
        }
    }

    /// One pass; none where the log changed under it, which is then looked at anew.
    fn pass(
        &self,
        partition: &Arc<Partition>,
    ) -> Result<Option<CompactionReport>, CompactionError> {
        let now = self.clock.now();
        let Some((scope, rules)) = partition.compaction_scope(now) else { return Ok(None) };
        let options = CompactionOptions {
            rules,
            key_map_bytes: self.options.key_map_bytes,
            hasher: KeyHasher::new([SystemRandom.next_u64(), SystemRandom.next_u64()]),
            now,
        };
        let rate = self.options.bytes_per_second;
        let mut throttle = Throttle::new(self.clock.clone(), self.stop.clone(), rate);
        let mut pass = scope.begin(options, &mut throttle)?;
        while let Some(replacement) = pass.next_replacement(&mut throttle)? {
            if !partition.replace(replacement)? {
                return Ok(None);
            }
        }
        Ok(Some(pass.finish()?))
    }

    fn report(&self, partition: &Partition, report: &CompactionReport, took: Duration) {
        let mut state = self.state.lock();
        let stats = &mut state.stats;
        stats.passes += 1;
        stats.bytes_before += report.bytes_before;
        stats.bytes_after += report.bytes_after;
        stats.busy += took;
        info!(
            partition = %partition.name,
            clean_upto = report.clean_upto.0,
            bytes_before = report.bytes_before,
            bytes_after = report.bytes_after,
            records_before = report.records_before,
            records_after = report.records_after,
            segments_before = report.segments_before,
            segments_after = report.segments_after,
            keys = report.keys,
            complete = report.complete,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "compacted a log"
        );
    }

    fn release(&self, partition: &Arc<Partition>, cleaned: Result<bool, CompactionError>) {
        let name = &partition.name;
        let mut state = self.state.lock();
        state.busy.remove(name);
        let again = self.clock.monotonic() + self.options.backoff;
        match cleaned {
            Ok(true) | Err(CompactionError::Stopped) => {}
            Ok(false) => {
                state.resting.insert(name.clone(), again);
            }
            Err(CompactionError::Storage(StorageError::NoSpace { path })) => {
                warn!(partition = %name, path = %path.display(), "no space to compact; trying again");
                state.resting.insert(name.clone(), again);
            }
            Err(CompactionError::Storage(error)) => {
                let current = self.partitions.by_name(&name.topic, name.partition);
                if !current.is_some_and(|current| Arc::ptr_eq(&current, partition)) {
                    // Deleted while it was compacted.
                    return;
                }
                error!(partition = %name, %error, "cannot compact; not tried again until restart");
                state.uncleanable.insert(name.clone(), Arc::downgrade(partition));
            }
        }
    }
}
