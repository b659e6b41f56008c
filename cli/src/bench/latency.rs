//! Latencies of many records in little memory, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency told apart.
const MAX: Duration = Duration::from_secs(600);

/// Latencies in a histogram of fixed size.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let max = u64::try_from(MAX.as_nanos()).unwrap_or(u64::MAX);
        let histogram = Histogram::new_with_bounds(1_000, max, 3);
        Self(histogram.expect("the bounds are in order, and three digits are allowed"))
    }

    /// Longer ones count as the longest.
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// p50, p90, p99, p99.9 and the longest, in milliseconds.
    pub(super) fn figures(&self) -> [f64; 5] {
        let at = |quantile| self.0.value_at_quantile(quantile);
        let all = [at(0.5), at(0.9), at(0.99), at(0.999), self.0.max()];
        all.map(|nanoseconds| Duration::from_nanos(nanoseconds).as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut all = Latencies::new();
        for ms in 1..=1000 {
            all.record(Duration::from_millis(ms));
        }
        let mut more = Latencies::new();
        more.record(Duration::from_secs(100_000));
        all.add(&more);
        let [p50, p90, p99, p999, max] = all.figures();
        assert!((p50 - 501.0).abs() < 2.0, "{p50}");
        assert!((p90 - 901.0).abs() < 2.0, "{p90}");
        assert!((p99 - 991.0).abs() < 2.0, "{p99}");
        assert!((p999 - 1000.0).abs() < 2.0, "{p999}");
        assert!(max > 599_000.0, "the longest told apart: {max}");
    }
}
