//! What a leader tells once it hears from nobody any more: that another may lead. To producers, instead of
//! nothing at all for as long as they wait (Kafka's clients wait 30 s and more, and nobody else tells them);
//! to consumers, instead of offsets that may not be the last that were committed.

use std::time::{Duration, Instant};

use sawlog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sawlog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use sawlog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::{ErrorCode, decode_response};
use sawlog_tests::cluster::Cluster;

use crate::wire::{Wire, batch};

const TOPIC: &str = "cut-off";

/// The last one that names topics by name.
const PRODUCE: i16 = 12;

/// Without ids of topics.
const COMMIT: i16 = 8;
const FIND: i16 = 4;
const FETCH: i16 = 8;

const GROUP: &str = "readers";

/// Longer than the test may take: nobody answers because this is over.
const PATIENCE_MS: i32 = 3_600_000;

/// Longest wait for what a cluster does by itself. Only a broken one takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

fn write(wire: &mut Wire) -> ErrorCode {
    let records = Some(batch(None, &[b"record".to_vec()]));
    let partition = PartitionProduceData { index: 0, records };
    let topic = TopicProduceData {
        name: TOPIC,
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: PATIENCE_MS,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    };
    wire.send(&request, PRODUCE).expect("a request is sent");
    let frame = wire.receive().expect("a reply");
    let (_, reply) =
        decode_response::<ProduceRequest<'_>>(&frame, PRODUCE).expect("a reply to the request");
    reply.responses[0].partition_responses[0].error_code
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Broker 1 is the controller, too: it has to find out that it is not any more.
#[test]
fn a_leader_that_is_cut_off_sends_producers_away() {
    let cluster = Cluster::start(3, &[("leader.imbalance.check.interval.seconds", "3600")], None);
    for leader in [1, 2] {
        let replicas = if leader == 1 { "1,2,3" } else { "2,3,1" };
        if leader == 1 {
            cluster.sawlog(&["topic", "create", TOPIC, "-p", "1", "-r", "3"]);
        }
        cluster.sawlog(&["cluster", "move", &format!("{TOPIC}:0"), "--to", replicas]);
        cluster.sawlog(&["cluster", "health", "--wait", "60s"]);
        until("it leads", || {
            cluster.sawlog(&["cluster", "elect", TOPIC, "-o", "name"]);
            let told = cluster.sawlog(&["topic", "describe", TOPIC, "-o", "template={{leader}}"]);
            told.trim() == leader.to_string()
        });
        let mut wire = Wire::connect(cluster.address(leader).parse().expect("an address"))
            .expect("a broker that runs");
        assert_eq!(write(&mut wire), ErrorCode::NONE);

        let others: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
        others.iter().for_each(|id| cluster.signal(*id, "STOP"));
        assert_eq!(write(&mut wire), ErrorCode::NOT_LEADER_OR_FOLLOWER, "broker {leader}");
        assert_eq!(write(&mut wire), ErrorCode::NOT_LEADER_OR_FOLLOWER, "broker {leader}");
        others.iter().for_each(|id| cluster.signal(*id, "CONT"));
        let mut wires: Vec<Wire> = (1..=3)
            .map(|id| cluster.address(id).parse().expect("an address"))
            .map(|address| Wire::connect(address).expect("a broker that runs"))
            .collect();
        until("somebody takes it", || wires.iter_mut().any(|one| write(one) == ErrorCode::NONE));
    }
}

fn find(wire: &mut Wire) -> Option<i32> {
    let request = FindCoordinatorRequest { coordinator_keys: vec![GROUP], ..Default::default() };
    wire.send(&request, FIND).expect("a request is sent");
    let frame = wire.receive().expect("a reply");
    let (_, reply) = decode_response::<FindCoordinatorRequest<'_>>(&frame, FIND)
        .expect("a reply to the request");
    let found = &reply.coordinators[0];
    (found.error_code == ErrorCode::NONE).then_some(found.node_id)
}

/// Commits offset 7 of the topic, from outside of the group.
fn commit(wire: &mut Wire) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 7,
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: TOPIC, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: GROUP,
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    };
    wire.send(&request, COMMIT).expect("a request is sent");
    let frame = wire.receive().expect("a reply");
    let (_, reply) =
        decode_response::<OffsetCommitRequest<'_>>(&frame, COMMIT).expect("a reply to the request");
    reply.topics[0].partitions[0].error_code
}

/// What is committed, or why that is not told.
fn committed(wire: &mut Wire) -> Result<i64, ErrorCode> {
    let topic =
        OffsetFetchRequestTopics { name: TOPIC, partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: GROUP,
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    wire.send(&request, FETCH).expect("a request is sent");
    let frame = wire.receive().expect("a reply");
    let (_, reply) =
        decode_response::<OffsetFetchRequest<'_>>(&frame, FETCH).expect("a reply to the request");
    let group = &reply.groups[0];
    match group.error_code {
        ErrorCode::NONE => Ok(group.topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

#[test]
fn a_coordinator_that_is_cut_off_tells_no_offsets() {
    let settings = [
        ("leader.imbalance.check.interval.seconds", "3600"),
        ("offsets.topic.num.partitions", "1"),
    ];
    let cluster = Cluster::start(3, &settings, None);
    cluster.sawlog(&["topic", "create", TOPIC, "-p", "1", "-r", "3"]);
    let connect = |id: i32| {
        let address = cluster.address(id).parse().expect("an address");
        Wire::connect(address).expect("a broker that runs")
    };
    let (mut any, mut coordinator) = (connect(1), None);
    until("there is a coordinator", || {
        coordinator = find(&mut any);
        coordinator.is_some()
    });
    let coordinator = coordinator.expect("it was waited for");
    let mut wire = connect(coordinator);
    until("it takes commits", || commit(&mut wire) == ErrorCode::NONE);
    cluster.sawlog(&["cluster", "health", "--wait", "60s"]);
    assert_eq!(committed(&mut wire), Ok(7));

    let others: Vec<i32> = (1..=3).filter(|id| *id != coordinator).collect();
    others.iter().for_each(|id| cluster.signal(*id, "STOP"));
    until("it says that another may be it", || {
        committed(&mut wire) == Err(ErrorCode::NOT_COORDINATOR)
    });
    others.iter().for_each(|id| cluster.signal(*id, "CONT"));
    let mut wires: Vec<Wire> = (1..=3).map(connect).collect();
    until("somebody tells it again", || wires.iter_mut().any(|one| committed(one) == Ok(7)));
}
