//! What consumers are told of a log's ends while leaders change: of the last one nothing that may turn out
//! to be less than they have seen (KIP-207), of the first one nothing that was deleted.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sawlog_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::{ErrorCode, decode_response};
use sawlog_tests::cluster::Cluster;

use crate::wire::Wire;

const TOPIC: &str = "ends";
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// First version with an error of its own for an end that is not known yet.
const NOT_AVAILABLE: i16 = 5;

/// Longest wait for what a cluster does by itself. Only a broken one takes that long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Brokers 2, 4 and 5 have the replicas: those who vote all run, but for 2 they have nothing to do here.
const REPLICAS: &str = "4,2,5";

fn connect(cluster: &Cluster, id: i32) -> Wire {
    let address: SocketAddr = cluster.address(id).parse().expect("an address");
    Wire::connect(address).expect("a broker that runs")
}

/// Error and offset of the partition, as broker `wire` tells them.
fn offset(wire: &mut Wire, timestamp: i64, version: i16) -> (ErrorCode, i64) {
    let partition =
        ListOffsetsPartition { partition_index: 0, timestamp, current_leader_epoch: -1 };
    let topic = ListOffsetsTopic { name: TOPIC, partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    wire.send(&request, version).expect("a request is sent");
    let frame = wire.receive().expect("a reply");
    let (_, reply) =
        decode_response::<ListOffsetsRequest<'_>>(&frame, version).expect("a reply to the request");
    let found = &reply.topics[0].partitions[0];
    (found.error_code, found.offset)
}

/// Bytes of the partition on a broker's disk.
fn size(cluster: &Cluster, id: i32) -> i64 {
    let mut wire = connect(cluster, id);
    wire.send(&DescribeLogDirsRequest { topics: None }, 4).expect("a request is sent");
    let frame = wire.receive().expect("a reply");
    let (_, reply) =
        decode_response::<DescribeLogDirsRequest<'_>>(&frame, 4).expect("a reply to the request");
    let topics = reply.results.iter().flat_map(|result| &result.topics);
    let found = topics.filter(|topic| topic.name == TOPIC).flat_map(|topic| &topic.partitions);
    found.map(|partition| partition.partition_size).sum()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn produce(cluster: &Cluster, acks: &str) {
    let mut command = cluster.command();
    command.args(["produce", TOPIC, "--acks", acks]).stdin(Stdio::piped());
    let mut child = command.spawn().expect("sawlog runs");
    child.stdin.take().expect("it is piped").write_all(b"record\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

/// All replicas are in sync, and broker 4 leads.
fn settle(cluster: &Cluster) {
    cluster.sawlog(&["cluster", "health", "--wait", "60s"]);
    until("broker 4 leads", || {
        cluster.sawlog(&["cluster", "elect", TOPIC, "-o", "name"]);
        cluster.sawlog(&["topic", "describe", TOPIC, "-o", "template={{leader}}"]).trim() == "4"
    });
}

/// One record is on the leader and one follower and not committed, because the other follower has
/// stopped, when the leader dies. Its successor needs that other one to commit what it took over.
#[test]
fn a_new_leader_tells_no_end_before_it_knows_what_is_committed() {
    let mut cluster =
        Cluster::start(5, &[("leader.imbalance.check.interval.seconds", "3600")], None);
    cluster.sawlog(&["topic", "create", TOPIC, "-p", "1", "-r", "3"]);
    cluster.sawlog(&["cluster", "move", &format!("{TOPIC}:0"), "--to", REPLICAS]);
    settle(&cluster);
    produce(&cluster, "all");
    cluster.signal(5, "STOP");
    produce(&cluster, "1");
    until("broker 2 has the record", || size(&cluster, 2) == size(&cluster, 4));
    cluster.kill(4);
    let mut wire = connect(&cluster, 2);
    until("broker 2 leads", || match offset(&mut wire, LATEST, NOT_AVAILABLE).0 {
        ErrorCode::NOT_LEADER_OR_FOLLOWER => false,
        told => {
            assert_eq!(told, ErrorCode::OFFSET_NOT_AVAILABLE);
            true
        }
    });
    let before = offset(&mut wire, LATEST, NOT_AVAILABLE - 1).0;
    assert_eq!(before, ErrorCode::LEADER_NOT_AVAILABLE, "what older clients know");
    let start = offset(&mut wire, EARLIEST, NOT_AVAILABLE);
    assert_eq!(start, (ErrorCode::NONE, 0), "the start is known");
    cluster.signal(5, "CONT");
    until("broker 2 knows its end", || match offset(&mut wire, LATEST, NOT_AVAILABLE) {
        (ErrorCode::OFFSET_NOT_AVAILABLE, told) => {
            assert_eq!(told, -1);
            false
        }
        told => {
            assert_eq!(told, (ErrorCode::NONE, 2), "all it took over is committed by then");
            true
        }
    });
}

/// The first offset, as whoever leads says.
fn start(cluster: &Cluster) -> Option<i64> {
    cluster.running().into_iter().find_map(|id| {
        let mut wire = connect(cluster, id);
        let (error, told) = offset(&mut wire, EARLIEST, NOT_AVAILABLE);
        (error == ErrorCode::NONE).then_some(told)
    })
}

/// Nothing is written after records are deleted: that they are is all followers have to hear of.
#[test]
fn what_is_deleted_does_not_come_back_with_another_leader() {
    let mut cluster =
        Cluster::start(5, &[("leader.imbalance.check.interval.seconds", "3600")], None);
    cluster.sawlog(&["topic", "create", TOPIC, "-p", "1", "-r", "3"]);
    cluster.sawlog(&["cluster", "move", &format!("{TOPIC}:0"), "--to", REPLICAS]);
    settle(&cluster);
    (0..4).for_each(|_| produce(&cluster, "all"));
    // What is committed is known everywhere by then, and no news of it takes the deletion along.
    settle(&cluster);
    cluster.sawlog(&["topic", "trim", TOPIC, "--to", "2", "--yes"]);
    cluster.kill(4);
    until("another broker leads", || start(&cluster).is_some());
    assert_eq!(start(&cluster), Some(2));
    // One that does not hear of it is waited for, as long as it could lead.
    cluster.run(4);
    cluster.wait_until_it_listens(4);
    settle(&cluster);
    cluster.signal(5, "STOP");
    let mut trim = cluster.command();
    let mut trim = trim.args(["topic", "trim", TOPIC, "--to", "3", "--yes"]).spawn().unwrap();
    let mut leader = connect(&cluster, 4);
    until("it is deleted where the partition is led", || {
        offset(&mut leader, EARLIEST, NOT_AVAILABLE) == (ErrorCode::NONE, 3)
    });
    if trim.try_wait().expect("it can be looked at").is_some() {
        let in_sync = ["topic", "describe", TOPIC, "-o", "template={{isr}}"];
        let in_sync = cluster.sawlog(&in_sync);
        assert!(!in_sync.contains('5'), "{in_sync} are in sync, and not all have deleted");
    }
    cluster.signal(5, "CONT");
    assert!(trim.wait().expect("it ends").success());
}
