//! The flusher as a task of a simulated process: the steps of the thread, with time between them.

use std::sync::Arc;

use super::Flusher;
use crate::base::tasks::{SimulatedProcess, Step};

/// Makes one set durable after another.
pub(super) async fn run(flusher: Arc<Flusher>, process: Arc<dyn SimulatedProcess>) {
    let mut set = Vec::new();
    loop {
        if flusher.rest() {
            flusher.roused.notified().await;
            continue;
        }
        process.take_time(Step::Gather).await;
        std::mem::swap(&mut flusher.queue.lock().dirty, &mut set);
        let jobs = flusher.begin(&mut set);
        if !jobs.is_empty() {
            process.take_time(Step::Sync).await;
            flusher.carry_out(jobs);
        }
        flusher.queue.lock().jobs_under_way = false;
    }
}

impl Flusher {
    /// Whether there is nothing to do; then it is woken when there is.
    fn rest(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.asleep = queue.dirty.is_empty();
        queue.jobs_under_way = !queue.asleep;
        queue.asleep
    }

    /// Its task is gone with its process, and nothing is synced any more.
    pub(crate) fn let_go(&self) {
        let mut queue = self.queue.lock();
        let left = (
            std::mem::take(&mut queue.dirty),
            std::mem::take(&mut queue.lazy),
            std::mem::take(&mut queue.jobs),
        );
        drop(queue);
        drop(left);
    }

    /// Whether nothing waits to be synced and nothing is being synced.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.dirty.is_empty() && !queue.jobs_under_way
    }
}
