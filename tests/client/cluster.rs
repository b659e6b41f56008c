//! Connections, metadata, and leaders that change.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sawlog_client::{
    Assignment, Client, ClientError, ClientOptions, Connecting, Connector, Consumer, ConsumerHooks,
    ConsumerOptions, Jump, Position, ResetPolicy, TcpConnector,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::load::{DEADLINE, connect, create};
use crate::process::{BrokerProcess, free_address};
use crate::scripted::{self, Script, TOPIC};

#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl Connector for Counting {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        TcpConnector.connect(address)
    }
}

async fn counted(address: &str) -> (Client, Arc<Counting>) {
    let connector = Arc::new(Counting::default());
    let mut options = ClientOptions::new(address);
    options.connector = connector.clone();
    (connect(options).await, connector)
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_one_connection_is_opened_and_metadata_asked_for_once() {
    let script = Script::default();
    let (address, script) = scripted::start(script).await;
    let (client, connector) = counted(&address.to_string()).await;
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.topic(TOPIC).await.map(|topic| topic.name) })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.expect("no panic"), Ok(TOPIC.to_owned()));
    }
    assert_eq!(script.lock().expect("no panics").metadata_requests, 1);
    assert_eq!(connector.0.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_is_left_alone_between_attempts_and_found_again() {
    let directory = TempDir::new().expect("a scratch directory");
    let address = free_address();
    let mut broker = BrokerProcess::start(directory.path(), address, &[]);
    let (client, connector) = counted(&address.to_string()).await;
    create(&client, "there", 1).await;
    broker.kill();
    let before = connector.0.load(Ordering::Relaxed);
    for _ in 0..2_000 {
        let error = client.offsets("there", 0).await.expect_err("it is down");
        assert!(error.is_retriable(), "{error}");
    }
    let attempts = connector.0.load(Ordering::Relaxed) - before;
    assert!(attempts < 200, "{attempts} attempts for 2000 questions");
    let _broker = BrokerProcess::start(directory.path(), address, &[]);
    let found = async {
        while client.offsets("there", 0).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, found).await.expect("it is found again");
}

#[derive(Debug, Default)]
struct Jumps(Mutex<Vec<Jump>>);

impl ConsumerHooks for Jumps {
    fn on_jump(&self, jump: &Jump) {
        self.0.lock().expect("no panics").push(jump.clone());
    }
}

/// A consumer that has read ten records of epoch 4, whose log was then cut at `former_end` by a
/// leader of epoch 5.
async fn after_a_cut(former_end: i64, options: ConsumerOptions) -> (Consumer, scripted::Shared) {
    let script = Script { leader_epoch: 4, end: 10, former_end: 10, ..Script::default() };
    let (address, script) = scripted::start(script).await;
    let client = connect(ClientOptions::new(&address.to_string())).await;
    let mut consumer = Consumer::new(&client, options);
    let from = Position::Offset(0);
    let part = Assignment { topic: TOPIC.to_owned(), partition: 0, from, until: None };
    consumer.add(&[part]).await.expect("assigned");
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(records.map(|records| records.len()), Some(10));
    {
        let mut script = script.lock().expect("no panics");
        (script.leader_epoch, script.end, script.former_end) = (5, 20, former_end);
    }
    (consumer, script)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_below_what_was_read_is_an_error() {
    let (mut consumer, _script) = after_a_cut(7, ConsumerOptions::default()).await;
    let error = timeout(DEADLINE, consumer.next()).await.expect("told").expect_err("it was cut");
    let topic = TOPIC.to_owned();
    let cut = ClientError::LogTruncated { topic, partition: 0, position: 10, end_offset: 7 };
    assert_eq!(error, cut);
    consumer.seek(TOPIC, 0, Position::Offset(7)).expect("assigned");
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(records.expect("no end")[0].offset, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_followed_and_told_where_a_policy_says_so() {
    let jumps = Arc::new(Jumps::default());
    let options = ConsumerOptions {
        reset: ResetPolicy::Latest,
        hooks: Some(jumps.clone()),
        ..ConsumerOptions::default()
    };
    let (mut consumer, _script) = after_a_cut(7, options).await;
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(records.expect("no end")[0].offset, 7, "where the logs part, not the end");
    let told = jumps.0.lock().expect("no panics").clone();
    let expected =
        Jump { topic: Arc::from(TOPIC), partition: 0, from: 10, to: 7, is_truncation: true };
    assert_eq!(told, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_with_everything_that_was_read_changes_nothing() {
    let (mut consumer, _script) = after_a_cut(10, ConsumerOptions::default()).await;
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(records.expect("no end")[0].offset, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_followed_by_another_while_it_is_asked_is_not_asked_forever() {
    let (mut consumer, script) = after_a_cut(10, ConsumerOptions::default()).await;
    script.lock().expect("no panics").moves_when_asked = 2;
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(records.expect("no end")[0].offset, 10);
    assert_eq!(script.lock().expect("no panics").leader_epoch, 7);
}
