//! `sawlog bench`: runs end, count what they did, and clean up.

use crate::support::Broker;

fn measured(broker: &Broker, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["bench"], arguments, &["-o", "json"]].concat();
    let rows: serde_json::Value = serde_json::from_str(&broker.ok(&arguments, b"")).unwrap();
    rows[0].clone()
}

fn assert_ordered(row: &serde_json::Value) {
    let names = ["p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms"];
    let all = names.map(|name| row[name].as_f64().unwrap());
    assert!(all[0] > 0.0 && all.is_sorted(), "{row}");
}

#[test]
fn each_bench_counts_its_records_and_deletes_its_topic() {
    let broker = Broker::start();
    let count = ["-n", "500", "--size", "100", "-p", "3"];
    let row = measured(&broker, &[&["produce", "--keys", "zipf:1.1:50"][..], &count].concat());
    assert_eq!((&row["records"], &row["failed"]), (&500.into(), &0.into()));
    assert_ordered(&row);
    let row = measured(&broker, &[&["consume"][..], &count].concat());
    assert_eq!(row["records"], 500);
    assert!(row["p50_ms"].is_null());
    let row = measured(&broker, &[&["e2e", "--rate", "2000"][..], &count].concat());
    assert_eq!(row["records"], 500);
    assert_ordered(&row);
    assert!(row["seconds"].as_f64().unwrap() >= 0.249, "500 records at 2000/s: {row}");
    assert_eq!(broker.ok(&["topic", "list"], b""), "");
}

#[test]
fn an_existing_topic_is_used_and_kept() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    broker.ok(&["produce", "t"], b"not of the bench\n");
    let row = measured(&broker, &["e2e", "t", "-n", "50", "--rate", "1000", "--acks", "1"]);
    assert_eq!(row["records"], 50);
    assert_eq!(measured(&broker, &["consume", "t"])["records"], 51);
    let csv = broker.ok(&["bench", "produce", "t", "-n", "10", "-z", "lz4", "--csv"], b"");
    assert!(csv.starts_with("bench,records,") && csv.contains("\nproduce,10,0,"), "{csv}");
}

#[test]
fn loads_that_make_no_sense_are_refused() {
    let broker = Broker::start();
    broker.fails(&["bench", "produce", "nope"], 3, "does not exist");
    for wrong in [["--size", "5"], ["--keys", "zipf"], ["--rate", "0"], ["--duration", "10"]] {
        let arguments = [&["bench", "produce"][..], &wrong].concat();
        assert_eq!(broker.run(&arguments, b"").status.code(), Some(2), "{wrong:?}");
    }
}
