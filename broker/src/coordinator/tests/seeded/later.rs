//! What is on its way, by when it arrives; of two at one time the first sent comes first.

use std::collections::BTreeMap;
use std::time::Duration;

/// Things that happen later.
#[derive(Debug)]
pub(in crate::coordinator::tests) struct Later<P> {
    on_its_way: BTreeMap<(Duration, u64), P>,
    /// Numbers everything in its order: packets, requests, calls.
    next: u64,
}

impl<P> Default for Later<P> {
    fn default() -> Self {
        Self { on_its_way: BTreeMap::new(), next: 0 }
    }
}

impl<P> Later<P> {
    pub(in crate::coordinator::tests) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(in crate::coordinator::tests) fn send(&mut self, at: Duration, packet: P) {
        self.next += 1;
        self.on_its_way.insert((at, self.next), packet);
    }

    /// When the next one arrives.
    pub(in crate::coordinator::tests) fn next_at(&self) -> Option<Duration> {
        self.on_its_way.keys().next().map(|(at, _)| *at)
    }

    pub(in crate::coordinator::tests) fn pop(&mut self) -> Option<P> {
        self.on_its_way.pop_first().map(|(_, packet)| packet)
    }
}
