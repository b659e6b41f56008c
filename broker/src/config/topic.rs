//! What can be set on a topic, and the typed result.
//!
//! A topic setting not given on the topic is inherited from the broker properties its row names, and
//! from the row's default last. The rows of those broker properties are derived from the topic's
//! row, so that both levels always agree.

use super::error::{ConfigError, Origin};
use super::property::{Property, Valid, properties};
use super::suggest::suggest;
use super::throttled::{ThrottledReplicas, check_throttled_replica};
use super::value::FromText;
use super::{BrokerConfig, Overrides};
use sawlog_protocol::records::{Codec, Compression};

/// How an acks=all write becomes durable before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// The log is fsynced; writes that arrive together share one fsync.
    Group,
    /// The operating system writes back when it likes; a power cut can lose acknowledged records.
    Os,
}

/// Which clock stamps the records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTimestampType {
    /// The producer's: kept as sent, checked against the allowed distance from the broker's clock.
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}

/// Who chooses the codec of stored batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// The producer: batches are stored as sent.
    Producer,
    /// The topic: batches sent with another codec are recompressed.
    Chosen(Compression),
}

/// What happens to old segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// They are deleted by age and size.
    Delete,
    /// They are compacted: of every key the last record is kept, however old.
    Compact,
    /// They are compacted, and deleted by age and size.
    CompactDelete,
}

impl CleanupPolicy {
    /// Whether segments are deleted by age and size.
    #[must_use]
    pub fn deletes(self) -> bool {
        match self {
            Self::Delete | Self::CompactDelete => true,
            Self::Compact => false,
        }
    }

    /// Whether of every key only the last record is kept.
    #[must_use]
    pub fn compacts(self) -> bool {
        match self {
            Self::Compact | Self::CompactDelete => true,
            Self::Delete => false,
        }
    }
}

macro_rules! words {
    ($($type:ident { $($word:literal => $variant:ident),* })*) => { $(
        impl FromText for $type {
            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $( $word => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }
    )* };
}
words! {
    FlushMode { "group" => Group, "os" => Os }
    MessageTimestampType { "CreateTime" => CreateTime, "LogAppendTime" => LogAppendTime }
    CleanupPolicy {
        "delete" => Delete, "compact" => Compact,
        "compact,delete" => CompactDelete, "delete,compact" => CompactDelete
    }
}

impl FromText for CompressionType {
    fn from_text(text: &str) -> Option<Self> {
        match text {
            "producer" => Some(Self::Producer),
            "uncompressed" => Some(Self::Chosen(Compression::None)),
            codec => {
                let named = Compression::from_name(codec)?;
                (named != Compression::None).then_some(Self::Chosen(named))
            }
        }
    }
}

/// gzip's levels, as Kafka has them: 0 is not one.
fn check_gzip_level(text: &str) -> Result<(), String> {
    match text.parse() {
        Ok(-1 | 1..=9) => Ok(()),
        Ok::<i64, _>(_) | Err(_) => Err("expected 1 to 9, or -1 for the default level".to_owned()),
    }
}

properties! {
    /// The settings in force for one topic: its own, else the broker's, else the defaults.
    pub struct TopicConfig {}
    /// One row per topic property.
    static TOPIC_PROPERTIES;

    "cleanup.policy" => cleanup_policy: CleanupPolicy, List None, default "delete",
        Valid::OneOf(&["delete", "compact"]), Dynamic, broker ["log.cleanup.policy"],
        "What happens to old segments: `delete` removes them by age and size, `compact` keeps the last record of every key, `compact,delete` does both.";
    "compression.gzip.level" => compression_gzip_level: i32, Int None, default "-1",
        Valid::Check(check_gzip_level), Dynamic, broker ["compression.gzip.level"],
        "Level used where `compression.type=gzip` recompresses a batch: 1 (fast) to 9 (small), -1 for gzip's default of 6.";
    "compression.lz4.level" => compression_lz4_level: i32, Int None, default "9",
        Valid::Range(9, 9), Dynamic, broker ["compression.lz4.level"],
        "Level used where `compression.type=lz4` recompresses a batch: always 9, Kafka's number for the fast method, the only one built.";
    "compression.type" => compression_type: CompressionType, String None, default "producer",
        Valid::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        Dynamic, broker ["compression.type"],
        "Codec of stored batches: `producer` keeps each batch as it was sent, the others recompress batches sent with another codec.";
    "compression.zstd.level" => compression_zstd_level: i32, Int None, default "3",
        Valid::Range(-131_072, 22), Dynamic, broker ["compression.zstd.level"],
        "Level used where `compression.type=zstd` recompresses a batch: the higher the smaller, below 0 the faster.";
    "delete.retention.ms" => delete_retention_ms: u64, Long Milliseconds, default "86400000",
        Valid::Range(0, i64::MAX), Dynamic, broker ["log.cleaner.delete.retention.ms"],
        "How long a tombstone of a compacted topic is kept after it was first cleaned: a reader that begins at the start has this long to see it.";
    "flush.mode" => flush_mode: FlushMode, String None, default "group",
        Valid::OneOf(&["group", "os"]), Dynamic, broker ["log.flush.mode"],
        "When an acks=all write is acknowledged: `group` after an fsync shared by concurrent writes, `os` after the write to the page cache (a power cut can lose it). An extension of Sawlog.";
    "follower.replication.throttled.replicas" => follower_throttled_replicas: ThrottledReplicas, List None,
        default "", Valid::Check(check_throttled_replica), Dynamic, broker [],
        "Replicas, as partition:broker, that their brokers copy no faster than `follower.replication.throttled.rate` until they are in sync; `*` for all. Kafka's reassignment tool sets and removes it.";
    "index.interval.bytes" => index_interval_bytes: u32, Int Bytes, default "4096",
        Valid::Range(512, 1_073_741_824), Dynamic, broker ["log.index.interval.bytes"],
        "Bytes of log between two entries of the offset index.";
    "leader.replication.throttled.replicas" => leader_throttled_replicas: ThrottledReplicas, List None,
        default "", Valid::Check(check_throttled_replica), Dynamic, broker [],
        "Replicas, as partition:broker, that send records no faster than `leader.replication.throttled.rate` to followers that are not in sync; `*` for all. Kafka's reassignment tool sets and removes it.";
    "max.compaction.lag.ms" => max_compaction_lag_ms: u64, Long Milliseconds, default "9223372036854775807",
        Valid::Range(1, i64::MAX), Dynamic, broker ["log.cleaner.max.compaction.lag.ms"],
        "How long a record of a compacted topic may wait to be cleaned, however little is dirty; segments are begun at least this often.";
    "max.message.bytes" => max_message_bytes: u32, Int Bytes, default "1048588",
        Valid::Range(0, 1_073_741_824), Dynamic, broker ["message.max.bytes"],
        "Largest record batch accepted, as stored (after compression).";
    "message.timestamp.after.max.ms" => message_timestamp_after_max_ms: u64, Long Milliseconds,
        default "3600000", Valid::Range(0, i64::MAX), Dynamic, broker ["log.message.timestamp.after.max.ms"],
        "How far a producer's timestamp may be ahead of the broker's clock.";
    "message.timestamp.before.max.ms" => message_timestamp_before_max_ms: u64, Long Milliseconds,
        default "9223372036854775807", Valid::Range(0, i64::MAX), Dynamic, broker ["log.message.timestamp.before.max.ms"],
        "How far a producer's timestamp may be behind the broker's clock.";
    "message.timestamp.type" => message_timestamp_type: MessageTimestampType, String None, default "CreateTime",
        Valid::OneOf(&["CreateTime", "LogAppendTime"]), Dynamic, broker ["log.message.timestamp.type"],
        "Whether records keep the producer's timestamp or get the broker's at append.";
    "min.cleanable.dirty.ratio" => min_cleanable_dirty_ratio: f64, Double None, default "0.5",
        Valid::Range(0, 1), Dynamic, broker ["log.cleaner.min.cleanable.ratio"],
        "Share of a compacted log that must be dirty for it to be cleaned.";
    "min.compaction.lag.ms" => min_compaction_lag_ms: u64, Long Milliseconds, default "0",
        Valid::Range(0, i64::MAX), Dynamic, broker ["log.cleaner.min.compaction.lag.ms"],
        "How long a record of a compacted topic is not cleaned.";
    "min.insync.replicas" => min_insync_replicas: Option<u32>, Int None, default "-1",
        Valid::Check(check_min_in_sync), Dynamic, broker ["min.insync.replicas"],
        "In-sync replicas an acks=all write needs; fewer refuse it. -1: half of the replicas, rounded up: 1 of 1 or 2, 2 of 3.";
    "retention.bytes" => retention_bytes: Option<u64>, Long Bytes, default "-1",
        Valid::Range(-1, i64::MAX), Dynamic, broker ["log.retention.bytes"],
        "Size of a partition above which its oldest segments are deleted; -1 for no limit.";
    "retention.ms" => retention_ms: Option<u64>, Long Milliseconds, default "604800000",
        Valid::Range(-1, i64::MAX), Dynamic,
        broker ["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
        "Age above which segments are deleted; -1 for no limit.";
    "segment.bytes" => segment_bytes: u32, Int Bytes, default "1073741824",
        Valid::Range(4096, 2_147_483_647), Dynamic, broker ["log.segment.bytes"],
        "Size at which a new segment is begun.";
    "segment.ms" => segment_ms: u64, Long Milliseconds, default "604800000",
        Valid::Range(1, i64::MAX), Dynamic, broker ["log.roll.ms", "log.roll.hours"],
        "Age at which a new segment is begun even if the last is not full.";
    "unclean.leader.election.enable" => unclean_leader_election_enable: bool, Boolean None, default "false",
        Valid::OneOfSoFar(&["false"], &[("true", "electing a leader that misses acknowledged records is never done automatically")]),
        Dynamic, broker ["unclean.leader.election.enable"],
        "Whether a replica outside the in-sync set may lead. Never.";
}

/// Kafka's topic settings that are not honoured here yet. Refused rather than ignored: a setting
/// that is accepted is a promise.
const NOT_YET: &[(&str, &str)] = &[
    ("file.delete.delay.ms", "files are removed at once; whoever reads them still can"),
    ("flush.messages", "use flush.mode=group, which fsyncs before every acks=all reply"),
    ("flush.ms", "use flush.mode=group, which fsyncs before every acks=all reply"),
    ("local.retention.bytes", "tiered storage is not built yet"),
    ("local.retention.ms", "tiered storage is not built yet"),
    ("message.downconversion.enable", "old message formats are not served"),
    ("message.format.version", "only the current record format is stored"),
    (
        "message.timestamp.difference.max.ms",
        "use message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    ),
    ("preallocate", "segments are always preallocated in steps"),
    ("remote.log.copy.disable", "tiered storage is not built yet"),
    ("remote.log.delete.on.disable", "tiered storage is not built yet"),
    ("remote.storage.enable", "tiered storage is not built yet"),
    ("segment.index.bytes", "indexes grow as needed"),
    ("segment.jitter.ms", "use segment.ms"),
];

/// Every topic property, by name.
#[must_use]
pub fn topic_properties() -> &'static [Property] {
    TOPIC_PROPERTIES
}

/// The topic property called `name`.
///
/// # Errors
/// Unknown or not supported, with a suggestion.
pub fn topic_property(name: &str) -> Result<&'static Property, ConfigError> {
    if let Some(property) = TOPIC_PROPERTIES.iter().find(|row| row.name == name) {
        return Ok(property);
    }
    if let Some((_, reason)) = NOT_YET.iter().find(|(known, _)| *known == name) {
        return Err(ConfigError::NotSupported {
            key: name.to_owned(),
            reason,
            origin: Origin::Request,
        });
    }
    Err(ConfigError::UnknownKey {
        resource: "topic",
        key: name.to_owned(),
        suggestion: suggest(name, TOPIC_PROPERTIES.iter().map(|row| row.name)),
        origin: Origin::Request,
    })
}

impl TopicConfig {
    /// The settings a topic without any of its own has on this broker.
    #[must_use]
    pub fn inherited(broker: &BrokerConfig) -> Self {
        Self::resolve(&Overrides::new(), broker)
    }

    /// The settings in force for a topic with these of its own. Values this version does not accept
    /// (written by another) are passed over.
    #[must_use]
    pub fn resolve(overrides: &Overrides, broker: &BrokerConfig) -> Self {
        Self::read(&|name| {
            let property = TOPIC_PROPERTIES.iter().find(|row| row.name == name)?;
            let own = overrides.get(name).and_then(|text| property.canonical(text).ok());
            own.or_else(|| broker.inherited(property).map(|(_, text)| text))
        })
    }

    /// How many of `replicas` have to be in sync for an acks=all write.
    #[must_use]
    pub fn min_in_sync(&self, replicas: usize) -> usize {
        match self.min_insync_replicas {
            Some(least) => usize::try_from(least).unwrap_or(usize::MAX).max(1),
            None => replicas.div_ceil(2).max(1),
        }
    }

    /// The codec a batch sent with `sent` is stored with, if it is another one.
    #[must_use]
    pub fn recompression(&self, sent: Compression) -> Option<Codec> {
        let CompressionType::Chosen(compression) = self.compression_type else { return None };
        let level = match compression {
            Compression::Gzip => {
                (self.compression_gzip_level >= 0).then_some(self.compression_gzip_level)
            }
            Compression::Zstd => Some(self.compression_zstd_level),
            Compression::None | Compression::Snappy | Compression::Lz4 => None,
        };
        (compression != sent).then_some(Codec { compression, level })
    }

    /// Checks that the settings of a topic hold together.
    ///
    /// # Errors
    /// Which do not.
    pub fn check_together(overrides: &Overrides, broker: &BrokerConfig) -> Result<(), ConfigError> {
        let config = Self::resolve(overrides, broker);
        let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
        if min > max {
            return Err(ConfigError::Conflict(format!(
                "min.compaction.lag.ms ({min}) is larger than max.compaction.lag.ms ({max})"
            )));
        }
        Ok(())
    }

    /// Checks one setting for a topic and returns its canonical text.
    ///
    /// # Errors
    /// Unknown name or unusable value.
    pub fn check(name: &str, text: &str) -> Result<String, ConfigError> {
        topic_property(name)?.canonical(text).map_err(|reason| ConfigError::InvalidValue {
            key: name.to_owned(),
            value: text.to_owned(),
            reason,
            origin: Origin::Request,
        })
    }
}

fn check_min_in_sync(text: &str) -> Result<(), String> {
    match text.parse::<i16>() {
        Ok(-1 | 1..) => Ok(()),
        Ok(_) | Err(_) => {
            Err("expected 1 to 32767, or -1 for half of the replicas, rounded up".to_owned())
        }
    }
}

/// The scale of an inherited property: `log.retention.hours` counts hours, `retention.ms` is in
/// milliseconds.
pub(crate) fn scale_of_name(name: &str) -> i64 {
    if name.ends_with(".hours") {
        3_600_000
    } else if name.ends_with(".minutes") {
        60_000
    } else {
        1
    }
}

/// Names of Kafka's topic settings that are known and refused.
pub(crate) fn topic_settings_not_yet() -> &'static [(&'static str, &'static str)] {
    NOT_YET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_canonical_and_parse() {
        for row in topic_properties() {
            let default = row.default.as_deref().unwrap();
            assert_eq!(row.canonical(default).as_deref(), Ok(default), "{}", row.name);
            // Which replicas are held up is a matter of the topic alone.
            let is_own = row.name.ends_with(".throttled.replicas");
            assert!(!row.broker.is_empty() || is_own, "{} inherits from the broker", row.name);
        }
        let config = TopicConfig::inherited(&BrokerConfig::default());
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.flush_mode, FlushMode::Group);
        assert_eq!(config.segment_bytes, 1 << 30);
    }

    #[test]
    fn rows_are_sorted_and_unique() {
        let names: Vec<_> = topic_properties().iter().map(|row| row.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(NOT_YET.iter().all(|(name, _)| !names.contains(name)));
    }

    #[test]
    fn a_typing_mistake_is_refused_with_a_suggestion() {
        let error = TopicConfig::check("retention.sm", "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown topic setting \"retention.sm\"; did you mean \"retention.ms\"?"
        );
    }

    #[test]
    fn what_is_not_built_is_refused_with_the_reason() {
        for (name, value, expected) in [
            ("unclean.leader.election.enable", "true", "never done automatically"),
            ("remote.storage.enable", "true", "not supported yet: tiered storage"),
        ] {
            let text = TopicConfig::check(name, value).unwrap_err().to_string();
            assert!(text.contains(expected), "{name}={value}: {text}");
        }
    }

    #[test]
    fn values_are_checked_and_made_canonical() {
        assert_eq!(TopicConfig::check("retention.ms", " 7d ").as_deref(), Ok("604800000"));
        assert_eq!(TopicConfig::check("segment.bytes", "16MiB").as_deref(), Ok("16777216"));
        assert_eq!(
            TopicConfig::check("message.timestamp.type", "logappendtime").as_deref(),
            Ok("LogAppendTime")
        );
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "3GiB"),
            ("segment.bytes", "0"),
            ("min.insync.replicas", "0"),
            ("flush.mode", "never"),
            ("max.message.bytes", "-1"),
            ("compression.gzip.level", "0"),
            ("compression.gzip.level", "10"),
            ("compression.lz4.level", "12"),
            ("compression.zstd.level", "23"),
            ("compression.type", "none"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "compact,forget"),
            ("min.cleanable.dirty.ratio", "1.1"),
            ("min.cleanable.dirty.ratio", "-0.1"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.cleanable.dirty.ratio", "half"),
            ("max.compaction.lag.ms", "0"),
        ] {
            assert!(TopicConfig::check(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn a_batch_is_recompressed_only_to_another_codec() {
        let with = |name: &str, value: &str| {
            let mut own = Overrides::from([("compression.type".to_owned(), value.to_owned())]);
            if !name.is_empty() {
                own.insert(format!("compression.{value}.level"), name.to_owned());
            }
            TopicConfig::resolve(&own, &BrokerConfig::default())
        };
        let codec = |compression, level| Some(Codec { compression, level });
        assert_eq!(with("", "producer").recompression(Compression::Zstd), None);
        assert_eq!(with("", "zstd").recompression(Compression::Zstd), None);
        let zstd = codec(Compression::Zstd, Some(3));
        assert_eq!(with("", "zstd").recompression(Compression::None), zstd);
        let faster = codec(Compression::Zstd, Some(-7));
        assert_eq!(with("-7", "zstd").recompression(Compression::Lz4), faster);
        assert_eq!(
            with("", "gzip").recompression(Compression::Lz4),
            codec(Compression::Gzip, None)
        );
        let small = codec(Compression::Gzip, Some(9));
        assert_eq!(with("9", "gzip").recompression(Compression::Lz4), small);
        assert_eq!(with("", "uncompressed").recompression(Compression::None), None);
        let plain = codec(Compression::None, None);
        assert_eq!(with("", "uncompressed").recompression(Compression::Snappy), plain);
    }

    #[test]
    fn both_cleanup_policies_can_be_had_at_once() {
        for (text, policy) in [
            ("delete", CleanupPolicy::Delete),
            ("Compact", CleanupPolicy::Compact),
            ("compact, delete", CleanupPolicy::CompactDelete),
            ("delete,compact,delete", CleanupPolicy::CompactDelete),
        ] {
            let canonical = TopicConfig::check("cleanup.policy", text).unwrap();
            assert_eq!(CleanupPolicy::from_text(&canonical), Some(policy), "{text}");
        }
    }

    #[test]
    fn a_ratio_is_kept_as_it_is() {
        let ratio = |text| TopicConfig::check("min.cleanable.dirty.ratio", text);
        assert_eq!(ratio(" 0.25 ").as_deref(), Ok("0.25"));
        assert_eq!(ratio("1").as_deref(), Ok("1"));
        let config = TopicConfig::inherited(&BrokerConfig::default());
        assert_eq!(config.min_cleanable_dirty_ratio, 0.5);
    }

    #[test]
    fn compaction_lags_that_exclude_each_other_are_refused() {
        let broker = BrokerConfig::default();
        let own = |min: &str, max: &str| {
            Overrides::from([
                ("min.compaction.lag.ms".to_owned(), min.to_owned()),
                ("max.compaction.lag.ms".to_owned(), max.to_owned()),
            ])
        };
        assert!(TopicConfig::check_together(&own("5", "5"), &broker).is_ok());
        let error = TopicConfig::check_together(&own("6", "5"), &broker).unwrap_err();
        assert!(error.to_string().contains("min.compaction.lag.ms (6)"), "{error}");
    }

    #[test]
    fn a_value_of_another_version_is_passed_over() {
        let own = Overrides::from([
            ("cleanup.policy".to_owned(), "burn".to_owned()),
            ("no.such.thing".to_owned(), "1".to_owned()),
            ("retention.ms".to_owned(), "5".to_owned()),
        ]);
        let config = TopicConfig::resolve(&own, &BrokerConfig::default());
        assert_eq!(config.cleanup_policy, CleanupPolicy::Delete);
        assert_eq!(config.retention_ms, Some(5));
    }
}
