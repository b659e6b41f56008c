//! What the broker counts of itself, and how that is told.
//!
//! A counter is an atomic number where the thing happens: counting takes no lock and no memory, and
//! there is no registry to look it up in. Whoever tells them reads them when asked
//! ([`crate::admin`]), as [`Page`]s in the text format of Prometheus.
//!
//! Numbers that are read while they change may be a moment apart; each alone is right.

mod histogram;
mod page;
mod requests;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use histogram::Histogram;
pub(crate) use page::{Kind, Labelling, Page, label_name, metric_name};
pub(crate) use requests::RequestMetrics;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// `by` more.
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A length as a number to count with.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// What a broker's connections and requests come to. One per broker.
#[derive(Debug, Default)]
pub(crate) struct BrokerMetrics {
    pub(crate) requests: RequestMetrics,
    pub(crate) connections: ConnectionMetrics,
}

/// Connections of clients.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    /// Accepted and served.
    pub(crate) accepted: Counter,
    /// Of those, the ones that ended.
    pub(crate) closed: Counter,
    /// Closed at accept: `max.connections` was reached.
    pub(crate) refused: Counter,
    /// Read from sockets.
    pub(crate) received_bytes: Counter,
    /// Taken by sockets.
    pub(crate) sent_bytes: Counter,
}
