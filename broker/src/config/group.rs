//! What can be set on one consumer group, and the typed result.
//!
//! A group that sets nothing takes the broker's `group.consumer.*`. The broker's minima and maxima
//! hold for groups, too: they are checked when a setting is made, and a value made under other
//! limits is brought within them when it is read. A group need not exist to have settings.

use super::error::{ConfigError, Origin};
use super::property::{Property, Valid, properties};
use super::suggest::suggest;
use super::{BrokerConfig, Overrides};

properties! {
    /// The settings in force for one group: its own, else the broker's.
    pub struct GroupConfig {}
    /// One row per group property.
    static GROUP_PROPERTIES;

    "consumer.heartbeat.interval.ms" => consumer_heartbeat_interval_ms: u64, Int Milliseconds, default "5000",
        Valid::Range(1, 2_147_483_647), Dynamic, broker ["group.consumer.heartbeat.interval.ms"],
        "How often members of the consumer protocol (KIP-848) are told to send a heartbeat; within the broker's minimum and maximum.";
    "consumer.session.timeout.ms" => consumer_session_timeout_ms: u64, Int Milliseconds, default "45000",
        Valid::Range(1, 2_147_483_647), Dynamic, broker ["group.consumer.session.timeout.ms"],
        "How long after its last heartbeat a member of the consumer protocol (KIP-848) is taken for dead; within the broker's minimum and maximum.";
}

/// Kafka's group settings that are not honoured here.
const NOT_YET: &[(&str, &str)] = &[
    ("share.auto.offset.reset", "share groups are not built yet"),
    ("share.heartbeat.interval.ms", "share groups are not built yet"),
    ("share.isolation.level", "share groups are not built yet"),
    ("share.record.lock.duration.ms", "share groups are not built yet"),
    ("share.session.timeout.ms", "share groups are not built yet"),
    ("streams.heartbeat.interval.ms", "streams groups are not built yet"),
    ("streams.initial.rebalance.delay.ms", "streams groups are not built yet"),
    ("streams.num.standby.replicas", "streams groups are not built yet"),
    ("streams.session.timeout.ms", "streams groups are not built yet"),
];

/// Every group property, by name.
#[must_use]
pub fn group_properties() -> &'static [Property] {
    GROUP_PROPERTIES
}

/// The group property called `name`.
///
/// # Errors
/// Unknown or not supported, with a suggestion.
pub fn group_property(name: &str) -> Result<&'static Property, ConfigError> {
    if let Some(property) = GROUP_PROPERTIES.iter().find(|row| row.name == name) {
        return Ok(property);
    }
    let (key, origin) = (name.to_owned(), Origin::Request);
    if let Some((_, reason)) = NOT_YET.iter().find(|(known, _)| *known == name) {
        return Err(ConfigError::NotSupported { key, reason, origin });
    }
    let suggestion = suggest(name, GROUP_PROPERTIES.iter().map(|row| row.name));
    Err(ConfigError::UnknownKey { resource: "group", key, suggestion, origin })
}

impl GroupConfig {
    /// The settings of a group that has none of its own.
    #[must_use]
    pub fn inherited(broker: &BrokerConfig) -> Self {
        Self::resolve(&Overrides::new(), broker)
    }

    /// The settings in force for a group with these of its own. Values this version does not accept
    /// (written by another) are passed over.
    #[must_use]
    pub fn resolve(overrides: &Overrides, broker: &BrokerConfig) -> Self {
        let mut config = Self::wanted(overrides, broker);
        for limit in config.limits(broker) {
            *limit.value = (*limit.value).clamp(limit.least, limit.most);
        }
        config
    }

    /// As set, whatever the broker's limits.
    fn wanted(overrides: &Overrides, broker: &BrokerConfig) -> Self {
        Self::read(&|name| {
            let property = GROUP_PROPERTIES.iter().find(|row| row.name == name)?;
            let own = overrides.get(name).and_then(|text| property.canonical(text).ok());
            own.or_else(|| broker.inherited(property).map(|(_, text)| text))
        })
    }

    fn limits(&mut self, broker: &BrokerConfig) -> [Limit<'_>; 2] {
        [
            Limit {
                name: "heartbeat.interval.ms",
                value: &mut self.consumer_heartbeat_interval_ms,
                least: broker.group_consumer_min_heartbeat_interval_ms,
                most: broker.group_consumer_max_heartbeat_interval_ms,
            },
            Limit {
                name: "session.timeout.ms",
                value: &mut self.consumer_session_timeout_ms,
                least: broker.group_consumer_min_session_timeout_ms,
                most: broker.group_consumer_max_session_timeout_ms,
            },
        ]
    }

    /// Checks that the settings of a group hold together and keep within the broker's limits.
    ///
    /// # Errors
    /// Which do not.
    pub fn check_together(overrides: &Overrides, broker: &BrokerConfig) -> Result<(), ConfigError> {
        let mut config = Self::wanted(overrides, broker);
        for Limit { name, value, least, most } in config.limits(broker) {
            if *value < least {
                return Err(ConfigError::Conflict(format!(
                    "consumer.{name} ({value}) is below the broker's group.consumer.min.{name} ({least})"
                )));
            }
            if *value > most {
                return Err(ConfigError::Conflict(format!(
                    "consumer.{name} ({value}) is above the broker's group.consumer.max.{name} ({most})"
                )));
            }
        }
        let (heartbeat, session) =
            (config.consumer_heartbeat_interval_ms, config.consumer_session_timeout_ms);
        if session <= heartbeat {
            return Err(ConfigError::Conflict(format!(
                "consumer.session.timeout.ms ({session}) must be more than consumer.heartbeat.interval.ms ({heartbeat})"
            )));
        }
        Ok(())
    }
}

/// What the broker lets a group set.
struct Limit<'a> {
    /// The end of the property's name.
    name: &'static str,
    value: &'a mut u64,
    least: u64,
    /// Not below `least`: checked where the broker's settings are read.
    most: u64,
}

/// Names of Kafka's group settings that are known and refused.
pub(crate) fn group_settings_not_yet() -> &'static [(&'static str, &'static str)] {
    NOT_YET
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn set(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn broker(pairs: &[(&'static str, &str)]) -> BrokerConfig {
        let all = Sources::new();
        pairs.iter().fold(all, |all, (name, value)| all.flag("-X", name, value)).load().unwrap()
    }

    #[test]
    fn rows_are_sorted_and_inherit_the_brokers_default() {
        let names: Vec<_> = group_properties().iter().map(|row| row.name).collect();
        assert!(names.is_sorted());
        for row in group_properties() {
            let from = crate::config::broker_property(row.broker[0], Origin::Request).unwrap();
            assert_eq!(from.default, row.default, "{}", row.name);
        }
        let own = broker(&[("group.consumer.session.timeout.ms", "50s")]);
        assert_eq!(GroupConfig::inherited(&own).consumer_session_timeout_ms, 50_000);
        assert_eq!(GroupConfig::inherited(&own).consumer_heartbeat_interval_ms, 5_000);
    }

    #[test]
    fn the_brokers_limits_hold_for_groups() {
        let defaults = BrokerConfig::default();
        let refused = |pairs: &[(&str, &str)]| {
            GroupConfig::check_together(&set(pairs), &defaults).unwrap_err().to_string()
        };
        assert!(refused(&[("consumer.session.timeout.ms", "44999")]).contains("below"));
        assert!(refused(&[("consumer.session.timeout.ms", "60001")]).contains("above"));
        assert!(refused(&[("consumer.heartbeat.interval.ms", "4999")]).contains("below"));
        let fine = set(&[("consumer.heartbeat.interval.ms", "15000")]);
        assert_eq!(GroupConfig::check_together(&fine, &defaults), Ok(()));
    }

    #[test]
    fn a_session_is_longer_than_a_heartbeat() {
        let narrow = broker(&[("group.consumer.min.session.timeout.ms", "6000")]);
        let both = set(&[
            ("consumer.heartbeat.interval.ms", "6000"),
            ("consumer.session.timeout.ms", "6000"),
        ]);
        let error = GroupConfig::check_together(&both, &narrow).unwrap_err().to_string();
        assert!(error.contains("must be more than"), "{error}");
    }

    #[test]
    fn what_was_set_under_other_limits_is_brought_within_them() {
        let now = broker(&[("group.consumer.max.session.timeout.ms", "50000")]);
        let earlier = set(&[("consumer.session.timeout.ms", "60000")]);
        assert_eq!(GroupConfig::resolve(&earlier, &now).consumer_session_timeout_ms, 50_000);
    }

    #[test]
    fn names_nobody_knows_and_share_groups_are_refused() {
        let text = |name| group_property(name).unwrap_err().to_string();
        assert_eq!(
            text("consumer.session.timeout"),
            "unknown group setting \"consumer.session.timeout\"; did you mean \"consumer.session.timeout.ms\"?"
        );
        assert!(text("share.session.timeout.ms").contains("share groups are not built yet"));
    }
}
