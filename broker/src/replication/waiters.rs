//! Requests that wait for a partition to move on.
//!
//! A request registers a [`Signal`] with each partition it waits for; a partition fires what its
//! progress satisfies. One signal may wait on many partitions and remembers which of them fired,
//! so that a long-polling fetch re-reads only those. Registering checks first: progress made
//! before it is never missed, because the partition's numbers change before its waiters are fired.

use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::base::Offset;

/// Wakes one request.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
}

#[derive(Debug, Default)]
struct SignalState {
    fired: Vec<usize>,
    waker: Option<Waker>,
}

impl Signal {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Marks `slot` as fired and wakes the request.
    pub(crate) fn fire(&self, slot: usize) {
        let waker = {
            let mut state = self.state.lock();
            state.fired.push(slot);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The slots fired since the last call; pending until there is one.
    pub(crate) fn poll_fired(&self, waker: &Waker) -> Poll<Vec<usize>> {
        let mut state = self.state.lock();
        if state.fired.is_empty() {
            match &mut state.waker {
                Some(known) if known.will_wake(waker) => {}
                other => *other = Some(waker.clone()),
            }
            Poll::Pending
        } else {
            Poll::Ready(std::mem::take(&mut state.fired))
        }
    }
}

#[derive(Debug)]
struct Waiter {
    /// Fires when the partition's watched end is above this offset.
    above: Offset,
    signal: Arc<Signal>,
    slot: usize,
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Mutex<Vec<Waiter>>,
}

impl Waiters {
    /// Registers; the caller then checks whether it is already satisfied.
    pub(crate) fn register(&self, above: Offset, signal: &Arc<Signal>, slot: usize) {
        self.list.lock().push(Waiter { above, signal: signal.clone(), slot });
    }

    /// Takes back every registration of `signal`.
    pub(crate) fn forget(&self, signal: &Arc<Signal>) {
        self.list.lock().retain(|waiter| !Arc::ptr_eq(&waiter.signal, signal));
    }

    /// Fires all whose condition holds now that the watched end is `end`.
    pub(crate) fn advance(&self, end: Offset) {
        self.fire_if(|waiter| end > waiter.above);
    }

    /// Fires all: the partition is gone or moved, whatever they wait for will not come.
    pub(crate) fn fail_all(&self) {
        self.fire_if(|_| true);
    }

    fn fire_if(&self, holds: impl Fn(&Waiter) -> bool) {
        let mut list = self.list.lock();
        let mut at = 0;
        while let Some(waiter) = list.get(at) {
            if holds(waiter) {
                let waiter = list.swap_remove(at);
                waiter.signal.fire(waiter.slot);
            } else {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_satisfied_waiters_fire_and_only_once() {
        let waiters = Waiters::default();
        let (near, far) = (Signal::new(), Signal::new());
        waiters.register(Offset(4), &near, 0);
        waiters.register(Offset(9), &far, 3);
        waiters.advance(Offset(4));
        assert!(near.poll_fired(Waker::noop()).is_pending());
        waiters.advance(Offset(5));
        assert_eq!(near.poll_fired(Waker::noop()), Poll::Ready(vec![0]));
        waiters.advance(Offset(10));
        assert!(near.poll_fired(Waker::noop()).is_pending());
        assert_eq!(far.poll_fired(Waker::noop()), Poll::Ready(vec![3]));
    }

    #[test]
    fn a_forgotten_signal_never_fires() {
        let waiters = Waiters::default();
        let signal = Signal::new();
        waiters.register(Offset(0), &signal, 0);
        waiters.forget(&signal);
        waiters.fail_all();
        assert!(signal.poll_fired(Waker::noop()).is_pending());
    }
}
