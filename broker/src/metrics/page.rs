//! A page of metrics in the text format of Prometheus, version 0.0.4.
//!
//! Always holds: every name is a metric's or a label's name, every value of a label is escaped, and
//! a family is headed once. Names and values may come from strangers ([`crate::telemetry`]).

use std::fmt::Write as _;

use super::Histogram;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, until the process starts again.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
    /// Not known, or not the same everywhere.
    Untyped,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// Labels of one value: names and values.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page that is being written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// The text so far.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Heads the metric `name`; its values follow.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.put(format_args!("# HELP {name} "));
        escape(&mut self.text, help, false);
        self.put(format_args!("\n# TYPE {name} {}\n", kind.name()));
    }

    /// A value of the metric `name`.
    pub(crate) fn value(&mut self, name: &str, labels: Labels<'_>, value: impl Into<Number>) {
        self.text.push_str(name);
        self.labels(labels, None);
        match value.into() {
            Number::Whole(value) => self.put(format_args!(" {value}\n")),
            Number::Real(value) => self.put(format_args!(" {}\n", Real(value))),
        }
    }

    /// A metric with one value.
    pub(crate) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }

    /// The values of one histogram of the metric `name`.
    pub(crate) fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (end, below) in histogram.cumulative() {
            let end = end.map_or_else(|| "+Inf".to_owned(), |end| Real(end).to_string());
            self.put(format_args!("{name}_bucket"));
            self.labels(labels, Some(&end));
            self.put(format_args!(" {below}\n"));
            count = below;
        }
        self.put(format_args!("{name}_sum"));
        self.labels(labels, None);
        self.put(format_args!(" {}\n{name}_count", Real(histogram.sum().as_secs_f64())));
        self.labels(labels, None);
        self.put(format_args!(" {count}\n"));
    }

    /// A value with labels written before, by [`Labelling`]; some may be empty.
    pub(crate) fn labelled(&mut self, name: &str, labels: [&str; 2], value: f64) {
        let [first, second] = labels;
        let comma = if first.is_empty() || second.is_empty() { "" } else { "," };
        self.put(format_args!("{name}{{{first}{comma}{second}}} {}\n", Real(value)));
    }

    fn labels(&mut self, labels: Labels<'_>, end: Option<&str>) {
        let mut out = Labelling::default();
        let all = labels.iter().copied().chain(end.map(|end| ("le", end)));
        all.for_each(|(name, value)| out.add(name, value));
        if !out.text.is_empty() {
            self.put(format_args!("{{{}}}", out.text));
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

/// Labels as a page has them, `a="b",c="d"`.
#[derive(Debug, Default)]
pub(crate) struct Labelling {
    text: String,
}

impl Labelling {
    /// One more; `name` is a label's name.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(name);
        self.text.push_str("=\"");
        escape(&mut self.text, value, true);
        self.text.push('"');
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// A metric's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(super::count(value))
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// A real number as the format has it.
struct Real(f64);

impl std::fmt::Display for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            infinite if infinite == f64::INFINITY => f.write_str("+Inf"),
            infinite if infinite == f64::NEG_INFINITY => f.write_str("-Inf"),
            number => write!(f, "{number}"),
        }
    }
}

fn escape(out: &mut String, text: &str, quoted: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            // Lines are read by people and by tools that take other control characters for ends.
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

/// `text` as the name of a metric: what is neither letter nor digit becomes `_`.
pub(crate) fn metric_name(prefix: &str, text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    prefix.chars().chain(text.chars().map(plain)).collect()
}

/// `text` as the name of a label.
pub(crate) fn label_name(text: &str) -> String {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    // Names with two underscores in front are Prometheus's own.
    metric_name(if starts_well { "" } else { "x_" }, text.trim_start_matches('_'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_follow_their_head() {
        let mut page = Page::default();
        page.single("a_total", Kind::Counter, "Things.", 3_u64);
        page.family("b", Kind::Gauge, "Of\neach.");
        page.value("b", &[("path", "C:\\x\n\"y\""), ("z", "ü\r")], 0.25);
        page.value("b", &[], f64::INFINITY);
        assert_eq!(
            page.into_text(),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Of\\neach.\n# TYPE b gauge\n\
             b{path=\"C:\\\\x\\n\\\"y\\\"\",z=\"ü\u{fffd}\"} 0.25\nb +Inf\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_everything() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(2));
        let mut page = Page::default();
        page.histogram("t_seconds", &[("api", "Fetch")], &histogram);
        let text = page.into_text();
        assert!(text.starts_with("t_seconds_bucket{api=\"Fetch\",le=\"0.00005\"} 0\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{api=\"Fetch\",le=\"0.0025\"} 1\n"), "{text}");
        assert!(
            text.ends_with(
                "le=\"+Inf\"} 1\nt_seconds_sum{api=\"Fetch\"} 0.002\nt_seconds_count{api=\"Fetch\"} 1\n"
            ),
            "{text}"
        );
    }

    /// Whether `text` can be the name of a label as it is.
    fn is_label_name(text: &str) -> bool {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    #[test]
    fn any_text_makes_a_name() {
        assert_eq!(metric_name("p_", "producer.record-send.total"), "p_producer_record_send_total");
        assert_eq!(metric_name("p_", "é\n\""), "p____");
        for text in ["", "9", "__name__", "node.id", "-", "größe"] {
            assert!(is_label_name(&label_name(text)), "{text}: {}", label_name(text));
        }
        assert_eq!(label_name("node.id"), "node_id");
    }
}
