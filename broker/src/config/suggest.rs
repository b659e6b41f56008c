//! "Did you mean": the known name nearest to a mistyped one.

/// Longest name compared; anything longer is not a typing mistake.
const NAME_BYTES_MAX: usize = 64;

/// The candidate nearest to `name`, if near enough to be what was meant: at most one edit in three
/// characters.
#[must_use]
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let normal = normalised(name);
    candidates
        .into_iter()
        .map(|candidate| (distance(&normal, &normalised(candidate)), candidate))
        .filter(|(edits, _)| *edits * 3 <= normal.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Case and separators are the commonest mistakes: `retention_ms` means `retention.ms`.
fn normalised(name: &str) -> Vec<char> {
    name.chars()
        .map(|c| if matches!(c, '_' | '-') { '.' } else { c.to_ascii_lowercase() })
        .collect()
}

/// Edits (insert, delete, replace, swap of neighbours) that turn `from` into `to`.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replace = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["retention.ms", "retention.bytes", "segment.ms", "max.message.bytes"];

    #[test]
    fn typing_mistakes_find_the_meant_name() {
        for (typed, meant) in [
            ("retention.sm", "retention.ms"),
            ("retension.ms", "retention.ms"),
            ("RETENTION_MS", "retention.ms"),
            ("retention-bytes", "retention.bytes"),
            ("max.mesage.byte", "max.message.bytes"),
        ] {
            assert_eq!(suggest(typed, NAMES), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_different_word_gets_no_suggestion() {
        assert_eq!(suggest("colour", NAMES), None);
        assert_eq!(suggest("", NAMES), None);
        assert_eq!(suggest(&"x".repeat(10_000), NAMES), None);
    }
}
