//! Settings of topics, brokers and groups.

use sawlog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use sawlog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use sawlog_protocol::messages::list_config_resources::ListConfigResourcesRequest;
use sawlog_protocol::{Request, decode_response};

use super::{MISSING, unknown_topic};
use crate::cluster::Client;
use crate::connection::Reply;
use crate::error::{ClientError, check};

/// A resource with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigResource<'a> {
    /// A topic, by name.
    Topic(&'a str),
    /// A broker, by id.
    Broker(i32),
    /// What all brokers have that say nothing else themselves.
    AllBrokers,
    /// A group, by name. It need not have members.
    Group(&'a str),
}

impl ConfigResource<'_> {
    fn wire(self) -> (i8, String) {
        match self {
            Self::Topic(name) => (ConfigKind::Topic.code(), name.to_owned()),
            Self::Broker(id) => (ConfigKind::Broker.code(), id.to_string()),
            Self::AllBrokers => (ConfigKind::Broker.code(), String::new()),
            Self::Group(name) => (ConfigKind::Group.code(), name.to_owned()),
        }
    }
}

/// Kinds of resources with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigKind {
    /// Topics.
    Topic,
    /// Brokers.
    Broker,
    /// Loggers of brokers, whose settings are their levels.
    BrokerLogger,
    /// Subscriptions to metrics of clients (KIP-714).
    ClientMetrics,
    /// Groups (KIP-848).
    Group,
}

impl ConfigKind {
    const ALL: [Self; 5] =
        [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group];

    /// Kafka's code for it.
    const fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` where it is secret or unset.
    pub value: Option<String>,
    /// Kafka's code for where it comes from: 1 topic, 2 broker (dynamic), 3 all brokers (dynamic),
    /// 4 start of the broker, 5 default, 8 group.
    pub source: i8,
    /// Whether it can only be set at the start.
    pub read_only: bool,
    /// Whether its value is a secret, which is not told.
    pub sensitive: bool,
    /// Where its value could come from, what is in force first.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it means, where told.
    pub documentation: Option<String>,
}

/// A value that a setting has somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// What the setting is called there.
    pub name: String,
    /// Its value there; `None` where it is secret.
    pub value: Option<String>,
    /// As [`ConfigEntry::source`].
    pub source: i8,
}

impl ConfigEntry {
    /// Where it comes from, in a word.
    #[must_use]
    pub fn source_name(&self) -> &'static str {
        match self.source {
            1 => "topic",
            2 => "broker",
            3 => "cluster",
            4 => "static",
            5 => "default",
            8 => "group",
            _ => "unknown",
        }
    }
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set it.
    Set(String, String),
    /// Back to what it inherits.
    Delete(String),
    /// Adds to the list it is.
    Append(String, String),
    /// Takes from the list it is.
    Subtract(String, String),
}

impl ConfigChange {
    fn wire(&self) -> AlterableConfig<'_> {
        let (name, config_operation, value) = match self {
            Self::Set(name, value) => (name, 0, Some(value)),
            Self::Delete(name) => (name, 1, None),
            Self::Append(name, value) => (name, 2, Some(value)),
            Self::Subtract(name, value) => (name, 3, Some(value)),
        };
        AlterableConfig { name, config_operation, value: value.map(String::as_str) }
    }
}

impl Client {
    /// The settings in force for a topic, broker or group.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::ConfigResource;
    ///
    /// for setting in client.configs(ConfigResource::Topic("orders")).await? {
    ///     println!("{} = {:?} ({})", setting.name, setting.value, setting.source_name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn configs(
        &self,
        resource: ConfigResource<'_>,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let (resource_type, name) = resource.wire();
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: &name,
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: true,
        };
        let reply = self.ask_about(resource, &request).await?;
        let (_, response) =
            decode_response::<DescribeConfigsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.results.first().ok_or(MISSING)?;
        unknown_topic(&name, check(result.error_code, result.error_message))?;
        Ok(result.configs.iter().map(entry).collect())
    }

    /// Changes settings of a topic, broker or group, all or none of them.
    ///
    /// # Errors
    /// The broker refuses, and says why.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::{ConfigChange, ConfigResource};
    ///
    /// let day = ConfigChange::Set("retention.ms".to_owned(), "86400000".to_owned());
    /// client.alter_configs(ConfigResource::Topic("orders"), &[day], false).await
    /// # }
    /// ```
    pub async fn alter_configs(
        &self,
        resource: ConfigResource<'_>,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let (resource_type, name) = resource.wire();
        let configs = changes.iter().map(ConfigChange::wire).collect();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource { resource_type, resource_name: &name, configs }],
            validate_only,
        };
        let reply = self.ask_about(resource, &request).await?;
        let (_, response) =
            decode_response::<IncrementalAlterConfigsRequest<'_>>(&reply.frame, reply.version)?;
        let result = response.responses.first().ok_or(MISSING)?;
        unknown_topic(&name, check(result.error_code, result.error_message))
    }

    /// Everything that has settings, or can have: of these kinds, of all kinds if none is named.
    ///
    /// # Errors
    /// The broker refuses, or is too old to tell of anything but metrics of clients.
    ///
    /// ```no_run
    /// # async fn example(client: sawlog_client::Client) -> Result<(), sawlog_client::ClientError> {
    /// use sawlog_client::ConfigKind;
    ///
    /// for (_, group) in client.list_config_resources(&[ConfigKind::Group]).await? {
    ///     println!("{group} has settings of its own");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_config_resources(
        &self,
        kinds: &[ConfigKind],
    ) -> Result<Vec<(ConfigKind, String)>, ClientError> {
        let resource_types = kinds.iter().map(|kind| kind.code()).collect();
        let connection = self.any().await?;
        let request = ListConfigResourcesRequest { resource_types };
        let reply = connection.call(&request).await?;
        if reply.version == 0 && kinds != [ConfigKind::ClientMetrics] {
            let (address, api) = (connection.address().to_owned(), "a list of config resources");
            return Err(ClientError::Unsupported { address, api });
        }
        let (_, response) =
            decode_response::<ListConfigResourcesRequest>(&reply.frame, reply.version)?;
        check(response.error_code, None)?;
        let kind = |code| ConfigKind::ALL.into_iter().find(|kind| kind.code() == code);
        let known = response.config_resources.iter().filter_map(|one| {
            // A kind that is newer than this client has no name here.
            Some((kind(one.resource_type)?, one.resource_name.to_owned()))
        });
        let mut listed: Vec<(ConfigKind, String)> = known.collect();
        listed.sort();
        Ok(listed)
    }

    /// Sends a request to the broker that answers for a resource.
    async fn ask_about<'r, R: Request<'r>>(
        &self,
        resource: ConfigResource<'_>,
        request: &R,
    ) -> Result<Reply, ClientError> {
        match resource {
            // Each broker knows its own settings alone.
            ConfigResource::Broker(id) => {
                // Who is asked to talk to a broker should know which there are.
                self.describe(Some(&[])).await?;
                self.this_broker(id).await?.call(request).await
            }
            ConfigResource::Topic(_) | ConfigResource::AllBrokers | ConfigResource::Group(_) => {
                self.ask_controller(request).await
            }
        }
    }
}

fn entry(config: &DescribeConfigsResourceResult<'_>) -> ConfigEntry {
    let synonyms = config.synonyms.iter().map(|one| ConfigSynonym {
        name: one.name.to_owned(),
        value: one.value.map(str::to_owned),
        source: one.source,
    });
    ConfigEntry {
        name: config.name.to_owned(),
        value: config.value.map(str::to_owned),
        source: config.config_source,
        read_only: config.read_only,
        sensitive: config.is_sensitive,
        synonyms: synonyms.collect(),
        documentation: config.documentation.map(str::to_owned),
    }
}
