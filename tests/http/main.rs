//! What a broker tells of itself over HTTP, and to whom.

#![allow(clippy::unwrap_used, reason = "tests fail")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sawlog_tests::Server;
use sawlog_tests::http::{exchange, get};

/// Far above what anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn sawlog(server: &Server, arguments: &[&str], input: &str) {
    let mut child = server
        .command()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{arguments:?}: {}", server.output());
}

/// What the broker says that is started with these settings, and does not start.
fn refusal(settings: &[&str]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(sawlog_tests::sawlog());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.path().join("data"));
    for setting in settings {
        command.args(["-X", setting]);
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_broker_that_started_lives_is_ready_and_counts() {
    let server = Server::start();
    let http = server.http_address();
    assert_eq!(get(&http, "/livez").status, 200);
    sawlog(&server, &["topic", "create", "t", "-p", "3"], "");
    sawlog(&server, &["produce", "t"], "one\ntwo\n");
    sawlog(&server, &["consume", "t", "-g", "g", "-o", "start", "-n", "2"], "");
    // The group is known: its coordinator serves it. In the other partitions of offsets there is nothing.
    let ready = get(&http, "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));

    let page = get(&http, "/metrics");
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    let value = |name: &str| page.metric(name).unwrap_or_else(|| panic!("{name}: {}", page.body));
    assert!((value("sawlog_ready") - 1.0).abs() < f64::EPSILON);
    assert!(value("sawlog_topics") >= 2.0, "t and the offsets of groups");
    assert!(value("sawlog_partitions") >= 3.0);
    for positive in [
        "sawlog_request_seconds_count{api=\"Produce\"}",
        "sawlog_request_seconds_sum{api=\"Produce\"}",
        "sawlog_request_seconds_count{api=\"Fetch\"}",
        "sawlog_request_seconds_bucket{api=\"Fetch\",le=\"+Inf\"}",
        "sawlog_connections_accepted_total",
        "sawlog_received_bytes_total",
        "sawlog_sent_bytes_total",
        "process_resident_memory_bytes",
    ] {
        assert!(value(positive) > 0.0, "{positive}");
    }
    let data = server.data().display();
    for positive in ["sawlog_flush_rounds_total", "sawlog_sync_seconds_count"] {
        assert!(value(&format!("{positive}{{directory=\"{data}\"}}")) > 0.0, "{positive}");
    }
    assert!(page.body.contains("\nsawlog_groups{type=\""), "{}", page.body);
    page.check_metrics();
}

#[test]
fn after_a_kill_a_broker_is_ready_once_it_knows_its_groups() {
    let mut server = Server::start();
    sawlog(&server, &["topic", "create", "t"], "");
    sawlog(&server, &["produce", "t"], "one\n");
    sawlog(&server, &["consume", "t", "-g", "g", "-o", "start", "-n", "1"], "");
    server.kill_and_restart();
    let http = server.http_address();
    let deadline = Instant::now() + DEADLINE;
    let mut ready = get(&http, "/readyz");
    while ready.status != 200 {
        assert!(ready.body.starts_with("groups: 1 partitions"), "{ready:?}");
        assert!(Instant::now() < deadline, "{ready:?}");
        ready = get(&http, "/readyz");
    }
    let page = get(&http, "/metrics");
    let groups = page.body.lines().find(|line| line.starts_with("sawlog_groups{"));
    assert!(groups.is_some_and(|line| line.ends_with(" 1")), "{}", page.body);
}

#[test]
fn only_readers_that_mean_this_machine_get_a_page() {
    let server = Server::start();
    let http = server.http_address();
    let status = |request: &str| exchange(&http, &format!("{request}\r\n\r\n")).status;
    let close = "Connection: close";
    assert_eq!(status(&format!("GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n{close}")), 200);
    assert_eq!(status(&format!("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n{close}")), 421);
    assert_eq!(status(&format!("GET http://rebound.example/ HTTP/1.1\r\n{close}")), 421);
    assert_eq!(status(&format!("HEAD /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n{close}")), 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n{close}");
        assert_eq!(status(&request), 405, "{method}");
    }
    assert_eq!(get(&http, "/nothing").status, 404);
    assert!(get(&http, "/").body.contains("/readyz"));
}

#[test]
fn a_reader_takes_no_more_than_its_share() {
    let server = Server::start();
    let http = server.http_address();
    // The whole of it, and no more, so that there is nothing left to read when it is refused.
    let head = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ";
    let endless = format!("{head}{}", "x".repeat(16 * 1024 - head.len()));
    assert_eq!(exchange(&http, &endless).status, 431);
    let nonsense = exchange(&http, "\x16\x03\x01 what\r\n\r\n");
    assert_eq!(nonsense.status, 400);
    // More connections than there may be: the rest is closed, and once they are gone others come.
    let mut open: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&http).unwrap()).collect();
    let mut closed = 0;
    for stream in &mut open[16..] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        closed += usize::from(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    assert_eq!(closed, 24);
    drop(open);
    let deadline = Instant::now() + DEADLINE;
    let answers = || {
        let mut stream = TcpStream::connect(&http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        asked.is_ok() && matches!(stream.read(&mut [0]), Ok(1))
    };
    while !answers() {
        assert!(Instant::now() < deadline, "nobody is answered any more");
    }
    sawlog(&server, &["topic", "list"], "");
}

#[test]
fn other_machines_are_listened_to_only_when_that_is_allowed() {
    let refused = refusal(&["http.listener=0.0.0.0:0"]);
    assert!(refused.contains("refused to listen on 0.0.0.0:0"), "{refused}");
    assert!(refused.contains("--insecure"), "{refused}");
    let wrong = refusal(&["http.listener=somewhere"]);
    assert!(wrong.contains("expected host:port, auto or none"), "{wrong}");
    let allowed = [("http.listener", "0.0.0.0:0"), ("insecure.listeners.allowed", "true")];
    let server = Server::start_with(&allowed);
    let http = server.http_address().replace("0.0.0.0", "127.0.0.1");
    // Which names lead here is not known then.
    let named = "GET /livez HTTP/1.1\r\nHost: broker.example\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&http, named).status, 200);
    assert!(server.output().contains("WARNING"), "{}", server.output());
}

#[test]
fn an_address_that_was_asked_for_is_taken_or_the_start_fails() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = refusal(&[&format!("http.listener={address}")]);
    assert!(refused.contains(&format!("cannot listen on {address}")), "{refused}");
    let quiet = Server::start_with(&[("http.listener", "none")]);
    sawlog(&quiet, &["topic", "list"], "");
    assert!(!quiet.output().contains("http://"), "{}", quiet.output());
    // Nobody asked for a port: two brokers of one machine each find one.
    let (one, other) = (Server::start(), Server::start());
    assert_ne!(one.http_address(), other.http_address());
}
