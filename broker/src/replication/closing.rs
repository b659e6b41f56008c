//! A clean stop of many partitions: step by step, each step of many logs made durable by one sync of
//! their file system. Where that cannot be, each log syncs its own files, several at a time.

use std::sync::Arc;

use tracing::error;

use super::directory::LogDirectory;
use super::partition::Partition;
use super::threads::in_parallel;
use crate::base::Threads;
use crate::base::disk::Syncs;
use crate::storage::{Closing, StorageError};

/// Partitions that are closed together: of so many the files are open and the names unsynced at once.
const TOGETHER_MAX: usize = 2048;

/// Threads that write and rename, or sync where each log syncs for itself.
const CLOSING_THREADS: usize = 4;

/// A partition on its way.
struct Job {
    partition: Arc<Partition>,
    closing: Closing,
    /// What the last step said: whether there is another.
    step: Result<bool, StorageError>,
}

/// Syncs and closes `partitions`, all of `directory`, whose flusher has stopped. What cannot be
/// closed is told in the log; the next start reads it.
pub(super) fn close_all(
    threads: &Threads,
    directory: &LogDirectory,
    mut partitions: Vec<Arc<Partition>>,
) {
    while !partitions.is_empty() {
        let rest = partitions.len().saturating_sub(TOGETHER_MAX);
        close_together(threads, directory, partitions.split_off(rest));
    }
}

fn close_together(threads: &Threads, directory: &LogDirectory, partitions: Vec<Arc<Partition>>) {
    let mut jobs: Vec<Job> = partitions.into_iter().filter_map(begin).collect();
    let file_system = directory.flusher().shared_sync(jobs.len());
    let syncs = if file_system.is_some() { Syncs::Shared } else { Syncs::Own };
    while !jobs.is_empty() {
        jobs = in_parallel(threads.at_most(CLOSING_THREADS), jobs, |mut job| {
            job.step = job.closing.step(syncs);
            job
        });
        if let Some(file_system) = file_system {
            if let Err(error) = file_system.sync() {
                directory.fail(&format!("cannot sync the file system: {error}"));
                return;
            }
            for job in &mut jobs {
                if let Err(error) = job.closing.check() {
                    job.step = Err(error);
                }
            }
        }
        jobs.retain(Job::goes_on);
    }
}

fn begin(partition: Arc<Partition>) -> Option<Job> {
    match partition.begin_close() {
        Ok(closing) => Some(Job { partition, closing: closing?, step: Ok(true) }),
        Err(error) => {
            tell(&partition, &error);
            None
        }
    }
}

impl Job {
    /// Whether there is another step; tells where there is none because the last failed.
    fn goes_on(&self) -> bool {
        match &self.step {
            Ok(more) => *more,
            Err(error) => {
                tell(&self.partition, error);
                false
            }
        }
    }
}

fn tell(partition: &Partition, error: &StorageError) {
    error!(partition = %partition.name, %error, "cannot close the log cleanly");
}
