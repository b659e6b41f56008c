//! What the controller's thread has to look at: requests, and that the log has news.
//!
//! Requests are bounded: more callers wait for room. News carries nothing, so that any thread can
//! tell of it at any time without waiting. Once closed nothing goes in, and what is in it is still
//! taken out.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

/// Requests that may wait; more callers wait for room.
const ROOM: usize = 1024;

/// A queue of `T` with one taker.
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    /// As `wake`, for a taker that is a task.
    #[cfg(any(test, feature = "sim"))]
    roused: tokio::sync::Notify,
    room: Semaphore,
}

struct State<T> {
    waiting: VecDeque<T>,
    has_news: bool,
    is_closed: bool,
}

/// What was there to be taken.
#[derive(Debug)]
pub(super) struct Work<T> {
    /// In the order they came.
    pub(super) batch: Vec<T>,
    /// Nothing else was there.
    pub(super) is_all: bool,
    /// Nothing will come any more.
    pub(super) is_over: bool,
}

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        let state = State { waiting: VecDeque::new(), has_news: true, is_closed: false };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            #[cfg(any(test, feature = "sim"))]
            roused: tokio::sync::Notify::new(),
            room: Semaphore::new(ROOM),
        }
    }

    /// Puts something in, once there is room. False if it is closed.
    pub(super) async fn put(&self, value: T) -> bool {
        let Ok(permit) = self.room.acquire().await else { return false };
        let mut state = self.state.lock();
        if state.is_closed {
            return false;
        }
        permit.forget();
        state.waiting.push_back(value);
        self.rouse();
        true
    }

    fn rouse(&self) {
        self.wake.notify_one();
        #[cfg(any(test, feature = "sim"))]
        self.roused.notify_one();
    }

    /// Waits until there is something to take, or for `patience`.
    #[cfg(any(test, feature = "sim"))]
    pub(super) async fn ready(&self, patience: Option<Duration>) {
        let is_ready = || {
            let state = self.state.lock();
            !state.waiting.is_empty() || state.has_news || state.is_closed
        };
        let until_ready = async {
            while !is_ready() {
                self.roused.notified().await;
            }
        };
        match patience {
            None => until_ready.await,
            // That it was not ready in time is found by whoever takes.
            Some(patience) => drop(tokio::time::timeout(patience, until_ready).await),
        }
    }

    /// The log has something new, or may have.
    pub(super) fn tell_news(&self) {
        self.state.lock().has_news = true;
        self.rouse();
    }

    /// Nothing more goes in.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.room.close();
        self.rouse();
    }

    /// As [`Inbox::close`], and what is in it is given up: nobody takes it any more.
    pub(super) fn abandon(&self) {
        self.close();
        self.state.lock().waiting.clear();
    }

    /// Waits for requests or news, at most for `patience`, and takes up to `max` requests.
    pub(super) fn take(&self, max: usize, patience: Option<Duration>) -> Work<T> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.has_news && !state.is_closed {
            match patience {
                None => self.wake.wait(&mut state),
                Some(patience) if self.wake.wait_for(&mut state, patience).timed_out() => break,
                Some(_) => {}
            }
        }
        state.has_news = false;
        let count = state.waiting.len().min(max);
        let batch: Vec<_> = state.waiting.drain(..count).collect();
        self.room.add_permits(count);
        let is_all = state.waiting.is_empty();
        Work { batch, is_all, is_over: state.is_closed && is_all }
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("waiting", &self.state.lock().waiting.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_is_in_it_when_it_is_closed_is_still_taken() {
        let inbox = Inbox::new();
        for n in 0..3 {
            assert!(block_on(inbox.put(n)));
        }
        inbox.close();
        assert!(!block_on(inbox.put(9)));
        let work = inbox.take(2, None);
        assert_eq!((work.batch, work.is_all, work.is_over), (vec![0, 1], false, false));
        let work = inbox.take(2, None);
        assert_eq!((work.batch, work.is_all, work.is_over), (vec![2], true, true));
    }

    #[test]
    fn news_and_the_end_of_patience_wake_without_requests() {
        let inbox = Arc::new(Inbox::<u8>::new());
        assert!(inbox.take(9, None).batch.is_empty(), "the first look is at what there is");
        assert!(inbox.take(9, Some(Duration::from_millis(1))).batch.is_empty());
        let teller = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || teller.tell_news());
        assert!(inbox.take(9, None).batch.is_empty());
        thread.join().unwrap();
    }

    #[test]
    fn more_than_there_is_room_for_waits_for_room() {
        let inbox = Inbox::new();
        block_on(async {
            for n in 0..ROOM {
                assert!(inbox.put(n).await);
            }
            let mut one_more = Box::pin(inbox.put(ROOM));
            let waits = std::future::poll_fn(|context| {
                std::task::Poll::Ready(one_more.as_mut().poll(context).is_pending())
            });
            assert!(waits.await);
            assert_eq!(inbox.take(1, None).batch, [0]);
            assert!(one_more.await);
        });
    }
}
