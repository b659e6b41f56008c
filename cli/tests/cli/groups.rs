//! `sawlog group`: seen and changed from outside, with members of other people's clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sawlog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sawlog_protocol::{ApiKey, OWN_CLIENT, decode_response, encode_request};
use serde_json::Value;

use crate::support::{Broker, sawlog};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(120);

fn json(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let text = broker.ok(&[arguments, &["-o", "json"]].concat(), b"");
    serde_json::from_str(&text).unwrap()
}

/// A topic of two partitions, five records in the first and one in the second, a minute apart.
fn with_records() -> Broker {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    let record = |ms: i64| format!("{{\"value\":\"v\",\"timestamp\":{ms}}}\n");
    let first: String = [1_000, 61_000, 121_000, 181_000, 241_000].map(record).concat();
    broker.ok(&["produce", "t", "-p", "0", "-f", "json"], first.as_bytes());
    broker.ok(&["produce", "t", "-p", "1", "-f", "json"], record(1_000).as_bytes());
    broker
}

#[test]
fn a_group_is_moved_shown_and_deleted_from_outside() {
    let broker = with_records();
    broker.fails(&["group", "seek", "g", "--to", "start", "-t", "t", "-y"], 3, "does not exist");
    let dry = ["group", "seek", "g", "--to", "+2", "-t", "t", "--create", "--dry-run"];
    assert_eq!(broker.ok(&dry, b""), "t\t0\t\t2\t\t\t\nt\t1\t\t1\t\tthe log ends at 1\t\n");
    assert_eq!(broker.ok(&["group", "list"], b""), "", "a dry run makes no group");
    let made = ["group", "seek", "g", "--to", "+2", "-t", "t", "--create"];
    broker.fails(&made, 2, "--yes");
    broker.ok(&[&made[..], &["-y"]].concat(), b"");

    assert_eq!(broker.ok(&["group", "list", "-o", "name"], b""), "g\n");
    assert_eq!(broker.ok(&["group", "list", "--state", "stable", "-o", "name"], b""), "");
    assert_eq!(broker.ok(&["group", "list", "--type", "classic", "-o", "name"], b""), "g\n");
    let described = &json(&broker, &["group", "describe", "g"])[0];
    assert_eq!((&described["state"], &described["lag"]), (&"Empty".into(), &3.into()));
    let lag = json(&broker, &["group", "lag"]);
    assert_eq!((&lag[0]["lag"], &lag[0]["lag_s"]), (&3.into(), &120.0.into()));
    assert!(lag[0]["waiting_s"].as_f64().unwrap() > 1e9, "since 1970");
    assert_eq!((&lag[1]["lag"], &lag[1]["lag_s"]), (&0.into(), &0.0.into()));
    let summary = &json(&broker, &["group", "lag", "g", "--summary"])[0];
    assert_eq!((&summary["lag"], &summary["lag_s"]), (&3.into(), &120.0.into()));

    broker.ok(&["group", "delete", "g", "--dry-run"], b"");
    broker.fails(&["group", "delete", "g"], 2, "--yes");
    broker.ok(&["group", "delete", "g", "-t", "t:1", "-y"], b"");
    assert_eq!(json(&broker, &["group", "lag", "g"]).len(), 1, "the other offset is kept");
    broker.fails(&["group", "delete", "g", "-t", "t:1", "-y"], 3, "no offsets there");
    broker.ok(&["group", "delete", "g", "-y"], b"");
    broker.fails(&["group", "describe", "g"], 3, "does not exist");
}

#[test]
fn places_to_seek_to_are_those_of_a_log() {
    let broker = with_records();
    let seek = |place: &[&str]| {
        let arguments = [&["group", "seek", "g", "-t", "t:0", "--create", "-y"], place].concat();
        json(&broker, &arguments)[0]["new"].as_i64().unwrap()
    };
    assert_eq!(seek(&["--to", "end"]), 5);
    assert_eq!(seek(&["--by", "-2"]), 3, "from where it is");
    assert_eq!(seek(&["--to", "-1"]), 4, "before the end");
    assert_eq!(seek(&["--by", "9"]), 5, "no further than the end");
    assert_eq!(seek(&["--to", "@62000"]), 2, "the first of that time or later");
    assert_eq!(seek(&["--to", "@1970-01-01T00:03:01Z"]), 3);
    assert_eq!(seek(&["--to", "1"]), 1);
    assert_eq!(seek(&["--to", "start"]), 0);

    let exported = broker.ok(&["group", "seek", "g", "--export"], b"");
    assert_eq!(exported, "t,0,0\n");
    let planned = broker.ok(&["group", "seek", "g", "--to", "end", "--export"], b"");
    assert_eq!(planned, "t,0,5\n");
    assert_eq!(json(&broker, &["group", "lag", "g"])[0]["committed"], 0, "an export moves nothing");
    let from_file = ["group", "seek", "g", "--from-file", "-", "-y"];
    broker.ok(&from_file, b"t,0,4\nt,1,1\n");
    let all = "\"other\",\"t\",0,1\n\"g\",\"t\",0,2\n";
    broker.ok(&from_file, all.as_bytes());
    let committed: Vec<_> =
        json(&broker, &["group", "lag", "g"]).iter().map(|row| row["committed"].clone()).collect();
    assert_eq!(committed, [2, 1]);
}

#[test]
fn wrong_words_about_groups_are_refused_with_a_remedy() {
    let broker = with_records();
    broker.ok(&["group", "seek", "billing", "--to", "end", "-t", "t", "--create", "-y"], b"");
    let meant = "did you mean \"billing\"?";
    broker.fails(&["group", "describe", "biling"], 3, meant);
    broker.fails(&["group", "lag", "biling"], 3, meant);
    broker.fails(&["group", "members", "biling"], 3, meant);
    broker.fails(&["group", "delete", "biling", "-y"], 3, meant);
    broker.fails(&["group", "timeline", "biling"], 3, meant);
    broker.fails(&["group", "seek", "biling", "--to", "end", "-y"], 3, meant);
    broker.fails(&["group", "seek", "billing"], 2, "--to PLACE");
    broker.fails(&["group", "seek", "billing", "--to", "end", "-t", "tt", "-y"], 3, "\"tt\"");
    broker.fails(&["group", "seek", "billing", "--to", "end", "-t", "t:7", "-y"], 3, "partition 7");
    broker.fails(&["group", "seek", "billing", "--from-file", "/no/such", "-y"], 3, "/no/such");
    broker.fails(&["group", "members", "billing", "--remove", "m", "-y"], 3, "no member \"m\"");
    broker.fails(&["group", "members", "billing", "-y"], 2, "--remove");
    let wrong: [&[&str]; 8] = [
        &["group", "list", "--state", "sleeping"],
        &["group", "list", "--type", "share"],
        &["group", "seek", "billing", "--to", "yesterday"],
        &["group", "seek", "billing", "--to", "end", "--by", "1"],
        &["group", "seek", "billing", "--to", "end", "-t", "t:x"],
        &["group", "timeline", "billing", "-n", "x"],
        &["group", "delete"],
        &["group", "lag", "billing", "-o", "xml"],
    ];
    for arguments in wrong {
        assert_eq!(broker.run(arguments, b"").status.code(), Some(2), "{arguments:?}");
    }
    let bad = broker.run(&["group", "seek", "billing", "--from-file", "-", "-y"], b"t,0\n");
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("line 1"));
}

/// kcat as a member; `None` where it is not installed.
struct Kcat(Child);

impl Kcat {
    fn join(broker: &Broker, group: &str, topic: &str) -> Option<Self> {
        let child = Command::new("kcat")
            .args(["-b", &broker.address, "-G", group, "-q", "-X", "session.timeout.ms=6000"])
            .args(["-X", "auto.commit.interval.ms=100", "-X", "auto.offset.reset=earliest"])
            .args(["-X", "client.id=other", topic])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Past the capture of the test runner: a skipped test must be seen.
                let _ = writeln!(std::io::stderr(), "skipped: kcat is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Kcat {
    fn drop(&mut self) {
        // Already gone is fine.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Asks until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn members_are_shown_and_what_became_of_them_is_told() {
    let broker = with_records();
    let Some(first) = Kcat::join(&broker, "readers", "t") else { return };
    let members = || {
        let output = broker.run(&["group", "members", "readers", "-o", "json"], b"");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        rows
    };
    let counts = |rows: &[Value]| rows.iter().map(|row| row["count"].clone()).collect::<Vec<_>>();
    wait_until("one member has both partitions", || counts(&members()) == [2]);
    wait_until("it has committed what it read", || {
        json(&broker, &["group", "lag", "readers"]).iter().all(|row| row["lag"] == 0)
    });
    let lag = json(&broker, &["group", "lag", "readers"]);
    assert_eq!((&lag[0]["client"], &lag[0]["committed"]), (&"other".into(), &5.into()));
    let _second = Kcat::join(&broker, "readers", "t").unwrap();
    wait_until("two share the partitions", || counts(&members()) == [1, 1]);
    let described = &json(&broker, &["group", "describe", "readers"])[0];
    assert_eq!((&described["state"], &described["members"]), (&"Stable".into(), &2.into()));
    assert_eq!(described["topics"], serde_json::json!(["t"]));

    let seek = ["group", "seek", "readers", "--to", "start"];
    broker.fails(&[&seek[..], &["-y"]].concat(), 6, "members: 2");
    assert_eq!(json(&broker, &[&seek[..], &["--dry-run"]].concat()).len(), 2, "but shown");
    broker.fails(&["group", "delete", "readers", "-y"], 6, "stop them first");
    broker.fails(&["group", "delete", "readers", "-t", "t", "-y"], 6, "SUBSCRIBED");

    // Killed, it says nothing: the coordinator finds out by itself.
    drop(first);
    wait_until("the other has all", || counts(&members()) == [2]);
    let timeline = json(&broker, &["group", "timeline", "readers"]);
    let late = timeline.iter().find(|event| event["event"] == "session timeout").unwrap();
    assert_eq!((&late["client"], &late["detail"]), (&"other".into(), &"after 6 s".into()));
    let advice = late["advice"].as_str().unwrap();
    assert!(advice.starts_with("no heartbeat for 6 s: "), "{advice}");
    let joined = timeline.iter().filter(|event| event["event"] == "joined").count();
    assert_eq!(joined, 2, "{timeline:?}");
    let newest = json(&broker, &["group", "timeline", "readers", "-n", "1"]);
    assert_eq!(newest.len(), 1);
}

#[test]
fn members_are_removed_and_the_reason_is_kept() {
    let broker = with_records();
    let Some(member) = Kcat::join(&broker, "readers", "t") else { return };
    let shown = || broker.run(&["group", "members", "readers"], b"").stdout;
    // In the midst of a rebalance the group would have no members and not be empty.
    let is_stable = || !broker.ok(&["group", "list", "--state", "stable"], b"").is_empty();
    wait_until("it has its partitions", is_stable);
    assert!(shown().starts_with(b"other-"));
    drop(member);
    let remove = ["group", "members", "readers", "--remove-all"];
    broker.fails(&remove, 2, "--yes");
    assert_eq!(json(&broker, &[&remove[..], &["--dry-run"]].concat()).len(), 1);
    broker.ok(&[&remove[..], &["-y"]].concat(), b"");
    assert_eq!(shown(), b"");
    let timeline = json(&broker, &["group", "timeline", "readers"]);
    let left = timeline.iter().find(|event| event["event"] == "left").unwrap();
    assert!(left["detail"].as_str().unwrap().contains("removed by an operator"), "{left}");
    // Removed in the middle of a rebalance, it leaves the group to end that first.
    wait_until("nothing is under way", || {
        json(&broker, &["group", "describe", "readers"])[0]["state"] == "Empty"
    });
    broker.ok(&["group", "delete", "readers", "-y"], b"");
}

/// A member of our own, until it is told to end.
fn consume(broker: &Broker, arguments: &[&str]) -> Child {
    sawlog()
        .args(["-b", &broker.address, "consume", "t"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_member_goes_on_where_the_group_is() {
    let broker = with_records();
    let read = |arguments: &[&str]| {
        let printed = ["-f", "%p:%o\\n"];
        let text = broker.ok(&[&["consume"], arguments, &printed].concat(), b"");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let all = ["0:0", "0:1", "0:2", "0:3", "0:4", "1:0"];
    let mut first = read(&["t", "-g", "few", "-n", "2"]);
    assert_eq!(first.len(), 2);
    let rest = read(&["t", "-g", "few", "-e"]);
    assert_eq!(rest.len(), 4, "{first:?} and {rest:?}");
    first.extend(rest);
    first.sort();
    assert_eq!(first, all, "each once, whatever was taken at a time");
    assert!(read(&["t", "-g", "few", "-e"]).is_empty(), "all is committed");
    broker.ok(&["produce", "t", "-p", "1"], b"more\n");
    assert_eq!(read(&["-r", "^t$", "-g", "few", "-e"]), ["1:1"]);
    assert!(read(&["t", "-g", "late", "-o", "end", "-e"]).is_empty());
    let lag = json(&broker, &["group", "lag", "few"]);
    assert!(lag.iter().all(|row| row["lag"] == 0), "{lag:?}");
    let cat = ["cat", "-G", "another", "-o", "beginning", "-e", "-f", "%p:%o\\n", "t"];
    assert_eq!(broker.ok(&cat, b"").lines().count(), 7);

    broker.fails(&["consume", "tt", "-g", "few"], 3, "\"tt\"");
    broker.fails(&["consume", "t", "-g", "few", "-o", "5"], 2, "group seek");
    broker.fails(&["consume", "t", "-g", ""], 2, "a group needs a name");
    let both = broker.run(&["consume", "t", "-g", "few", "-p", "0"], b"");
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_member_that_is_told_to_end_commits_and_leaves_at_once() {
    let broker = with_records();
    let mut member = consume(&broker, &["-g", "readers"]);
    let mut lines = BufReader::new(member.stdout.take().unwrap()).lines();
    for _ in 0..6 {
        assert_eq!(lines.next().unwrap().unwrap(), "v");
    }
    let told = Command::new("kill").args(["-TERM", &member.id().to_string()]).status();
    assert!(told.unwrap().success());
    assert_eq!(member.wait().unwrap().code(), Some(130));
    let described = &json(&broker, &["group", "describe", "readers"])[0];
    assert_eq!((&described["state"], &described["lag"]), (&"Empty".into(), &0.into()));
    let timeline = json(&broker, &["group", "timeline", "readers"]);
    assert!(timeline.iter().any(|event| event["event"] == "left"), "{timeline:?}");
    assert!(timeline.iter().all(|event| event["event"] != "session timeout"));
}

#[test]
fn our_member_and_kcat_share_a_group() {
    let broker = with_records();
    let Some(_kcat) = Kcat::join(&broker, "mixed", "t") else { return };
    let mut ours = consume(&broker, &["-g", "mixed"]);
    let shares = || {
        let output = broker.run(&["group", "members", "mixed", "-o", "json"], b"");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        rows.iter().map(|row| row["count"].clone()).collect::<Vec<_>>()
    };
    wait_until("each has a partition", || shares() == [1, 1]);
    ours.kill().unwrap();
    ours.wait().unwrap();
}

/// The keys a broker tells a client that calls itself so.
fn keys_told_to(broker: &Broker, software: &str) -> Vec<i16> {
    let request =
        ApiVersionsRequest { client_software_name: software, client_software_version: "1" };
    let mut stream = TcpStream::connect(&broker.address).unwrap();
    for part in encode_request(&request, 4, 7, Some("test")).into_parts() {
        stream.write_all(&part).unwrap();
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut frame).unwrap();
    let frame = frame.into();
    let (_, response): (_, ApiVersionsResponse<'_>) =
        decode_response::<ApiVersionsRequest<'_>>(&frame, 4).unwrap();
    response.api_keys.iter().map(|api| api.api_key).collect()
}

#[test]
fn other_clients_are_told_of_kafkas_apis_alone() {
    let broker = Broker::start();
    let own = ApiKey::GroupTimeline.as_i16();
    assert!(keys_told_to(&broker, OWN_CLIENT).contains(&own));
    let told = keys_told_to(&broker, "librdkafka");
    assert!(told.contains(&ApiKey::DescribeGroups.as_i16()));
    assert!(told.iter().all(|key| *key < 100), "{told:?}");
}
