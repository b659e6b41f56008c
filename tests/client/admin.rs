//! The cluster as an operator sees it, on our broker and, by [`crate::kafka`], on Apache Kafka.

use std::time::Duration;

use sawlog_client::{
    Client, ClientOptions, ConfigChange, ConfigEntry, ConfigKind, ConfigResource, Producer,
    ProducerOptions,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::load::{DEADLINE, connect, create, write};
use crate::process::{BrokerProcess, free_address};

const TOPIC: &str = "administered";
const RECORDS: u64 = 50;

/// The setting of a resource, from wherever it has it.
async fn setting(client: &Client, of: ConfigResource<'_>, name: &str) -> ConfigEntry {
    let all = client.configs(of).await.expect("described");
    all.into_iter().find(|entry| entry.name == name).expect("there is such a setting")
}

/// A setting once `is_it` says so of its value: Apache Kafka's brokers hear of a change after its answer.
async fn setting_once(
    client: &Client,
    of: ConfigResource<'_>,
    name: &str,
    is_it: impl Fn(&str) -> bool,
) -> ConfigEntry {
    let known = async {
        loop {
            let entry = setting(client, of, name).await;
            if entry.value.as_deref().is_some_and(&is_it) {
                return entry;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, known).await.unwrap_or_else(|_| panic!("{name} is not what was set"))
}

/// Partitions, producers, disks and settings.
pub(crate) async fn a_cluster_is_administered(client: &Client) {
    create(client, TOPIC, 3).await;
    let producer = Producer::new(client.clone(), ProducerOptions::default());
    let written = write(&producer, TOPIC, 3, |number| number >= RECORDS).await;
    assert_eq!(written.failures(), 0);
    let broker = client.nodes().await.expect("told")[0].broker.id;

    let partitions = client.describe_partitions(TOPIC).await.expect("there");
    let indexes: Vec<_> = partitions.iter().map(|one| one.partition.index).collect();
    assert_eq!(indexes, [0, 1, 2]);
    let is_whole = |one: &sawlog_client::PartitionStatus| {
        one.offline.is_empty() && one.partition.leader == broker && one.partition.isr == [broker]
    };
    assert!(partitions.iter().all(is_whole), "{partitions:?}");
    let missing = client.describe_partitions("nothing-like-it").await.expect_err("not there");
    assert_eq!(missing.code().map(|code| code.name()), Some("UNKNOWN_TOPIC_OR_PARTITION"));

    let mut last_sequences = 0;
    for partition in 0..3 {
        let writers = client.describe_producers(TOPIC, partition).await.expect("told");
        assert_eq!(writers.len(), 1, "one idempotent producer: {writers:?}");
        assert!(writers[0].last_timestamp > 0 && writers[0].transaction_start.is_none());
        last_sequences += u64::try_from(writers[0].last_sequence).expect("it wrote") + 1;
    }
    assert_eq!(last_sequences, RECORDS, "every record has a number of its partition");

    let directories = client.log_dirs().await.expect("told");
    let copies = directories.iter().flat_map(|one| &one.copies);
    assert_eq!(copies.filter(|copy| copy.topic == TOPIC && copy.bytes > 0).count(), 3);
    assert!(directories.iter().all(|one| one.failure.is_none() && one.broker == broker));
    assert!(directories.iter().all(|one| one.usable_bytes <= one.total_bytes));
    let sizes = client.partition_sizes().await.expect("told");
    assert_eq!(sizes.iter().filter(|one| one.topic == TOPIC).count(), 3);

    settings(client).await;
}

async fn settings(client: &Client) {
    let topic = ConfigResource::Topic(TOPIC);
    let to = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (name, value) = to("cleanup.policy", "compact");
    let append = ConfigChange::Append(name, value);
    client.alter_configs(topic, &[append], false).await.expect("a list");
    let are_both = |value: &str| {
        let both: std::collections::BTreeSet<&str> = value.split(',').collect();
        both == ["compact", "delete"].into()
    };
    let policy = setting_once(client, topic, "cleanup.policy", are_both).await;
    let own = policy.synonyms.first().expect("in force first");
    assert_eq!(own.value, policy.value);
    let (name, value) = to("cleanup.policy", "delete");
    client.alter_configs(topic, &[ConfigChange::Subtract(name, value)], false).await.expect("both");
    let policy = setting_once(client, topic, "cleanup.policy", |value| value == "compact").await;
    assert_eq!(policy.source_name(), "topic");

    let group = ConfigResource::Group("set-up");
    let (name, value) = to("consumer.heartbeat.interval.ms", "7000");
    client
        .alter_configs(group, &[ConfigChange::Set(name, value)], false)
        .await
        .expect("of a group");
    let is_set = |value: &str| value == "7000";
    let interval = setting_once(client, group, "consumer.heartbeat.interval.ms", is_set).await;
    assert_eq!(interval.source_name(), "group");
    let groups = client.list_config_resources(&[ConfigKind::Group]).await.expect("told");
    assert_eq!(groups, [(ConfigKind::Group, "set-up".to_owned())]);
    let topics = client.list_config_resources(&[ConfigKind::Topic]).await.expect("told");
    assert!(topics.contains(&(ConfigKind::Topic, TOPIC.to_owned())), "{topics:?}");

    let (name, value) = to("log.cleaner.delete.retention.ms", "12345");
    let everywhere = ConfigResource::AllBrokers;
    let change = ConfigChange::Set(name, value);
    client.alter_configs(everywhere, &[change], false).await.expect("dynamic");
    let broker = client.nodes().await.expect("told")[0].broker.id;
    let (of, name) = (ConfigResource::Broker(broker), "log.cleaner.delete.retention.ms");
    let retention = setting_once(client, of, name, |value| value == "12345").await;
    assert_eq!(retention.source_name(), "cluster");
    let unset = ConfigChange::Delete("log.cleaner.delete.retention.ms".to_owned());
    client.alter_configs(everywhere, &[unset], false).await.expect("dynamic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_tells_of_its_partitions_producers_disks_and_settings() {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(directory.path(), free_address(), &[]);
    let client = connect(ClientOptions::new(&broker.address().to_string())).await;
    a_cluster_is_administered(&client).await;
}
