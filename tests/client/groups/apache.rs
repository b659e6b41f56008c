//! The same groups on Apache Kafka, where it is installed.

use std::sync::Arc;
use std::time::Duration;

use sawlog_client::{
    Assignor, ClientOptions, Consumer, GroupConsumer, GroupOptions, GroupProtocol, Topics,
};
use tokio::time::timeout;

use super::log::Log;
use super::scenario::{options, whole};
use crate::kafka::Kafka;
use crate::load::{DEADLINE, connect, create};

/// Sessions short enough to wait for their ends, and long enough for a broker that starts on a busy machine.
const PROPERTIES: [&str; 6] = [
    "group.initial.rebalance.delay.ms=50",
    "group.min.session.timeout.ms=1000",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=8000",
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
async fn consumer_groups_on_apache_kafka_have_patterns_and_static_members() {
    let test = "consumer_groups_on_apache_kafka_have_patterns_and_static_members";
    let Some(kafka) = Kafka::start(test, &PROPERTIES) else { return };
    let client = connect(ClientOptions::new(&kafka.address().to_string())).await;
    create(&client, "found-1", 2).await;
    create(&client, "lost-1", 2).await;
    let instance = |name: &str| GroupOptions {
        protocol: GroupProtocol::Consumer,
        instance: Some(name.to_owned()),
        ..options("patterns")
    };
    let subscribe = |name: &str| {
        Consumer::subscribe(&client, Topics::matching("found-[0-9]+"), instance(name))
            .expect("good options")
    };
    let mut first = subscribe("one");
    shares(&mut [&mut first], 2).await;
    create(&client, "found-2", 4).await;
    shares(&mut [&mut first], 6).await;
    let mut second = subscribe("two");
    shares(&mut [&mut first, &mut second], 6).await;
    let (had, epoch) = (topics_of(&second), first.member().expect("it is in").1);
    assert_eq!(had.len(), 3);
    second.close().await.expect("committed");
    let mut second = subscribe("two");
    shares(&mut [&mut first, &mut second], 6).await;
    assert_eq!(topics_of(&second), had, "it comes back to what it had");
    assert_eq!(first.member().expect("it is in").1, epoch, "and the other does not notice");

    // Its process dies: the id is released when its session is over.
    drop(second);
    let mut second = subscribe("two");
    shares(&mut [&mut first, &mut second], 6).await;
    let wrong = Consumer::subscribe(&client, Topics::matching("a("), options("wrong"));
    let told = timeout(DEADLINE, wrong.expect("the broker knows better").next()).await;
    let error = told.expect("told").expect_err("no such pattern");
    assert_eq!(error.code().map(|code| code.name()), Some("INVALID_REGULAR_EXPRESSION"));
}

fn topics_of(consumer: &GroupConsumer) -> Vec<(Arc<str>, i32)> {
    let mut all: Vec<_> =
        consumer.lag().into_iter().map(|one| (one.topic, one.partition)).collect();
    all.sort();
    all
}

/// Waits until the members share so many partitions evenly.
async fn shares(members: &mut [&mut GroupConsumer], partitions: usize) {
    let each = partitions / members.len();
    let shared = async {
        while !members.iter().all(|member| member.lag().len() == each) {
            for member in &mut *members {
                member.poll(Duration::from_millis(10)).await.expect("nothing that lasts");
            }
        }
    };
    timeout(DEADLINE, shared).await.expect("they share");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_groups_on_apache_kafka_read_everything_whatever_happens() {
    let lives = [(options("consumer"), true)];
    live("consumer_groups_on_apache_kafka_read_everything_whatever_happens", &lives).await;
}
