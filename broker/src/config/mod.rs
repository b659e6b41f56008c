//! What can be set, by whom, to what.
//!
//! Owns the property tables of topics, of groups, of client metrics and of the broker (one row per property), the typed structs
//! read from them, validation, the sources a broker's settings come from, and what DescribeConfigs
//! says about them. Every other module receives typed values and never looks a property up by name.
//! Does no I/O except reading the one configuration file it is pointed at.

mod broker;
mod client_metrics;
mod describe;
mod docs;
mod error;
mod group;
mod property;
mod sources;
mod suggest;
mod throttled;
mod topic;
mod value;

pub use broker::{BrokerConfig, HttpListener, Setting, broker_properties, broker_property};
pub use client_metrics::{
    ClientFact, ClientMetricsConfig, ClientPattern, client_metrics_properties,
    client_metrics_property,
};
pub use describe::{
    ConfigSource, Described, Synonym, describe_broker, describe_client_metrics,
    describe_cluster_defaults, describe_group, describe_topic,
};
pub use docs::configuration_page;
pub use error::{ConfigError, Origin};
pub use group::{GroupConfig, group_properties, group_property};
pub use property::{Kind, Mode, Property, Unit, Valid};
pub use sources::Sources;
pub use suggest::suggest;
pub use throttled::ThrottledReplicas;
pub use topic::{
    CleanupPolicy, CompressionType, FlushMode, MessageTimestampType, TopicConfig, topic_properties,
    topic_property,
};
pub use value::{Endpoint, parse_endpoint};

/// Values set for one resource, by property name. Absent means inherited.
pub type Overrides = std::collections::BTreeMap<String, String>;
