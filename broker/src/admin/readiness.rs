//! Whether this broker is ready: clients may be sent to it, and the next broker of a rolling restart
//! may be stopped.

use std::sync::atomic::Ordering;

use super::{Parts, Status};
use crate::base::BrokerId;
use crate::metadata::{Image, PartitionState};
use crate::quorum::LogRole;

/// A reason not to be ready, or several; each a line for people.
type Check = fn(&Parts, &mut Vec<String>);

/// What must hold of a broker that serves. The reasons of all of them are told.
const CHECKS: &[Check] = &[membership, replicas, directories, coordinators];

impl Status {
    /// Why this broker is not ready; nothing if it is.
    pub(crate) fn unready(&self) -> Vec<String> {
        if self.is_stopping() {
            return vec!["stopping".to_owned()];
        }
        if self.leaves.load(Ordering::Relaxed) {
            return vec!["stopping: others take over what this broker leads".to_owned()];
        }
        let Some(parts) = self.parts.get() else {
            return vec![format!(
                "starting: {} of {} partitions opened",
                self.opened.load(Ordering::Relaxed),
                self.partitions.load(Ordering::Relaxed)
            )];
        };
        let mut reasons = Vec::new();
        CHECKS.iter().for_each(|check| check(parts, &mut reasons));
        reasons
    }
}

/// The cluster counts on this broker, as far as it knows: what it knows is of use only while there is
/// a controller it hears.
fn membership(parts: &Parts, reasons: &mut Vec<String>) {
    reasons.extend(outside(&parts.images.load(), parts.id, parts.controller.role().get()));
}

/// Why the cluster does not count on broker `own`, if it does not.
fn outside(image: &Image, own: BrokerId, role: LogRole) -> Option<String> {
    let no_controller = "cluster: there is no controller, or this broker does not hear it";
    match role {
        LogRole::Follower { leader: None } => return Some(no_controller.to_owned()),
        LogRole::Follower { leader: Some(_) } | LogRole::Leader { .. } => {}
    }
    match image.broker(own) {
        None => Some("cluster: this broker is not registered".to_owned()),
        Some(me) if me.fenced => {
            Some("cluster: the controller keeps this broker out until it has caught up".to_owned())
        }
        Some(_) => None,
    }
}

/// What this broker holds is as new as what leads it: if it is not, the next broker that stops may
/// leave too few copies.
fn replicas(parts: &Parts, reasons: &mut Vec<String>) {
    let is_offline = |topic: &str, index| {
        parts.partitions.topic_by_name(topic).is_some_and(|topic| topic.is_offline(index))
    };
    let behind = behind(&parts.images.load(), parts.id, is_offline);
    if behind > 0 {
        reasons.push(format!("replicas: {behind} are behind their leaders"));
    }
}

/// How many replicas of broker `own` are not in sync. Left out are those it does not count with yet
/// (a move brings them), those nobody leads, and those it could not open: waiting helps none of them.
fn behind(image: &Image, own: BrokerId, is_offline: impl Fn(&str, i32) -> bool) -> usize {
    let waits = |partition: &PartitionState| {
        partition.leader.is_some()
            && partition.replicas.contains(&own)
            && !partition.isr.contains(&own)
            && !partition.adding.contains(&own)
    };
    let of = |topic: &crate::metadata::Topic| {
        topic
            .indexed()
            .filter(|(index, partition)| waits(partition) && !is_offline(&topic.name, *index))
            .count()
    };
    image.topics().map(|topic| of(topic)).sum()
}

/// Nothing in a directory that failed is served until the next start.
fn directories(parts: &Parts, reasons: &mut Vec<String>) {
    let all = parts.partitions.directories().iter();
    reasons.extend(all.filter_map(|directory| {
        let reason = directory.data().failure()?;
        let path = directory.data().path().display();
        Some(format!("data directory {path} is offline: {reason}"))
    }));
}

/// Groups this broker leads are known only once their log has been read.
fn coordinators(parts: &Parts, reasons: &mut Vec<String>) {
    let loading = parts.groups.loading();
    if loading > 0 {
        reasons.push(format!("groups: {loading} partitions of their log are still being read"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sawlog_protocol::Uuid;
    use tokio::sync::watch;

    use super::*;
    use crate::base::LeaderEpoch;
    use crate::config::BrokerConfig;
    use crate::metadata::{MetadataOffset, PartitionRecord, Record, RegisterBroker};
    use crate::replication::RecoveryProgress;

    const TOPIC: Uuid = Uuid([9; 16]);

    fn image(records: &[Record]) -> Image {
        let config = Arc::new(BrokerConfig::default().with_node_id(1));
        let image = Image::empty(Uuid([7; 16]), config);
        image.applied(MetadataOffset::NONE.next(), records).unwrap()
    }

    fn broker(id: i32, fenced: bool) -> Record {
        Record::RegisterBroker(RegisterBroker {
            id: BrokerId(id),
            epoch: i64::from(id),
            incarnation: Uuid([1; 16]),
            storage_ids: Vec::new(),
            listeners: Vec::new(),
            peer: None,
            rack: None,
            fenced,
            shutting_down: false,
        })
    }

    fn partition(index: i32, leader: Option<i32>, isr: &[i32], adding: &[i32]) -> Record {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        Record::Partition(PartitionRecord {
            topic: TOPIC,
            index,
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            elr: vec![],
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            adding: ids(adding),
            removing: vec![],
            storage_ids: vec![],
        })
    }

    #[test]
    fn a_broker_the_cluster_does_not_count_on_is_not_ready() {
        let image = image(&[broker(1, false), broker(2, true)]);
        let follows = LogRole::Follower { leader: Some(BrokerId(1)) };
        let lost = LogRole::Follower { leader: None };
        let why = |id, role| outside(&image, BrokerId(id), role).unwrap_or_default();
        assert_eq!(why(1, LogRole::Leader { term: 1 }), "");
        assert_eq!(why(1, follows), "");
        assert!(why(2, follows).contains("keeps this broker out"));
        assert!(why(3, follows).contains("not registered"));
        assert!(why(1, lost).contains("no controller"));
    }

    #[test]
    fn only_a_replica_that_can_catch_up_and_has_not_keeps_a_broker_from_being_ready() {
        let image = image(&[
            broker(1, false),
            broker(2, false),
            broker(3, false),
            Record::Topic { name: "t".to_owned(), id: TOPIC },
            partition(0, Some(1), &[1, 2, 3], &[]),
            partition(1, Some(1), &[1, 2], &[]),
            partition(2, None, &[1], &[]),
            partition(3, Some(1), &[1, 2], &[3]),
        ]);
        assert_eq!(behind(&image, BrokerId(3), |_, _| false), 1, "partition 1 alone");
        assert_eq!(behind(&image, BrokerId(3), |topic, index| (topic, index) == ("t", 1)), 0);
        assert_eq!(behind(&image, BrokerId(2), |_, _| false), 0, "nobody leads partition 2");
        assert_eq!(behind(&image, BrokerId(1), |_, _| false), 0);
    }

    #[test]
    fn a_broker_that_starts_or_stops_is_not_ready_and_says_so() {
        let (stop, stopped) = watch::channel(false);
        let status = Status::starting(stopped);
        assert_eq!(status.unready(), ["starting: 0 of 0 partitions opened"]);
        status.recovering(RecoveryProgress { done: 3, partitions: 10, bytes_read: 1 });
        assert_eq!(status.unready(), ["starting: 3 of 10 partitions opened"]);
        assert!(status.metrics().contains("\nsawlog_ready 0\n"));
        status.leaving();
        assert!(status.unready()[0].starts_with("stopping: others take over"));
        stop.send_replace(true);
        assert_eq!(status.unready(), ["stopping"]);
    }
}
