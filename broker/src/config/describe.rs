//! What DescribeConfigs says: every property with its value, where it comes from, and the names it
//! could also have come from ("synonyms", the strongest first).

use super::Overrides;
use super::broker::{BrokerConfig, broker_properties, scaled_up};
use super::client_metrics::client_metrics_properties;
use super::group::group_properties;
use super::property::{Kind, Mode, Property};
use super::topic::{TopicConfig, topic_properties};

/// Who set a value, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic itself.
    Topic,
    /// The dynamic configuration of this broker.
    DynamicBroker,
    /// The dynamic configuration of all brokers.
    DynamicDefaultBroker,
    /// File, environment or flag of this broker.
    StaticBroker,
    /// Nobody.
    Default,
    /// The subscription to metrics of clients.
    ClientMetrics,
    /// The group itself.
    Group,
}

impl ConfigSource {
    /// The source's number in DescribeConfigs.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// A value one step further down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The property that holds it.
    pub name: &'static str,
    /// Its value; `None` if it must not be shown.
    pub value: Option<String>,
    /// Who set it.
    pub source: ConfigSource,
}

/// One property of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The property.
    pub name: &'static str,
    /// Its value; `None` if unset without a default, or if it must not be shown.
    pub value: Option<String>,
    /// Whether it cannot be changed by AlterConfigs.
    pub read_only: bool,
    /// Who set it.
    pub source: ConfigSource,
    /// Whether its value must not be shown.
    pub sensitive: bool,
    /// Its type.
    pub kind: Kind,
    /// Every value it could take, the one in force first.
    pub synonyms: Vec<Synonym>,
    /// What it does.
    pub documentation: &'static str,
}

/// Every property of a topic with these settings of its own, and that many replicas.
#[must_use]
pub fn describe_topic(
    overrides: &Overrides,
    broker: &BrokerConfig,
    replicas: usize,
) -> Vec<Described> {
    let mut all = describe_inheriting(topic_properties(), ConfigSource::Topic, overrides, broker);
    // Tools compare it with the replicas there are: they are told what -1 comes to.
    let auto = TopicConfig::resolve(overrides, broker).min_in_sync(replicas).to_string();
    if let Some(min) = all.iter_mut().find(|row| row.name == "min.insync.replicas") {
        let synonyms = min.synonyms.iter_mut().map(|synonym| &mut synonym.value);
        let values = synonyms.chain([&mut min.value]).filter_map(Option::as_mut);
        values.filter(|value| *value == "-1").for_each(|value| value.clone_from(&auto));
    }
    all
}

/// Every property of a group with these settings of its own.
#[must_use]
pub fn describe_group(overrides: &Overrides, broker: &BrokerConfig) -> Vec<Described> {
    describe_inheriting(group_properties(), ConfigSource::Group, overrides, broker)
}

/// Every property of a subscription to metrics of clients with these settings.
#[must_use]
pub fn describe_client_metrics(overrides: &Overrides) -> Vec<Described> {
    let rows = client_metrics_properties().iter();
    rows.map(|row| {
        let own = overrides.get(row.name).map(|value| Synonym {
            name: row.name,
            value: Some(value.clone()),
            source: ConfigSource::ClientMetrics,
        });
        let mut described = described(row, false, own.into_iter().collect());
        // Nobody else can set it.
        described.value = described.value.or_else(|| row.default.as_deref().map(str::to_owned));
        described
    })
    .collect()
}

fn describe_inheriting(
    rows: &'static [Property],
    source: ConfigSource,
    overrides: &Overrides,
    broker: &BrokerConfig,
) -> Vec<Described> {
    rows.iter()
        .map(|row| {
            let own = overrides.get(row.name).map(|value| Synonym {
                name: row.name,
                value: Some(value.clone()),
                source,
            });
            let inherited = row.broker.iter().filter_map(|name| {
                broker_properties().iter().find(|candidate| candidate.name == *name)
            });
            let below = inherited.flat_map(|candidate| layers(candidate, broker));
            let synonyms: Vec<_> = own.into_iter().chain(below).collect();
            let mut described = described(row, false, synonyms);
            // What brokers say nothing of.
            described.value = described.value.or_else(|| row.default.as_deref().map(str::to_owned));
            // As Kafka lists them: other units only below the property that comes first.
            let unit_set = |first: &&str| described.synonyms.iter().any(|s| s.name == *first);
            if !row.broker.first().is_some_and(unit_set) {
                described.synonyms.retain(|synonym| synonym.name == row.name);
            }
            described
        })
        .collect()
}

/// Every property of this broker.
#[must_use]
pub fn describe_broker(broker: &BrokerConfig) -> Vec<Described> {
    broker_properties()
        .iter()
        .map(|row| {
            let mut described =
                described(row, row.mode == Mode::Static, layers(row, broker).collect());
            if !described.synonyms.is_empty() {
                described.synonyms.extend(other_units(row).flat_map(|unit| layers(unit, broker)));
            }
            if row.name == "node.id" {
                described.value = Some(broker.node_id.to_string());
            }
            described
        })
        .collect()
}

/// The properties that hold the same in another unit and yield to this one: minutes and hours to `.ms`.
fn other_units(row: &Property) -> impl Iterator<Item = &'static Property> {
    let inheriting = topic_properties().iter().find(|t| t.broker.first() == Some(&row.name));
    let names = inheriting.map_or(&[][..], |topic| &topic.broker[1..]);
    broker_properties().iter().filter(move |candidate| names.contains(&candidate.name))
}

/// The dynamic configuration shared by all brokers: only what is set.
#[must_use]
pub fn describe_cluster_defaults(broker: &BrokerConfig) -> Vec<Described> {
    let shared = broker.cluster_overrides();
    broker_properties()
        .iter()
        .filter_map(|row| {
            let value = shared.get(row.name)?.clone();
            let source = ConfigSource::DynamicDefaultBroker;
            Some(described(
                row,
                false,
                vec![Synonym { name: row.name, value: Some(value), source }],
            ))
        })
        .collect()
}

/// The values a broker property has, the strongest first.
fn layers<'a>(
    row: &'static Property,
    broker: &'a BrokerConfig,
) -> impl Iterator<Item = Synonym> + 'a {
    let dynamic = |layer: &'a Overrides| match row.mode {
        Mode::Dynamic => layer.get(row.name).cloned(),
        Mode::Static => None,
    };
    let values = [
        (dynamic(broker.own_overrides()), ConfigSource::DynamicBroker),
        (dynamic(broker.cluster_overrides()), ConfigSource::DynamicDefaultBroker),
        (broker.fixed().get(row.name).map(|s| s.value.clone()), ConfigSource::StaticBroker),
        (row.default.as_deref().map(str::to_owned), ConfigSource::Default),
    ];
    values
        .into_iter()
        .filter_map(|(value, source)| Some(Synonym { name: row.name, value: Some(value?), source }))
}

fn described(row: &'static Property, read_only: bool, mut synonyms: Vec<Synonym>) -> Described {
    let strongest = synonyms.first();
    let value =
        strongest.and_then(|first| Some(scaled_from(row, first.name, first.value.as_ref()?)));
    let source = strongest.map_or(ConfigSource::Default, |first| first.source);
    if row.sensitive {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    Described {
        name: row.name,
        value: value.filter(|_| !row.sensitive),
        read_only,
        source,
        sensitive: row.sensitive,
        kind: row.kind,
        synonyms,
        documentation: &row.doc,
    }
}

/// A topic property is shown in its own unit even when it comes from `log.retention.hours`.
fn scaled_from(row: &Property, name: &str, value: &str) -> String {
    if row.name == name { value.to_owned() } else { scaled_up(name, value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn find<'a>(all: &'a [Described], name: &str) -> &'a Described {
        all.iter().find(|d| d.name == name).unwrap()
    }

    fn chain(described: &Described) -> Vec<(&str, &str, i8)> {
        let values = described.synonyms.iter();
        values.map(|s| (s.name, s.value.as_deref().unwrap(), s.source.code())).collect()
    }

    #[test]
    fn an_untouched_topic_setting_is_a_default_in_its_own_unit() {
        let all = describe_topic(&Overrides::new(), &BrokerConfig::default(), 3);
        let retention = find(&all, "retention.ms");
        assert_eq!(retention.value.as_deref(), Some("604800000"));
        assert_eq!(retention.source, ConfigSource::Default);
        assert_eq!(chain(retention), [], "hours are listed below log.retention.ms, which is unset");
        assert!(!retention.read_only);
        assert_eq!(retention.kind.code(), 5);
    }

    #[test]
    fn synonyms_go_from_topic_to_dynamic_to_static_to_default() {
        let fixed = Sources::new().flag("-X", "log.retention.ms", "3").load().unwrap();
        let cluster = Overrides::from([("log.retention.ms".to_owned(), "2".to_owned())]);
        let broker = fixed.with_dynamic(&cluster, &Overrides::new());
        let own = Overrides::from([("retention.ms".to_owned(), "1".to_owned())]);
        let all = describe_topic(&own, &broker, 1);
        let retention = find(&all, "retention.ms");
        assert_eq!(retention.source.code(), 1);
        assert_eq!(
            chain(retention),
            [
                ("retention.ms", "1", 1),
                ("log.retention.ms", "2", 3),
                ("log.retention.ms", "3", 4),
                ("log.retention.hours", "168", 5)
            ]
        );
    }

    #[test]
    fn other_units_are_listed_below_the_one_that_is_set() {
        let cluster = Overrides::from([("log.retention.ms".to_owned(), "2".to_owned())]);
        let broker = BrokerConfig::default().with_dynamic(&cluster, &Overrides::new());
        let expected = [("log.retention.ms", "2", 3), ("log.retention.hours", "168", 5)];
        assert_eq!(chain(find(&describe_broker(&broker), "log.retention.ms")), expected);
        let topic = describe_topic(&Overrides::new(), &broker, 1);
        assert_eq!(chain(find(&topic, "retention.ms")), expected);
        assert_eq!(find(&topic, "retention.ms").value.as_deref(), Some("2"));
    }

    #[test]
    fn what_is_described_is_what_is_in_force() {
        let fixed = Sources::new()
            .flag("-X", "log.retention.minutes", "2")
            .flag("-X", "log.segment.bytes", "1MiB")
            .load()
            .unwrap();
        let own = Overrides::from([("segment.ms".to_owned(), "9".to_owned())]);
        let all = describe_topic(&own, &fixed, 1);
        let config = TopicConfig::resolve(&own, &fixed);
        assert_eq!(find(&all, "retention.ms").value.as_deref(), Some("120000"));
        assert_eq!(config.retention_ms, Some(120_000));
        assert_eq!(find(&all, "segment.bytes").value, Some(config.segment_bytes.to_string()));
        assert_eq!(find(&all, "segment.ms").value, Some(config.segment_ms.to_string()));
        assert_eq!(find(&all, "segment.bytes").source.code(), 4);
    }

    #[test]
    fn static_broker_settings_are_read_only() {
        let all = describe_broker(&BrokerConfig::default().with_node_id(3));
        assert!(find(&all, "node.id").read_only);
        assert_eq!(find(&all, "node.id").value.as_deref(), Some("3"));
        assert!(!find(&all, "log.retention.ms").read_only);
        assert_eq!(find(&all, "log.retention.ms").value, None, "unset, and hours hold the default");
        assert!(all.iter().all(|d| !d.documentation.is_empty()));
    }

    #[test]
    fn a_subscription_to_metrics_shows_what_is_set_and_the_defaults() {
        let own = Overrides::from([("interval.ms".to_owned(), "1000".to_owned())]);
        let all = describe_client_metrics(&own);
        let told = |d: &Described| (d.name, d.value.clone().unwrap(), d.source.code());
        let all: Vec<_> = all.iter().map(told).collect();
        let expected = [("interval.ms", "1000", 7), ("match", "", 5), ("metrics", "", 5)];
        assert_eq!(all, expected.map(|(name, value, source)| (name, value.to_owned(), source)));
    }

    #[test]
    fn cluster_defaults_show_only_what_is_set() {
        let cluster = Overrides::from([("num.partitions".to_owned(), "2".to_owned())]);
        let broker = BrokerConfig::default().with_dynamic(&cluster, &Overrides::new());
        let all = describe_cluster_defaults(&broker);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].name, all[0].source.code()), ("num.partitions", 3));
    }
}
