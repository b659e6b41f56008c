//! The scenario's facts, and the check that a program reported each of them.

use std::collections::BTreeMap;

use super::program::Ended;

/// Every fact of `README.md`, in its order.
pub(crate) const FACTS: [&str; 31] = [
    "cluster-described",
    "topic-created",
    "topic-exists-refused",
    "topic-described",
    "unknown-topic-refused",
    "produced-none",
    "produced-gzip",
    "produced-snappy",
    "produced-lz4",
    "produced-zstd",
    "idempotent",
    "from-beginning",
    "from-end",
    "from-timestamp",
    "earliest-and-latest",
    "offset-for-timestamp",
    "committed-with-metadata",
    "reset-earliest",
    "reset-latest",
    "reset-none",
    "group-seeks-to-time",
    "large-record",
    "too-large-refused",
    "headers",
    "nulls-and-empties",
    "records-deleted",
    "configs-described",
    "config-altered",
    "wrong-config-refused",
    "partitions-added",
    "topic-deleted",
];

/// Every fact must be there once and be `ok`, or `n/a` where the client is known to be unable.
pub(crate) fn check(ended: &Ended, not_available: &[&str]) {
    let output = String::from_utf8_lossy(&ended.stdout);
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for line in output.lines() {
        let (verdict, rest) = line.split_once(' ').unwrap_or((line, ""));
        let fact = rest.split(':').next().unwrap_or_default();
        if !FACTS.contains(&fact) || seen.insert(fact, verdict).is_some() {
            wrong.push(format!("unexpected line: {line}"));
        }
    }
    for fact in FACTS {
        let expected = if not_available.contains(&fact) { "n/a" } else { "ok" };
        match seen.get(fact) {
            Some(verdict) if *verdict == expected => {}
            other => wrong.push(format!("{fact}: expected {expected}, seen {other:?}")),
        }
    }
    assert!(
        wrong.is_empty() && ended.status.success(),
        "{}, {wrong:#?}\n{output}\n{}",
        ended.status,
        ended.stderr
    );
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn ended(stdout: String) -> Ended {
        Ended { status: ExitStatus::from_raw(0), stdout: stdout.into(), stderr: String::new() }
    }

    fn ok_lines(facts: &[&str]) -> String {
        facts.iter().map(|fact| format!("ok {fact}\n")).collect()
    }

    #[test]
    fn every_fact_reported_once_passes() {
        check(&ended(ok_lines(&FACTS)), &[]);
    }

    #[test]
    #[should_panic(expected = "topic-deleted: expected ok, seen None")]
    fn program_that_stops_early_fails() {
        check(&ended(ok_lines(&FACTS[..30])), &[]);
    }

    #[test]
    #[should_panic(expected = "cluster-described: expected ok, seen Some(\\\"n/a\\\")")]
    fn fact_given_up_without_leave_fails() {
        check(&ended("n/a cluster-described: why\n".to_owned() + &ok_lines(&FACTS[1..])), &[]);
    }

    #[test]
    #[should_panic(expected = "unexpected line: ok cluster-described")]
    fn fact_reported_twice_fails() {
        check(&ended(ok_lines(&FACTS) + "ok cluster-described\n"), &[]);
    }
}
