//! What makes a process a broker of its cluster: its logs recovered, registered, its replicas connected
//! with those of others, its groups and handlers on top.
//!
//! Always in this order, in a process of its own and in the simulator: logs are read before the
//! broker says that it is there, and roles are taken only by metadata that knows of that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tracing::info;

use super::alters::Alters;
use super::contact::Contact;
use super::departing::Departing;
use super::member::Member;
use super::{StartError, StartErrorKind, cannot_start_threads, reports};
use crate::base::{BrokerId, Clock, DataDirectory, Tasks, Threads};
use crate::config::BrokerConfig;
use crate::controller::replicas::BrokerStart;
use crate::controller::{Controller, ImageSubscriber, Registration};
use crate::coordinator::assignor::Assignor;
use crate::coordinator::{Coordinator, GroupOptions, GroupsTopicOptions, Migration};
use crate::handlers::{FetchSessions, MemberIds, Node, ProducerIds};
use crate::metadata::Random;
use crate::metrics::BrokerMetrics;
use crate::peer::PeerNet;
use crate::replication::{Partitions, Recovered, RecoveryProgress};
use crate::telemetry::Telemetry;

/// What a broker is put together from.
pub(crate) struct Parts<'a> {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Box<dyn Random>,
    /// For ids of members of groups.
    pub(crate) ids: Box<dyn Random>,
    pub(crate) directories: &'a [Arc<DataDirectory>],
    pub(crate) controller: Arc<Controller>,
    pub(crate) peers: Arc<dyn PeerNet>,
    pub(crate) tasks: Tasks,
    pub(crate) threads: Threads,
    pub(crate) stopped: watch::Receiver<bool>,
}

/// A broker of its cluster.
#[derive(Debug)]
pub(crate) struct Wired {
    pub(crate) node: Arc<Node>,
    pub(crate) member: Arc<Member>,
    pub(crate) recovered: Recovered,
}

/// Puts a broker together. Tells `progress` how far reading its logs is, and `on_recovered` what it has
/// before anything of it takes a role; who that returns applies images to it: the partitions themselves,
/// or who looks at them after each.
///
/// # Errors
/// It is refused, or there are no threads for it.
pub(crate) async fn wire(
    parts: Parts<'_>,
    registration: Registration,
    progress: impl Fn(RecoveryProgress),
    on_recovered: impl FnOnce(&Arc<Partitions>) -> Arc<dyn ImageSubscriber>,
) -> Result<Wired, StartError> {
    let Parts {
        config,
        clock,
        random,
        ids,
        directories,
        controller,
        peers,
        tasks,
        threads,
        stopped,
    } = parts;
    let broker = BrokerId(config.node_id);
    let partitions = Partitions::start_on(threads, broker, directories, clock.clone(), random);
    let partitions = Arc::new(partitions.map_err(cannot_start_threads)?);
    let image = controller.images().load();
    let recovered = partitions.recover(&image, progress);
    let follower = on_recovered(&partitions);
    let start = BrokerStart {
        registration,
        was_clean: recovered.scanned == 0 && recovered.offline == 0,
        damaged: recovered.damaged.clone(),
        gives_up_missing: config.log_dirs_allow_missing,
        has_session: false,
    };
    let departing = Departing::new(peers.doubted());
    let member = Member::register(controller.clone(), start)
        .await
        .map_err(|error| StartError::new(StartErrorKind::Other, error.to_string()))?;
    partitions.on_registered(member.epoch());
    let alters = Arc::new(Alters(controller.clone()));
    partitions.connect(peers, &tasks, controller.images(), alters);
    let image = controller.subscribe(follower, &image);
    let groups = Arc::new(Coordinator::new(
        partitions.clone(),
        controller.images(),
        clock.clone(),
        tasks.clone(),
        group_settings(&config),
    ));
    controller.subscribe(groups.clone(), &image);
    controller.subscribe(departing.clone(), &image);
    tasks.spawn(member.clone().beat(stopped));
    tasks.spawn(reports::report(controller.clone(), partitions.clone()));
    tasks.spawn(ask_after_suspects(controller.clone()));
    member.welcome().await;
    let cluster = (member.contact().clone(), departing);
    let node = node((config, clock, ids), controller, (partitions, groups), cluster);
    info!(broker = broker.0, "the broker is part of its cluster");
    Ok(Wired { node, member, recovered })
}

fn node(
    (config, clock, ids): (Arc<BrokerConfig>, Arc<dyn Clock>, Box<dyn Random>),
    controller: Arc<Controller>,
    (partitions, groups): (Arc<Partitions>, Arc<Coordinator>),
    (contact, departing): (Arc<Contact>, Arc<Departing>),
) -> Arc<Node> {
    let images = controller.images();
    let telemetry = Telemetry::new(clock.clone(), images.clone(), config.telemetry_max_bytes);
    Arc::new(Node {
        clock,
        images,
        controller,
        partitions,
        groups,
        contact,
        departing,
        fetch_sessions: FetchSessions::new(
            usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(usize::MAX),
        ),
        config,
        producer_ids: ProducerIds::default(),
        heavy_requests: Arc::new(Semaphore::new(
            std::thread::available_parallelism().map_or(1, usize::from),
        )),
        metrics: Arc::new(BrokerMetrics::default()),
        telemetry: Arc::new(telemetry),
        member_ids: MemberIds::new(ids),
    })
}

async fn ask_after_suspects(controller: Arc<Controller>) {
    controller.ask_after_suspects().await;
}

fn group_settings(config: &BrokerConfig) -> (GroupsTopicOptions, GroupOptions) {
    let topic = GroupsTopicOptions {
        partitions: config.offsets_topic_num_partitions,
        segment_bytes: config.offsets_topic_segment_bytes,
    };
    let options = GroupOptions {
        initial_rebalance_delay: Duration::from_millis(config.group_initial_rebalance_delay_ms),
        session_timeout_min: Duration::from_millis(config.group_min_session_timeout_ms),
        session_timeout_max: Duration::from_millis(config.group_max_session_timeout_ms),
        size_max: usize::try_from(config.group_max_size).unwrap_or(usize::MAX),
        consumer_size_max: usize::try_from(config.group_consumer_max_size).unwrap_or(usize::MAX),
        migration: match config.group_consumer_migration_policy.as_str() {
            "upgrade" => Migration::Upgrade,
            "downgrade" => Migration::Downgrade,
            "disabled" => Migration::Disabled,
            // The only other one the configuration lets through.
            _ => Migration::Bidirectional,
        },
        assignors: config
            .group_consumer_assignors
            .iter()
            .filter_map(|name| Assignor::by_name(name))
            .collect(),
        offset_metadata_bytes_max: usize::try_from(config.offset_metadata_max_bytes)
            .unwrap_or(usize::MAX),
        offsets_retention: Duration::from_secs(60 * config.offsets_retention_minutes),
        offsets_check_interval: Duration::from_millis(config.offsets_retention_check_interval_ms),
        ..GroupOptions::default()
    };
    (topic, options)
}
