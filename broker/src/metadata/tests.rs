//! Facts about records and images.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use sawlog_protocol::Uuid;

use super::*;
use crate::base::{BrokerId, LeaderEpoch};
use crate::config::{BrokerConfig, Endpoint};

fn base() -> Arc<BrokerConfig> {
    Arc::new(BrokerConfig::default().with_node_id(1))
}

pub(crate) fn id(n: u8) -> Uuid {
    let mut bytes = [0; 16];
    bytes[15] = n;
    Uuid(bytes)
}

fn empty() -> Image {
    Image::empty(id(200), base())
}

pub(crate) fn partition(topic: u8, index: i32) -> Record {
    Record::Partition(PartitionRecord {
        topic: id(topic),
        index,
        replicas: vec![BrokerId(1), BrokerId(2)],
        isr: vec![BrokerId(1), BrokerId(2)],
        elr: vec![],
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        adding: vec![],
        removing: vec![],
        storage_ids: vec![],
    })
}

pub(crate) fn topic(n: u8, name: &str) -> Record {
    Record::Topic { name: name.to_owned(), id: id(n) }
}

fn config(resource: ConfigResource, key: &str, value: Option<&str>) -> Record {
    Record::Config { resource, key: key.to_owned(), value: value.map(str::to_owned) }
}

fn brokers() -> impl Strategy<Value = Vec<BrokerId>> {
    vec(any::<i32>().prop_map(BrokerId), 0..4)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (".{0,8}", ".{0,20}", any::<u16>()).prop_map(|(name, host, port)| Endpoint { name, host, port })
}

fn record() -> impl Strategy<Value = Record> {
    let resource = prop_oneof![
        uuid().prop_map(ConfigResource::Topic),
        any::<i32>().prop_map(|id| ConfigResource::Broker(BrokerId(id))),
        Just(ConfigResource::Cluster),
        ".{0,9}".prop_map(|group| ConfigResource::Group(group.into())),
        ".{0,9}".prop_map(|name| ConfigResource::ClientMetrics(name.into())),
    ];
    let leader = proptest::option::of(any::<i32>().prop_map(BrokerId));
    prop_oneof![
        (
            any::<i32>(),
            any::<i64>(),
            uuid(),
            vec(uuid(), 0..3),
            vec(endpoint(), 0..3),
            proptest::option::of(".{0,9}"),
            any::<[bool; 2]>(),
            proptest::option::of(endpoint())
        )
            .prop_map(
                |(
                    id,
                    epoch,
                    incarnation,
                    storage_ids,
                    listeners,
                    rack,
                    [fenced, shutting_down],
                    peer,
                )| {
                    let id = BrokerId(id);
                    Record::RegisterBroker(RegisterBroker {
                        id,
                        epoch,
                        incarnation,
                        storage_ids,
                        listeners,
                        rack,
                        fenced,
                        shutting_down,
                        peer,
                    })
                }
            ),
        (".{0,20}", uuid()).prop_map(|(name, id)| Record::Topic { name, id }),
        (
            uuid(),
            any::<i32>(),
            brokers(),
            brokers(),
            brokers(),
            leader.clone(),
            any::<(i32, i32)>(),
            (brokers(), brokers(), vec(uuid(), 0..3))
        )
            .prop_map(
                |(topic, index, replicas, isr, elr, leader, (le, partition_epoch), more)| {
                    let (adding, removing, storage_ids) = more;
                    let leader_epoch = LeaderEpoch(le);
                    Record::Partition(PartitionRecord {
                        topic,
                        index,
                        replicas,
                        isr,
                        elr,
                        leader,
                        leader_epoch,
                        partition_epoch,
                        adding,
                        removing,
                        storage_ids,
                    })
                }
            ),
        (
            uuid(),
            any::<i32>(),
            proptest::option::of(brokers()),
            proptest::option::of(brokers()),
            proptest::option::of(leader),
            vec(proptest::option::of(brokers()), 3),
            proptest::option::of(vec(uuid(), 0..3))
        )
            .prop_map(|(topic, index, isr, elr, leader, mut lists, storage_ids)| {
                let (replicas, adding, removing) =
                    (lists.remove(0), lists.remove(0), lists.remove(0));
                Record::PartitionChange(PartitionChange {
                    topic,
                    index,
                    isr,
                    elr,
                    leader,
                    replicas,
                    adding,
                    removing,
                    storage_ids,
                })
            }),
        (
            any::<i32>(),
            any::<i64>(),
            any::<[Option<bool>; 2]>(),
            proptest::option::of(vec(uuid(), 0..3))
        )
            .prop_map(|(id, epoch, [fenced, shutting_down], storage_ids)| {
                let id = BrokerId(id);
                Record::BrokerChange(BrokerChange { id, epoch, fenced, shutting_down, storage_ids })
            }),
        uuid().prop_map(|id| Record::RemoveTopic { id }),
        (resource, ".{0,20}", proptest::option::of(".{0,20}"))
            .prop_map(|(resource, key, value)| Record::Config { resource, key, value }),
        (any::<i32>(), any::<i64>(), any::<i64>()).prop_map(|(broker, epoch, next)| {
            Record::ProducerIds { broker: BrokerId(broker), epoch, next }
        }),
        (any::<i32>(), any::<i64>())
            .prop_map(|(id, epoch)| Record::UnregisterBroker { id: BrokerId(id), epoch }),
        (".{0,20}", any::<u16>()).prop_map(|(name, level)| Record::FeatureLevel { name, level }),
        Just(Record::NoOp),
    ]
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(records in vec(record(), 0..12)) {
        prop_assert_eq!(decode_records(&encode_records(&records)), Ok(records));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode_records(&bytes);
    }

    #[test]
    fn a_changed_byte_never_panics(records in vec(record(), 1..5), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = encode_records(&records);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_records(&bytes);
    }

    #[test]
    fn cut_bytes_are_refused(record in record()) {
        let bytes = encode_records(std::slice::from_ref(&record));
        for end in 1..bytes.len() {
            prop_assert!(decode_records(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn records_that_do_not_fit_never_panic(records in vec(record(), 0..12)) {
        if let Ok(image) = empty().applied(MetadataOffset(1), &records) {
            image.check();
        }
    }
}

/// A history with everything in it, one entry per line.
fn history() -> Vec<Vec<Record>> {
    let broker = |n: i32| {
        Record::RegisterBroker(RegisterBroker {
            id: BrokerId(n),
            epoch: n.into(),
            incarnation: id(100),
            storage_ids: vec![id(101)],
            listeners: vec![Endpoint { name: "PLAINTEXT".into(), host: "h".into(), port: 9092 }],
            rack: Some("r".into()),
            fenced: n == 2,
            shutting_down: false,
            peer: (n == 2).then(|| Endpoint { name: "P".into(), host: "p".into(), port: 9093 }),
        })
    };
    let group = || ConfigResource::Group("g".into());
    let change = |leader, isr: &[i32], elr: &[i32]| {
        Record::PartitionChange(PartitionChange {
            isr: Some(isr.iter().copied().map(BrokerId).collect()),
            elr: Some(elr.iter().copied().map(BrokerId).collect()),
            leader,
            ..PartitionChange::new(id(1), 1)
        })
    };
    vec![
        vec![broker(1), broker(2)],
        vec![topic(1, "zebra"), partition(1, 0), partition(1, 1)],
        vec![
            config(ConfigResource::Topic(id(1)), "retention.ms", Some("5")),
            topic(2, "ant"),
            partition(2, 0),
        ],
        vec![change(Some(Some(BrokerId(2))), &[2], &[1])],
        vec![config(ConfigResource::Cluster, "log.segment.bytes", Some("8192"))],
        vec![config(ConfigResource::Broker(BrokerId(1)), "num.partitions", Some("7"))],
        vec![change(None, &[1, 2], &[])],
        vec![Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: 1000 }, Record::NoOp],
        vec![Record::RemoveTopic { id: id(2) }, topic(3, "ant"), partition(3, 0)],
        vec![config(ConfigResource::Topic(id(1)), "retention.ms", None)],
        vec![config(group(), "consumer.session.timeout.ms", Some("50000"))],
        vec![
            config(group(), "consumer.session.timeout.ms", None),
            config(group(), "consumer.heartbeat.interval.ms", Some("6000")),
        ],
        vec![Record::BrokerChange(BrokerChange {
            id: BrokerId(2),
            epoch: 2,
            fenced: Some(false),
            shutting_down: Some(true),
            storage_ids: Some(vec![id(102)]),
        })],
        vec![Record::PartitionChange(PartitionChange {
            replicas: Some(vec![BrokerId(2), BrokerId(1), BrokerId(3)]),
            adding: Some(vec![BrokerId(3)]),
            removing: Some(vec![BrokerId(1)]),
            storage_ids: Some(vec![id(102), id(101), id(103)]),
            ..PartitionChange::new(id(1), 1)
        })],
        vec![Record::PartitionChange(PartitionChange {
            replicas: Some(vec![BrokerId(3), BrokerId(2), BrokerId(1)]),
            ..PartitionChange::new(id(1), 1)
        })],
        vec![Record::FeatureLevel { name: "f".to_owned(), level: 3 }],
        vec![Record::UnregisterBroker { id: BrokerId(2), epoch: 2 }],
    ]
}

fn replay(mut image: Image, entries: &[Vec<Record>], first: usize) -> Image {
    for (at, entry) in entries.iter().enumerate().skip(first) {
        image = image.applied(MetadataOffset(i64::try_from(at).unwrap() + 1), entry).unwrap();
        image.check();
    }
    image
}

#[test]
fn a_snapshot_and_the_tail_equal_full_replay() {
    let entries = history();
    let full = replay(empty(), &entries, 0);
    for cut in 0..=entries.len() {
        let part = replay(empty(), &entries[..cut], 0);
        let bytes = encode_records(&part.snapshot());
        let records = decode_records(&bytes).unwrap();
        let restored = Image::from_snapshot(id(200), base(), part.offset(), &records).unwrap();
        assert_eq!(restored, part, "snapshot at {cut}");
        assert_eq!(replay(restored, &entries, cut), full, "tail from {cut}");
    }
}

#[test]
fn leader_epoch_rises_only_with_a_named_leader_and_partition_epoch_always() {
    let entries = history();
    let after = |count: usize| {
        let image = replay(empty(), &entries[..count], 0);
        let p = image.topic("zebra").unwrap().partition(1).unwrap().clone();
        (p.leader_epoch.0, p.partition_epoch)
    };
    assert_eq!(after(2), (0, 0), "created");
    assert_eq!(after(4), (1, 1), "a new leader");
    assert_eq!(after(7), (1, 2), "only the ISR");
}

#[test]
fn topic_settings_follow_the_topic_the_broker_and_back() {
    let entries = history();
    let resolved = |count: usize| {
        let image = replay(empty(), &entries[..count], 0);
        let config = image.topic("zebra").unwrap().resolved.clone();
        (config.retention_ms, config.segment_bytes, image.config().num_partitions)
    };
    assert_eq!(resolved(2), (Some(604_800_000), 1 << 30, 1));
    assert_eq!(resolved(3), (Some(5), 1 << 30, 1));
    assert_eq!(resolved(6), (Some(5), 8192, 7));
    assert_eq!(resolved(10), (Some(604_800_000), 8192, 7));
}

#[test]
fn a_name_used_again_is_another_topic() {
    let image = replay(empty(), &history(), 0);
    assert_eq!(image.topic("ant").unwrap().id, id(3));
    assert!(image.topic_by_id(id(2)).is_none());
    let names: Vec<_> = image.topics().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["ant", "zebra"], "topics come in the order of their names");
    assert_eq!(image.topics_from("b").count(), 1);
}

#[test]
fn an_image_shares_what_an_entry_did_not_change() {
    let entries = history();
    let before = replay(empty(), &entries[..3], 0);
    let after = before.applied(MetadataOffset(4), &entries[3]).unwrap();
    assert!(Arc::ptr_eq(before.topic("ant").unwrap(), after.topic("ant").unwrap()));
    assert!(!Arc::ptr_eq(before.topic("zebra").unwrap(), after.topic("zebra").unwrap()));
    assert_eq!(before.topic("zebra").unwrap().partition(1).unwrap().leader_epoch, LeaderEpoch(0));
}

#[test]
fn an_entry_that_does_not_fit_names_itself() {
    let image = empty();
    for (records, expected) in [
        (vec![partition(9, 0)], "unknown topic"),
        (vec![topic(1, "a"), topic(2, "a")], "exists already"),
        (vec![topic(1, "a"), partition(1, 1)], "out of order"),
        (vec![topic(0, "a")], "has no id"),
        (vec![Record::RemoveTopic { id: id(1) }], "unknown topic"),
        (
            vec![
                Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: 2000 },
                Record::ProducerIds { broker: BrokerId(1), epoch: 1, next: 1000 },
            ],
            "go back",
        ),
    ] {
        let error = image.applied(MetadataOffset(7), &records).unwrap_err().to_string();
        assert!(error.starts_with("metadata entry 7: ") && error.contains(expected), "{error}");
    }
    let later = image.applied(MetadataOffset(7), &[Record::NoOp]).unwrap();
    assert!(later.applied(MetadataOffset(7), &[Record::NoOp]).is_err(), "offsets rise");
}

#[test]
fn records_of_a_newer_version_are_refused_not_skipped() {
    let mut bytes = encode_records(&[Record::NoOp]);
    bytes[1] = 9;
    let error = decode_records(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::UnknownRecord { kind: 8, version: 9 });
    bytes[0] = 77;
    bytes[1] = 0;
    assert!(matches!(decode_records(&bytes), Err(DecodeError::UnknownRecord { kind: 77, .. })));
}

#[test]
fn replicas_that_stay_keep_their_data_directories() {
    let image = replay(empty(), &history(), 0);
    let partition = image.topic("zebra").unwrap().partition(1).unwrap();
    assert_eq!(partition.storage_ids, [id(103), id(102), id(101)]);
    assert_eq!(partition.storage_of(BrokerId(1)), Some(id(101)));
    assert_eq!(partition.storage_of(BrokerId(4)), None);
}

#[test]
fn a_change_of_an_earlier_registration_does_not_fit() {
    let change = |epoch| {
        let (id, shutting_down, storage_ids) = (BrokerId(2), None, None);
        Record::BrokerChange(BrokerChange {
            id,
            epoch,
            fenced: Some(false),
            shutting_down,
            storage_ids,
        })
    };
    let image = replay(empty(), &history()[..1], 0);
    assert!(image.broker(BrokerId(2)).unwrap().fenced);
    let changed = image.applied(MetadataOffset(7), &[change(2)]).unwrap();
    assert!(!changed.broker(BrokerId(2)).unwrap().fenced);
    assert!(image.applied(MetadataOffset(7), &[change(1)]).is_err());
}

/// As the first version wrote them: a registration, a partition, a change of it.
#[test]
fn records_of_the_version_before_are_read() {
    let mut bytes = vec![1, 0, 0, 0, 0, 38];
    bytes.extend([0, 0, 0, 7]); // broker
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 9]); // epoch
    bytes.extend(id(5).0); // incarnation
    bytes.extend([0; 8]); // no storage ids, no listeners
    bytes.extend([0, 1]); // no rack, fenced
    bytes.extend([3, 0, 0, 0, 0, 53]);
    bytes.extend(id(1).0);
    bytes.extend([0, 0, 0, 0]); // index
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 7]); // replicas
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 7]); // ISR
    bytes.extend([0; 4]); // ELR
    bytes.extend([1, 0, 0, 0, 7]); // leader
    bytes.extend([0, 0, 0, 3, 0, 0, 0, 4]); // epochs
    bytes.extend([4, 0, 0, 0, 0, 29]);
    bytes.extend(id(1).0);
    bytes.extend([0, 0, 0, 0]);
    bytes.extend([0, 1, 0, 0, 0, 0]); // ISR as before, no ELR
    bytes.extend([1, 0]); // no leader
    bytes.push(0); // replicas as before
    let records = decode_records(&bytes).unwrap();
    let [
        Record::RegisterBroker(broker),
        Record::Partition(partition),
        Record::PartitionChange(change),
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((broker.id, broker.fenced, broker.shutting_down), (BrokerId(7), true, false));
    assert_eq!((partition.leader, partition.partition_epoch), (Some(BrokerId(7)), 4));
    assert_eq!((&partition.adding[..], &partition.storage_ids[..]), (&[][..], &[][..]));
    assert_eq!((&change.elr, change.leader, &change.adding), (&Some(vec![]), Some(None), &None));
}
