//! What was measured of one cluster: every value kept, told as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// Values of one kind.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    unit: &'static str,
    /// What it should be at most, by its p99.
    target: Option<f64>,
    values: Vec<f64>,
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        self.add_with(name, unit, None, value);
    }

    /// A time that should not be longer than `target`, in 99 of 100 cases.
    pub(crate) fn add_time(&mut self, name: &str, target: Option<Duration>, time: Duration) {
        self.add_with(name, "ms", target.map(millis), millis(time));
    }

    fn add_with(&mut self, name: &str, unit: &'static str, target: Option<f64>, value: f64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.values.push(value);
        } else {
            self.rows.push(Row { name: name.to_owned(), unit, target, values: vec![value] });
        }
    }

    pub(crate) fn fail(&mut self, what: &str, error: &dyn std::error::Error) {
        self.failures.push(format!("{what}: {error}"));
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| | n | p50 | p99 | most | target |\n|---|---:|---:|---:|---:|---:|\n".to_owned();
        for Row { name, unit, target, values } in &self.rows {
            let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| short(quantile(values, share)));
            let target = target.map(short).unwrap_or_default();
            let count = values.len();
            let _infallible =
                writeln!(text, "| {name}, {unit} | {count} | {p50} | {p99} | {most} | {target} |");
        }
        for failure in &self.failures {
            let _infallible = writeln!(text, "\nFAILED: {failure}");
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "unit": row.unit,
                "target": row.target,
                "p50": quantile(&row.values, 0.5),
                "p99": quantile(&row.values, 0.99),
                "values": row.values,
            })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "rows": rows, "failures": self.failures })
    }
}

/// The smallest value that so large a share of all does not exceed.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Counts here are small.
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn short(value: f64) -> String {
    if value >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_hundred_is_not_in_the_p99() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values[..3], 0.99), 3.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_row_tells_its_target_and_a_failure_its_reason() {
        let mut report = Report::default();
        report.add_time("kill", Some(Duration::from_secs(1)), Duration::from_millis(250));
        report.add("speed", "MiB/s", 99.5);
        report.fail("fill", &std::io::Error::other("no room"));
        let text = report.markdown();
        assert!(text.contains("| kill, ms | 1 | 250 | 250 | 250 | 1000 |"), "{text}");
        assert!(text.contains("| speed, MiB/s | 1 | 99.5 | 99.5 | 99.5 |  |"), "{text}");
        assert!(text.contains("FAILED: fill: no room"), "{text}");
    }
}
