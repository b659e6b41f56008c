//! `docs/configuration.md`, generated from the property tables.

use std::fmt::Write;

use super::broker::{broker_properties, broker_settings_not_yet};
use super::client_metrics::client_metrics_properties;
use super::group::{group_properties, group_settings_not_yet};
use super::property::{Mode, Property, Unit};
use super::topic::{topic_properties, topic_settings_not_yet};

const INTRODUCTION: &str = "\
<!-- Generated from broker/src/config. Do not edit: UPDATE_DOCS=1 cargo test -p sawlog-broker configuration_page -->
# Configuration

Every setting has a default; a broker starts without any. Names are Kafka's wherever Kafka has the
setting. A name nobody knows is an error with a suggestion, never ignored.

## Where settings come from

The later wins: default, configuration file, environment, command line flag, and for the settings
marked *dynamic* what was set while running (for all brokers, then for one).

The file is TOML with the setting's name as key:

```toml
listeners = [\"0.0.0.0:9092\"]
insecure.listeners.allowed = true
advertised.listeners = [\"broker.example:9092\"]
log.retention.ms = \"7d\"
num.partitions = 3
```

The environment variable of a setting is `SAWLOG__` and its name in capitals, with `_` or `__` for
each dot: `SAWLOG__LOG__RETENTION__MS` or `SAWLOG__LOG_RETENTION_MS`.

Bytes are numbers or `64KiB`, `10MiB`, `1GiB`; times are milliseconds or `500ms`, `30s`, `5m`, `2h`,
`7d`. They are stored and shown as plain numbers.
";

/// The text of `docs/configuration.md`.
#[must_use]
pub fn configuration_page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Topic settings\n\nSet at creation or any time later. A topic inherits what it does not set from the broker setting\nnamed beside it.\n\n");
    page.push_str("| setting | type | default | valid | inherits from | meaning |\n|---|---|---|---|---|---|\n");
    for row in topic_properties() {
        let broker: Vec<_> = row.broker.iter().map(|name| format!("`{name}`")).collect();
        push_row(&mut page, row, &broker.join(", "));
    }
    page.push_str("\n## Group settings\n\nSet on a consumer group by IncrementalAlterConfigs (`kafka-configs --entity-type groups`) at any time,\nalso before the group exists. A group inherits what it does not set from the broker setting named\nbeside it.\n\n");
    page.push_str("| setting | type | default | valid | inherits from | meaning |\n|---|---|---|---|---|---|\n");
    for row in group_properties() {
        push_row(&mut page, row, &format!("`{}`", row.broker.join("`, `")));
    }
    page.push_str("\n## Client metrics settings\n\nSet on a subscription, a name of your choice, by IncrementalAlterConfigs (`kafka-client-metrics`, or\n`kafka-configs --entity-type client-metrics`). It is there as long as something is set on it. Clients that\nfit are asked to push metrics (KIP-714), which [monitoring](monitoring.md) tells where to find.\n\n");
    page.push_str(
        "| setting | type | default | valid | change | meaning |\n|---|---|---|---|---|---|\n",
    );
    for row in client_metrics_properties() {
        push_row(&mut page, row, "dynamic");
    }
    page.push_str("\n## Broker settings\n\n");
    page.push_str(
        "| setting | type | default | valid | change | meaning |\n|---|---|---|---|---|---|\n",
    );
    for row in broker_properties() {
        let change = match row.mode {
            Mode::Static => "restart",
            Mode::Dynamic => "dynamic",
        };
        push_row(&mut page, row, change);
    }
    page.push_str("\n## Known settings of Kafka that are refused\n\nAccepting a setting is a promise to honour it.\n\n");
    page.push_str("| setting | of | why |\n|---|---|---|\n");
    for (of, names) in [
        ("topic", topic_settings_not_yet()),
        ("group", group_settings_not_yet()),
        ("broker", broker_settings_not_yet()),
    ] {
        for (name, reason) in names {
            line(&mut page, format_args!("| `{name}` | {of} | {reason} |"));
        }
    }
    page
}

fn push_row(page: &mut String, row: &Property, fifth: &str) {
    let unit = match row.unit {
        Unit::None => "",
        Unit::Bytes => ", bytes",
        Unit::Milliseconds => ", ms",
        Unit::Minutes => ", minutes",
        Unit::Hours => ", hours",
    };
    let default = match row.default.as_deref() {
        None => "unset".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    line(
        page,
        format_args!(
            "| `{}` | {}{unit} | {default} | {} | {fifth} | {} |",
            row.name,
            row.kind.name(),
            row.valid_text(),
            row.doc
        ),
    );
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = configuration_page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
            std::fs::write(path, &page).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == page, "docs/configuration.md is stale: run the test with UPDATE_DOCS=1");
    }
}
