//! A producer through everything that happens to brokers and networks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sawlog_client::{
    Acks, BatchInfo, ClientError, ClientOptions, Compression, Producer, ProducerHooks,
    ProducerOptions, RecordRef, TrySendError,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::load::{DEADLINE, check, connect, create, write};
use crate::process::{BrokerProcess, free_address};
use crate::proxy::Proxy;

fn impatient(address: std::net::SocketAddr) -> ClientOptions {
    let mut options = ClientOptions::new(&address.to_string());
    options.timeout = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(2);
    options.reconnect_backoff_max = Duration::from_millis(200);
    options
}

/// Small batches, so that many are on their way.
fn small_batches() -> ProducerOptions {
    ProducerOptions {
        batch_bytes: 2048,
        linger: Duration::from_millis(1),
        retry_backoff_max: Duration::from_millis(200),
        ..ProducerOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_started_again_under_load_loses_doubles_and_reorders_nothing() {
    let directory = TempDir::new().expect("a scratch directory");
    let address = free_address();
    let mut broker = BrokerProcess::start(directory.path(), address, &[]);
    let client = connect(impatient(address)).await;
    create(&client, "killed", 4).await;
    let producer = Producer::new(client.clone(), small_batches());
    let killer = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(300));
            broker.kill();
            broker = BrokerProcess::start(directory.path(), address, &[]);
        }
        (broker, directory)
    });
    let written = write(&producer, "killed", 4, |_| killer.is_finished()).await;
    let _broker = killer.await.expect("the broker starts");
    assert_eq!(written.failures(), 0, "everything is confirmed in the end");
    assert!(written.outcomes.len() > 1000, "{} records under load", written.outcomes.len());
    check(&client, "killed", 4, &written).await;
}

struct Behind {
    _broker: BrokerProcess,
    _directory: TempDir,
    proxy: Proxy,
    client: sawlog_client::Client,
}

async fn behind_a_proxy(topic: &str, partitions: i32) -> Behind {
    let directory = TempDir::new().expect("a scratch directory");
    let address = free_address();
    let broker = BrokerProcess::start(directory.path(), address, &[]);
    let proxy = Proxy::start(address).await;
    let mut options = impatient(address);
    options.connector = proxy.connector();
    let client = connect(options).await;
    create(&client, topic, partitions).await;
    Behind { _broker: broker, _directory: directory, proxy, client }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_middle_of_frames_lose_double_and_reorder_nothing() {
    let behind = behind_a_proxy("cut", 3).await;
    let options = ProducerOptions { buffer_bytes: 128 * 1024, ..small_batches() };
    let producer = Producer::new(behind.client.clone(), options);
    let proxy = &behind.proxy;
    let mut armed = 0;
    let written = write(&producer, "cut", 3, |number| {
        // Wherever in a frame that falls; the next one once that is done.
        if proxy.cuts() == armed && number % 97 == 50 {
            proxy.cut_after(1 + usize::try_from(number % 30_011).expect("small"));
            armed += 1;
        }
        proxy.cuts() >= 12
    })
    .await;
    assert_eq!(written.failures(), 0);
    check(&behind.client, "cut", 3, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_broker_gets_everything_once_and_in_order() {
    let behind = behind_a_proxy("slow", 2).await;
    behind.proxy.delay(Duration::from_millis(20));
    let options = ProducerOptions { buffer_bytes: 64 * 1024, ..small_batches() };
    let producer = Producer::new(behind.client.clone(), options);
    let mut held_back = 0;
    let written = write(&producer, "slow", 2, |number| {
        held_back = held_back.max(producer.buffered_bytes());
        number >= 8_000
    })
    .await;
    assert!(held_back <= 64 * 1024, "{held_back} bytes in a buffer of 64 KiB");
    assert_eq!(written.failures(), 0);
    behind.proxy.delay(Duration::ZERO);
    check(&behind.client, "slow", 2, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_is_left_and_what_it_swallowed_is_sent_again() {
    let behind = behind_a_proxy("hole", 2).await;
    let producer = Producer::new(behind.client.clone(), small_batches());
    let began = Instant::now();
    let written = write(&producer, "hole", 2, |number| {
        let swallows = (5_000..10_000).contains(&number) && began.elapsed().as_secs() < 3;
        behind.proxy.swallow(swallows);
        number >= 20_000
    })
    .await;
    assert_eq!(written.failures(), 0);
    check(&behind.client, "hole", 2, &written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_fails_after_the_delivery_timeout() {
    let behind = behind_a_proxy("late", 1).await;
    let options =
        ProducerOptions { delivery_timeout: Duration::from_millis(500), ..small_batches() };
    let producer = Producer::new(behind.client.clone(), options);
    let record = RecordRef { value: Some(b"first"), ..RecordRef::default() };
    let first = producer.send_ref("late", record).await.expect("taken in");
    first.await.expect("the broker answers");
    behind.proxy.swallow(true);
    let late = producer.send_ref("late", record).await.expect("taken in");
    let outcome = timeout(DEADLINE, late).await.expect("an outcome");
    let error = outcome.expect_err("nobody confirmed it");
    assert!(error.to_string().contains("delivery timeout"), "{error}");
    behind.proxy.swallow(false);
    behind.proxy.cut_all();
    // The producer is as good as new.
    let next = producer.send_ref("late", record).await.expect("taken in");
    let delivered = timeout(DEADLINE, next).await.expect("an outcome");
    assert!(delivered.is_ok(), "{delivered:?}");
    assert_eq!(producer.buffered_bytes(), 0, "every byte of the buffer is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_and_every_kind_of_acks_arrives() {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(directory.path(), free_address(), &[]);
    let client = connect(impatient(broker.address())).await;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for compression in codecs {
        let topic = format!("codec-{compression:?}");
        create(&client, &topic, 2).await;
        let options = ProducerOptions { compression, ..small_batches() };
        let producer = Producer::new(client.clone(), options);
        let written = write(&producer, &topic, 2, |number| number >= 5_000).await;
        assert_eq!(written.failures(), 0, "{compression:?}");
        check(&client, &topic, 2, &written).await;
    }
    for acks in [Acks::None, Acks::Leader] {
        let topic = format!("acks-{acks:?}");
        create(&client, &topic, 1).await;
        let options = ProducerOptions { acks, ..small_batches() };
        let producer = Producer::new(client.clone(), options);
        assert!(!producer.options().idempotent, "only with all acks");
        let written = write(&producer, &topic, 1, |number| number >= 1_000).await;
        assert_eq!(written.failures(), 0, "{acks:?}");
        // Without acks there is no telling when; a connection keeps its order, so ask on it.
        let client = &client;
        let all_there = async {
            while crate::load::read_all(client, &topic, 1).await.get(&0).map(Vec::len)
                != Some(1_000)
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, all_there).await.expect("all records arrive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_topic_takes_is_sent_in_parts() {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(directory.path(), free_address(), &[]);
    let client = connect(impatient(broker.address())).await;
    let configs = [("max.message.bytes".to_owned(), "1000".to_owned())];
    let topic = sawlog_client::NewTopic {
        name: "narrow",
        partitions: 1,
        replication_factor: 1,
        configs: &configs,
        validate_only: false,
    };
    client.create_topic(&topic).await.expect("a new topic");
    let options = ProducerOptions { batch_bytes: 16 * 1024, ..ProducerOptions::default() };
    let producer = Producer::new(client.clone(), options);
    let written = write(&producer, "narrow", 1, |number| number >= 2_000).await;
    assert_eq!(written.failures(), 0);
    check(&client, "narrow", 1, &written).await;

    let huge = vec![0; 5000];
    let record = RecordRef { value: Some(&huge), ..RecordRef::default() };
    let refused = producer.send_ref("narrow", record).await.expect("taken in");
    let small = RecordRef { value: Some(b"small"), ..RecordRef::default() };
    let behind = producer.send_ref("narrow", small).await.expect("taken in");
    let error = timeout(DEADLINE, refused).await.expect("an outcome").expect_err("too large");
    assert_eq!(error.code().map(|code| code.name()), Some("MESSAGE_TOO_LARGE"), "{error}");
    let delivered = timeout(DEADLINE, behind).await.expect("an outcome");
    assert!(delivered.is_ok(), "one that is refused does not take others along: {delivered:?}");
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicUsize,
    delivered: AtomicUsize,
    failed: AtomicUsize,
}

impl ProducerHooks for Counters {
    fn on_send(&self, _topic: &str, _partition: i32, _record: &RecordRef<'_>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn on_delivered(&self, batch: &BatchInfo<'_>, _base_offset: i64) {
        self.delivered.fetch_add(batch.records as usize, Ordering::Relaxed);
    }

    fn on_failed(&self, batch: &BatchInfo<'_>, _error: &ClientError) {
        self.failed.fetch_add(batch.records as usize, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_see_every_record_and_a_closed_producer_takes_none() {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(directory.path(), free_address(), &[]);
    let client = connect(impatient(broker.address())).await;
    create(&client, "hooks", 3).await;
    let counters = Arc::new(Counters::default());
    let options = ProducerOptions { hooks: Some(counters.clone()), ..small_batches() };
    let producer = Producer::new(client.clone(), options);
    let record = RecordRef { value: Some(b"without a key"), ..RecordRef::default() };
    for _ in 0..3_000 {
        // Nobody waits for these one by one.
        drop(producer.send_ref("hooks", record).await.expect("taken in"));
    }
    timeout(DEADLINE, producer.close()).await.expect("a close that ends");
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let counts = [&counters.sent, &counters.delivered, &counters.failed].map(count);
    assert_eq!(counts, [3_000, 3_000, 0]);
    let refused = producer.try_send("hooks", &record).expect_err("closed");
    assert_eq!(refused, TrySendError::Refused(ClientError::Closed));
    // A batch of 2 KiB takes some 90 of these: every partition got its share, in turn.
    let mut ends = Vec::new();
    for partition in 0..3 {
        ends.push(client.offsets("hooks", partition).await.expect("offsets").1);
    }
    assert_eq!(ends.iter().sum::<i64>(), 3_000);
    assert!(ends.iter().all(|end| *end > 300), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_said_at_once() {
    let directory = TempDir::new().expect("a scratch directory");
    let broker = BrokerProcess::start(directory.path(), free_address(), &[]);
    let client = connect(impatient(broker.address())).await;
    create(&client, "small", 1).await;
    let options = ProducerOptions { buffer_bytes: 1000, ..ProducerOptions::default() };
    let producer = Producer::new(client, options);
    let record = RecordRef { value: Some(b"v"), ..RecordRef::default() };
    assert_eq!(
        producer.try_send("small", &record).expect_err("not asked for yet"),
        TrySendError::UnknownPartitions
    );
    let nowhere = RecordRef { partition: Some(7), ..record };
    let error = producer.send_ref("small", nowhere).await.expect_err("no such partition");
    assert!(error.to_string().contains("no partition 7, it has 1"), "{error}");
    let large = RecordRef { value: Some(&[0; 2000]), ..record };
    let error = producer.send_ref("small", large).await.expect_err("larger than the buffer");
    assert!(error.to_string().contains("exceeds the buffer of 1000 bytes"), "{error}");
    assert_eq!(producer.buffered_bytes(), 0);
}
