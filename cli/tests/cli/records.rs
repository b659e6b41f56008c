//! `sawlog consume` and `sawlog produce`: ranges, expressions, verbs.

use crate::support::Broker;

#[test]
fn several_topics_and_expressions_are_read_to_their_end() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "log-a", "log-b", "other"], b"");
    for topic in ["log-a", "log-b", "other"] {
        broker.ok(&["produce", topic], format!("{topic} 1\n{topic} 2\n").as_bytes());
    }
    let sorted = |arguments: &[&str]| {
        let text = broker.ok(arguments, b"");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(";")
    };
    assert_eq!(sorted(&["consume", "log-a", "other", "-e"]), "log-a 1;log-a 2;other 1;other 2");
    assert_eq!(sorted(&["consume", "-r", "^log-", "-e"]), "log-a 1;log-a 2;log-b 1;log-b 2");
    assert_eq!(sorted(&["consume", "-r", "a$", "oth", "-e", "-n", "4"]).matches(';').count(), 3);
    broker.fails(&["consume", "-r", "^nothing", "-e"], 3, "no topic matches ^nothing");
    broker.fails(&["consume", "-r", "(", "-e"], 2, "\"(\" is no regular expression");
}

#[test]
fn ranges_of_time_begin_and_end_where_the_timestamps_say() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    let records: String = [1_000, 61_000, 121_000, 181_000]
        .map(|ms| format!("{{\"value\":\"{ms}\",\"timestamp\":{ms}}}\n"))
        .concat();
    broker.ok(&["produce", "t", "-f", "json"], records.as_bytes());
    let read = |range: &str| broker.ok(&["consume", "t", "-e", "-o", range], b"");
    assert_eq!(read("@61000:@181000"), "61000\n121000\n");
    assert_eq!(read("@61000:181000"), "61000\n121000\n");
    assert_eq!(read("@1970-01-01T00:02:00Z"), "121000\n181000\n");
    assert_eq!(read("@1970-01-01T00:01:01Z:1970-01-01T00:02:01Z"), "61000\n");
    assert_eq!(read("@2h"), "", "nothing is that new");
    assert_eq!(read("1:3"), "61000\n121000\n");
    assert_eq!(broker.run(&["consume", "t", "-o", "@soon"], b"").status.code(), Some(2));
    broker.fails(&["consume", "t", "-o", "99", "-n", "1"], 6, "offset 99");
}

#[test]
fn verbs_count_encode_and_format() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    broker.ok(
        &["produce", "t", "-f", "json"],
        br#"{"key":"k","value":"hi","timestamp":86399000,"headers":[["a","1"],["b",null]]}"#,
    );
    let read = |format: &str| broker.ok(&["consume", "t", "-e", "-f", format], b"");
    assert_eq!(read("%i %t-%p@%o %k{hex} %v{base64} %H|"), "1 t-0@0 6b aGk= 2|");
    assert_eq!(read("%d{strftime[%F %T]} %T"), "1970-01-01 23:59:59 86399000");
    let meta = broker.ok(&["consume", "t", "-e", "--meta-only"], b"");
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    assert_eq!((&meta["key_bytes"], &meta["value_bytes"]), (&1.into(), &2.into()));
    assert_eq!(meta.get("value"), None);
    let wrong = broker.run(&["consume", "t", "-f", "%z"], b"");
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn kcats_command_line_is_understood() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    broker.ok(&["cat", "-t", "t", "-P", "-K:", "-H", "h=1"], b"a:1\nb:2\n");
    broker.ok(&["cat", "-t", "t", "-Z"], b"3\n\n");
    let read =
        |arguments: &[&str]| broker.ok(&[&["cat", "-C", "-e", "-q"], arguments].concat(), b"");
    assert_eq!(read(&["-t", "t", "-K", "="]), "a=1\nb=2\n=3\n=\n");
    assert_eq!(read(&["-t", "t", "-o", "-3", "-c", "1", "-D", ";"]), "2;");
    assert_eq!(read(&["-t", "t", "-p", "0", "-o", "1", "-c", "2", "-f", "%o %s|"]), "1 2|2 3|");
    let json = read(&["-t", "t", "-J", "-c", "1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["key"], &json["payload"]), (&"a".into(), &"1".into()));
    assert_eq!(json["headers"], serde_json::json!(["h", "1"]));
    let null = read(&["-t", "t", "-o", "3", "-f", "%S"]);
    assert_eq!(null, "-1", "an empty line under -Z is null");
    assert!(broker.ok(&["cat", "-L"], b"").contains("topic \"t\" with 1 partitions:"));
    broker.fails(&["cat", "-C"], 2, "-t");
    broker.fails(&["cat", "-C", "-t", "tt", "-e"], 3, "does not exist");
    broker.fails(&["cat", "-G", "group"], 2, "which topics");
    let query = |asked: &str| broker.ok(&["cat", "-Q", "-t", asked], b"");
    assert_eq!(query("t:0:-1"), "t [0] offset 4\n");
    assert_eq!(query("t:0:-2"), "t [0] offset 0\n");
    assert_eq!(query("t:0:1000"), "t [0] offset 0\n");
    assert_eq!(query("t:0:99999999999999"), "t [0] offset -1\n");
    broker.fails(&["cat", "-Q", "-t", "t:0"], 2, "TOPIC:PARTITION:MILLISECONDS");
    broker.fails(&["cat", "-Q", "-t", "t:7:0"], 3, "no partition 7");
}

#[test]
fn records_are_repeated_and_paced() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    let started = std::time::Instant::now();
    broker.ok(&["produce", "t", "--repeat", "3", "--rate", "20"], b"a\nb\n");
    let due = std::time::Duration::from_millis(250);
    assert!(started.elapsed() >= due, "the sixth is due 250 ms after the first");
    assert_eq!(broker.ok(&["consume", "t", "-e"], b""), "a\na\na\nb\nb\nb\n");
    for wrong in [["--rate", "0"], ["--repeat", "0"]] {
        let arguments = [&["produce", "t"][..], &wrong].concat();
        assert_eq!(broker.run(&arguments, b"").status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn lines_become_records_by_verbs_and_come_back_as_they_were() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "copy", "-p", "2"], b"");
    broker.ok(&["produce", "t", "-f", "%p %k=%v\\n"], b"0 a=1=one\n1 b=2\n");
    let verbs = "%t %p %T %h|%k{hex}|%v\\n";
    let printed = |topic| {
        let text = broker.ok(&["consume", topic, "-e", "-f", verbs], b"");
        let mut lines: Vec<String> = text.lines().map(|line| line.replace("copy", "t")).collect();
        lines.sort();
        lines
    };
    let first = printed("t");
    assert!(first[0].starts_with("t 0 ") && first[0].ends_with(" |61|1=one"), "{first:?}");
    let input = first.iter().map(|line| format!("{line}\n")).collect::<String>();
    broker.ok(&["produce", "copy", "-f", verbs], input.as_bytes());
    assert_eq!(printed("copy"), first, "what is printed can be read");
    let wrong = broker.run(&["produce", "t", "-f", "%k:%v"], b"a:1\nb\n");
    crate::support::assert_fails(&wrong, 2, "standard input line 2: no \":\" behind %k");
}
