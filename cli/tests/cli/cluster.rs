//! `sawlog cluster` on a node that is alone.

use crate::support::Broker;

#[test]
fn a_node_alone_is_whole_and_says_so() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    let health = broker.ok(&["cluster", "health"], b"");
    assert!(health.contains("controller\ttrue\tbroker 1 leads, voters: 1"), "{health}");
    assert!(health.contains("brokers\ttrue\t1 running"), "{health}");
    assert!(health.contains("2 with a single one"), "{health}");
    let nodes = broker.ok(&["cluster", "nodes"], b"");
    let row: Vec<_> = nodes.trim_end().split('\t').collect();
    assert_eq!((row[0], row[4], &row[5..]), ("1", "running", &["2", "2", "2"][..]));
}

#[test]
fn replicas_cannot_go_where_there_is_no_broker() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    broker.fails(&["cluster", "drain", "1"], 6, "no other broker runs");
    broker.fails(&["cluster", "drain", "7"], 3, "no broker 7 runs");
    broker.fails(&["cluster", "spread", "t", "--replicas", "2"], 6, "not possible with 1 brokers");
    let moved = broker.run(&["cluster", "move", "t:1", "--to", "1,2"], b"");
    assert_eq!(moved.status.code(), Some(2), "{}", crate::support::stderr(&moved));
    assert!(crate::support::stderr(&moved).contains("different brokers of this cluster"));
    broker.fails(&["cluster", "move", "t:5", "--to", "1"], 3, "no partition 5");
    broker.fails(&["cluster", "move", "tt", "--to", "1"], 3, "topic \"tt\" does not exist");
    assert_eq!(broker.ok(&["cluster", "move", "t", "--to", "1"], b""), "", "they are there");
    assert_eq!(broker.ok(&["cluster", "move", "t", "--cancel"], b""), "");
    assert_eq!(broker.ok(&["cluster", "verify", "--wait"], b""), "");
}

#[test]
fn a_broker_that_runs_or_was_never_there_is_not_forgotten() {
    let broker = Broker::start();
    broker.fails(&["cluster", "remove", "1"], 2, "broker 1 is running: stop it first");
    broker.fails(&["cluster", "remove", "9"], 3, "broker 9 is not registered");
    broker.ok(&["topic", "create", "t"], b"");
    broker.fails(&["cluster", "remove", "1"], 6, "sawlog cluster drain 1");
}

#[test]
fn leaders_are_elected_only_where_that_changes_something() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    assert_eq!(broker.ok(&["cluster", "elect"], b""), "");
    assert_eq!(broker.ok(&["cluster", "elect", "t:0"], b""), "");
    broker.fails(&["cluster", "elect", "t", "--unclean"], 2, "cannot be undone");
    assert_eq!(broker.ok(&["cluster", "elect", "t", "--unclean", "--yes"], b""), "");
    assert_eq!(broker.run(&["cluster", "elect", "--unclean"], b"").status.code(), Some(2));
}

#[test]
fn a_node_alone_agrees_with_itself() {
    let broker = Broker::start();
    let quorum = broker.ok(&["cluster", "quorum", "-o", "json"], b"");
    let quorum: serde_json::Value = serde_json::from_str(&quorum).unwrap();
    assert_eq!(quorum.as_array().unwrap().len(), 1);
    assert_eq!((&quorum[0]["node"], &quorum[0]["role"]), (&1.into(), &"voter".into()));
    assert_eq!((&quorum[0]["leader"], &quorum[0]["behind"]), (&true.into(), &0.into()));
}
