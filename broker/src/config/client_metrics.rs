//! What can be set on one subscription to metrics of clients (KIP-714), and the typed result.
//!
//! A subscription is there as long as something is set on it. The patterns that tell clients are
//! regular expressions that match the whole of a text, in memory and time that are bounded.

use regex::{Regex, RegexBuilder};

use super::Overrides;
use super::error::{ConfigError, Origin};
use super::property::{Property, Valid, properties};
use super::suggest::suggest;
use crate::base::limits::{
    CLIENT_PATTERN_BYTES_MAX, CLIENT_PATTERN_COMPILED_BYTES_MAX, TOPIC_PATTERN_NESTING_MAX,
};

properties! {
    /// One subscription to metrics of clients.
    pub struct ClientMetricsConfig {}
    /// One row per property of a subscription.
    static CLIENT_METRICS_PROPERTIES;

    "interval.ms" => interval_ms: u32, Int Milliseconds, default "300000",
        Valid::Range(100, 3_600_000), Dynamic, broker [],
        "How often clients push. Of several subscriptions that fit a client the shortest holds.";
    "match" => client_match: Vec<String>, List None, default "", Valid::Check(check_match), Dynamic, broker [],
        "Which clients are meant, as `name=pattern`; all that are given must match. Names: `client_id`, `client_instance_id`, `client_software_name`, `client_software_version`, `client_source_address`, `client_source_port`. Empty: all clients.";
    "metrics" => metrics: Vec<String>, List None, default "", Valid::Any, Dynamic, broker [],
        "Which metrics clients push, as the beginnings of their names; `*` is all of them. Empty: none.";
}

/// Every property of a subscription, by name.
#[must_use]
pub fn client_metrics_properties() -> &'static [Property] {
    CLIENT_METRICS_PROPERTIES
}

/// The property of a subscription called `name`.
///
/// # Errors
/// Unknown, with a suggestion.
pub fn client_metrics_property(name: &str) -> Result<&'static Property, ConfigError> {
    let rows = CLIENT_METRICS_PROPERTIES;
    rows.iter().find(|row| row.name == name).ok_or_else(|| ConfigError::UnknownKey {
        resource: "client metrics",
        key: name.to_owned(),
        suggestion: suggest(name, rows.iter().map(|row| row.name)),
        origin: Origin::Request,
    })
}

impl ClientMetricsConfig {
    /// The subscription with these settings. Values this version does not accept (written by
    /// another) are passed over.
    #[must_use]
    pub fn resolve(overrides: &Overrides) -> Self {
        Self::read(&|name| {
            let property = CLIENT_METRICS_PROPERTIES.iter().find(|row| row.name == name)?;
            overrides.get(name).and_then(|text| property.canonical(text).ok())
        })
    }

    /// What a client has to be. Of two patterns for one thing the later holds, as in Kafka.
    #[must_use]
    pub fn patterns(&self) -> Vec<ClientPattern> {
        let mut patterns: Vec<ClientPattern> = Vec::new();
        for pattern in self.client_match.iter().filter_map(|text| ClientPattern::parse(text).ok()) {
            patterns.retain(|other| other.fact != pattern.fact);
            patterns.push(pattern);
        }
        patterns
    }
}

/// What is known of a client that a subscription can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFact {
    /// What it calls itself.
    Id,
    /// The id it was given for its metrics.
    InstanceId,
    /// The library it uses.
    SoftwareName,
    /// That library's version.
    SoftwareVersion,
    /// Where it connects from.
    SourceAddress,
    /// The port there.
    SourcePort,
}

const FACTS: [(&str, ClientFact); 6] = [
    ("client_id", ClientFact::Id),
    ("client_instance_id", ClientFact::InstanceId),
    ("client_software_name", ClientFact::SoftwareName),
    ("client_software_version", ClientFact::SoftwareVersion),
    ("client_source_address", ClientFact::SourceAddress),
    ("client_source_port", ClientFact::SourcePort),
];

/// One condition on a client.
#[derive(Clone, Debug)]
pub struct ClientPattern {
    fact: ClientFact,
    regex: Regex,
}

impl ClientPattern {
    /// Understands `name=pattern`.
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("expected name=pattern instead of \"{text}\"");
        let (name, pattern) = text.split_once('=').ok_or_else(expected)?;
        let (name, pattern) = (name.trim(), pattern.trim());
        if pattern.is_empty() || pattern.contains('=') {
            return Err(expected());
        }
        if pattern.len() > CLIENT_PATTERN_BYTES_MAX {
            return Err(format!("a pattern has at most {CLIENT_PATTERN_BYTES_MAX} bytes"));
        }
        let known = FACTS.iter().find(|(known, _)| *known == name);
        let (_, fact) = known.ok_or_else(|| {
            let names: Vec<_> = FACTS.iter().map(|(name, _)| *name).collect();
            format!("\"{name}\" is not known of clients; use {}", names.join(", "))
        })?;
        // Alone first: `a)(b` would be well-formed between the parentheses below.
        compiled(pattern)?;
        Ok(Self { fact: *fact, regex: compiled(&format!("^(?:{pattern})$"))? })
    }

    /// What it is about.
    #[must_use]
    pub fn fact(&self) -> ClientFact {
        self.fact
    }

    /// Whether it matches the whole of `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(CLIENT_PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(CLIENT_PATTERN_COMPILED_BYTES_MAX)
        .nest_limit(TOPIC_PATTERN_NESTING_MAX)
        .build()
        .map_err(|error| {
            // The engine draws an arrow below the pattern: several lines, of which the last tells.
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
}

fn check_match(text: &str) -> Result<(), String> {
    ClientPattern::parse(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> ClientMetricsConfig {
        let overrides =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ClientMetricsConfig::resolve(&overrides)
    }

    #[test]
    fn nothing_set_asks_all_clients_for_nothing() {
        let config = of(&[]);
        assert_eq!((config.interval_ms, config.metrics.len()), (300_000, 0));
        assert!(config.patterns().is_empty());
        assert!(client_metrics_properties().iter().map(|row| row.name).is_sorted());
    }

    #[test]
    fn a_pattern_matches_the_whole_of_a_text_and_the_last_of_a_name_holds() {
        let config = of(&[("match", "client_id=a,client_software_name=java.*, client_id = b|cc ")]);
        let patterns = config.patterns();
        assert_eq!(patterns.len(), 2);
        let id = patterns.iter().find(|pattern| pattern.fact() == ClientFact::Id).unwrap();
        assert!(id.matches("b") && id.matches("cc"));
        assert!(!id.matches("a") && !id.matches("bcc") && !id.matches("b\n"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let row = client_metrics_property("match").unwrap();
        for (text, why) in [
            ("client_id", "name=pattern"),
            ("client_id=", "name=pattern"),
            ("client_id=a=b", "name=pattern"),
            ("colour=red", "not known of clients"),
            ("client_id=(", "unclosed group"),
            ("client_id=a)(b", "unopened group"),
            (r"client_id=(\w{50}){50}", "exceeds size limit"),
        ] {
            let refused = row.canonical(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
            assert!(!refused.contains('\n'));
        }
        let long = format!("client_id={}", "a".repeat(CLIENT_PATTERN_BYTES_MAX + 1));
        assert!(row.canonical(&long).unwrap_err().contains("at most"));
        let interval = client_metrics_property("interval.ms").unwrap();
        assert!(interval.canonical("99").is_err() && interval.canonical("3600001").is_err());
        assert_eq!(interval.canonical("100").as_deref(), Ok("100"));
        let unknown = client_metrics_property("metric").unwrap_err().to_string();
        assert_eq!(unknown, "unknown client metrics setting \"metric\"; did you mean \"metrics\"?");
    }
}
