//! Where a partition is led, told along with the error that it is not led here (KIP-951): the client
//! goes there at once, instead of asking for metadata first.

use std::collections::BTreeSet;
use std::sync::Arc;

use sawlog_protocol::Uuid;

use super::Node;
use crate::base::BrokerId;
use crate::metadata::Image;

/// What a reply tells of leaders elsewhere.
#[derive(Debug)]
pub(super) struct LeaderHints {
    image: Arc<Image>,
    leaders: BTreeSet<BrokerId>,
}

/// A broker that leads, and where clients reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HintedBroker<'a> {
    pub(super) id: i32,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) rack: Option<&'a str>,
}

impl LeaderHints {
    pub(super) fn new(node: &Node) -> Self {
        Self::of(node.images.load())
    }

    fn of(image: Arc<Image>) -> Self {
        Self { image, leaders: BTreeSet::new() }
    }

    /// Who leads the partition of the topic with this name, or this id, and in which epoch; -1 twice
    /// where nobody does.
    pub(super) fn leader(&mut self, name: &str, id: Uuid, index: i32) -> (i32, i32) {
        let topic = self.image.topic_by_id(id).or_else(|| self.image.topic(name));
        let state = topic.and_then(|topic| topic.partition(index));
        let Some((leader, state)) = state.and_then(|state| Some((state.leader?, state))) else {
            return (-1, -1);
        };
        self.leaders.insert(leader);
        (leader.0, state.leader_epoch.0)
    }

    /// The brokers that were named, where they say that clients reach them.
    pub(super) fn brokers(&self) -> impl Iterator<Item = HintedBroker<'_>> {
        self.leaders.iter().filter_map(|id| {
            let broker = self.image.broker(*id)?;
            let listener = broker.listeners.first()?;
            Some(HintedBroker {
                id: id.0,
                host: &listener.host,
                port: listener.port,
                rack: broker.rack.as_deref(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;
    use crate::config::{BrokerConfig, Endpoint};
    use crate::metadata::{MetadataOffset, PartitionRecord, Record, RegisterBroker};

    const TOPIC: Uuid = Uuid([9; 16]);

    fn image() -> Arc<Image> {
        let broker = |id: i32| {
            Record::RegisterBroker(RegisterBroker {
                id: BrokerId(id),
                epoch: i64::from(id),
                incarnation: Uuid([1; 16]),
                storage_ids: Vec::new(),
                listeners: vec![Endpoint {
                    name: "PLAINTEXT".to_owned(),
                    host: format!("broker-{id}.example"),
                    port: 9092,
                }],
                peer: None,
                rack: None,
                fenced: false,
                shutting_down: false,
            })
        };
        let partition = |index: i32, leader: Option<BrokerId>| {
            Record::Partition(PartitionRecord {
                topic: TOPIC,
                index,
                replicas: vec![BrokerId(2)],
                isr: vec![BrokerId(2)],
                elr: vec![],
                leader,
                leader_epoch: LeaderEpoch(4),
                partition_epoch: 5,
                adding: vec![],
                removing: vec![],
                storage_ids: vec![],
            })
        };
        let topic = Record::Topic { name: "t".to_owned(), id: TOPIC };
        let records = [broker(1), broker(2), topic, partition(0, Some(BrokerId(2)))];
        let records = [&records[..], &[partition(1, None)]].concat();
        let config = Arc::new(BrokerConfig::default().with_node_id(1));
        let image = Image::empty(Uuid([7; 16]), config);
        Arc::new(image.applied(MetadataOffset::NONE.next(), &records).unwrap())
    }

    #[test]
    fn who_leads_is_told_by_name_or_id_and_where_it_is_once() {
        let mut hints = LeaderHints::of(image());
        assert_eq!(hints.leader("t", Uuid::ZERO, 0), (2, 4));
        assert_eq!(hints.leader("", TOPIC, 0), (2, 4));
        let brokers: Vec<_> = hints.brokers().collect();
        let host = "broker-2.example";
        assert_eq!(brokers, [HintedBroker { id: 2, host, port: 9092, rack: None }]);
    }

    #[test]
    fn nothing_is_told_of_what_nobody_leads() {
        let mut hints = LeaderHints::of(image());
        assert_eq!(hints.leader("t", Uuid::ZERO, 1), (-1, -1));
        assert_eq!(hints.leader("t", Uuid::ZERO, 2), (-1, -1));
        assert_eq!(hints.leader("unknown", Uuid::ZERO, 0), (-1, -1));
        assert_eq!(hints.brokers().count(), 0);
    }
}
