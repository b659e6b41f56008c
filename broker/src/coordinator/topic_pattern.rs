//! Subscriptions by regular expression, as the broker resolves them for groups of the consumer
//! protocol (KIP-848): Kafka's syntax there is RE2's, and a pattern matches whole topic names.
//!
//! Matching takes time linear in the name, compiling memory that is bounded: patterns come from
//! strangers. The engine is the `regex` crate, whose syntax is nearly RE2's. What RE2 reads otherwise
//! is rewritten first: `\Q...\E`, and inside `[...]` the characters `[`, `&`, `~` and `-`, which
//! are no set operators there. What stays different:
//!
//! - Octal escapes (`\123`) and `\C` are refused, and so are scripts (`\p{Greek}`): topic names are
//!   ASCII.
//! - More is accepted: the flags `x` and `R`, repeated repetitions (`a**`), counts above 1,000 if the
//!   result is small enough.
//! - `\d`, `\w`, `\s`, `\b` know all of Unicode; topic names are ASCII, where they are the same.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::base::limits::{
    TOPIC_PATTERN_BYTES_MAX, TOPIC_PATTERN_COMPILED_BYTES_MAX, TOPIC_PATTERN_NESTING_MAX,
};

/// A pattern for topic names.
#[derive(Clone, Debug)]
pub struct TopicPattern {
    regex: Regex,
}

/// Why text is not a pattern for topic names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicPatternError {
    /// Longer than this many bytes.
    TooLong(usize),
    /// Compiled, it would take more memory than this many bytes.
    TooLarge(usize),
    /// Not a regular expression; says what and where.
    Syntax(String),
}

impl fmt::Display for TopicPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "the pattern has more than {limit} bytes"),
            Self::TooLarge(limit) => {
                write!(f, "the pattern would take more than {limit} bytes of memory")
            }
            Self::Syntax(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TopicPatternError {}

impl TopicPattern {
    /// Understands a pattern.
    ///
    /// # Errors
    /// It is no regular expression of this syntax, or one too large.
    pub fn new(text: &str) -> Result<Self, TopicPatternError> {
        if text.len() > TOPIC_PATTERN_BYTES_MAX {
            return Err(TopicPatternError::TooLong(TOPIC_PATTERN_BYTES_MAX));
        }
        let rewritten = rewritten(text);
        // Alone first: `a)(b` would be well-formed between the parentheses below.
        compiled(&rewritten)?;
        let regex = compiled(&format!("^(?:{rewritten})$"))?;
        Ok(Self { regex })
    }

    /// Whether it matches the whole of a topic's name.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic)
    }
}

fn compiled(pattern: &str) -> Result<Regex, TopicPatternError> {
    RegexBuilder::new(pattern)
        .size_limit(TOPIC_PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(TOPIC_PATTERN_COMPILED_BYTES_MAX)
        .nest_limit(TOPIC_PATTERN_NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => TopicPatternError::TooLarge(limit),
            other => TopicPatternError::Syntax(other.to_string()),
        })
}

/// What RE2 and the engine read differently, in the engine's words.
fn rewritten(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            rest = behind;
        } else if next == '\\' {
            rest = copied(rest, 2, &mut out);
        } else if next == '[' {
            rest = rewritten_class(rest, &mut out);
        } else {
            rest = copied(rest, 1, &mut out);
        }
    }
    out
}

/// A class in brackets from its start on; gives what is behind it.
fn rewritten_class<'t>(class: &'t str, out: &mut String) -> &'t str {
    let start = if class.starts_with("[^") { 2 } else { 1 };
    let mut rest = copied(class, start, out);
    if let Some(behind) = rest.strip_prefix(']') {
        out.push_str(r"\]");
        rest = behind;
    }
    while let Some(next) = rest.chars().next() {
        let named = rest.starts_with("[:").then(|| rest.find(":]")).flatten();
        if let Some(end) = named {
            // Named classes, as `[:alpha:]`, are the same in both.
            let (name, behind) = rest.split_at(end + 2);
            out.push_str(name);
            rest = behind;
        } else if next == ']' {
            return copied(rest, 1, out);
        } else {
            let is_set =
                [r"\d", r"\D", r"\s", r"\S", r"\w", r"\W"].iter().any(|set| rest.starts_with(set));
            rest = rewritten_element(rest, out);
            let upto =
                rest.strip_prefix('-').filter(|end| !(end.is_empty() || end.starts_with(']')));
            if let Some(end) = upto.filter(|_| !is_set) {
                out.push('-');
                rest = rewritten_element(end, out);
            }
        }
    }
    rest
}

/// One character of a class, or one end of a range: never an operator.
fn rewritten_element<'t>(element: &'t str, out: &mut String) -> &'t str {
    if element.starts_with('\\') {
        return copied(element, 2, out);
    }
    if element.starts_with(['[', '&', '~', '-']) {
        out.push('\\');
    }
    copied(element, 1, out)
}

/// Copies so many characters; gives what is behind them.
fn copied<'t>(text: &'t str, count: usize, out: &mut String) -> &'t str {
    let end = text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    let (taken, behind) = text.split_at(end);
    out.push_str(taken);
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        TopicPattern::new(pattern).unwrap().matches(topic)
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert!(matches("orders", "orders"));
        assert!(!matches("orders", "orders-eu"), "not a prefix");
        assert!(!matches("orders", "my-orders"), "not a suffix");
        assert!(matches("orders-.*", "orders-eu"));
        assert!(matches("a|bc", "bc") && !matches("a|bc", "ac"), "both sides whole");
        assert!(matches("(?i)ORDERS", "orders"));
        assert!(matches("^orders$", "orders"), "anchors do no harm");
        assert!(matches("", "") && !matches("", "a"));
    }

    #[test]
    fn what_re2_quotes_is_literal() {
        assert!(matches(r"\Qa.b\E.", "a.bc"));
        assert!(!matches(r"\Qa.b\E.", "axbc"));
        assert!(matches(r"\Qa.b", "a.b"), "open to the end");
    }

    #[test]
    fn classes_have_no_operators() {
        assert!(matches("[a-z&&b]", "a"), "an intersection would be b alone");
        assert!(matches("[a-z--b]", "C"), "a range from - to b");
        assert!(matches(r"[\d-a]+", "1-a") && matches("[a-]+", "a-") && matches("[-a]+", "-a"));
        assert!(matches("[a~~b]", "a") && matches("[[a]", "a") && matches("[]a]", "a"));
        assert!(matches("[+--]", ","), "a range from + to -");
        assert!(matches("[[:alpha:]_]+", "ab_") && !matches("[[:alpha:]]", "1"));
        assert!(matches(r"[\]a]", "a") && matches(r"[^a\]]", "b"));
    }

    #[test]
    fn what_cannot_be_matched_in_linear_time_is_refused() {
        for pattern in [r"(a)\1", "(?=a)b", "(?<!a)b", "(a", "a)", "a)(b", "[a", "*", r"\", "[z-a]"]
        {
            let outcome = TopicPattern::new(pattern);
            assert!(matches!(outcome, Err(TopicPatternError::Syntax(_))), "{pattern}: {outcome:?}");
        }
    }

    #[test]
    fn large_patterns_are_refused() {
        let long = "a".repeat(TOPIC_PATTERN_BYTES_MAX + 1);
        assert!(matches!(TopicPattern::new(&long), Err(TopicPatternError::TooLong(_))));
        let large = r"((\pL{100}){100}){100}";
        assert!(matches!(TopicPattern::new(large), Err(TopicPatternError::TooLarge(_))));
        let deep = "(".repeat(500) + &")".repeat(500);
        assert!(matches!(TopicPattern::new(&deep), Err(TopicPatternError::Syntax(_))));
    }

    #[test]
    fn random_patterns_never_panic() {
        let alphabet: Vec<char> = r"ab[]^-&~\QEpdb(){}*+?|.:$,1é".chars().collect();
        let mut state = 88_172_645_463_325_252u64;
        let mut understood = 0;
        for _ in 0..4_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let place = usize::try_from(state % 1_000).unwrap() % alphabet.len();
                text.push(alphabet[place]);
            }
            if let Ok(pattern) = TopicPattern::new(&text) {
                understood += 1;
                let _matched = pattern.matches("ab");
            }
        }
        assert!(understood > 50, "{understood}");
    }
}
