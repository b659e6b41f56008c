//! A value that many wait for: its last state, and a wake-up for each change.
//!
//! As `tokio::sync::watch`, which wakes those who wait in no order in particular; here they are woken
//! in the order in which they came, so that a simulated cluster is the same every time.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// The value will not change any more: who changes it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    is_closed: bool,
}

/// Who changes the value.
#[derive(Debug)]
pub struct Source<T>(Arc<Shared<T>>);

/// Who waits for changes of it.
#[derive(Debug)]
pub struct Watched<T> {
    shared: Arc<Shared<T>>,
    /// The version seen last.
    seen: u64,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

/// A value, and one who watches it and has seen it as it is.
pub fn watched<T>(value: T) -> (Source<T>, Watched<T>) {
    let state = Mutex::new(State { value, version: 0, is_closed: false });
    let shared = Arc::new(Shared { state, changed: Notify::new() });
    (Source(Arc::clone(&shared)), Watched { shared, seen: 0 })
}

impl<T> Source<T> {
    /// Runs `look` on the value.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.state.lock().value)
    }

    /// Sets the value.
    pub fn set(&self, value: T) {
        self.change(|old| {
            *old = value;
            true
        });
    }

    /// Runs `change`, which says whether it changed anything; returns that.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut state = self.0.state.lock();
        let changed = change(&mut state.value);
        if changed {
            state.version += 1;
            drop(state);
            self.0.changed.notify_waiters();
        }
        changed
    }
}

impl<T> Drop for Source<T> {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_waiters();
    }
}

impl<T: Clone> Watched<T> {
    /// The value as it is, which counts as seen.
    pub fn get(&mut self) -> T {
        let state = self.shared.state.lock();
        self.seen = state.version;
        state.value.clone()
    }

    /// Waits for a change since the value was last seen.
    ///
    /// # Errors
    /// There will be none.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let seen = self.seen;
        self.seen = self.wait(|state| (state.version != seen).then_some(state.version)).await?;
        Ok(())
    }

    /// Waits until `holds` is true of the value, and returns it.
    ///
    /// # Errors
    /// It is not, and will not be.
    pub async fn wait_for(&mut self, holds: impl Fn(&T) -> bool) -> Result<T, Closed> {
        let wanted =
            |state: &State<T>| holds(&state.value).then(|| (state.version, state.value.clone()));
        let (version, value) = self.wait(wanted).await?;
        self.seen = version;
        Ok(value)
    }

    async fn wait<R>(&self, look: impl Fn(&State<T>) -> Option<R>) -> Result<R, Closed> {
        loop {
            // Before the look: a change in between is not missed.
            let changed = self.shared.changed.notified();
            {
                let state: MutexGuard<'_, State<T>> = self.shared.state.lock();
                if let Some(found) = look(&state) {
                    return Ok(found);
                }
                if state.is_closed {
                    return Err(Closed);
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_before_the_wait_is_seen_and_seen_once() {
        let (source, mut watched) = watched(1);
        source.set(2);
        watched.changed().await.unwrap();
        assert_eq!(watched.get(), 2);
        let more = tokio::time::timeout(Duration::from_millis(1), watched.changed()).await;
        assert!(more.is_err());
        assert!(!source.change(|_| false));
        let more = tokio::time::timeout(Duration::from_millis(1), watched.changed()).await;
        assert!(more.is_err());
    }

    #[tokio::test]
    async fn who_waits_for_a_value_is_told_of_it_or_that_it_will_not_come() {
        let (source, watched) = watched(1);
        let mut waits = watched.clone();
        let waiting = tokio::spawn(async move { waits.wait_for(|value| *value > 2).await });
        tokio::task::yield_now().await;
        source.set(2);
        source.set(3);
        assert_eq!(waiting.await.unwrap(), Ok(3));
        let mut waits = watched.clone();
        let waiting = tokio::spawn(async move { waits.wait_for(|value| *value > 5).await });
        tokio::task::yield_now().await;
        drop(source);
        assert_eq!(waiting.await.unwrap(), Err(Closed));
    }
}
