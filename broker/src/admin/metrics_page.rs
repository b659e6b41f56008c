//! What this broker counts and measures, as a page of metrics.
//!
//! Every metric has `sawlog_` in front, but for those of the process. Labels have values out of this
//! code or the configuration, and as many as APIs, directories or brokers there are; nothing is told of a
//! single topic, partition or group. Metrics that clients pushed are added as they are, within bounds
//! of [`crate::telemetry`]'s.

use super::{Parts, Status, process, replication_page};
use crate::metrics::{BrokerMetrics, Kind, Page};
use crate::replication::Partitions;

impl Status {
    /// The page.
    pub(crate) fn metrics(&self) -> String {
        let mut page = Page::default();
        let page = &mut page;
        page.family("sawlog_build_info", Kind::Gauge, "Always 1; the version of this broker.");
        page.value("sawlog_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        let help = "Whether it may be sent clients: 1, if /readyz says so.";
        page.single("sawlog_ready", Kind::Gauge, help, self.unready().is_empty());
        process::describe(page);
        if let Some(parts) = self.parts.get() {
            broker(page, &parts.metrics);
            disk(page, parts);
            replication_page::describe(page, parts);
            certificate(page, parts);
            groups(page, parts);
            background(page, parts);
            parts.telemetry.describe(page);
        }
        std::mem::take(page).into_text()
    }
}

fn broker(page: &mut Page, metrics: &BrokerMetrics) {
    let connections = &metrics.connections;
    let (closed, accepted) = (connections.closed.get(), connections.accepted.get());
    let help = "Connections of clients that are open.";
    page.single("sawlog_connections", Kind::Gauge, help, accepted.saturating_sub(closed));
    for (name, help, counter) in [
        ("sawlog_connections_accepted_total", "Connections accepted.", &connections.accepted),
        (
            "sawlog_connections_refused_total",
            "Connections closed at accept: max.connections or max.connections.per.ip was reached.",
            &connections.refused,
        ),
        ("sawlog_received_bytes_total", "Bytes read from clients.", &connections.received_bytes),
        ("sawlog_sent_bytes_total", "Bytes sent to clients.", &connections.sent_bytes),
        (
            "sawlog_requests_fatal_total",
            "Requests that ended their connection: there was no reply the client would understand.",
            &metrics.requests.fatal,
        ),
    ] {
        page.single(name, Kind::Counter, help, counter.get());
    }
    let name = "sawlog_request_seconds";
    page.family(
        name,
        Kind::Histogram,
        "From reading a request to its reply, the time a fetch waits for records included.",
    );
    for (api, histogram) in metrics.requests.seen() {
        page.histogram(name, &[("api", api)], histogram);
    }
}

fn certificate(page: &mut Page, parts: &Parts) {
    if let Some(tls) = &parts.tls {
        let name = "sawlog_peer_certificate_expiry_timestamp_seconds";
        let help = "When the certificate this broker shows its peers ends, in seconds since 1970.";
        page.single(name, Kind::Gauge, help, tls.expires());
    }
}

fn disk(page: &mut Page, parts: &Parts) {
    let image = parts.images.load();
    page.single("sawlog_topics", Kind::Gauge, "Topics of the cluster.", image.topic_count());
    let all = parts.partitions.all();
    page.single("sawlog_partitions", Kind::Gauge, "Partitions this broker serves.", all.len());
    let help = "Partitions that could not be opened and are not served.";
    page.single("sawlog_partitions_offline", Kind::Gauge, help, parts.partitions.offline());
    let damaged: usize = all.iter().map(|partition| partition.quarantined().len()).sum();
    let help = "Damaged ranges of logs, which are not served.";
    page.single("sawlog_quarantined_ranges", Kind::Gauge, help, damaged);
    directories(page, &parts.partitions);
    flushers(page, &parts.partitions);
}

fn directories(page: &mut Page, partitions: &Partitions) {
    let directories: Vec<_> = partitions
        .directories()
        .iter()
        .map(|directory| (directory.data(), directory.data().path().to_string_lossy()))
        .collect();
    let name = "sawlog_log_directory_online";
    page.family(name, Kind::Gauge, "Whether no write in the data directory has failed.");
    for (data, path) in &directories {
        page.value(name, &[("directory", path)], data.is_online());
    }
    let name = "sawlog_log_directory_full";
    page.family(name, Kind::Gauge, "Whether records are refused: the disk is full.");
    for (data, path) in &directories {
        page.value(name, &[("directory", path)], data.is_full());
    }
}

fn flushers(page: &mut Page, partitions: &Partitions) {
    let flushers: Vec<_> = partitions
        .directories()
        .iter()
        .map(|directory| (directory.flusher().metrics(), directory.data().path().to_string_lossy()))
        .collect();
    let name = "sawlog_flush_rounds_total";
    page.family(name, Kind::Counter, "Sets of partitions that were made durable together.");
    for (metrics, path) in &flushers {
        page.value(name, &[("directory", path)], metrics.rounds.get());
    }
    let name = "sawlog_flush_partitions_total";
    page.family(name, Kind::Counter, "Partitions in these sets.");
    for (metrics, path) in &flushers {
        page.value(name, &[("directory", path)], metrics.partitions.get());
    }
    let name = "sawlog_flush_failures_total";
    page.family(name, Kind::Counter, "Partitions whose records could not be synced.");
    for (metrics, path) in &flushers {
        page.value(name, &[("directory", path)], metrics.failures.get());
    }
    let name = "sawlog_sync_seconds";
    page.family(name, Kind::Histogram, "One sync, of a file or of the whole file system.");
    for (metrics, path) in &flushers {
        page.histogram(name, &[("directory", path)], &metrics.syncs);
    }
}

fn groups(page: &mut Page, parts: &Parts) {
    let name = "sawlog_groups";
    page.family(name, Kind::Gauge, "Consumer groups this broker coordinates.");
    for ((kind, state), count) in parts.groups.counts() {
        page.value(name, &[("type", kind.name()), ("state", state.name())], count);
    }
}

fn background(page: &mut Page, parts: &Parts) {
    let compaction = (parts.compaction)();
    let scrub = (parts.scrub)();
    for (name, help, value) in [
        ("sawlog_compactions_total", "Logs compacted.", compaction.passes),
        (
            "sawlog_compaction_read_bytes_total",
            "Bytes of segments that compaction replaced.",
            compaction.bytes_before,
        ),
        (
            "sawlog_compaction_written_bytes_total",
            "Bytes of segments that took their place.",
            compaction.bytes_after,
        ),
        ("sawlog_scrub_segments_total", "Segments read again to find damage.", scrub.segments),
        ("sawlog_scrub_bytes_total", "Bytes read again to find damage.", scrub.bytes),
        ("sawlog_scrub_damaged_total", "Damaged ranges found that way.", scrub.damaged),
        (
            "sawlog_scrub_failures_total",
            "Segments that could not be read, or whose damage could not be written down.",
            scrub.failed,
        ),
    ] {
        page.single(name, Kind::Counter, help, value);
    }
    let help = "Logs left alone by compaction until the next start.";
    page.single("sawlog_compaction_uncleanable_logs", Kind::Gauge, help, compaction.uncleanable);
    let help = "Time since compaction last looked for work.";
    page.single("sawlog_compaction_age_seconds", Kind::Gauge, help, compaction.age.as_secs_f64());
}
