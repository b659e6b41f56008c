//! What has news for one task: numbers of slots, each at most once, and a wake-up.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Slots with news. What can wait comes along with what cannot, or after a while.
#[derive(Debug, Default)]
pub(in crate::replication) struct News {
    slots: Mutex<Slots>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    now: Vec<u32>,
    later: Vec<u32>,
}

impl News {
    /// The same slot comes again only after it was taken: the caller sees to that.
    pub(in crate::replication) fn push(&self, slot: u32) {
        self.slots.lock().now.push(slot);
        self.wake.notify_one();
    }

    /// As [`Self::push`], for news that can wait.
    pub(in crate::replication) fn push_lazily(&self, slot: u32) {
        let mut slots = self.slots.lock();
        slots.later.push(slot);
        let first = slots.later.len() == 1;
        drop(slots);
        if first {
            self.wake.notify_one();
        }
    }

    /// All slots with news.
    pub(super) fn take(&self) -> Vec<u32> {
        let mut slots = self.slots.lock();
        let mut taken = std::mem::take(&mut slots.now);
        taken.append(&mut slots.later);
        taken
    }

    /// Waits until there is something to take: for what can wait, `patience` longer.
    pub(super) async fn wait(&self, patience: Duration) {
        loop {
            let (now, later) = {
                let slots = self.slots.lock();
                (!slots.now.is_empty(), !slots.later.is_empty())
            };
            if now {
                return;
            }
            // Dropping either loses nothing: what woke it stays in the list.
            if later {
                let told = tokio::time::timeout(patience, self.wake.notified()).await;
                if told.is_err() {
                    return;
                }
            } else {
                self.wake.notified().await;
            }
        }
    }

    /// Wakes who waits, to look at something else.
    pub(super) fn nudge(&self) {
        self.wake.notify_one();
    }
}
