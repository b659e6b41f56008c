//! How long things take: counts by duration.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in microseconds: from a request answered out of memory to a fetch that
/// waits for records.
const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 30_000_000,
];

/// Counts by duration. Recording is two additions.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Something took `duration`.
    pub(crate) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The time they took together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed))
    }

    /// For each bucket its upper end in seconds, and how many were not above it; the last has no end.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let ends = BOUNDS_US.iter().map(|us| Some(Duration::from_micros(*us).as_secs_f64()));
        ends.chain([None]).zip(&self.buckets).scan(0, |below, (end, bucket)| {
            *below += bucket.load(Ordering::Relaxed);
            Some((end, *below))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_whose_end_it_does_not_pass() {
        let histogram = Histogram::default();
        for us in [50, 51, 1_000, 3_600_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let told: Vec<_> = histogram.cumulative().collect();
        assert_eq!(told[0], (Some(0.000_05), 1));
        assert_eq!(told[1], (Some(0.000_1), 2));
        assert_eq!(told[4], (Some(0.001), 3));
        assert_eq!(told.last(), Some(&(None, 4)), "the last bucket holds everything");
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.sum(), Duration::from_micros(50 + 51 + 1_000 + 3_600_000_000));
    }
}
