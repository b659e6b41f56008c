//! Changing settings of topics, of groups, of one broker, of all brokers.

use sawlog_protocol::group_records::KEY_STRING_BYTES_MAX;

use crate::base::limits::{CLIENT_SUBSCRIPTIONS_MAX, TOPIC_NAME_BYTES_MAX};
use crate::config::{
    BrokerConfig, ConfigError, GroupConfig, Kind, Mode, Origin, Overrides, Property, TopicConfig,
    broker_property, client_metrics_property, group_property, topic_property,
};
use crate::metadata::{ConfigResource, Record};

use super::AdminError;
use super::decide::Scratch;
use super::request::{AlterConfigs, Alteration, ConfigChange, ConfigOperation, ConfigTarget};

/// What Kafka's reassignment tool takes back when a reassignment is done, whether it set it or not.
/// Setting it is refused: logs do not move between data directories.
const THROTTLES: [&str; 1] = ["replica.alter.log.dirs.io.max.bytes.per.second"];

/// Changes each resource on its own; all changes of one resource or none.
pub(super) fn alter(
    scratch: &mut Scratch<'_>,
    resources: &[AlterConfigs],
    validate_only: bool,
) -> Vec<Result<(), AdminError>> {
    resources
        .iter()
        .enumerate()
        .map(|(at, resource)| {
            let earlier = resources[..at].iter();
            if earlier.clone().any(|other| other.target == resource.target) {
                return Err(AdminError::InvalidRequest(
                    "a resource is named more than once in the request".to_owned(),
                ));
            }
            let records = plan(scratch, resource)?;
            if !validate_only {
                scratch.push(records);
            }
            Ok(())
        })
        .collect()
}

/// The records that change one resource.
fn plan(scratch: &Scratch<'_>, request: &AlterConfigs) -> Result<Vec<Record>, AdminError> {
    let image = &scratch.image;
    let empty = Overrides::new();
    let (resource, current) = match &request.target {
        ConfigTarget::Topic(name) => {
            let topic = image.topic(name).ok_or_else(|| AdminError::UnknownTopic(name.clone()))?;
            (ConfigResource::Topic(topic.id), &topic.configs)
        }
        ConfigTarget::Broker(id) => {
            image.broker(*id).ok_or(AdminError::UnknownBroker(*id))?;
            (ConfigResource::Broker(*id), image.broker_overrides(*id).unwrap_or(&empty))
        }
        ConfigTarget::Cluster => (ConfigResource::Cluster, image.cluster_overrides()),
        ConfigTarget::Group(group) => {
            check_group_name(group)?;
            let current = image.group_overrides(group).unwrap_or(&empty);
            (ConfigResource::Group(group.as_str().into()), current)
        }
        ConfigTarget::ClientMetrics(name) => {
            check_subscription_name(name)?;
            let all = image.client_metrics();
            if !all.contains_key(name.as_str()) && all.len() >= CLIENT_SUBSCRIPTIONS_MAX {
                return Err(AdminError::InvalidRequest(format!(
                    "there are {CLIENT_SUBSCRIPTIONS_MAX} subscriptions to metrics already"
                )));
            }
            let current = all.get(name.as_str()).unwrap_or(&empty);
            (ConfigResource::ClientMetrics(name.as_str().into()), current)
        }
    };
    let wanted = match &request.change {
        Alteration::Replace(pairs) => replace(&resource, pairs)?,
        Alteration::Incremental(changes) => {
            incremental(&resource, current, image.config(), changes)
                .map_err(|error| as_kafka_has_it(&resource, error))?
        }
    };
    match &resource {
        ConfigResource::Topic(_) => TopicConfig::check_together(&wanted, image.config())?,
        ConfigResource::Group(_) => GroupConfig::check_together(&wanted, image.config())?,
        ConfigResource::Broker(_) | ConfigResource::Cluster | ConfigResource::ClientMetrics(_) => {}
    }
    Ok(difference(&resource, current, &wanted))
}

/// A group has to be one that can be coordinated; whether it is there does not matter.
pub(crate) fn check_group_name(group: &str) -> Result<(), AdminError> {
    if group.is_empty() || group.len() > KEY_STRING_BYTES_MAX {
        return Err(AdminError::InvalidRequest(format!(
            "the name of a group has 1 to {KEY_STRING_BYTES_MAX} bytes, not {}",
            group.len()
        )));
    }
    Ok(())
}

/// An interval of client metrics that is a number, but none that is allowed, is in Kafka no wrong
/// setting but a wrong request.
fn as_kafka_has_it(resource: &ConfigResource, error: AdminError) -> AdminError {
    match (resource, &error) {
        (
            ConfigResource::ClientMetrics(_),
            AdminError::InvalidConfig(ConfigError::InvalidValue { key, value, .. }),
        ) if key == "interval.ms" && value.trim().parse::<i32>().is_ok() => {
            AdminError::InvalidRequest(error.to_string())
        }
        _ => error,
    }
}

/// A subscription to metrics is found by its name.
pub(crate) fn check_subscription_name(name: &str) -> Result<(), AdminError> {
    if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(AdminError::InvalidRequest(format!(
            "the name of a subscription to metrics has 1 to {TOPIC_NAME_BYTES_MAX} bytes, not {}",
            name.len()
        )));
    }
    Ok(())
}

fn replace(
    resource: &ConfigResource,
    pairs: &[(String, Option<String>)],
) -> Result<Overrides, AdminError> {
    let mut wanted = Overrides::new();
    for (name, value) in pairs {
        let property = property(resource, name)?;
        let Some(value) = value else { continue };
        if wanted.insert(name.clone(), canonical(property, value)?).is_some() {
            return Err(named_twice(name));
        }
    }
    Ok(wanted)
}

fn incremental(
    resource: &ConfigResource,
    current: &Overrides,
    broker: &BrokerConfig,
    changes: &[ConfigChange],
) -> Result<Overrides, AdminError> {
    let mut wanted = current.clone();
    for (at, change) in changes.iter().enumerate() {
        if changes[..at].iter().any(|earlier| earlier.name == change.name) {
            return Err(named_twice(&change.name));
        }
        apply(resource, broker, &mut wanted, change)?;
    }
    Ok(wanted)
}

fn apply(
    resource: &ConfigResource,
    broker: &BrokerConfig,
    wanted: &mut Overrides,
    change: &ConfigChange,
) -> Result<(), AdminError> {
    let name = &change.name;
    if change.operation == ConfigOperation::Delete && wanted.remove(name).is_some() {
        // Also takes back a setting that this version does not know any more.
        return Ok(());
    }
    if change.operation == ConfigOperation::Delete && THROTTLES.contains(&name.as_str()) {
        return Ok(());
    }
    let property = property(resource, name)?;
    let value = || {
        change.value.as_deref().ok_or_else(|| {
            AdminError::InvalidRequest(format!("\"{name}\" has no value to change it with"))
        })
    };
    match change.operation {
        ConfigOperation::Delete => {}
        ConfigOperation::Set => {
            wanted.insert(name.clone(), canonical(property, value()?)?);
        }
        ConfigOperation::Append | ConfigOperation::Subtract => {
            if property.kind != Kind::List {
                return Err(AdminError::InvalidConfigChange(format!(
                    "\"{name}\" is not a list: values can only be appended to and subtracted from lists"
                )));
            }
            let before = match wanted.get(name) {
                Some(own) => own.clone(),
                None => inherited(property, broker),
            };
            let (before, operands) = (items(&before), items(value()?));
            let after: Vec<String> = match change.operation {
                ConfigOperation::Append => before.into_iter().chain(operands).collect(),
                _ => before.into_iter().filter(|item| !operands.contains(item)).collect(),
            };
            wanted.insert(name.clone(), canonical(property, &after.join(","))?);
        }
    }
    Ok(())
}

fn inherited(property: &Property, broker: &BrokerConfig) -> String {
    match broker.inherited(property) {
        Some((_, text)) => text,
        None => property.default.as_deref().unwrap_or_default().to_owned(),
    }
}

fn items(list: &str) -> Vec<String> {
    let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

/// The property, if it can be changed on such a resource while the broker runs.
fn property(resource: &ConfigResource, name: &str) -> Result<&'static Property, AdminError> {
    let property = match resource {
        ConfigResource::Topic(_) => topic_property(name)?,
        ConfigResource::Group(_) => group_property(name)?,
        // As in Kafka, this is no wrong setting but a wrong request.
        ConfigResource::ClientMetrics(_) => client_metrics_property(name)
            .map_err(|error| AdminError::InvalidRequest(error.to_string()))?,
        ConfigResource::Broker(_) | ConfigResource::Cluster => {
            broker_property(name, Origin::Request)?
        }
    };
    match property.mode {
        Mode::Dynamic => Ok(property),
        Mode::Static => Err(ConfigError::ReadOnly { key: name.to_owned() }.into()),
    }
}

fn canonical(property: &Property, value: &str) -> Result<String, AdminError> {
    property.canonical(value).map_err(|reason| {
        let (key, value) = (property.name.to_owned(), value.to_owned());
        ConfigError::InvalidValue { key, value, reason, origin: Origin::Request }.into()
    })
}

fn named_twice(name: &str) -> AdminError {
    AdminError::InvalidRequest(format!("\"{name}\" is named more than once for one resource"))
}

/// Only what changes is recorded.
fn difference(resource: &ConfigResource, current: &Overrides, wanted: &Overrides) -> Vec<Record> {
    let removed = current.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key, None));
    let set = wanted
        .iter()
        .filter(|(key, value)| current.get(*key) != Some(*value))
        .map(|(key, value)| (key, Some(value)));
    removed
        .chain(set)
        .map(|(key, value)| Record::Config {
            resource: resource.clone(),
            key: key.clone(),
            value: value.cloned(),
        })
        .collect()
}
