//! What there is to say of replicas and of the controller, as metrics.
//!
//! Gauges of partitions are told by the broker that leads them, so that each is counted once over all
//! brokers; what the cluster as a whole is like, as this broker knows it, by every one.

use super::Parts;
use crate::base::BrokerId;
use crate::metadata::{Image, PartitionState};
use crate::metrics::{Kind, Page};
use crate::quorum::LogRole;

pub(super) fn describe(page: &mut Page, parts: &Parts) {
    let image = parts.images.load();
    cluster(page, parts, &image);
    led(page, parts.partitions.broker(), &image);
    lag(page, parts);
    counters(page, parts);
}

fn cluster(page: &mut Page, parts: &Parts, image: &Image) {
    let leads = matches!(parts.controller.role().get(), LogRole::Leader { .. });
    let help = "Whether this broker is the controller: 1 on exactly one.";
    page.single("sawlog_controller_active", Kind::Gauge, help, leads);
    let (alive, all) = (image.live_brokers().count(), image.brokers().len());
    let name = "sawlog_brokers";
    page.family(name, Kind::Gauge, "Brokers of the cluster, by whether they are heard of.");
    page.value(name, &[("state", "active")], alive);
    page.value(name, &[("state", "fenced")], all - alive);
    let (mut leaderless, mut moving) = (0_u64, 0_u64);
    for state in image.topics().flat_map(|topic| topic.partitions.iter()) {
        leaderless += u64::from(state.leader.is_none());
        moving += u64::from(!state.adding.is_empty() || !state.removing.is_empty());
    }
    let help = "Partitions of the cluster that nobody leads.";
    page.single("sawlog_partitions_leaderless", Kind::Gauge, help, leaderless);
    let help = "Partitions of the cluster whose replicas are being moved.";
    page.single("sawlog_partitions_reassigning", Kind::Gauge, help, moving);
    let offset = u64::try_from(image.offset().0).unwrap_or(0);
    let help = "The last entry of the metadata log this broker acts by.";
    page.single("sawlog_metadata_offset", Kind::Gauge, help, offset);
    let elections = parts.controller.elections();
    for (name, help, value) in [
        (
            "sawlog_leader_elections_total",
            "Leaders of partitions that changed by decision of this broker, as the controller.",
            elections.leaders,
        ),
        (
            "sawlog_unclean_leader_elections_total",
            "Of those, leaders that may lack what was acknowledged.",
            elections.unclean,
        ),
    ] {
        page.single(name, Kind::Counter, help, value);
    }
}

/// Of the partitions this broker leads.
fn led(page: &mut Page, own: BrokerId, image: &Image) {
    let (mut led, mut under_replicated, mut under_min, mut at_min) = (0_u64, 0, 0, 0);
    for topic in image.topics() {
        let is_led = |state: &&PartitionState| state.leader == Some(own);
        for state in topic.partitions.iter().filter(is_led) {
            // A replica that is being added is not missing yet.
            let wanted = state.replicas.iter().filter(|id| !state.adding.contains(id)).count();
            let min = state.min_in_sync(&topic.resolved).min(state.replicas.len());
            led += 1;
            under_replicated += u64::from(state.isr.len() < wanted);
            under_min += u64::from(state.isr.len() < min);
            at_min += u64::from(state.isr.len() == min && state.replicas.len() > min);
        }
    }
    for (name, help, value) in [
        ("sawlog_partitions_led", "Partitions this broker leads.", led),
        (
            "sawlog_partitions_under_replicated",
            "Of those, the ones with replicas that are not in sync.",
            under_replicated,
        ),
        (
            "sawlog_partitions_under_min_isr",
            "Of those, the ones with fewer in sync than min.insync.replicas: they take no acks=all.",
            under_min,
        ),
        (
            "sawlog_partitions_at_min_isr",
            "Of those, the ones that can lose no replica without taking acks=all no more.",
            at_min,
        ),
    ] {
        page.single(name, Kind::Gauge, help, value);
    }
}

fn lag(page: &mut Page, parts: &Parts) {
    let lags = parts.partitions.lags();
    let broker = |id: &BrokerId| id.0.to_string();
    let name = "sawlog_follower_lag_records";
    page.family(name, Kind::Gauge, "Records led here that a follower does not have, by follower.");
    for (id, lag) in &lags {
        page.value(name, &[("broker", &broker(id))], lag.records);
    }
    let name = "sawlog_follower_lag_records_max";
    page.family(name, Kind::Gauge, "Of the partition where that is most.");
    for (id, lag) in &lags {
        page.value(name, &[("broker", &broker(id))], lag.records_max);
    }
    let name = "sawlog_follower_lag_bytes";
    page.family(name, Kind::Gauge, "About how many bytes of batches they are.");
    for (id, lag) in &lags {
        page.value(name, &[("broker", &broker(id))], lag.bytes);
    }
}

fn counters(page: &mut Page, parts: &Parts) {
    let replication = parts.partitions.replication_metrics();
    let repairs = parts.partitions.repair_totals();
    for (name, help, value) in [
        (
            "sawlog_isr_shrinks_total",
            "Times a replica of a partition led here left its in-sync set.",
            replication.shrinks.get(),
        ),
        (
            "sawlog_isr_expands_total",
            "Times a replica of a partition led here joined its in-sync set.",
            replication.expands.get(),
        ),
        (
            "sawlog_isr_updates_refused_total",
            "Changes of in-sync sets that the controller refused, or did not answer.",
            replication.refused.get(),
        ),
        (
            "sawlog_replica_fetched_bytes_total",
            "Bytes of records fetched from leaders.",
            replication.fetched_bytes.get(),
        ),
        (
            "sawlog_replica_served_bytes_total",
            "Bytes of records sent to followers.",
            replication.served_bytes.get(),
        ),
        (
            "sawlog_replica_fetch_failures_total",
            "Requests to leaders without an answer of use, and answers that could not be taken.",
            replication.fetch_failures.get(),
        ),
        (
            "sawlog_repaired_segments_total",
            "Damaged segments that are whole again, by what other replicas have.",
            repairs.segments,
        ),
        ("sawlog_repaired_bytes_total", "Bytes that came from them for it.", repairs.bytes),
        ("sawlog_repair_failures_total", "Repairs that came to nothing.", repairs.failures),
    ] {
        page.single(name, Kind::Counter, help, value);
    }
}
