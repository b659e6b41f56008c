//! What an answer says once everything is taken out that differs from broker to broker, or from run to run.
//! Each step has its reason; the rest is compared as it stands.

use serde_json::Value;

use super::toolbox::{Answer, Toolbox};

/// The answer's lines: its status, its output, its errors.
///
/// They are sorted: most tools take their rows out of hash maps, by keys of random ids.
pub(super) fn lines(command: &str, answer: &Answer, broker: &Toolbox) -> Vec<String> {
    let mut lines = vec![format!("exit {}", answer.status)];
    let out = answer.out.lines().map(|line| ("", line));
    let err = answer.err.lines().map(|line| ("error: ", line));
    for (kind, line) in out.chain(err).filter(|(_, line)| says_something(line)) {
        let line = without_addresses(line, broker);
        let objects = serde_json::Deserializer::from_str(&line).into_iter::<Value>();
        match objects.collect::<Result<Vec<_>, _>>() {
            Ok(objects) if line.starts_with("{\"key\"") => {
                of_a_compacted_log(&objects).iter().for_each(|one| flatten("", one, &mut lines));
            }
            Ok(objects) if line.starts_with('{') => {
                objects.iter().for_each(|one| flatten("", one, &mut lines));
            }
            _ => lines.push(format!("{kind}{line}")),
        }
    }
    for line in &mut lines {
        *line = normalised(command, line);
    }
    lines.sort();
    lines
}

/// As [`lines`], of a cluster: without what depends on who happens to lead, or was quicker.
pub(super) fn lines_of_cluster(command: &str, answer: &Answer, brokers: &Toolbox) -> Vec<String> {
    let is_proposal = |line: &str| line.contains("roposed partition reassignment");
    let mut answer = answer.clone();
    // The tool draws by lot where a proposal begins.
    if let Some(at) = answer.out.lines().position(is_proposal) {
        answer.out = answer.out.lines().take(at + 1).collect::<Vec<_>>().join("\n");
    }
    let mut lines = lines(command, &answer, brokers);
    for line in &mut lines {
        if command.starts_with("kafka-metadata-quorum") {
            *line = of_quorum(line);
        }
        if line.contains(".size=") {
            *line = line.split('=').next().unwrap_or_default().to_owned();
        }
        *line = without_number(&with_sorted_ids(line), &["Epoch:", "controller"]);
    }
    lines.sort();
    if command.starts_with("kafka-broker-api-versions") {
        // All of them serve the same.
        lines.dedup();
    }
    lines
}

/// Of the quorum: who takes part and in which role, not how far each is at the moment.
fn of_quorum(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match (words.as_slice(), line.split_once(": ")) {
        ([node, .., role @ ("Leader" | "Follower" | "Observer")], _) => {
            let role = if *role == "Observer" { "observes" } else { "votes" };
            let columns = words.len();
            format!("{node} {role}, {columns} columns")
        }
        (_, Some(("CurrentVoters" | "CurrentObservers", nodes))) => {
            let ids = nodes.split("\"id\": ").skip(1);
            let ids = ids.filter_map(|rest| rest.split(',').next()).collect::<Vec<_>>();
            format!("{}: {}", line.split(':').next().unwrap_or_default(), ids.join(" "))
        }
        (_, Some(("ClusterId", _)) | None) => line.to_owned(),
        (_, Some((name, _))) => name.to_owned(),
    }
}

/// Lists of brokers that have no order.
fn with_sorted_ids(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        if ["Isr:", "Elr:", "LastKnownElr:"].contains(&words[at - 1].as_str()) {
            let mut ids: Vec<&str> = words[at].split(',').collect();
            ids.sort_unstable();
            words[at] = ids.join(",");
        }
    }
    words.join(" ")
}

/// Without the number after one of these words: it counts what happened, or is one of several.
fn without_number(line: &str, words: &[&str]) -> String {
    let is_counted = |word: &str| word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty();
    let mut before = "";
    let mut kept = Vec::new();
    for word in line.split(' ') {
        kept.push(if words.contains(&before) && is_counted(word) { "N" } else { word });
        before = word;
    }
    kept.join(" ")
}

/// Neither the tool's own stack frames, nor that these jars come without a logger.
fn says_something(line: &str) -> bool {
    let frame = line.starts_with("\tat ") || line.starts_with("\t... ");
    !frame && !line.trim().is_empty() && !line.starts_with("SLF4J: ")
}

fn without_addresses(line: &str, broker: &Toolbox) -> String {
    let mut line = line.to_owned();
    for (at, (address, data)) in broker.brokers.iter().enumerate() {
        let name = match broker.brokers.len() {
            1 => "BROKER".to_owned(),
            _ => format!("BROKER-{}", at + 1),
        };
        let (host, port) = address.split_once(':').expect("host:port");
        line = line
            .replace(address, &name)
            .replace(&format!("{host} {port}"), &name)
            .replace(&data.display().to_string(), "DATA");
    }
    line
}

/// A JSON object as `path=value` lines; the elements of an array count by what is in them, not by place.
fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let named = |name: &str| fields.get(name).and_then(Value::as_str);
            // A row of an array is told by its partition, a record of offsets by its key.
            let inner = match (named("partition"), fields.get("key")) {
                (Some(partition), _) => format!("{path}[{partition}]"),
                (None, Some(key)) => format!("{path}[{key}]"),
                (None, None) => path.to_owned(),
            };
            for (name, field) in fields {
                flatten(&format!("{inner}.{name}"), field, lines);
            }
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| flatten(path, element, lines));
        }
        Value::String(id) if path.ends_with("topicId") => {
            lines.push(format!("{path}={}", if id.len() == 22 { "ID" } else { id }));
        }
        leaf => lines.push(format!("{path}={leaf}")),
    }
}

fn normalised(command: &str, line: &str) -> String {
    let measured = command.starts_with("kafka-producer-perf-test")
        || command.starts_with("kafka-consumer-perf-test");
    let mut words = Vec::new();
    let mut name_of_id = false;
    // Columns are as wide as the longest address or id in them: one space is as good as ten.
    for word in line.split_whitespace() {
        let known = if name_of_id || is_id(word) { "ID".to_owned() } else { without_ids(word) };
        name_of_id = word == "TopicId:" || line.starts_with("Cluster ID: ") && word == "ID:";
        words.push(if measured { without_measures(&known) } else { known });
    }
    words.join(" ")
}

/// 16 random bytes in base 64, as members of the consumer protocol draw them.
fn is_id(word: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let mixed = word.bytes().any(|b| b.is_ascii_uppercase())
        && word.bytes().any(|b| b.is_ascii_lowercase());
    word.len() == 22 && mixed && word.bytes().all(base64)
}

/// Ids that are drawn at random, and times of the clock.
fn without_ids(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let token =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        let (head, tail) = rest.split_at(token);
        let (separator, tail) = tail.split_at(tail.chars().next().map_or(0, char::len_utf8));
        out.push_str(&without_id(head));
        out.push_str(separator);
        rest = tail;
    }
    out
}

fn without_id(token: &str) -> String {
    // CLIENT-ID-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx: the member id a broker gives.
    let uuid = token.len().checked_sub(36).and_then(|at| token.get(at..).map(|tail| (at, tail)));
    if let Some((at, _)) = uuid.filter(|(_, tail)| is_uuid(tail)) {
        return format!("{}UUID", &token[..at]);
    }
    let is_now = token.len() == 13 && token.starts_with('1');
    if is_now && token.bytes().all(|b| b.is_ascii_digit()) { "TIME".into() } else { token.into() }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let hexadecimal = |group: &&str| group.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(hexadecimal)
}

/// Rates and latencies: numbers with a fraction, percentiles, moments and spans of time.
fn without_measures(word: &str) -> String {
    let number = word.trim_matches(['(', ',']);
    let is_number = number.contains(['.', ':', '-']) || number.len() < 5;
    let digits = number.starts_with(|c: char| c.is_ascii_digit())
        && number.bytes().all(|b| b.is_ascii_digit() || b".:-".contains(&b));
    // 500, 2000 and 2500 are numbers of records.
    let counted = ["500", "2000", "2500"].contains(&number);
    if digits && is_number && !counted { word.replace(number, "N") } else { word.to_owned() }
}

/// Of records with one key only the last is part of a compacted log.
fn of_a_compacted_log(records: &[Value]) -> Vec<&Value> {
    let superseded = |at: usize| records[at + 1..].iter().any(|r| r["key"] == records[at]["key"]);
    (0..records.len()).filter(|at| !superseded(*at)).map(|at| &records[at]).collect()
}

/// Listings of everything a broker has: what only one of the two has is left out (settings of what the
/// other has not, APIs that are not served, which `docs/api-support.md` tells).
pub(super) fn only_shared(kafka: &mut Vec<String>, sawlog: &mut Vec<String>) {
    let has =
        |lines: &[String], name: &str| lines.iter().any(|line| name_in_list(line) == Some(name));
    let before = kafka.clone();
    sawlog.retain(|line| !line.contains(": UNSUPPORTED"));
    kafka.retain(|line| !line.contains(": UNSUPPORTED"));
    kafka.retain(|line| name_in_list(line).is_none_or(|name| has(sawlog, name)));
    sawlog.retain(|line| name_in_list(line).is_none_or(|name| has(&before, name)));
}

/// `retention.ms` of `retention.ms=1 sensitive=…`, `Produce(0)` of `Produce(0): 0 to 13 …`.
fn name_in_list(line: &str) -> Option<&str> {
    let setting = line.split_once('=').filter(|_| line.contains(" sensitive="));
    let api = line.split_once(": ").filter(|_| line.contains(" [usable: "));
    setting.or(api).map(|(name, _)| name)
}
