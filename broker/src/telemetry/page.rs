//! What clients said, as metrics and as a table for people.

use std::collections::BTreeMap;

use super::otlp::{Reading, Series};
use super::{ClientView, Telemetry};
use crate::metrics::{Kind, Page};

/// A client's labels and one of its values, under the name of the metric.
type Rows<'a> = BTreeMap<&'a str, Vec<(&'a str, &'a Series, Reading)>>;

impl Telemetry {
    /// Adds what clients said, and what has come of their pushes.
    pub(crate) fn describe(&self, page: &mut Page) {
        let clients = self.clients();
        let help = "Clients whose own metrics are known here (KIP-714).";
        page.single("sawlog_clients", Kind::Gauge, help, clients.len());
        let metrics = &self.metrics;
        let help = "Pushes of metrics by clients that were taken.";
        page.single("sawlog_client_pushes_total", Kind::Counter, help, metrics.taken.get());
        let name = "sawlog_client_pushes_refused_total";
        page.family(name, Kind::Counter, "Pushes, and questions what to push, that were refused.");
        for (reason, counter) in [
            ("too_early", &metrics.too_early),
            ("unknown_subscription", &metrics.unknown_subscription),
            ("too_large", &metrics.too_large),
            ("malformed", &metrics.malformed),
            ("other", &metrics.otherwise_refused),
        ] {
            page.value(name, &[("reason", reason)], counter.get());
        }
        let name = "sawlog_client_values_dropped_total";
        let help = "Values of pushes beyond what is kept of one client.";
        page.single(name, Kind::Counter, help, metrics.dropped.get());
        values(page, &clients);
    }

    /// The clients, a line each.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            ["CLIENT", "INSTANCE", "SOFTWARE", "ADDRESS", "ASKED FOR", "EVERY", "VALUES", "PUSHED"]
                .map(str::to_owned),
        ];
        lines.extend(self.clients().iter().map(line));
        let mut widths = [0; 8];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut out = String::new();
        for line in &lines {
            let cells = line.iter().zip(widths);
            let row: Vec<_> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            out.push_str(row.join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}

fn line(view: &ClientView) -> [String; 8] {
    let shown = |text: &str| -> String {
        text.chars().map(|c| if c.is_control() || c == ' ' { '\u{fffd}' } else { c }).collect()
    };
    let software = match &view.client.software {
        Some((name, version)) => format!("{}/{}", shown(name), shown(version)),
        None => "-".to_owned(),
    };
    let asked = match view.wanted.metrics.as_slice() {
        [] => "nothing".to_owned(),
        [all] if all.is_empty() => "*".to_owned(),
        some => shown(&some.join(",")),
    };
    let pushed = match view.pushed_ago {
        Some(ago) if view.has_terminated => format!("{} s ago, its last", ago.as_secs()),
        Some(ago) => format!("{} s ago", ago.as_secs()),
        None => "never".to_owned(),
    };
    [
        shown(&view.client.id),
        view.instance.to_string(),
        software,
        view.client.address.to_string(),
        asked,
        format!("{} ms", view.wanted.interval_ms),
        view.metrics.len().to_string(),
        pushed,
    ]
}

/// All values, those of a metric together, as the format wants them.
fn values(page: &mut Page, clients: &[ClientView]) {
    let mut rows = Rows::new();
    for client in clients {
        for (series, reading) in &client.metrics.by_series {
            let row = (&*client.metrics.owner, series, *reading);
            rows.entry(&*series.name).or_default().push(row);
        }
    }
    for (name, rows) in rows {
        let first = rows.first().map_or(Kind::Untyped, |(_, _, reading)| reading.kind);
        let is_one_kind = rows.iter().all(|(_, _, reading)| reading.kind == first);
        page.family(name, if is_one_kind { first } else { Kind::Untyped }, "As clients pushed it.");
        for (owner, series, reading) in rows {
            page.labelled(name, [owner, &series.labels], reading.value);
        }
    }
}
