//! A consumer by assignment: where it is, what it is told, and what cuts and restarts do to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sawlog_client::{
    Assignment, Client, ClientOptions, Consumer, ConsumerHooks, ConsumerOptions, Jump, Position,
    Producer, ProducerOptions, RecordRef, ResetPolicy, TimeQuery,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::load::{DEADLINE, connect, create, write};
use crate::process::{BrokerProcess, free_address};
use crate::proxy::Proxy;

struct Bench {
    broker: BrokerProcess,
    directory: TempDir,
    client: Client,
}

/// A broker with a topic of numbered records.
async fn bench(topic: &str, partitions: i32, records: u64) -> Bench {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(directory.path(), free_address(), &[]);
    let client = connect(ClientOptions::new(&broker.address().to_string())).await;
    create(&client, topic, partitions).await;
    let options = ProducerOptions { batch_bytes: 4096, ..ProducerOptions::default() };
    let producer = Producer::new(client.clone(), options);
    let written = write(&producer, topic, partitions, |number| number >= records).await;
    assert_eq!(written.failures(), 0);
    Bench { broker, directory, client }
}

fn assignment(topic: &str, partition: i32, from: Position) -> Assignment {
    Assignment { topic: topic.to_owned(), partition, from, until: None }
}

/// The next `count` offsets.
async fn offsets(consumer: &mut Consumer, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let next = timeout(DEADLINE, consumer.next()).await.expect("records come");
        let records = next.expect("readable").expect("it has no end");
        offsets.extend(records.iter().map(|record| record.offset));
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_lag_pauses_and_seeks_are_exact() {
    let bench = bench("seek", 2, 2_000).await;
    let options = ConsumerOptions { max_records: 100, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(&bench.client, options);
    let both = [0, 1].map(|partition| assignment("seek", partition, Position::Start));
    consumer.add(&both).await.expect("partitions to read");

    consumer.pause("seek", 1).expect("assigned");
    assert_eq!(offsets(&mut consumer, 1_000).await, (0..1_000).collect::<Vec<_>>());
    assert_eq!(consumer.position("seek", 0), Some(1_000));
    assert_eq!(consumer.position("seek", 1), Some(0), "nothing of a paused partition");
    let nothing = consumer.poll(Duration::from_millis(50)).await.expect("no error");
    assert!(nothing.is_empty(), "the other one is at its end");

    consumer.resume("seek", 1).expect("assigned");
    assert_eq!(offsets(&mut consumer, 100).await[..3], [0, 1, 2]);
    let lag = consumer.lag();
    let of = |partition| lag.iter().find(|one| one.partition == partition).expect("assigned");
    assert_eq!((of(0).records, of(0).time), (0, Some(Duration::ZERO)));
    assert_eq!((of(1).records, of(1).position, of(1).end_offset), (900, 100, 1_000));
    assert!(of(1).time.is_some_and(|time| time > Duration::ZERO));

    consumer.seek("seek", 1, Position::Offset(500)).expect("assigned");
    assert_eq!(offsets(&mut consumer, 100).await[0], 500);
    consumer.seek("seek", 1, Position::BeforeEnd(10)).expect("assigned");
    assert_eq!(offsets(&mut consumer, 10).await, (990..1_000).collect::<Vec<_>>());
    assert!(consumer.seek("seek", 2, Position::Start).is_err(), "not assigned");

    assert!(consumer.remove("seek", 1));
    consumer.seek("seek", 0, Position::Offset(998)).expect("assigned");
    assert_eq!(offsets(&mut consumer, 2).await, [998, 999]);
    assert_eq!(consumer.positions(), [(Arc::from("seek"), 0, 1_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_ahead_is_bounded_and_everything_comes() {
    let bench = bench("ahead", 3, 60_000).await;
    let options = ConsumerOptions {
        prefetch_bytes: 64 * 1024,
        fetch_bytes: 32 * 1024,
        partition_bytes: 16 * 1024,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(&bench.client, options);
    let until = Some(Position::End);
    let all = [0, 1, 2]
        .map(|partition| Assignment { until, ..assignment("ahead", partition, Position::Start) });
    consumer.add(&all).await.expect("partitions to read");
    let mut next = [0i64; 3];
    while let Some(records) =
        timeout(DEADLINE, consumer.next()).await.expect("records come").expect("readable")
    {
        for record in records {
            let place = &mut next[usize::try_from(record.partition).expect("small")];
            assert_eq!(record.offset, *place, "in order, without a gap");
            *place += 1;
        }
    }
    assert_eq!(next, [20_000; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_yields_records_one_by_one_and_ends() {
    use futures_core::Stream as _;
    let bench = bench("stream", 1, 500).await;
    let until = Some(Position::Offset(400));
    let part = Assignment { until, ..assignment("stream", 0, Position::AfterStart(100)) };
    let mut consumer = Consumer::assign(&bench.client, &[part]).await.expect("assigned");
    let mut stream = Box::pin(consumer.stream());
    let mut seen = Vec::new();
    while let Some(record) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        seen.push(record.expect("readable").offset);
    }
    assert_eq!(seen, (100..400).collect::<Vec<_>>());
}

#[derive(Debug, Default)]
struct Jumps(Mutex<Vec<(i64, i64)>>);

impl ConsumerHooks for Jumps {
    fn on_jump(&self, jump: &Jump) {
        assert!(!jump.is_truncation);
        self.0.lock().expect("no panics").push((jump.from, jump.to));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_was_deleted_is_an_error_or_a_jump_that_is_told() {
    let bench = bench("gone", 1, 1_000).await;
    bench.client.delete_records("gone", 0, 600).await.expect("deleted");
    let from = assignment("gone", 0, Position::Offset(5));

    let mut strict =
        Consumer::assign(&bench.client, std::slice::from_ref(&from)).await.expect("assigned");
    let error = timeout(DEADLINE, strict.next()).await.expect("told").expect_err("no silent jump");
    assert_eq!(error.code().map(|code| code.name()), Some("OFFSET_OUT_OF_RANGE"), "{error}");
    assert_eq!(strict.position("gone", 0), Some(5), "it stays until it is told to seek");
    strict.seek("gone", 0, Position::Start).expect("assigned");
    assert_eq!(offsets(&mut strict, 1).await[0], 600);

    let policies = [
        (ResetPolicy::Earliest, 600),
        (ResetPolicy::Latest, 1_000),
        (ResetPolicy::ByDuration(Duration::from_secs(3600)), 600),
    ];
    for (reset, to) in policies {
        let jumps = Arc::new(Jumps::default());
        let options =
            ConsumerOptions { reset, hooks: Some(jumps.clone()), ..ConsumerOptions::default() };
        let mut consumer = Consumer::new(&bench.client, options);
        consumer.add(std::slice::from_ref(&from)).await.expect("assigned");
        let moved = async {
            while consumer.position("gone", 0) == Some(5) {
                consumer.poll(Duration::from_millis(5)).await.expect("no error");
            }
        };
        timeout(DEADLINE, moved).await.expect("it moves");
        assert_eq!(*jumps.0.lock().expect("no panics"), [(5, to)], "{reset:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    let bench = bench("times", 2, 0).await;
    let producer = Producer::new(bench.client.clone(), ProducerOptions::default());
    for timestamp in [1_000, 2_000, 3_000] {
        for partition in [0, 1] {
            let record = RecordRef {
                partition: Some(partition),
                timestamp: Some(timestamp * i64::from(partition + 1)),
                ..RecordRef::default()
            };
            producer.send_ref("times", record).await.expect("taken in");
        }
    }
    producer.close().await;
    let query =
        |partition, timestamp| TimeQuery { topic: "times".to_owned(), partition, timestamp };
    let queries = [query(0, 1_500), query(1, 1_500), query(0, 3_001), query(0, 0), query(1, 6_000)];
    let found = bench.client.offsets_for_times(&queries).await.expect("found");
    assert_eq!(found, [Some(1), Some(0), None, Some(0), Some(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_where_it_was_after_restarts_and_cuts() {
    let mut bench = bench("on", 2, 20_000).await;
    let address = bench.broker.address();
    let proxy = Proxy::start(address).await;
    let mut options = ClientOptions::new(&address.to_string());
    options.connector = proxy.connector();
    let client = connect(options).await;
    let small = ConsumerOptions {
        prefetch_bytes: 16 * 1024,
        partition_bytes: 4 * 1024,
        retry_backoff_max: Duration::from_millis(100),
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(&client, small);
    let until = Some(Position::End);
    let both = [0, 1]
        .map(|partition| Assignment { until, ..assignment("on", partition, Position::Start) });
    consumer.add(&both).await.expect("partitions to read");
    let mut next = [0i64; 2];
    let mut portions = 0;
    while let Some(records) =
        timeout(DEADLINE, consumer.next()).await.expect("records come").expect("readable")
    {
        portions += 1;
        if portions == 20 {
            bench.broker.kill();
            bench.broker = BrokerProcess::start(bench.directory.path(), address, &[]);
        } else if portions % 15 == 0 {
            proxy.cut_all();
        }
        for record in records {
            let place = &mut next[usize::try_from(record.partition).expect("small")];
            assert_eq!(record.offset, *place, "nothing twice, nothing left out");
            *place += 1;
        }
    }
    assert_eq!(next, [10_000; 2]);
    assert!(portions > 30, "{portions}");
}
