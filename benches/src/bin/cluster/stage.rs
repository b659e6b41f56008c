//! A cluster with a topic on all of its brokers and clients that write to it, and what is asked of it:
//! who leads, who is in sync, who is the controller.

use std::path::Path;
use std::time::{Duration, Instant};

use sawlog_client::{Client, ClientOptions, ElectionType, NewTopic, TopicInfo};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::nodes::{Nodes, Programs};
use crate::variant::Kind;
use crate::writers::{VIEWS, Writer, Writing};

/// Longest wait for what a cluster does by itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Between two looks at what is waited for, and at what is measured.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_SHORT: Duration = Duration::from_millis(2);

pub(crate) const BROKERS: i32 = 3;

/// The cluster under measurement.
pub(crate) struct Stage {
    pub(crate) nodes: Nodes,
    pub(crate) topic: String,
    runtime: Runtime,
    client: Client,
}

impl Stage {
    /// Starts three brokers and waits until all know each other and vote.
    pub(crate) fn set(kind: Kind, programs: &Programs, home: &Path) -> Result<Self, Failure> {
        let nodes = Nodes::start(kind, programs, home, BROKERS)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(connect(&nodes.bootstrap()))?;
        let stage = Self { nodes, topic: String::new(), runtime, client };
        stage.await_voters()?;
        Ok(stage)
    }

    /// Makes the topic of the measurement, with a copy of each of its partitions on every broker.
    pub(crate) fn create(
        &mut self,
        name: &str,
        partitions: i32,
        copies: i16,
    ) -> Result<(), Failure> {
        let minimum = if copies > 1 { "2" } else { "1" };
        let configs = [("min.insync.replicas".to_owned(), minimum.to_owned())];
        let topic = NewTopic {
            name,
            partitions,
            replication_factor: copies,
            configs: &configs,
            validate_only: false,
        };
        self.runtime.block_on(self.client.create_topic(&topic))?;
        name.clone_into(&mut self.topic);
        self.await_whole()
    }

    /// Clients that write, from now on.
    pub(crate) fn write(&self, partitions: i32, rate: u32) -> Vec<Writer> {
        self.write_to(self.nodes.bootstrap(), (partitions, rate))
    }

    /// Clients that know of some brokers only.
    pub(crate) fn write_to(
        &self,
        bootstrap: String,
        (partitions, rate): (i32, u32),
    ) -> Vec<Writer> {
        let topic = self.topic.clone();
        let what = Writing { bootstrap, topic, partitions, rate };
        VIEWS.map(|view| Writer::start(view, &what)).into()
    }

    /// Waits until every partition has a leader and all of its copies in sync.
    pub(crate) fn await_whole(&self) -> Result<(), Failure> {
        self.await_topic("all copies in sync", PAUSE, &self.client, |topic| {
            topic
                .partitions
                .iter()
                .all(|one| one.leader >= 0 && one.isr.len() == one.replicas.len())
        })
    }

    /// Waits until every partition is led, and not by `gone`, as the others know; tells when.
    pub(crate) fn await_leaders_but(&self, gone: i32) -> Result<Instant, Failure> {
        let client = self.runtime.block_on(connect(&self.nodes.bootstrap_but(gone)))?;
        self.await_topic("another leader", PAUSE_SHORT, &client, |topic| {
            topic.partitions.iter().all(|one| one.leader >= 0 && one.leader != gone)
        })?;
        Ok(Instant::now())
    }

    fn await_topic(
        &self,
        what: &str,
        pause: Duration,
        client: &Client,
        is_so: impl Fn(&TopicInfo) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.runtime.block_on(client.describe(Some(&[self.topic.as_str()])));
            if let Ok(info) = &seen
                && info.topics.first().is_some_and(&is_so)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{what}: {seen:?}").into());
            }
            std::thread::sleep(pause);
        }
    }

    /// The broker that is the controller.
    pub(crate) fn controller(&self) -> Result<i32, Failure> {
        Ok(self.runtime.block_on(self.client.describe_quorum())?.leader)
    }

    /// Waits until another broker than `gone` is the controller and answers as such; tells when.
    pub(crate) fn await_controller_but(&self, gone: i32) -> Result<Instant, Failure> {
        let client = self.runtime.block_on(connect(&self.nodes.bootstrap_but(gone)))?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.runtime.block_on(client.describe_quorum());
            if seen.as_ref().is_ok_and(|quorum| quorum.leader >= 0 && quorum.leader != gone) {
                return Ok(Instant::now());
            }
            if Instant::now() > deadline {
                return Err(format!("another controller: {seen:?}").into());
            }
            std::thread::sleep(PAUSE_SHORT);
        }
    }

    /// Waits until all brokers vote, have the metadata, and are known.
    pub(crate) fn await_voters(&self) -> Result<(), Failure> {
        let wanted = usize::try_from(BROKERS)?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.runtime.block_on(async {
                Ok::<_, Failure>((self.client.describe_quorum().await?, self.client.nodes().await?))
            });
            if let Ok((quorum, nodes)) = &seen {
                let voters = quorum.replicas.iter().filter(|one| one.is_voter);
                let known = voters.filter(|one| one.log_end >= quorum.high_watermark);
                let running = nodes.iter().filter(|node| node.is_running);
                if known.count() == wanted && running.count() == wanted {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                return Err(format!("three brokers vote: {seen:?}").into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Has every partition led by the first of its replicas.
    pub(crate) fn prefer_first(&self) -> Result<(), Failure> {
        let elected = self.client.elect_leaders(ElectionType::Preferred, None);
        self.runtime.block_on(elected)?;
        self.await_topic("its first replica leads", PAUSE, &self.client, |topic| {
            topic.partitions.iter().all(|one| Some(&one.leader) == one.replicas.first())
        })
    }
}

async fn connect(bootstrap: &str) -> Result<Client, Failure> {
    let mut options = ClientOptions::new(bootstrap);
    options.timeout = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(1);
    options.reconnect_backoff_max = Duration::from_millis(100);
    Ok(Client::connect(options).await?)
}
