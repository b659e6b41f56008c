//! Group commit: what makes appended records durable, one flusher per data directory.
//!
//! The flusher's thread takes the set of partitions with unsynced records, makes it durable, says so
//! to whoever waits, and takes the next set. A partition is in the set once, however many writes wait
//! for it; appends during its sync put it into the next. So the disk is the clock: the slower it is,
//! the more writes share one sync. No timers, but for topics that opted out of waiting
//! (`flush.mode=os`), whose partitions join the set in the background.
//!
//! One dirty file is synced by the flusher's thread itself: handing it over would cost a wake-up. A
//! few are shared with helper threads, each partition hearing of its own sync as soon as it is done.
//! Many are synced at once, with the file system ([`super::sync_choice`]). What is beside the records
//! of a partition is completed after its waiters have heard, by a helper.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::warn;

use super::partition::Partition;
use super::sync_choice::{Method, SyncChoice};
use crate::base::disk::{Disk, FileSystem};
use crate::base::{Clock, Threads};
use crate::metrics::{Counter, Histogram, count};
use crate::storage::{FlushTicket, StorageError};

/// Threads that help the flusher. Six files in parallel take about half the time of six in turn;
/// beyond a few, the device's queue is full.
const HELPERS_MAX: usize = 7;

/// Where a partition stands with the flusher.
#[derive(Debug, Default)]
pub(crate) struct FlushState(AtomicU8);

const IDLE: u8 = 0;
/// Waits for the background tick.
const LAZY: u8 = 1;
const QUEUED: u8 = 2;
const FLUSHING: u8 = 3;
/// Being synced, with records appended since the sync began.
const FLUSHING_DIRTY: u8 = 4;

impl FlushState {
    /// Applies `step` to the state; returns the state it was applied to.
    fn step(&self, step: impl Fn(u8) -> Option<u8>) -> u8 {
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(before) | Err(before) => before,
        }
    }
}

/// One partition's part of a round.
#[derive(Debug)]
struct Job {
    partition: Arc<Partition>,
    ticket: FlushTicket,
    /// The records are durable, and the partition knows.
    synced: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// The next set.
    dirty: Vec<Arc<Partition>>,
    lazy: Vec<Arc<Partition>>,
    /// For the helpers; the flusher's thread helps too.
    jobs: VecDeque<Job>,
    /// Helpers that sleep and that nobody has woken.
    idle_helpers: usize,
    helpers: Vec<JoinHandle<()>>,
    thread: Option<JoinHandle<()>>,
    asleep: bool,
    /// The flusher's thread ends when the set is empty.
    stopping: bool,
    /// It has ended; helpers end when no job is left.
    over: bool,
    /// A set is being synced, where the flusher is a task.
    #[cfg(any(test, feature = "sim"))]
    jobs_under_way: bool,
}

/// What a flusher has done.
#[derive(Debug, Default)]
pub(crate) struct FlushMetrics {
    /// Sets made durable, or tried to.
    pub(crate) rounds: Counter,
    /// Partitions in them.
    pub(crate) partitions: Counter,
    /// Partitions whose sync failed.
    pub(crate) failures: Counter,
    /// Each sync, of a file or of the file system.
    pub(crate) syncs: Histogram,
}

/// The flusher of one data directory.
#[derive(Debug)]
pub(crate) struct Flusher {
    metrics: FlushMetrics,
    clock: Arc<dyn Clock>,
    file_system: Option<Arc<dyn FileSystem>>,
    queue: Mutex<Queue>,
    choice: Mutex<SyncChoice>,
    /// Wakes the flusher's thread.
    wake: Condvar,
    /// Wakes a helper.
    help: Condvar,
    threads: Threads,
    /// Wakes the flusher where it is a task.
    #[cfg(any(test, feature = "sim"))]
    roused: tokio::sync::Notify,
}

impl Flusher {
    /// Starts the flusher of `directory`, which may not be there yet, on `threads`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(
        threads: &Threads,
        disk: &dyn Disk,
        directory: &Path,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let file_system = disk.file_system(directory).unwrap_or_else(|error| {
            warn!(directory = %directory.display(), %error, "files are synced one by one");
            None
        });
        let flusher = Arc::new(Self {
            metrics: FlushMetrics::default(),
            clock,
            choice: Mutex::new(SyncChoice::new(file_system.is_some())),
            file_system,
            queue: Mutex::default(),
            wake: Condvar::new(),
            help: Condvar::new(),
            threads: threads.clone(),
            #[cfg(any(test, feature = "sim"))]
            roused: tokio::sync::Notify::new(),
        });
        let running = flusher.clone();
        match threads {
            Threads::Real => {
                let thread = std::thread::Builder::new().name("flush".to_owned());
                flusher.queue.lock().thread = Some(thread.spawn(move || running.run())?);
            }
            #[cfg(any(test, feature = "sim"))]
            Threads::Simulated(process) => {
                process.spawn(Box::pin(simulated::run(running, process.clone())));
            }
        }
        Ok(flusher)
    }

    pub(crate) fn metrics(&self) -> &FlushMetrics {
        &self.metrics
    }

    /// `partition` has unsynced records that somebody waits for.
    pub(crate) fn request(&self, partition: &Arc<Partition>) {
        let before = partition.flush_state().step(|state| match state {
            IDLE | LAZY => Some(QUEUED),
            FLUSHING => Some(FLUSHING_DIRTY),
            _ => None,
        });
        if matches!(before, IDLE | LAZY) {
            self.enqueue(partition.clone());
        }
    }

    /// `partition` has unsynced records that nobody waits for.
    pub(crate) fn request_lazily(&self, partition: &Arc<Partition>) {
        let before = partition.flush_state().step(|state| match state {
            IDLE => Some(LAZY),
            FLUSHING => Some(FLUSHING_DIRTY),
            _ => None,
        });
        if before == IDLE {
            self.queue.lock().lazy.push(partition.clone());
        }
    }

    /// Queues what [`Self::request_lazily`] has gathered.
    pub(crate) fn tick(&self) {
        let lazy = std::mem::take(&mut self.queue.lock().lazy);
        for partition in lazy {
            let before = partition.flush_state().step(|state| (state == LAZY).then_some(QUEUED));
            if before == LAZY {
                self.enqueue(partition);
            }
        }
    }

    /// Ends the threads once everything queued is synced.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut queue = self.queue.lock();
            queue.stopping = true;
            queue.asleep = false;
            queue.thread.take()
        };
        self.wake.notify_one();
        // A panic in a thread has been reported by its hook; there is nothing to add.
        let _panicked = thread.map(JoinHandle::join);
        let helpers = {
            let mut queue = self.queue.lock();
            queue.over = true;
            std::mem::take(&mut queue.helpers)
        };
        self.help.notify_all();
        for helper in helpers {
            let _panicked = helper.join();
        }
    }

    /// The file system, where syncing it as a whole is the way to sync `files` files.
    pub(super) fn shared_sync(&self, files: usize) -> Option<&dyn FileSystem> {
        let method = self.choice.lock().choose(files);
        self.file_system.as_deref().filter(|_| method == Method::Whole)
    }

    fn enqueue(&self, partition: Arc<Partition>) {
        let mut queue = self.queue.lock();
        queue.dirty.push(partition);
        if std::mem::take(&mut queue.asleep) {
            drop(queue);
            self.wake.notify_one();
            #[cfg(any(test, feature = "sim"))]
            self.roused.notify_one();
        }
    }

    fn run(self: Arc<Self>) {
        let mut set = Vec::new();
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.dirty.is_empty() {
                    if queue.stopping {
                        return;
                    }
                    queue.asleep = true;
                    self.wake.wait(&mut queue);
                }
                std::mem::swap(&mut queue.dirty, &mut set);
            }
            self.round(&mut set);
        }
    }

    /// Makes one set durable.
    fn round(self: &Arc<Self>, set: &mut Vec<Arc<Partition>>) {
        let jobs = self.begin(set);
        self.carry_out(jobs);
    }

    /// What is to be done for a set.
    fn begin(&self, set: &mut Vec<Arc<Partition>>) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(set.len());
        for partition in set.drain(..) {
            // From here on an append marks the partition again: it may have missed this sync.
            partition.flush_state().step(|_| Some(FLUSHING));
            match partition.begin_flush() {
                Some(ticket) => jobs.push(Job { partition, ticket, synced: false }),
                None => self.leave(partition),
            }
        }
        if !jobs.is_empty() {
            self.metrics.rounds.increment();
            self.metrics.partitions.add(count(jobs.len()));
        }
        jobs
    }

    fn carry_out(self: &Arc<Self>, jobs: Vec<Job>) {
        let method = self.choice.lock().choose(jobs.len());
        match (method, &self.file_system) {
            (Method::Whole, Some(file_system)) => self.sync_whole(&**file_system, jobs),
            (Method::Whole | Method::Each, _) => self.sync_each(jobs),
        }
    }

    /// Syncs `jobs` here and on helpers. Returns when none is left to begin.
    fn sync_each(self: &Arc<Self>, jobs: Vec<Job>) {
        let mut jobs = jobs.into_iter();
        let Some(first) = jobs.next() else { return };
        if jobs.len() > 0 {
            self.share(jobs);
        }
        let took = self.sync(first);
        self.choice.lock().each_took(took);
        while let Some(job) = self.take_unsynced() {
            self.sync(job);
        }
    }

    /// A job of this round that no helper has begun; completions are left to them.
    fn take_unsynced(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        let at = queue.jobs.iter().position(|job| !job.synced)?;
        queue.jobs.remove(at)
    }

    fn sync_whole(self: &Arc<Self>, file_system: &dyn FileSystem, jobs: Vec<Job>) {
        let mut prepared = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job.ticket.prepare() {
                Ok(()) => prepared.push(job),
                Err(error) => self.fail(job.partition, error),
            }
        }
        let begun = self.clock.monotonic();
        let synced = file_system.sync();
        let took = self.clock.monotonic().saturating_sub(begun);
        self.choice.lock().whole_took(took);
        self.metrics.syncs.record(took);
        for job in prepared {
            match &synced {
                Ok(()) => match job.ticket.check() {
                    Ok(()) => self.on_synced(job),
                    Err(error) => self.fail(job.partition, error),
                },
                Err(error) => {
                    let directory = job.ticket.directory().to_owned();
                    let source = io::Error::new(error.kind(), error.to_string());
                    let doing = "cannot sync the file system of";
                    self.fail(job.partition, StorageError::Io { doing, path: directory, source });
                }
            }
        }
    }

    /// Syncs a partition's files. Returns how long that took, and telling those who wait.
    fn sync(self: &Arc<Self>, job: Job) -> Duration {
        let begun = self.clock.monotonic();
        let synced = job.ticket.sync_files();
        self.metrics.syncs.record(self.clock.monotonic().saturating_sub(begun));
        match synced {
            Ok(()) => self.on_synced(job),
            Err(error) => self.fail(job.partition, error),
        }
        self.clock.monotonic().saturating_sub(begun)
    }

    /// Those who wait for the records hear at once; what is beside them can take its time.
    fn on_synced(self: &Arc<Self>, mut job: Job) {
        job.partition.on_synced(job.ticket.upto());
        if job.ticket.has_side_files() {
            job.synced = true;
            self.share([job].into_iter());
        } else {
            complete(job.ticket, &job.partition);
            self.leave(job.partition);
        }
    }

    fn fail(&self, partition: Arc<Partition>, error: StorageError) {
        self.metrics.failures.increment();
        partition.end_flush(Err(error));
        self.leave(partition);
    }

    /// The partition's part of the round is over: it is idle, or in the next set.
    fn leave(&self, partition: Arc<Partition>) {
        let before = partition.flush_state().step(|state| match state {
            FLUSHING => Some(IDLE),
            FLUSHING_DIRTY => Some(QUEUED),
            _ => None,
        });
        if before == FLUSHING_DIRTY {
            self.enqueue(partition);
        }
    }

    /// Gives `jobs` to helpers, of which as many are woken or started as there is work for.
    fn share(self: &Arc<Self>, jobs: impl ExactSizeIterator<Item = Job>) {
        let wanted = jobs.len();
        let mut queue = self.queue.lock();
        queue.jobs.extend(jobs);
        let woken = queue.idle_helpers.min(wanted);
        queue.idle_helpers -= woken;
        let helpers_max = if self.is_threaded() { HELPERS_MAX } else { 0 };
        for _ in woken..wanted.min(helpers_max) {
            if queue.helpers.len() >= helpers_max || queue.stopping {
                break;
            }
            let flusher = self.clone();
            let name = format!("flush-{}", queue.helpers.len());
            match std::thread::Builder::new().name(name).spawn(move || flusher.run_helper()) {
                Ok(helper) => queue.helpers.push(helper),
                Err(error) => {
                    warn!(%error, "cannot start a thread; files are synced with fewer");
                    break;
                }
            }
        }
        let alone = queue.helpers.is_empty();
        drop(queue);
        for _ in 0..woken {
            self.help.notify_one();
        }
        if alone {
            self.work_off();
        }
    }

    fn is_threaded(&self) -> bool {
        matches!(self.threads, Threads::Real)
    }

    /// Does all jobs there are, here.
    fn work_off(self: &Arc<Self>) {
        loop {
            let job = self.queue.lock().jobs.pop_front();
            let Some(job) = job else { return };
            self.work(job);
        }
    }

    fn work(self: &Arc<Self>, job: Job) {
        if job.synced {
            complete(job.ticket, &job.partition);
            self.leave(job.partition);
        } else {
            self.sync(job);
        }
    }

    fn run_helper(self: Arc<Self>) {
        loop {
            let job = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if queue.over {
                        return;
                    }
                    queue.idle_helpers += 1;
                    self.help.wait(&mut queue);
                }
            };
            self.work(job);
        }
    }
}

fn complete(ticket: FlushTicket, partition: &Partition) {
    partition.end_flush(ticket.complete());
}

#[cfg(any(test, feature = "sim"))]
mod simulated;
#[cfg(test)]
mod tests;
