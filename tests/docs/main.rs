//! Documents hold what they say: the tests they name exist, the procedures they tell can be carried out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod guide;
mod operations;

use std::path::Path;

/// The workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What stands in backquotes in `text` as `FILE: TEST`, over line breaks.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = joined.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|name| name.split_once(": "))
        .filter(|(file, _)| Path::new(file).extension().is_some_and(|kind| kind == "rs"))
        .map(|(file, test)| (file.to_owned(), test.to_owned()))
        .collect()
}

#[test]
fn every_promise_of_durability_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/durability.md")).unwrap();
    let tests = named_tests(&page);
    assert!(tests.len() >= 20, "only {} tests are named", tests.len());
    for (file, test) in tests {
        let source = std::fs::read_to_string(root().join(&file))
            .unwrap_or_else(|error| panic!("docs/durability.md names {file}: {error}"));
        let begun = format!("fn {test}()");
        let at = source.find(&begun).unwrap_or_else(|| panic!("{file} has no test {test}"));
        let mut before = source[..at].trim_end().trim_end_matches("async").trim_end().lines().rev();
        let attribute = before.next().unwrap_or_default().trim_start();
        let is_test = attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test");
        assert!(is_test, "{test} in {file} is not a test");
    }
}

#[test]
fn a_name_is_found_over_a_line_break_and_nothing_else_is() {
    let text = "`flush.mode: x` and [`a/b.rs: it_holds`,\n  `c.rs:\n  so_does_this`]";
    let expected = [("a/b.rs", "it_holds"), ("c.rs", "so_does_this")];
    let expected = expected.map(|(file, test)| (file.to_owned(), test.to_owned()));
    assert_eq!(named_tests(text), expected);
}
