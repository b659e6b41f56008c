//! Requests: how many of each API, how long they took, and which ended their connection.

use std::time::Duration;

use sawlog_protocol::ApiKey;

use super::{Counter, Histogram};

/// Kafka's keys that have a place of their own; the highest there is today is below 100.
const KAFKA_KEYS: usize = 112;
/// The first of Sawlog's own keys.
const OWN_FIRST: i16 = 20_000;
/// Sawlog's own keys that have a place.
const OWN_KEYS: usize = 15;
/// All others, of which there should be none.
const OTHERS: usize = KAFKA_KEYS + OWN_KEYS;

/// Requests of all APIs.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    by_key: Box<[Histogram; OTHERS + 1]>,
    /// Requests that ended their connection: there was no reply the client would understand.
    pub(crate) fatal: Counter,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let by_key = Box::new(std::array::from_fn(|_| Histogram::default()));
        Self { by_key, fatal: Counter::new() }
    }
}

impl RequestMetrics {
    /// A request of the API `key` was answered `after` it was read.
    pub(crate) fn answered(&self, key: i16, after: Duration) {
        self.of(key).record(after);
    }

    /// From reading a request to its reply, the time a fetch waits for records included.
    pub(crate) fn of(&self, key: i16) -> &Histogram {
        self.by_key.get(place(key)).unwrap_or(&self.by_key[OTHERS])
    }

    /// The APIs that were asked for, with their names.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let all = ApiKey::ALL.iter().map(|key| (key.name(), self.of(key.as_i16())));
        all.filter(|(_, histogram)| histogram.count() > 0)
    }
}

fn place(key: i16) -> usize {
    let at = |key: i16, room: usize| usize::try_from(key).ok().filter(|at| *at < room);
    at(key, KAFKA_KEYS)
        .or_else(|| at(key.checked_sub(OWN_FIRST)?, OWN_KEYS).map(|at| KAFKA_KEYS + at))
        .unwrap_or(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_has_a_place_of_its_own() {
        let mut places: Vec<_> = ApiKey::ALL.iter().map(|key| place(key.as_i16())).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        assert!(places.iter().all(|at| *at < OTHERS));
        for strange in [-1, i16::MIN, 112, 19_999, 20_015, i16::MAX] {
            assert_eq!(place(strange), OTHERS, "{strange}");
        }
    }

    #[test]
    fn only_apis_that_were_asked_for_are_told() {
        let metrics = RequestMetrics::default();
        metrics.answered(ApiKey::Fetch.as_i16(), Duration::from_millis(1));
        let seen: Vec<_> = metrics.seen().map(|(name, of)| (name, of.count())).collect();
        assert_eq!(seen, [("Fetch", 1)]);
    }
}
