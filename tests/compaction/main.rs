//! Compaction of topics that are written and read all the while: replaying what is left says what
//! replaying everything would have said, every record left is one that was written, at its offset,
//! and no reader ever notices.
//!
//! `SAWLOG_COMPACTION_RECORDS` makes it longer: how many records each writer writes.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "tests fail and talk")]

mod history;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use history::{History, Number};
use sawlog_broker::Broker;
use sawlog_broker::config::Sources;
use sawlog_client::{
    Assignment, Client, ClientOptions, Compression, Consumer, Delivery, NewTopic, Position,
    Producer, ProducerOptions, Record,
};
use sawlog_protocol::ErrorCode;
use sawlog_tests::free_address;

const TOPIC: &str = "compacted";
const PARTITIONS: i32 = 2;
const SEGMENT_BYTES: u64 = 1 << 20;

const WRITERS: u64 = 5;

/// Records each writer writes unless told otherwise. With values that no codec makes smaller all of
/// them together are some ten segments in each partition, however fast the machine is.
const RECORDS: u64 = 20_000;

/// Records each writer has on their way before it waits for the oldest.
const IN_FLIGHT: usize = 2_000;

/// Writers pause after so many records: the machine is to serve readers and compaction too.
const BURST: u64 = 100;
const PAUSE: Duration = Duration::from_millis(30);

/// A log with a larger dirty share is due.
const DIRTY_RATIO: f64 = 0.2;

const LOOK_AGAIN: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(300);

fn start(data: &Path, address: &str) -> Broker {
    let settings = [
        ("listeners", address),
        ("log.dirs", data.to_str().unwrap()),
        ("log.cleaner.backoff.ms", "50"),
        ("log.cleaner.dedupe.buffer.size", "1048576"),
    ];
    let sources = settings
        .iter()
        .fold(Sources::new(), |sources, (key, value)| sources.flag("-X", key, value));
    Broker::start(sources.load().unwrap()).unwrap()
}

async fn connect(address: &str) -> Client {
    Client::connect(ClientOptions::new(address)).await.unwrap()
}

async fn create_topic(client: &Client) {
    let (segment_bytes, dirty_ratio) = (SEGMENT_BYTES.to_string(), DIRTY_RATIO.to_string());
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", segment_bytes.as_str()),
        ("min.cleanable.dirty.ratio", dirty_ratio.as_str()),
        // Readers begin again and again, and each reads everything within this time.
        ("delete.retention.ms", "60000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let topic = NewTopic {
        name: TOPIC,
        partitions: PARTITIONS,
        replication_factor: 1,
        configs: &configs,
        validate_only: false,
    };
    client.create_topic(&topic).await.unwrap();
}

/// Writes its records. Each writer has keys of its own, a few of them hot; every sixth record is a
/// tombstone.
async fn write(number: u64, address: String, history: Arc<History>) {
    let codecs = Compression::ALL;
    let codec = codecs[usize::try_from(number).unwrap() % codecs.len()];
    let options = ProducerOptions { compression: codec, ..ProducerOptions::default() };
    let producer = Producer::new(connect(&address).await, options);
    let mut random = Number::new(number);
    let mut in_flight: std::collections::VecDeque<(Record, Delivery)> = Default::default();
    for sequence in 0..records_per_writer() {
        let rank = if random.below(10) < 8 { random.below(20) } else { random.below(10_000) };
        let value = (random.below(6) > 0).then(|| {
            let mut value = format!("{number}/{rank}/{sequence} ").into_bytes();
            let length = 40 + usize::try_from(random.below(300)).unwrap();
            random.fill(&mut value, length);
            value
        });
        let key = format!("{number}/{rank}").into_bytes();
        let record = Record { key: Some(key), value, ..Record::default() };
        let delivery = producer.send(TOPIC, record.clone()).await.unwrap();
        in_flight.push_back((record, delivery));
        if sequence % BURST == 0 {
            tokio::time::sleep(PAUSE).await;
        }
        if in_flight.len() >= IN_FLIGHT {
            note(&history, in_flight.pop_front().unwrap()).await;
        }
    }
    for sent in in_flight {
        note(&history, sent).await;
    }
}

async fn note(history: &History, (record, delivery): (Record, Delivery)) {
    let delivered = delivery.confirmed().await.unwrap();
    history.wrote(delivered.partition, delivered.offset, record.key.unwrap(), record.value);
}

fn whole(partition: i32, until: Option<Position>) -> Assignment {
    Assignment { topic: TOPIC.to_owned(), partition, from: Position::Start, until }
}

/// Everything from the start of a partition to its end as of now: offset, key, value.
async fn read(client: &Client, partition: i32, history: &History) -> history::Replay {
    let mut consumer =
        Consumer::assign(client, &[whole(partition, Some(Position::End))]).await.unwrap();
    let mut replay = history::Replay::default();
    while let Some(records) = consumer.next().await.unwrap() {
        for record in records {
            replay.read(history, &record);
        }
    }
    replay
}

/// Reads everything over and over, beside writers and compaction.
async fn scan(address: String, history: Arc<History>, stop: Arc<AtomicBool>) -> (u64, u64) {
    let client = connect(&address).await;
    let (mut scans, mut records) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for partition in 0..PARTITIONS {
            records += read(&client, partition, &history).await.records;
        }
        scans += 1;
    }
    (scans, records)
}

/// Follows the end of every partition, from the first record on.
async fn tail(
    address: String,
    history: Arc<History>,
    ends: tokio::sync::watch::Receiver<Option<Vec<i64>>>,
) -> BTreeMap<i32, history::Replay> {
    let client = connect(&address).await;
    let all: Vec<Assignment> = (0..PARTITIONS).map(|partition| whole(partition, None)).collect();
    let mut consumer = Consumer::assign(&client, &all).await.unwrap();
    let mut replays: BTreeMap<i32, history::Replay> = BTreeMap::new();
    loop {
        let done = ends.borrow().as_ref().is_some_and(|ends| {
            (0..).zip(ends).all(|(partition, end)| {
                replays.get(&partition).is_some_and(|replay| replay.last_offset + 1 >= *end)
            })
        });
        if done {
            return replays;
        }
        // Dropping a wait for records loses none.
        let Ok(records) = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await
        else {
            continue;
        };
        for record in records.unwrap().unwrap_or_default() {
            replays.entry(record.partition).or_default().read(&history, &record);
        }
    }
}

fn records_per_writer() -> u64 {
    let set = std::env::var("SAWLOG_COMPACTION_RECORDS").ok();
    set.map_or(RECORDS, |text| text.parse().expect("SAWLOG_COMPACTION_RECORDS is a number"))
}

/// Waits until compaction has looked at everything that is written now and found nothing due.
async fn settled(broker: &Broker) {
    let started = Instant::now();
    loop {
        let stats = broker.compaction();
        assert_eq!(stats.uncleanable, 0, "{stats:?}");
        if stats.age < started.elapsed() && stats.dirty_ratio_max <= DIRTY_RATIO {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "compaction does not keep up: {stats:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[test]
fn what_is_left_under_load_says_what_everything_said() {
    let data = tempfile::tempdir().unwrap();
    let address = free_address().to_string();
    let broker = start(data.path(), &address);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let history = Arc::new(History::new(PARTITIONS));
    runtime.block_on(async {
        let client = connect(&address).await;
        create_topic(&client).await;
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ends) = tokio::sync::watch::channel(None);
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| tokio::spawn(write(n, address.clone(), history.clone())))
            .collect();
        let scanner = tokio::spawn(scan(address.clone(), history.clone(), stop.clone()));
        let tailer = tokio::spawn(tail(address.clone(), history.clone(), ends));
        for writer in writers {
            writer.await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let (scans, scanned) = scanner.await.unwrap();
        settled(&broker).await;
        end.send_replace(Some(history.ends()));
        for (partition, replay) in tailer.await.unwrap() {
            history.check(partition, &replay, "a reader that followed");
        }
        let mut left = 0;
        for partition in 0..PARTITIONS {
            let replay = read(&client, partition, &history).await;
            history.check(partition, &replay, "a reader afterwards");
            left += replay.records;
        }
        let stats = broker.compaction();
        let written = history.written();
        println!(
            "{written} records written, {left} left; {scans} scans read {scanned} records; \
             {} passes, {} MiB into {} MiB in {:?} ({} MiB/s)",
            stats.passes,
            stats.bytes_before >> 20,
            stats.bytes_after >> 20,
            stats.busy,
            (stats.bytes_before >> 20) * 1000
                / u64::try_from(stats.busy.as_millis()).unwrap().max(1),
        );
        assert!(scans > 0, "a scan beside the load was finished");
        assert!(left < written / 2, "{left} of {written} are left: nothing was compacted");
    });
    broker.stop();
    let broker = start(data.path(), &address);
    runtime.block_on(async {
        let client = connect(&address).await;
        for partition in 0..PARTITIONS {
            let replay = read(&client, partition, &history).await;
            history.check(partition, &replay, "a reader after a restart");
        }
    });
    broker.stop();
}

#[test]
fn a_record_without_a_key_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let address = free_address().to_string();
    let broker = start(data.path(), &address);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = connect(&address).await;
        create_topic(&client).await;
        for compression in Compression::ALL {
            let options = ProducerOptions { compression, ..ProducerOptions::default() };
            let producer = Producer::new(client.clone(), options);
            let keyless = Record { value: Some(b"v".to_vec()), ..Record::default() };
            let sent = producer.send(TOPIC, keyless).await.unwrap();
            let error = sent.confirmed().await.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD), "{compression}: {error}");
            let tombstone = Record { key: Some(b"k".to_vec()), ..Record::default() };
            producer.send(TOPIC, tombstone).await.unwrap().confirmed().await.unwrap();
        }
    });
    broker.stop();
}
