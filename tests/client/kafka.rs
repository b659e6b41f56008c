//! The same client against Apache Kafka, where it is installed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sawlog_client::{
    ClientOptions, Compression, ConfigChange, ConfigResource, Consumer, ConsumerOptions, Position,
    Producer, ProducerOptions, ResetPolicy, TimeQuery,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::load::{DEADLINE, check, connect, create, write};

/// A Kafka node takes its time to start.
const READY_DEADLINE: Duration = Duration::from_secs(90);

/// A Kafka node on loopback. Killed when dropped.
pub(crate) struct Kafka {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
    jars: PathBuf,
}

impl Kafka {
    /// `None`, and says so, where Kafka is not installed.
    pub(crate) fn start(test: &str, properties: &[&str]) -> Option<Self> {
        let jars = jars(test)?;
        let directory = TempDir::new().expect("a scratch directory");
        let address = two_free_ports();
        let process = spawn(&jars, directory.path(), address, properties);
        let mut kafka = Self { process, address, directory, jars };
        kafka.wait_ready();
        Some(kafka)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("our child can be killed");
        self.process.wait().expect("a killed child ends");
    }

    /// Starts it again on its data.
    pub(crate) fn start_again(&mut self) {
        let properties = self.directory.path().join("server.properties");
        let class_path = format!("{}/*", self.jars.display());
        let mut command = Command::new("java");
        command.args(["-Xmx1g", "-cp", &class_path, "kafka.Kafka"]).arg(properties);
        self.process = quietly(command);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + READY_DEADLINE;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().expect("our child can be waited for");
            assert!(ended.is_none() && Instant::now() < deadline, "no Kafka: {ended:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Where Kafka's jars are. `None`, and says so, where they are not.
pub(crate) fn jars(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SAWLOG_COMPAT_DIR")
        .map_or_else(|| sawlog_tests::target_dir().join("compat"), PathBuf::from);
    let jars = root.join("kafka");
    if jars.exists() {
        return Some(jars);
    }
    let why = format!("{} is not installed (.ci/install)", jars.display());
    assert!(std::env::var("SAWLOG_COMPAT").as_deref() != Ok("required"), "{test}: {why}");
    eprintln!("{test}: skipped: {why}");
    None
}

fn spawn(jars: &Path, data: &Path, address: SocketAddr, properties: &[&str]) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/kafka/broker");
    let mut command = Command::new(script);
    command.arg(jars).arg(data).arg(address.port().to_string());
    command.env("SETTINGS", properties.join("\n"));
    quietly(command)
}

fn quietly(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("Kafka starts")
}

/// The broker's port and, above it, its controller's.
fn two_free_ports() -> SocketAddr {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let next = address.port().checked_add(1);
        if next.is_some_and(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return address;
        }
    }
    panic!("no two ports in a row are free")
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_kafka_is_served_like_our_own_broker_through_a_kill() {
    let kafka = Kafka::start("apache_kafka_is_served_like_our_own_broker_through_a_kill", &[]);
    let Some(mut kafka) = kafka else { return };
    let mut options = ClientOptions::new(&kafka.address.to_string());
    options.reconnect_backoff_max = Duration::from_millis(500);
    let client = connect(options).await;

    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for compression in codecs {
        let topic = format!("codec-{compression:?}");
        create(&client, &topic, 3).await;
        let options =
            ProducerOptions { compression, batch_bytes: 4096, ..ProducerOptions::default() };
        let producer = Producer::new(client.clone(), options);
        let written = write(&producer, &topic, 3, |number| number >= 3_000).await;
        assert_eq!(written.failures(), 0, "{compression:?}");
        check(&client, &topic, 3, &written).await;
    }
    administration(&client).await;
    crate::admin::a_cluster_is_administered(&client).await;
    crate::groups_admin::a_group_is_administered(&client, false).await;

    create(&client, "killed", 2).await;
    let options = ProducerOptions { batch_bytes: 2048, ..ProducerOptions::default() };
    let producer = Producer::new(client.clone(), options);
    let killer = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(500));
        kafka.kill();
        kafka.start_again();
        kafka
    });
    let mut paused = 0;
    let written = write(&producer, "killed", 2, |number| {
        // The kill takes some seconds: not millions of records.
        if number.is_multiple_of(1_000) && !killer.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            paused += 1;
        }
        killer.is_finished()
    })
    .await;
    let _kafka = killer.await.expect("Kafka starts again");
    assert!(paused > 10, "{paused}");
    assert_eq!(written.failures(), 0, "everything is confirmed in the end");
    check(&client, "killed", 2, &written).await;
}

async fn administration(client: &sawlog_client::Client) {
    let topic = "codec-None";
    let change = ConfigChange::Set("retention.ms".to_owned(), "7200000".to_owned());
    let resource = ConfigResource::Topic(topic);
    client.alter_configs(resource, &[change], false).await.expect("altered");
    let known = async {
        loop {
            let configs = client.configs(resource).await.expect("described");
            let retention = configs.iter().find(|entry| entry.name == "retention.ms");
            // Apache Kafka's brokers hear of it after the answer.
            if retention.expect("there").value.as_deref() == Some("7200000") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, known).await.expect("it is heard of");
    client.create_partitions(topic, 4, false).await.expect("grown");

    client.delete_records(topic, 0, 600).await.expect("deleted");
    assert_eq!(client.offsets(topic, 0).await, Ok((600, 1_000)));
    let query = TimeQuery { topic: topic.to_owned(), partition: 0, timestamp: 0 };
    assert_eq!(client.offsets_for_times(&[query]).await, Ok(vec![Some(600)]));

    let reset = ResetPolicy::Earliest;
    let mut consumer =
        Consumer::new(client, ConsumerOptions { reset, ..ConsumerOptions::default() });
    let from = Position::Offset(5);
    let part =
        sawlog_client::Assignment { topic: topic.to_owned(), partition: 0, from, until: None };
    consumer.add(&[part]).await.expect("assigned");
    let records = timeout(DEADLINE, consumer.next()).await.expect("records").expect("readable");
    assert_eq!(records.expect("no end")[0].offset, 600);
}
