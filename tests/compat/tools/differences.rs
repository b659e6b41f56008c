//! Where Sawlog is known to print something else, and why: `differences.txt`.

use std::cell::Cell;

/// One known difference.
#[derive(Debug, Default)]
struct Difference {
    /// Patterns of the commands it is known of; `*` is any text.
    commands: Vec<String>,
    /// Patterns of lines only Apache Kafka prints.
    kafka: Vec<String>,
    /// Patterns of lines only Sawlog prints.
    sawlog: Vec<String>,
    /// Whether it was met, or need not be.
    seen: Cell<bool>,
}

#[derive(Debug)]
pub(super) struct Differences(Vec<Difference>);

impl Differences {
    pub(super) fn read(text: &str) -> Differences {
        let mut all: Vec<Difference> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (kind, rest) = line.split_at(1);
            let rest = rest.trim_start().to_owned();
            match kind {
                "=" | "~" => {
                    if all.last().is_none_or(|d| !d.kafka.is_empty() || !d.sawlog.is_empty()) {
                        all.push(Difference {
                            seen: Cell::new(kind == "~"),
                            ..Difference::default()
                        });
                    }
                    all.last_mut().expect("just pushed").commands.push(rest);
                }
                "-" => all.last_mut().expect("a command comes first").kafka.push(rest),
                "+" => all.last_mut().expect("a command comes first").sawlog.push(rest),
                "#" => {}
                _ => panic!("differences.txt: {line}"),
            }
        }
        Differences(all)
    }

    /// Takes known differences out of the sorted lines of both; what stays must be the same.
    pub(super) fn take_out(
        &self,
        command: &str,
        kafka: &mut Vec<String>,
        sawlog: &mut Vec<String>,
    ) {
        for known in self.0.iter().filter(|d| d.commands.iter().any(|c| matches(c, command))) {
            let before = kafka.len() + sawlog.len();
            only_in(kafka, &known.kafka, sawlog);
            only_in(sawlog, &known.sawlog, kafka);
            if kafka.len() + sawlog.len() < before {
                known.seen.set(true);
            }
        }
    }

    /// What is in the list and was not met: it does not belong there any more.
    pub(super) fn never_seen(&self) -> Vec<&[String]> {
        self.0.iter().filter(|d| !d.seen.get()).map(|d| d.commands.as_slice()).collect()
    }
}

/// Removes the lines that match a pattern, unless the other side says the same.
fn only_in(lines: &mut Vec<String>, patterns: &[String], other: &[String]) {
    lines.retain(|line| other.contains(line) || !patterns.iter().any(|p| matches(p, line)));
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            after
                .char_indices()
                .map(|(at, _)| at)
                .chain([after.len()])
                .any(|at| matches(rest, &after[at..]))
        }),
    }
}

#[test]
fn only_what_is_listed_is_taken_out() {
    let known = Differences::read("# why\n= topics *\n- old *\n+ new\n= other\n- never\n");
    let lines = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (mut kafka, mut sawlog) = (lines("a,old 1,same"), lines("b,new,same"));
    known.take_out("topics x", &mut kafka, &mut sawlog);
    assert_eq!((kafka, sawlog), (lines("a,same"), lines("b,same")));
    assert_eq!(known.never_seen(), [["other".to_owned()].as_slice()]);
    let (mut kafka, mut sawlog) = (lines("old 1"), lines("old 1"));
    known.take_out("topics x", &mut kafka, &mut sawlog);
    assert_eq!(kafka, sawlog, "what both say is no difference");
    assert!(!kafka.is_empty());
}
