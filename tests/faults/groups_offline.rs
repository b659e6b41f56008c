//! Groups whose partition of `__consumer_offsets` lies in a directory that fails: they have no
//! coordinator, and the others do not notice.

use sawlog_protocol::ErrorCode;

use super::broker::Broker;
use super::client::TOPIC;
use super::directories::{log_dirs, options, segment_of};
use super::groups::{GroupWire, RETRIABLE};
use super::strace::{self, Strace};
use super::{create_topic, not_run};

const OFFSETS_TOPIC: &str = "__consumer_offsets";
const PARTITIONS: i32 = 4;

/// Where Kafka puts a group: `abs(String.hashCode(name)) mod partitions`.
fn partition_of(group: &str) -> i32 {
    let hash = group.bytes().fold(0i32, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into()));
    hash.wrapping_abs() % PARTITIONS
}

fn commit(broker: &Broker, group: &str, offset: i64) -> ErrorCode {
    let mut wire = GroupWire::connect(broker.address(), group).unwrap();
    wire.commit(None, TOPIC, (offset, "")).unwrap()
}

fn committed(broker: &Broker, group: &str) -> i64 {
    GroupWire::connect(broker.address(), group).unwrap().committed(TOPIC).unwrap()
}

fn find(broker: &Broker, group: &str) -> ErrorCode {
    GroupWire::connect(broker.address(), group).unwrap().find_coordinator().unwrap()
}

#[test]
fn groups_in_a_directory_that_failed_have_no_coordinator_and_the_others_go_on() {
    if let Err(why) = strace::check() {
        return not_run(&why);
    }
    let scratch = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| scratch.path().join(name));
    let settings = options(&[&a, &b]).set("offsets.topic.num.partitions=4");
    let mut broker = Broker::start(&settings);
    create_topic(&broker, 1, "16777216");
    let names: Vec<String> = (0..12).map(|at| format!("group-{at}")).collect();
    assert_eq!(find(&broker, &names[0]), ErrorCode::NONE);
    for name in &names {
        assert_eq!(committed(&broker, name), -1, "waits for its coordinator");
        assert_eq!(commit(&broker, name, 1), ErrorCode::NONE);
    }
    let in_b: Vec<i32> = log_dirs(&broker)[1]
        .partitions
        .iter()
        .filter_map(|(topic, partition, _)| (topic == OFFSETS_TOPIC).then_some(*partition))
        .collect();
    let (bad, good): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| in_b.contains(&partition_of(name)));
    assert!(!bad.is_empty() && !good.is_empty(), "{in_b:?}");

    let file = segment_of(&b, OFFSETS_TOPIC, partition_of(bad[0]));
    let fault = "fdatasync:error=EIO:when=1";
    let injected = Strace::attach_at(broker.pid(), fault, Some(&file)).unwrap();
    let refused = commit(&broker, bad[0], 2);
    assert!(RETRIABLE.contains(&refused), "{refused:?}: {}", broker.said());
    drop(injected);
    broker.wait_until_said("data directory is offline");
    for name in &bad {
        assert_eq!(commit(&broker, name, 2), ErrorCode::NOT_COORDINATOR, "{name}");
        assert_eq!(find(&broker, name), ErrorCode::COORDINATOR_NOT_AVAILABLE, "{name}");
    }
    for name in &good {
        assert_eq!(find(&broker, name), ErrorCode::NONE);
        assert_eq!(commit(&broker, name, 2), ErrorCode::NONE, "{name}");
        assert_eq!(committed(&broker, name), 2);
    }
    assert!(broker.terminate(), "{}", broker.said());

    let mut broker = Broker::start(&settings);
    good.iter().for_each(|name| assert_eq!(committed(&broker, name), 2));
    for name in &bad {
        // What failed to become durable was not acknowledged; it may be there all the same.
        assert!((1..=2).contains(&committed(&broker, name)));
        assert_eq!(commit(&broker, name, 3), ErrorCode::NONE);
    }
    assert!(broker.terminate(), "{}", broker.said());
}
