//! The same groups on Apache Kafka, where it is installed.

use std::time::Duration;

use sawlog_client::{Assignor, ClientOptions, GroupOptions, GroupProtocol};

use super::log::Log;
use super::scenario::{options, whole};
use crate::kafka::Kafka;
use crate::load::connect;

/// Sessions short enough to wait for their ends.
const PROPERTIES: [&str; 6] = [
    "group.initial.rebalance.delay.ms=50",
    "group.min.session.timeout.ms=1000",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=3000",
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=200",
];

async fn live(test: &str, lives: &[(GroupOptions, bool)]) {
    let Some(mut kafka) = Kafka::start(test, &PROPERTIES) else { return };
    let mut how = ClientOptions::new(&kafka.address().to_string());
    how.metadata_max_age = Duration::from_millis(500);
    how.reconnect_backoff_max = Duration::from_millis(500);
    let client = connect(how).await;
    for (options, are_epochs) in lives {
        let log = Log { are_epochs: *are_epochs, ..Log::default() };
        let restart = || {
            kafka.kill();
            kafka.start_again();
        };
        let log = whole(&client, options.clone(), log, restart).await;
        assert!(log.lost() > 0, "who stayed away heard of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_groups_on_apache_kafka_read_everything_whatever_happens() {
    let classic = |group: &str, assignor| GroupOptions {
        protocol: GroupProtocol::Classic,
        assignors: vec![assignor],
        ..options(group)
    };
    let lives = [
        (classic("eager", Assignor::Range), false),
        (classic("cooperative", Assignor::CooperativeSticky), false),
    ];
    live("classic_groups_on_apache_kafka_read_everything_whatever_happens", &lives).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_groups_on_apache_kafka_read_everything_whatever_happens() {
    let lives = [(options("consumer"), true)];
    live("consumer_groups_on_apache_kafka_read_everything_whatever_happens", &lives).await;
}
