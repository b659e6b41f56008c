//! `sawlog topic`: grow, usage, skew.

use crate::support::Broker;

#[test]
fn topics_grow_and_never_shrink() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    broker.ok(&["topic", "grow", "t", "5", "--dry-run"], b"");
    broker.fails(&["topic", "grow", "t", "2"], 6, "has 2 partitions already");
    broker.ok(&["topic", "grow", "t", "3"], b"");
    broker.ok(&["topic", "grow", "t", "+3"], b"");
    assert_eq!(broker.ok(&["topic", "describe", "t"], b"").lines().count(), 6);
    broker.fails(&["topic", "grow", "nope", "3"], 3, "does not exist");
    assert_eq!(broker.run(&["topic", "grow", "t", "many"], b"").status.code(), Some(2));
}

fn json(broker: &Broker, arguments: &[&str]) -> serde_json::Value {
    let arguments = [arguments, &["-o", "json"]].concat();
    serde_json::from_str(&broker.ok(&arguments, b"")).unwrap()
}

#[test]
fn usage_names_the_largest_topic_first() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "a-small", "b-large", "c-empty", "-p", "2"], b"");
    broker.ok(&["produce", "a-small"], b"1\n2\n");
    broker.ok(&["produce", "b-large"], "x".repeat(100_000).as_bytes());
    let usage = json(&broker, &["topic", "usage"]);
    assert_eq!(usage[0]["name"], "b-large");
    assert!(usage[0]["bytes"].as_i64().unwrap() >= 100_000, "{usage}");
    assert_eq!(usage[0]["records"], 1);
    assert_eq!(usage[1]["name"], "a-small");
    assert_eq!(usage[1]["records"], 2);
    assert_eq!(usage[2]["records"], 0);
    assert_eq!(json(&broker, &["topic", "usage", "c-empty"]).as_array().unwrap().len(), 1);
    broker.fails(&["topic", "usage", "c-empt"], 3, "did you mean \"c-empty\"?");
}

#[test]
fn skew_finds_the_partition_with_most_records() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "even", "skewed", "-p", "4"], b"");
    for partition in ["0", "1", "2", "3"] {
        broker.ok(&["produce", "even", "-p", partition], b"a\nb\n");
    }
    broker.ok(&["produce", "skewed", "-p", "2"], b"a\nb\nc\nd\n");
    let skew = json(&broker, &["topic", "skew"]);
    assert_eq!(skew[0]["name"], "skewed");
    assert_eq!(skew[0]["largest"], 2);
    assert_eq!(skew[0]["its_records"], 4);
    assert_eq!(skew[0]["times_mean_records"], 4.0);
    assert_eq!(skew[0]["empty"], 3);
    assert_eq!(skew[1]["times_mean_records"], 1.0);
    broker.fails(&["topic", "skew", "nope"], 3, "does not exist");
}

#[test]
fn top_prints_its_rounds_and_ends() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    broker.ok(&["produce", "t"], b"1\n2\n3\n");
    let text = broker.ok(&["top", "-n", "2", "--interval", "100ms"], b"");
    let rounds: Vec<Vec<_>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rounds.len(), 2);
    assert_eq!(rounds[1][..5], ["t", "2", "0", "0", "3"], "nothing came in meanwhile");
    assert_eq!(broker.run(&["top", "--interval", "soon"], b"").status.code(), Some(2));
}

#[test]
fn settings_of_a_broker_are_shown_explained_and_changed() {
    let broker = Broker::start();
    let config = |arguments: &[&str]| broker.ok(&[&["cluster", "config"], arguments].concat(), b"");
    assert_eq!(config(&["get", "log.flush.mode"]), "group\n");
    assert!(!config(&["diff"]).contains("log.flush.mode"));
    config(&["set", "log.flush.mode=os", "--dry-run"]);
    assert_eq!(config(&["get", "log.flush.mode"]), "group\n");
    config(&["set", "log.flush.mode=os"]);
    assert_eq!(config(&["get", "log.flush.mode"]), "os\n");
    assert!(config(&["diff"]).contains("log.flush.mode\tos\tbroker\t"));
    let explained = config(&["explain", "log.flush.mode"]);
    assert!(explained.contains("\tdynamic\t") && explained.contains("flush.mode"), "{explained}");
    config(&["set", "--delete", "log.flush.mode"]);
    assert_eq!(config(&["get", "log.flush.mode"]), "group\n");
    broker.fails(&["cluster", "config", "get", "log.flush.mod"], 3, "log.flush.mode");
    broker.fails(&["cluster", "config", "set", "node.id=7"], 2, "node.id");
    assert!(config(&["-o", "jsonl"]).contains("\"setting\":\"log.dirs\""));
}
