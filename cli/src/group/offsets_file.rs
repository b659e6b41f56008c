//! Offsets of a group as lines of text, in the form of `kafka-consumer-groups --reset-offsets
//! --export`: `topic,partition,offset`, or `group,topic,partition,offset` for several groups.

use std::fmt::Write as _;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Only in files of several groups.
    pub(super) group: Option<String>,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// Reads them; empty lines are skipped.
///
/// # Errors
/// What is wrong with which line.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, String> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| {
            parse_line(line).ok_or_else(|| {
                format!(
                    "line {number}: \"{line}\" is neither topic,partition,offset nor \
                     group,topic,partition,offset"
                )
            })
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split(',').map(field).collect();
    let (group, topic, partition, offset) = match fields.as_slice() {
        [topic, partition, offset] => (None, topic, partition, offset),
        [group, topic, partition, offset] => (Some(*group), topic, partition, offset),
        _ => return None,
    };
    let partition = partition.parse::<i32>().ok().filter(|index| *index >= 0)?;
    let offset = offset.parse::<i64>().ok().filter(|offset| *offset >= 0)?;
    if topic.is_empty() {
        return None;
    }
    Some(Line { group: group.map(str::to_owned), topic: (*topic).to_owned(), partition, offset })
}

/// Without the quotes a spreadsheet may have put around it.
fn field(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

/// Writes them for one group.
pub(super) fn write<'a>(offsets: impl Iterator<Item = (&'a str, i32, i64)>) -> String {
    let mut text = String::new();
    for (topic, partition, offset) in offsets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{topic},{partition},{offset}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_kafkas_other_form_too() {
        let text = write([("t", 0, 5), ("u", 12, 0)].into_iter());
        assert_eq!(text, "t,0,5\nu,12,0\n");
        let read = parse(&text).unwrap();
        assert_eq!((read[1].topic.as_str(), read[1].partition, read[1].offset), ("u", 12, 0));
        let quoted = parse("\n\"g\",\"t\",\"1\",\"9\"\n").unwrap();
        let line =
            Line { group: Some("g".to_owned()), topic: "t".to_owned(), partition: 1, offset: 9 };
        assert_eq!(quoted, [line]);
    }

    #[test]
    fn wrong_lines_are_named() {
        for wrong in ["t,0", "t,x,5", "t,0,-5", ",0,5", "t;0;5", "t,-1,5"] {
            let error = parse(&format!("a,0,1\n{wrong}")).unwrap_err();
            assert!(error.starts_with("line 2: "), "{wrong}: {error}");
        }
    }
}
