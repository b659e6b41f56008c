//! Which metrics a client is asked for: the subscriptions that fit it, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use sawlog_protocol::Uuid;
use sawlog_protocol::records::crc32c;

use crate::config::{ClientFact, ClientMetricsConfig, ClientPattern, Overrides};

/// How often clients that no subscription fits ask again, and the longest interval of all
/// (Kafka's default of `interval.ms`).
const INTERVAL_MS_MAX: u32 = 300_000;

/// `metrics` of a subscription to all of them.
const ALL: &str = "*";

/// Who a client is, as far as its requests tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFacts {
    /// What it calls itself.
    pub(crate) id: Arc<str>,
    /// The library it uses and its version, where it has told.
    pub(crate) software: Option<(Arc<str>, Arc<str>)>,
    /// Where it connects from.
    pub(crate) address: SocketAddr,
}

impl ClientFacts {
    fn fits(&self, instance: &str, pattern: &ClientPattern) -> bool {
        match pattern.fact() {
            ClientFact::Id => pattern.matches(&self.id),
            ClientFact::InstanceId => pattern.matches(instance),
            ClientFact::SoftwareName => {
                self.software.as_ref().is_some_and(|(name, _)| pattern.matches(name))
            }
            ClientFact::SoftwareVersion => {
                self.software.as_ref().is_some_and(|(_, version)| pattern.matches(version))
            }
            ClientFact::SourceAddress => pattern.matches(&self.address.ip().to_string()),
            ClientFact::SourcePort => pattern.matches(&self.address.port().to_string()),
        }
    }
}

/// One subscription, ready to be compared with clients.
#[derive(Debug)]
struct Subscription {
    config: ClientMetricsConfig,
    patterns: Vec<ClientPattern>,
}

/// All subscriptions as of one state of the metadata.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    source: Arc<BTreeMap<Arc<str>, Overrides>>,
    all: Vec<Subscription>,
}

/// What one client is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Changes with what is asked for; the client sends it with what it pushes.
    pub(crate) subscription_id: i32,
    /// Beginnings of names; none: nothing is asked for.
    pub(crate) metrics: Vec<String>,
    /// How often it is to push.
    pub(crate) interval_ms: u32,
}

impl Subscriptions {
    pub(super) fn new(source: Arc<BTreeMap<Arc<str>, Overrides>>) -> Self {
        let all = source.values().map(|overrides| {
            let config = ClientMetricsConfig::resolve(overrides);
            Subscription { patterns: config.patterns(), config }
        });
        Self { all: all.collect(), source }
    }

    /// Whether they are those of `source`.
    pub(super) fn are_of(&self, source: &Arc<BTreeMap<Arc<str>, Overrides>>) -> bool {
        Arc::ptr_eq(&self.source, source)
    }

    /// What a client is asked for by all that fit it together.
    pub(super) fn of(&self, instance: Uuid, client: &ClientFacts) -> Wanted {
        let id = instance.to_string();
        let mut metrics = BTreeSet::new();
        let mut interval_ms = INTERVAL_MS_MAX;
        for one in &self.all {
            if one.patterns.iter().all(|pattern| client.fits(&id, pattern)) {
                metrics.extend(one.config.metrics.iter().cloned());
                interval_ms = interval_ms.min(one.config.interval_ms);
            }
        }
        if metrics.contains(ALL) {
            // KIP-714 and all clients have the empty beginning for it. Kafka's brokers send the star,
            // which clients that go by the KIP (franz-go) take for the beginning of a name.
            metrics = BTreeSet::from([String::new()]);
        }
        let metrics: Vec<String> = metrics.into_iter().collect();
        let subscription_id = subscription_id(instance, &metrics, interval_ms);
        Wanted { subscription_id, metrics, interval_ms }
    }
}

/// A checksum of what is asked for, as Kafka's also another for every client.
fn subscription_id(instance: Uuid, metrics: &[String], interval_ms: u32) -> i32 {
    let text = format!("{metrics:?}{interval_ms}");
    let words = instance.0.chunks_exact(4).filter_map(<[u8]>::first_chunk);
    let instance = words.fold(0, |hash, word| hash ^ u32::from_be_bytes(*word));
    (crc32c(text.as_bytes()) ^ instance).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriptions(all: &[(&str, &[(&str, &str)])]) -> Subscriptions {
        let overrides = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let all = all.iter().map(|(name, pairs)| (Arc::from(*name), overrides(pairs)));
        Subscriptions::new(Arc::new(all.collect()))
    }

    fn java() -> ClientFacts {
        ClientFacts {
            id: "orders-1".into(),
            software: Some(("apache-kafka-java".into(), "4.4.0".into())),
            address: "127.0.0.1:5000".parse().unwrap(),
        }
    }

    const INSTANCE: Uuid = Uuid([7; 16]);

    #[test]
    fn what_fits_is_put_together_and_the_shortest_interval_holds() {
        let all = subscriptions(&[
            (
                "a",
                &[("metrics", "a.,b."), ("interval.ms", "1000"), ("match", "client_id=orders-.*")],
            ),
            (
                "b",
                &[
                    ("metrics", "b.,c."),
                    ("interval.ms", "500"),
                    ("match", "client_source_port=5000,client_source_address=127.*"),
                ],
            ),
            ("other", &[("metrics", "d."), ("interval.ms", "100"), ("match", "client_id=orders")]),
            (
                "version",
                &[
                    ("metrics", "e."),
                    (
                        "match",
                        "client_software_name=apache-kafka-java,client_software_version=4\\..*",
                    ),
                ],
            ),
        ]);
        let wanted = all.of(INSTANCE, &java());
        assert_eq!(wanted.metrics, ["a.", "b.", "c.", "e."]);
        assert_eq!(wanted.interval_ms, 500);
        let nameless = ClientFacts { software: None, ..java() };
        assert_eq!(all.of(INSTANCE, &nameless).metrics, ["a.", "b.", "c."]);
        let by_instance = format!("client_instance_id={INSTANCE}");
        let all = subscriptions(&[("i", &[("metrics", "i."), ("match", &by_instance)])]);
        assert_eq!(all.of(INSTANCE, &java()).metrics, ["i."]);
        assert!(all.of(Uuid([8; 16]), &java()).metrics.is_empty());
    }

    #[test]
    fn all_metrics_are_one_empty_beginning_and_none_are_none() {
        let all = subscriptions(&[("s", &[("metrics", "*")]), ("t", &[("metrics", "a.")])]);
        assert_eq!(all.of(INSTANCE, &java()).metrics, [""]);
        let none = subscriptions(&[]).of(INSTANCE, &java());
        assert_eq!((none.metrics.len(), none.interval_ms), (0, 300_000));
        let only_interval = subscriptions(&[("s", &[("interval.ms", "100")])]);
        let wanted = only_interval.of(INSTANCE, &java());
        assert_eq!((wanted.metrics.len(), wanted.interval_ms), (0, 100));
    }

    #[test]
    fn the_id_changes_with_what_is_asked_for_and_with_nothing_else() {
        let of = |pairs: &[(&str, &str)]| subscriptions(&[("s", pairs)]).of(INSTANCE, &java());
        let first = of(&[("metrics", "a.,b.")]);
        assert_eq!(of(&[("metrics", "b.,a.")]).subscription_id, first.subscription_id);
        assert_ne!(of(&[("metrics", "a.")]).subscription_id, first.subscription_id);
        let faster = of(&[("metrics", "a.,b."), ("interval.ms", "200")]);
        assert_ne!(faster.subscription_id, first.subscription_id);
    }
}
