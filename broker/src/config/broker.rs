//! What can be set on the broker, and the typed result.
//!
//! Two kinds of rows: the node's own (declared here) and the defaults its topics inherit (derived
//! from the topic table). A value comes from the dynamic configuration of this broker, of the whole
//! cluster, from what was written down at start (flag over environment over file), or from the row.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::error::{ConfigError, Origin};
use super::property::{Kind, Mode, Property, Unit, Valid, properties};
use super::suggest::suggest;
use super::topic::{scale_of_name, topic_properties};
use super::value::{Endpoint, parse_endpoint};
use super::{Overrides, TopicConfig};

properties! {
    /// The settings in force on this broker.
    pub struct BrokerConfig {
        /// What was written down at start.
        fixed: BTreeMap<&'static str, Setting>,
        /// Set for every broker while running.
        cluster: Overrides,
        /// Set for this broker while running.
        own: Overrides,
    }
    /// One row per property of the node itself.
    static NODE_PROPERTIES;

    "advertised.listeners" => advertised_listeners: Vec<Endpoint>, List None, default "",
        Valid::Check(check_advertised), Static, broker [],
        "Addresses clients are told to connect to, as host:port. Empty: each client is told the address it dialled.";
    "auto.create.topics.enable" => auto_create_topics_enable: bool, Boolean None, default "false",
        Valid::Any, Dynamic, broker [],
        "Whether a client that asks for an unknown topic, and allows it, gets one created.";
    "auto.leader.rebalance.enable" => auto_leader_rebalance_enable: bool, Boolean None, default "true",
        Valid::Any, Dynamic, broker [],
        "Whether partitions go back to their preferred leader, the first of their replicas, once that is in sync again.";
    "broker.rack" => broker_rack: String, String None, default "", Valid::Any, Static, broker [],
        "Where this broker stands; told to clients. Empty: nowhere in particular.";
    "cluster.join" => cluster_join: Vec<Endpoint>, List None, default "",
        Valid::Check(check_advertised), Static, broker [],
        "Addresses for peers (`peer.listener`) of brokers of a cluster, as host:port, one of which a broker with empty data directories asks to be taken in (`--join`). Empty: it founds a cluster. An extension of Sawlog.";
    "cluster.id" => cluster_id: String, String None, default "", Valid::Check(check_cluster_id), Static, broker [],
        "The cluster this broker belongs to, 22 base64url digits. Empty: the one of the data directory, or a new one in an empty directory.";
    "connections.max.idle.ms" => connections_max_idle_ms: u64, Long Milliseconds, default "600000",
        Valid::Range(1, i64::MAX), Static, broker [],
        "A connection without a request for this long is closed.";
    "controller.quorum.election.timeout.ms" => controller_quorum_election_timeout_ms: u64, Int Milliseconds,
        default "1000", Valid::Range(50, 600_000), Static, broker [],
        "How long the node that leads the metadata log may be silent; another is elected within twice that.";
    "default.replication.factor" => default_replication_factor: i16, Int None, default "-1",
        Valid::Check(check_replicas), Dynamic, broker [],
        "Replicas of a topic whose creator does not say. -1: three, or one for each broker that runs if there are fewer.";
    "delete.topic.enable" => delete_topic_enable: bool, Boolean None, default "true", Valid::Any, Dynamic, broker [],
        "Whether topics can be deleted.";
    "fetch.max.bytes" => fetch_max_bytes: u32, Int Bytes, default "57671680",
        Valid::Range(1024, 2_147_483_647), Static, broker [],
        "Most bytes one fetch reply carries, whatever the client asks for (a single larger batch is still sent).";
    "insecure.listeners.allowed" => insecure_listeners_allowed: bool, Boolean None, default "false",
        Valid::Any, Static, broker [],
        "Whether to listen on addresses other machines can reach, without encryption or passwords (`--insecure`). An extension of Sawlog.";
    "follower.replication.throttled.rate" => follower_replication_throttled_rate: u64, Long Bytes,
        default "9223372036854775807", Valid::Range(0, i64::MAX), Dynamic, broker [],
        "Bytes a second this broker copies, as a follower, of replicas named in `follower.replication.throttled.replicas` that are not in sync.";
    "group.consumer.assignors" => group_consumer_assignors: Vec<String>, List None, default "uniform,range",
        Valid::OneOf(&["uniform", "range"]), Static, broker [],
        "Ways to assign partitions that groups of the consumer protocol (KIP-848) may ask for; those that ask for none get the first.";
    "group.consumer.heartbeat.interval.ms" => group_consumer_heartbeat_interval_ms: u64, Int Milliseconds,
        default "5000", Valid::Range(1, 2_147_483_647), Static, broker [],
        "How often members of the consumer protocol (KIP-848) are told to send a heartbeat, where their group does not set it.";
    "group.consumer.max.heartbeat.interval.ms" => group_consumer_max_heartbeat_interval_ms: u64, Int Milliseconds,
        default "15000", Valid::Range(1, 2_147_483_647), Static, broker [],
        "The longest heartbeat interval a group may set.";
    "group.consumer.max.session.timeout.ms" => group_consumer_max_session_timeout_ms: u64, Int Milliseconds,
        default "60000", Valid::Range(1, 2_147_483_647), Static, broker [],
        "The longest session timeout a group may set for the consumer protocol.";
    "group.consumer.max.size" => group_consumer_max_size: u32, Int None, default "2147483647",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "Members a group of the consumer protocol may have.";
    "group.consumer.migration.policy" => group_consumer_migration_policy: String, String None, default "bidirectional",
        Valid::OneOf(&["bidirectional", "disabled", "downgrade", "upgrade"]), Static, broker [],
        "Which groups may change their protocol while they have members: `upgrade` lets a member of the consumer protocol (KIP-848) turn a classic group into its own kind, `downgrade` gives classic members their group back when they alone are left, `bidirectional` does both.";
    "group.consumer.min.heartbeat.interval.ms" => group_consumer_min_heartbeat_interval_ms: u64, Int Milliseconds,
        default "5000", Valid::Range(1, 2_147_483_647), Static, broker [],
        "The shortest heartbeat interval a group may set.";
    "group.consumer.min.session.timeout.ms" => group_consumer_min_session_timeout_ms: u64, Int Milliseconds,
        default "45000", Valid::Range(1, 2_147_483_647), Static, broker [],
        "The shortest session timeout a group may set for the consumer protocol.";
    "group.consumer.session.timeout.ms" => group_consumer_session_timeout_ms: u64, Int Milliseconds,
        default "45000", Valid::Range(1, 2_147_483_647), Static, broker [],
        "How long after its last heartbeat a member of the consumer protocol (KIP-848) is taken for dead, where its group does not set it.";
    "group.initial.rebalance.delay.ms" => group_initial_rebalance_delay_ms: u64, Int Milliseconds, default "3000",
        Valid::Range(0, 2_147_483_647), Static, broker [],
        "How long the first rebalance of an empty group waits for more members.";
    "group.max.session.timeout.ms" => group_max_session_timeout_ms: u64, Int Milliseconds, default "1800000",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "The longest session timeout a member of a classic group may ask for.";
    "group.max.size" => group_max_size: u32, Int None, default "2147483647",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "Members a classic group may have.";
    "group.min.session.timeout.ms" => group_min_session_timeout_ms: u64, Int Milliseconds, default "6000",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "The shortest session timeout a member of a classic group may ask for.";
    "http.listener" => http_listener: String, String None, default "auto",
        Valid::Check(check_http_listener), Static, broker [],
        "Address for health checks, metrics and client metrics over HTTP, as host:port. `auto`: port 9644 of the loopback address clients are listened to on, else of 127.0.0.1, and another port where that one is taken or clients' own is left to the operating system. `none`: there is no such listener. An extension of Sawlog.";
    "leader.replication.throttled.rate" => leader_replication_throttled_rate: u64, Long Bytes,
        default "9223372036854775807", Valid::Range(0, i64::MAX), Dynamic, broker [],
        "Bytes a second this broker sends, as a leader, to replicas named in `leader.replication.throttled.replicas` that are not in sync.";
    "leader.imbalance.check.interval.seconds" => leader_imbalance_check_interval_seconds: u64, Long None,
        default "300", Valid::Range(1, 9_223_372), Dynamic, broker [],
        "How often the controller looks for partitions that are not led by their preferred leader.";
    "listeners" => listeners: Vec<Endpoint>, List None, default "127.0.0.1:9092",
        Valid::Check(check_endpoint), Static, broker [],
        "Addresses to listen on, as host:port; port 0 lets the operating system choose.";
    "log.cleaner.backoff.ms" => log_cleaner_backoff_ms: u64, Long Milliseconds, default "15000",
        Valid::Range(0, i64::MAX), Static, broker [],
        "How long a thread that compacts rests when no log is due.";
    "log.cleaner.dedupe.buffer.size" => log_cleaner_dedupe_buffer_size: usize, Long Bytes, default "134217728",
        Valid::Range(1_048_576, i64::MAX), Static, broker [],
        "Most memory for the keys of logs being compacted, over all threads: 24 bytes for each. Where the keys of a log do not fit, it is compacted in several passes.";
    "log.cleaner.enable" => log_cleaner_enable: bool, Boolean None, default "true", Valid::Any, Static, broker [],
        "Whether topics with `cleanup.policy=compact` are compacted.";
    "log.cleaner.io.max.bytes.per.second" => log_cleaner_io_max_bytes_per_second: u64, Long Bytes,
        default "9223372036854775807", Valid::Range(1, i64::MAX), Static, broker [],
        "Most bytes compaction reads and writes in a second, over all threads.";
    "log.cleaner.threads" => log_cleaner_threads: u32, Int None, default "1", Valid::Range(1, 64), Static, broker [],
        "Threads that compact logs.";
    "log.dirs" => log_dirs: Vec<String>, List None, default "sawlog-data", Valid::Any, Static, broker [],
        "The data directories, best each on a disk of its own. The cluster's metadata stays in the first there ever was; a new partition goes where most space is free.";
    "log.dirs.allow.missing" => log_dirs_allow_missing: bool, Boolean None, default "false",
        Valid::Any, Static, broker [],
        "Whether to start although a data directory of the last start is not among log.dirs; partitions that were in it begin empty. An extension of Sawlog.";
    "log.dirs.reserve.bytes" => log_dirs_reserve_bytes: u64, Long Bytes, default "67108864",
        Valid::Range(0, i64::MAX), Static, broker [],
        "Size of a file kept in each data directory, to be given up when the disk is full, so that topics can still be deleted and settings changed; at most one sixteenth of the disk. 0: none. An extension of Sawlog.";
    "log.retention.check.interval.ms" => log_retention_check_interval_ms: u64, Long Milliseconds, default "300000",
        Valid::Range(1, i64::MAX), Static, broker [],
        "How often segments are checked against the retention settings.";
    "log.scrub.bytes.per.second" => log_scrub_bytes_per_second: u64, Long Bytes, default "10485760",
        Valid::Range(0, i64::MAX), Static, broker [],
        "Rate at which full segments are read again in the background to find damaged records; 0: they are not. An extension of Sawlog.";
    "log.scrub.interval.ms" => log_scrub_interval_ms: u64, Long Milliseconds, default "1209600000",
        Valid::Range(1, i64::MAX), Static, broker [],
        "From the start of one reading of all full segments to the start of the next. An extension of Sawlog.";
    "max.connections" => max_connections: u32, Int None, default "50000",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "Connections open at once; more are closed at accept.";
    "max.connections.per.ip" => max_connections_per_ip: u32, Int None, default "2147483647",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "Connections open at once from one address; more are closed at accept.";
    "max.incremental.fetch.session.cache.slots" => max_incremental_fetch_session_cache_slots: u32, Int None,
        default "1000", Valid::Range(0, 1_000_000), Static, broker [],
        "Incremental fetch sessions kept at once.";
    "max.request.partition.size.limit" => max_request_partition_size_limit: u32, Int None, default "2000",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "Most partitions one DescribeTopicPartitions reply lists; the client asks for the next page.";
    "metadata.log.max.record.bytes.between.snapshots" => metadata_log_max_record_bytes_between_snapshots: u64,
        Long Bytes, default "20971520", Valid::Range(1, i64::MAX), Static, broker [],
        "Bytes of the metadata log after which it is replaced by a snapshot.";
    "metadata.voters" => metadata_voters: usize, Int None, default "3", Valid::Range(1, 7), Static, broker [],
        "Brokers that vote on the cluster's metadata, an odd number, once there are so many; the others are told. An extension of Sawlog.";
    "node.id" => node_id: i32, Int None, default "-1", Valid::Range(-1, 2_147_483_647), Static, broker [],
        "This broker's id. -1: the one of the data directory, or 1 in an empty directory.";
    "num.network.threads" => num_network_threads: u32, Int None, default "0", Valid::Range(0, 1024), Static, broker [],
        "Threads that serve connections; 0 for one per processor the broker may use.";
    "num.partitions" => num_partitions: i32, Int None, default "1", Valid::Range(1, 10_000), Dynamic, broker [],
        "Partitions of a topic whose creator does not say.";
    "offset.metadata.max.bytes" => offset_metadata_max_bytes: u32, Int Bytes, default "4096",
        Valid::Range(0, 2_147_483_647), Static, broker [],
        "Most bytes of the note a consumer commits with an offset.";
    "offsets.retention.check.interval.ms" => offsets_retention_check_interval_ms: u64, Long Milliseconds,
        default "600000", Valid::Range(1, i64::MAX), Static, broker [],
        "How often committed offsets are checked against their retention.";
    "offsets.retention.minutes" => offsets_retention_minutes: u64, Int Minutes, default "10080",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "How long committed offsets are kept after their group became empty or stopped reading the topic.";
    "offsets.topic.num.partitions" => offsets_topic_num_partitions: i32, Int None, default "16",
        Valid::Range(1, 10_000), Static, broker [],
        "Partitions of `__consumer_offsets`, over which groups are spread. Takes effect when the topic is created, with the first group.";
    "offsets.topic.segment.bytes" => offsets_topic_segment_bytes: u32, Int Bytes, default "104857600",
        Valid::Range(1_048_576, 2_147_483_647), Static, broker [],
        "Segment size of `__consumer_offsets`, when the topic is created: smaller ones are compacted sooner, and a start reads less.";
    "peer.advertised.listener" => peer_advertised_listener: String, String None, default "",
        Valid::Check(check_peer_advertised), Static, broker [],
        "Address other brokers are told to connect to, as host:port. Empty: the one of `peer.listener`. An extension of Sawlog.";
    "peer.listener" => peer_listener: String, String None, default "auto",
        Valid::Check(check_peer_listener), Static, broker [],
        "Address for the other brokers of the cluster, as host:port. `auto`: port 9093 of the loopback address clients are listened to on, else of 127.0.0.1, and another port, the same again after a restart, where that one is taken or clients' own is left to the operating system. An extension of Sawlog.";
    "peer.tls.ca.file" => peer_tls_ca_file: String, String None, default "", Valid::Any, Static, broker [],
        "Certificates of the authorities (PEM) by which this broker knows the others of its cluster: with `peer.tls.certificate.file` and `peer.tls.key.file` it talks to them over TLS 1.3 only, and both sides show a certificate. Empty: without TLS. Read again when it changes. An extension of Sawlog.";
    "peer.tls.certificate.file" => peer_tls_certificate_file: String, String None, default "", Valid::Any, Static, broker [],
        "Certificate (PEM, with those between it and the authority) this broker shows the others of its cluster. With the URI `sawlog://node/ID` among its alternative names it is for that `node.id` alone. Empty: without TLS. Read again when it changes. An extension of Sawlog.";
    "peer.tls.key.file" => peer_tls_key_file: String, String None, default "", Valid::Any, Static, broker [],
        "Private key (PEM, without a passphrase) of `peer.tls.certificate.file`. Empty: without TLS. Read again when it changes. An extension of Sawlog.";
    "producer.id.expiration.ms" => producer_id_expiration_ms: u64, Int Milliseconds, default "86400000",
        Valid::Range(1, 2_147_483_647), Static, broker [],
        "How long the sequence numbers of an idempotent producer are remembered after its last write.";
    "queued.max.request.bytes" => queued_max_request_bytes: usize, Long Bytes, default "268435456",
        Valid::Range(1_048_576, i64::MAX), Static, broker [],
        "Bytes of requests held in memory at once over all connections; above it connections wait.";
    "socket.read.timeout.ms" => socket_read_timeout_ms: u64, Long Milliseconds, default "30000",
        Valid::Range(1, i64::MAX), Static, broker [],
        "A client that began a request must send all of it within this time. An extension of Sawlog.";
    "socket.request.max.bytes" => socket_request_max_bytes: usize, Int Bytes, default "104857600",
        Valid::Range(65_536, 2_147_483_647), Static, broker [],
        "Largest request accepted; a larger one closes the connection.";
    "socket.write.timeout.ms" => socket_write_timeout_ms: u64, Long Milliseconds, default "60000",
        Valid::Range(1, i64::MAX), Static, broker [],
        "A client that takes nothing of a reply for this long is disconnected. An extension of Sawlog.";
    "telemetry.max.bytes" => telemetry_max_bytes: usize, Int Bytes, default "1048576",
        Valid::Range(1, 8_388_608), Static, broker [],
        "Largest push of metrics by a client (KIP-714), as it is sent.";
}

/// `http.listener`: wherever there is room on loopback.
const HTTP_AUTO: &str = "auto";
/// `http.listener`: nowhere.
const HTTP_NONE: &str = "none";

/// `peer.listener`: wherever there is room on loopback.
const PEER_AUTO: &str = "auto";

/// Where to listen for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpListener {
    /// On loopback, at the usual port or another.
    Auto,
    /// Nowhere.
    None,
    /// There.
    At(Endpoint),
}

/// Kafka's broker settings people bring along that mean nothing here, and what to do instead.
const NOT_YET: &[(&str, &str)] = &[
    ("broker.id", "use node.id"),
    ("controller.listener.names", "the broker keeps its own metadata; remove it"),
    ("controller.quorum.bootstrap.servers", "use cluster.join, with addresses of peer.listener"),
    ("controller.quorum.voters", "use cluster.join for brokers that join, and metadata.voters"),
    ("inter.broker.listener.name", "use peer.listener"),
    (
        "listener.security.protocol.map",
        "TLS and SASL are not built yet for clients; between brokers there is peer.tls.certificate.file",
    ),
    (
        "log.cleaner.io.buffer.load.factor",
        "the memory for keys is filled to nine tenths; remove it",
    ),
    (
        "log.cleaner.io.buffer.size",
        "compaction reads and writes half a mebibyte at a time; remove it",
    ),
    ("log.dir", "use log.dirs"),
    (
        "log.flush.interval.messages",
        "use log.flush.mode=group, which fsyncs before every acks=all reply",
    ),
    ("log.flush.interval.ms", "use log.flush.mode=group, which fsyncs before every acks=all reply"),
    ("log.segment.delete.delay.ms", "files are removed at once; whoever reads them still can"),
    ("num.io.threads", "use num.network.threads"),
    ("num.recovery.threads.per.data.dir", "recovery needs no setting; remove it"),
    ("num.replica.fetchers", "one connection with each broker copies all replicas; remove it"),
    ("offsets.topic.replication.factor", "the cluster raises it to three by itself; remove it"),
    ("process.roles", "every broker is also a controller; remove it"),
    (
        "security.inter.broker.protocol",
        "brokers talk over TLS where peer.tls.certificate.file, peer.tls.key.file and peer.tls.ca.file are set",
    ),
    ("socket.receive.buffer.bytes", "the operating system chooses; remove it"),
    ("socket.send.buffer.bytes", "the operating system chooses; remove it"),
    (
        "ssl.keystore.location",
        "use peer.tls.certificate.file and peer.tls.key.file, in PEM, between brokers",
    ),
    ("ssl.truststore.location", "use peer.tls.ca.file, in PEM, between brokers"),
    ("transaction.state.log.min.isr", "transactions are not built yet"),
    ("transaction.state.log.replication.factor", "transactions are not built yet"),
    ("zookeeper.connect", "no ZooKeeper is needed; remove it"),
];

/// A value written down at start, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Canonical text.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
}

static BROKER_PROPERTIES: LazyLock<Vec<Property>> = LazyLock::new(|| {
    let mut rows = NODE_PROPERTIES.to_vec();
    rows.extend(topic_properties().iter().flat_map(inherited_rows));
    rows.sort_unstable_by_key(|row| row.name);
    rows
});

/// The broker rows a topic row inherits from. The weakest of them carries the default.
fn inherited_rows(topic: &'static Property) -> impl Iterator<Item = Property> {
    let weakest = topic.broker.len().saturating_sub(1);
    topic.broker.iter().enumerate().map(move |(at, name)| {
        let scale = scale_of_name(name);
        let default = topic.default.as_deref().filter(|_| at == weakest);
        let scaled = |text: &str| match text.parse::<i64>() {
            Ok(number) if number > 0 => (number / scale).to_string(),
            _ => text.to_owned(),
        };
        let mut doc = format!("Default of the topic setting `{}`", topic.name);
        doc.push_str(match scale {
            3_600_000 => ", in hours.",
            60_000 => ", in minutes.",
            _ => ".",
        });
        Property {
            name,
            kind: if scale == 1 { topic.kind } else { Kind::Int },
            unit: match scale {
                3_600_000 => Unit::Hours,
                60_000 => Unit::Minutes,
                _ => topic.unit,
            },
            default: default.map(|text| Cow::Owned(scaled(text))),
            valid: match topic.valid {
                Valid::Range(least, most) => Valid::Range(least, most / scale),
                other => other,
            },
            mode: Mode::Dynamic,
            sensitive: topic.sensitive,
            broker: &[],
            doc: Cow::Owned(doc),
        }
    })
}

/// Every broker property, sorted by name.
#[must_use]
pub fn broker_properties() -> &'static [Property] {
    &BROKER_PROPERTIES
}

/// The broker property called `name`.
///
/// # Errors
/// Unknown or not supported, with a suggestion.
pub fn broker_property(name: &str, origin: Origin) -> Result<&'static Property, ConfigError> {
    if let Some(property) = BROKER_PROPERTIES.iter().find(|row| row.name == name) {
        return Ok(property);
    }
    if let Some((_, reason)) = NOT_YET.iter().find(|(known, _)| *known == name) {
        return Err(ConfigError::NotSupported { key: name.to_owned(), reason, origin });
    }
    Err(ConfigError::UnknownKey {
        resource: "broker",
        key: name.to_owned(),
        suggestion: suggest(name, BROKER_PROPERTIES.iter().map(|row| row.name)),
        origin,
    })
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::assemble(BTreeMap::new(), Overrides::new(), Overrides::new())
    }
}

impl BrokerConfig {
    /// Builds the configuration from checked settings.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub(crate) fn from_settings(
        fixed: BTreeMap<&'static str, Setting>,
    ) -> Result<Self, ConfigError> {
        let config = Self::assemble(fixed, Overrides::new(), Overrides::new());
        if config.queued_max_request_bytes < config.socket_request_max_bytes {
            return Err(ConfigError::Conflict(format!(
                "queued.max.request.bytes ({}) must be at least socket.request.max.bytes ({}): a larger request could never be read",
                config.queued_max_request_bytes, config.socket_request_max_bytes
            )));
        }
        if config.listeners.is_empty() {
            return Err(ConfigError::Conflict(
                "listeners is empty: name at least one host:port".to_owned(),
            ));
        }
        config.check_consumer_groups()?;
        if config.metadata_voters.is_multiple_of(2) {
            return Err(ConfigError::Conflict(format!(
                "metadata.voters ({}) must be odd: one more would not let one more fail",
                config.metadata_voters
            )));
        }
        if config.log_dirs.is_empty() {
            return Err(ConfigError::Conflict(
                "log.dirs is empty: name at least one directory".to_owned(),
            ));
        }
        Ok(config)
    }

    /// The settings of consumer groups have to keep the order that groups are held to.
    fn check_consumer_groups(&self) -> Result<(), ConfigError> {
        for (name, least, value, most) in [
            (
                "heartbeat.interval.ms",
                self.group_consumer_min_heartbeat_interval_ms,
                self.group_consumer_heartbeat_interval_ms,
                self.group_consumer_max_heartbeat_interval_ms,
            ),
            (
                "session.timeout.ms",
                self.group_consumer_min_session_timeout_ms,
                self.group_consumer_session_timeout_ms,
                self.group_consumer_max_session_timeout_ms,
            ),
        ] {
            if least > value || value > most {
                return Err(ConfigError::Conflict(format!(
                    "group.consumer.{name} ({value}) must be from group.consumer.min.{name} ({least}) to group.consumer.max.{name} ({most})"
                )));
            }
        }
        let (heartbeat, session) =
            (self.group_consumer_heartbeat_interval_ms, self.group_consumer_session_timeout_ms);
        if heartbeat >= session {
            return Err(ConfigError::Conflict(format!(
                "group.consumer.heartbeat.interval.ms ({heartbeat}) must be less than group.consumer.session.timeout.ms ({session})"
            )));
        }
        Ok(())
    }

    fn assemble(
        fixed: BTreeMap<&'static str, Setting>,
        cluster: Overrides,
        own: Overrides,
    ) -> Self {
        let value = |name: &'static str| {
            let property = BROKER_PROPERTIES.iter().find(|row| row.name == name)?;
            effective(property, &fixed, &cluster, &own)
        };
        // The closure borrows what the struct then owns: read first, move after.
        let mut config = Self::read(&value, BTreeMap::new(), Overrides::new(), Overrides::new());
        config.fixed = fixed;
        config.cluster = cluster;
        config.own = own;
        config
    }

    /// This configuration with the dynamic settings of the cluster and of this broker on top.
    #[must_use]
    pub fn with_dynamic(&self, cluster: &Overrides, own: &Overrides) -> Self {
        Self::assemble(self.fixed.clone(), cluster.clone(), own.clone())
    }

    /// This configuration as broker `node_id`, once the data directory has told which that is.
    #[must_use]
    pub fn with_node_id(mut self, node_id: i32) -> Self {
        self.node_id = node_id;
        let origin = Origin::Flag("--data".to_owned());
        self.fixed.entry("node.id").or_insert(Setting { value: node_id.to_string(), origin });
        self
    }

    /// `peer.listener`, if it is not left to the broker.
    #[must_use]
    pub fn peer_endpoint(&self) -> Option<Endpoint> {
        parse_endpoint(&self.peer_listener).ok()
    }

    /// `peer.advertised.listener`, if there is one.
    #[must_use]
    pub fn peer_advertised(&self) -> Option<Endpoint> {
        parse_endpoint(&self.peer_advertised_listener).ok()
    }

    /// `http.listener`, understood.
    #[must_use]
    pub fn http(&self) -> HttpListener {
        match self.http_listener.as_str() {
            HTTP_NONE => HttpListener::None,
            text => parse_endpoint(text).map_or(HttpListener::Auto, HttpListener::At),
        }
    }

    /// What was written down at start.
    #[must_use]
    pub fn fixed(&self) -> &BTreeMap<&'static str, Setting> {
        &self.fixed
    }

    /// The dynamic settings of the whole cluster.
    #[must_use]
    pub fn cluster_overrides(&self) -> &Overrides {
        &self.cluster
    }

    /// The dynamic settings of this broker alone.
    #[must_use]
    pub fn own_overrides(&self) -> &Overrides {
        &self.own
    }

    /// The settings of a topic that has none of its own.
    #[must_use]
    pub fn topic_defaults(&self) -> TopicConfig {
        TopicConfig::inherited(self)
    }

    /// The value a topic inherits for `topic_property`, and the broker property it comes from.
    /// `None` if the broker says nothing and the row's default holds.
    pub(crate) fn inherited(&self, topic_property: &Property) -> Option<(&'static str, String)> {
        topic_property.broker.iter().find_map(|name| {
            let property = BROKER_PROPERTIES.iter().find(|row| row.name == *name)?;
            let text = set_value(property, &self.fixed, &self.cluster, &self.own)?;
            Some((*name, scaled_up(name, &text)))
        })
    }
}

/// The text of a broker property in the unit of the topic property it feeds.
pub(crate) fn scaled_up(name: &str, text: &str) -> String {
    let scale = scale_of_name(name);
    match text.parse::<i64>() {
        Ok(number) if number > 0 && scale > 1 => number.saturating_mul(scale).to_string(),
        _ => text.to_owned(),
    }
}

fn effective(
    property: &Property,
    fixed: &BTreeMap<&'static str, Setting>,
    cluster: &Overrides,
    own: &Overrides,
) -> Option<String> {
    set_value(property, fixed, cluster, own)
        .or_else(|| property.default.as_deref().map(str::to_owned))
}

/// The strongest value anyone set. A dynamic value this version does not accept is passed over.
fn set_value(
    property: &Property,
    fixed: &BTreeMap<&'static str, Setting>,
    cluster: &Overrides,
    own: &Overrides,
) -> Option<String> {
    let dynamic = |layer: &Overrides| match property.mode {
        Mode::Dynamic => layer.get(property.name).and_then(|text| property.canonical(text).ok()),
        Mode::Static => None,
    };
    dynamic(own)
        .or_else(|| dynamic(cluster))
        .or_else(|| fixed.get(property.name).map(|setting| setting.value.clone()))
}

/// Kafka's broker settings that are known and refused.
pub(crate) fn broker_settings_not_yet() -> &'static [(&'static str, &'static str)] {
    NOT_YET
}

fn check_replicas(text: &str) -> Result<(), String> {
    let expected = || "expected 1 to 32767, or -1 for as many as there are brokers, at most three";
    match text.parse::<i16>() {
        Ok(-1 | 1..) => Ok(()),
        Ok(_) | Err(_) => Err(expected().to_owned()),
    }
}

fn check_endpoint(text: &str) -> Result<(), String> {
    parse_endpoint(text).map(|_| ())
}

fn check_peer_listener(text: &str) -> Result<(), String> {
    if text == PEER_AUTO {
        return Ok(());
    }
    check_endpoint(text).map_err(|_| format!("expected host:port or {PEER_AUTO}"))
}

fn check_peer_advertised(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { check_advertised(text) }
}

fn check_http_listener(text: &str) -> Result<(), String> {
    if matches!(text, HTTP_AUTO | HTTP_NONE) {
        return Ok(());
    }
    parse_endpoint(text)
        .map(|_| ())
        .map_err(|_| format!("expected host:port, {HTTP_AUTO} or {HTTP_NONE}"))
}

fn check_advertised(text: &str) -> Result<(), String> {
    let endpoint = parse_endpoint(text)?;
    if endpoint.port == 0 {
        return Err("clients cannot connect to port 0".to_owned());
    }
    if matches!(endpoint.host.as_str(), "0.0.0.0" | "::") {
        return Err("clients cannot connect to all addresses: name one they can reach".to_owned());
    }
    Ok(())
}

fn check_cluster_id(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    match text.parse::<sawlog_protocol::Uuid>() {
        Ok(id) if !id.is_zero() => Ok(()),
        _ => Err("expected 22 base64url digits, such as MkU3OEVBNTcwNTJENDM2Qg".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> BrokerConfig {
        let fixed = pairs
            .iter()
            .map(|(name, text)| {
                let value =
                    broker_property(name, Origin::Request).unwrap().canonical(text).unwrap();
                (*name, Setting { value, origin: Origin::Flag("-X".to_owned()) })
            })
            .collect();
        BrokerConfig::from_settings(fixed).unwrap()
    }

    #[test]
    fn defaults_are_canonical_and_names_unique() {
        let mut last = "";
        for row in broker_properties() {
            assert!(last < row.name, "{last} before {}", row.name);
            last = row.name;
            if let Some(default) = row.default.as_deref() {
                assert_eq!(row.canonical(default).as_deref(), Ok(default), "{}", row.name);
            }
            assert!(NOT_YET.iter().all(|(name, _)| *name != row.name));
        }
        let config = BrokerConfig::default();
        assert_eq!(config.listeners[0].to_string(), "127.0.0.1:9092");
        assert!(!config.auto_create_topics_enable);
        assert_eq!(config.log_dirs, ["sawlog-data"]);
    }

    #[test]
    fn milliseconds_beat_minutes_beat_hours() {
        assert_eq!(
            with(&[("log.retention.hours", "2")]).topic_defaults().retention_ms,
            Some(7_200_000)
        );
        let minutes = with(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]);
        assert_eq!(minutes.topic_defaults().retention_ms, Some(180_000));
        let ms = with(&[("log.retention.minutes", "3"), ("log.retention.ms", "4")]);
        assert_eq!(ms.topic_defaults().retention_ms, Some(4));
        assert_eq!(with(&[("log.retention.hours", "-1")]).topic_defaults().retention_ms, None);
    }

    #[test]
    fn dynamic_settings_cover_static_ones_and_this_broker_covers_the_cluster() {
        let config = with(&[("num.partitions", "3"), ("node.id", "7")]);
        let cluster = Overrides::from([("num.partitions".to_owned(), "4".to_owned())]);
        let own = Overrides::from([
            ("num.partitions".to_owned(), "5".to_owned()),
            ("node.id".to_owned(), "9".to_owned()),
        ]);
        assert_eq!(config.num_partitions, 3);
        assert_eq!(config.with_dynamic(&cluster, &Overrides::new()).num_partitions, 4);
        let both = config.with_dynamic(&cluster, &own);
        assert_eq!((both.num_partitions, both.node_id), (5, 7), "static settings stay");
        assert_eq!(both.with_dynamic(&Overrides::new(), &Overrides::new()), config);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let setting = |value: &str| Setting { value: value.to_owned(), origin: Origin::Request };
        let memory = BTreeMap::from([("queued.max.request.bytes", setting("2000000"))]);
        let error = BrokerConfig::from_settings(memory).unwrap_err().to_string();
        assert!(error.contains("must be at least socket.request.max.bytes"), "{error}");
        let dirs = BTreeMap::from([("log.dirs", setting(""))]);
        assert!(BrokerConfig::from_settings(dirs).is_err());
        for (name, value) in [
            ("group.consumer.session.timeout.ms", "60001"),
            ("group.consumer.min.heartbeat.interval.ms", "5001"),
            ("group.consumer.max.session.timeout.ms", "44999"),
        ] {
            let one = BTreeMap::from([(name, setting(value))]);
            assert!(BrokerConfig::from_settings(one).is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_nobody_can_dial_are_not_advertised() {
        let row = broker_property("advertised.listeners", Origin::Request).unwrap();
        assert!(row.canonical("0.0.0.0:9092").is_err());
        assert!(row.canonical("broker.example:0").is_err());
        assert!(row.canonical("broker.example:9092").is_ok());
        assert_eq!(row.canonical("").as_deref(), Ok(""));
    }
}
