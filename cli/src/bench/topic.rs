//! The topic of a run: one that is there, or one made for it and deleted again.

use std::time::{SystemTime, UNIX_EPOCH};

use sawlog_client::{Client, NewTopic, TopicInfo};

use super::Load;
use crate::failure::Failure;

/// Where a run writes and reads.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) info: TopicInfo,
    /// Whether it was made for this run.
    pub(super) made: bool,
}

impl Target {
    pub(super) async fn prepare(client: &Client, load: &Load) -> Result<Self, Failure> {
        if let Some(name) = &load.topic {
            return Ok(Self { info: crate::topic::known(client, name).await?, made: false });
        }
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("sawlog-bench-{}-{}", std::process::id(), elapsed.as_millis());
        let topic = NewTopic {
            name: &name,
            partitions: load.partitions,
            replication_factor: -1,
            configs: &[],
            validate_only: false,
        };
        client
            .create_topic(&topic)
            .await
            .map_err(|error| Failure::from(error).while_doing("cannot make a topic to measure"))?;
        let made = Self { info: client.refresh(&name).await?, made: true };
        Ok(made)
    }

    pub(super) async fn remove(&self, client: &Client) -> Result<(), Failure> {
        if self.made {
            client.delete_topic(&self.info.name).await.map_err(|error| {
                let name = &self.info.name;
                Failure::from(error)
                    .while_doing(format!("cannot delete the topic made for this, {name}"))
            })?;
        }
        Ok(())
    }
}
