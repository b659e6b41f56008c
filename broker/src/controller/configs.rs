//! Changing settings of topics, of groups, of one broker, of all brokers.

use sawlog_protocol::group_records::KEY_STRING_BYTES_MAX;

use crate::config::{
    BrokerConfig, ConfigError, GroupConfig, Kind, Mode, Origin, Overrides, Property, TopicConfig,
    broker_property, group_property, topic_property,
};
use crate::metadata::{ConfigResource, Record};

use super::AdminError;
use super::decide::Scratch;
use super::request::{AlterConfigs, Alteration, ConfigChange, ConfigOperation, ConfigTarget};

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
    };
    let wanted = match &request.change {
        Alteration::Replace(pairs) => replace(&resource, pairs)?,
        Alteration::Incremental(changes) => {
            incremental(&resource, current, image.config(), changes)?
        }
    };
    match &resource {
        ConfigResource::Topic(_) => TopicConfig::check_together(&wanted, image.config())?,
        ConfigResource::Group(_) => GroupConfig::check_together(&wanted, image.config())?,
        ConfigResource::Broker(_) | ConfigResource::Cluster => {}
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
