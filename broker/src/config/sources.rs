//! Where a broker's settings are written down: file, environment, flags; the later wins.
//!
//! The file is TOML whose keys are Kafka's property names, bare (`log.retention.ms = "7d"`), quoted,
//! or under a table that holds the first words (`[log]`, then `retention.ms`). Environment variables
//! are `SAWLOG__` and the name in capitals with `_` or `__` for each dot. An unknown name anywhere is
//! an error: a setting that is silently ignored is worse than a broker that does not start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::broker::{BrokerConfig, Setting, broker_properties, broker_property};
use super::error::{ConfigError, Origin};

/// The prefix of environment variables that configure the broker. Client variables have one `_`.
const ENVIRONMENT_PREFIX: &str = "SAWLOG__";

/// Largest configuration file read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Everything a broker is told at start.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<(PathBuf, String)>,
    environment: Vec<(String, String)>,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
struct Flag {
    name: String,
    key: String,
    value: String,
}

impl Sources {
    /// Nothing: the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_file(self, path: &Path) -> Result<Self, ConfigError> {
        let unreadable =
            |reason: String| ConfigError::Unreadable { path: path.to_path_buf(), reason };
        let length = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(unreadable(format!("it has {length} bytes, more than {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Ok(self.file(path, text))
    }

    /// Adds a file's text.
    #[must_use]
    pub fn file(mut self, path: &Path, text: String) -> Self {
        self.file = Some((path.to_path_buf(), text));
        self
    }

    /// Adds environment variables; those of other programs are passed over.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX));
        self.environment.extend(ours);
        self.environment.sort();
        self
    }

    /// Adds a command line flag `name` that sets the property `key`.
    #[must_use]
    pub fn flag(mut self, name: &str, key: &str, value: &str) -> Self {
        let (name, key, value) = (name.to_owned(), key.to_owned(), value.to_owned());
        self.flags.push(Flag { name, key, value });
        self
    }

    /// The configuration all of it makes.
    ///
    /// # Errors
    /// The first setting that is unknown, unusable or contradicts another.
    pub fn load(self) -> Result<BrokerConfig, ConfigError> {
        let mut settings = BTreeMap::new();
        if let Some((path, text)) = &self.file {
            for (key, value, line) in read_toml(path, text)? {
                set(&mut settings, &key, &value, Origin::File { path: path.clone(), line })?;
            }
        }
        for (name, value) in &self.environment {
            set(&mut settings, &key_of(name), value, Origin::Environment(name.clone()))?;
        }
        for flag in &self.flags {
            set(&mut settings, &flag.key, &flag.value, Origin::Flag(flag.name.clone()))?;
        }
        BrokerConfig::from_settings(settings)
    }
}

/// The property an environment variable means: underscores, single or double, are dots.
fn key_of(variable: &str) -> String {
    let words = variable.trim_start_matches(ENVIRONMENT_PREFIX).to_ascii_lowercase();
    words.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(".")
}

fn set(
    settings: &mut BTreeMap<&'static str, Setting>,
    key: &str,
    value: &str,
    origin: Origin,
) -> Result<(), ConfigError> {
    let property = broker_property(key, origin.clone())?;
    let canonical = property.canonical(value).map_err(|reason| ConfigError::InvalidValue {
        key: key.to_owned(),
        value: value.to_owned(),
        reason,
        origin: origin.clone(),
    })?;
    settings.insert(property.name, Setting { value: canonical, origin });
    Ok(())
}

/// The file's settings as (name, value, line).
fn read_toml(path: &Path, text: &str) -> Result<Vec<(String, String, usize)>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_path_buf(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().lines().next().unwrap_or("not TOML").to_owned(),
    })?;
    let mut found = Vec::new();
    flatten(path, text, "", table.get_ref(), &mut found)?;
    found.sort_by_key(|(_, _, line)| *line);
    Ok(found)
}

/// Nested tables are dotted names: TOML makes `log.retention.ms = 1` a table in a table. The parser
/// bounds the depth.
fn flatten(
    path: &Path,
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    found: &mut Vec<(String, String, usize)>,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        let line = line_of(text, key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => {
                let known =
                    broker_properties().iter().any(|row| starts_with_words(row.name, &name));
                if !known {
                    let origin = Origin::File { path: path.to_path_buf(), line };
                    broker_property(&first_leaf(&name, inner), origin)?;
                }
                flatten(path, text, &name, inner, found)?;
            }
            scalar => {
                let Some(value) = scalar_text(scalar) else {
                    return Err(ConfigError::Syntax {
                        path: path.to_path_buf(),
                        line,
                        reason: format!(
                            "the value of \"{name}\" must be a number, a boolean, a string or a list of strings"
                        ),
                    });
                };
                found.push((name, value, line));
            }
        }
    }
    Ok(())
}

fn starts_with_words(name: &str, words: &str) -> bool {
    name.strip_prefix(words).is_some_and(|rest| rest.starts_with('.'))
}

/// The whole dotted name of the first setting in a table, for the error message.
fn first_leaf(prefix: &str, table: &DeTable<'_>) -> String {
    let mut name = prefix.to_owned();
    let mut at = table;
    while let Some((key, value)) = at.iter().next() {
        name.push('.');
        name.push_str(key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => at = inner,
            _ => break,
        }
    }
    name
}

fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> =
                items.iter().map(|item| scalar_text(item.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<BrokerConfig, ConfigError> {
        Sources::new().file(Path::new("sawlog.toml"), text.to_owned()).load()
    }

    fn refusal(text: &str) -> String {
        file(text).unwrap_err().to_string()
    }

    #[test]
    fn names_are_bare_quoted_or_under_a_table() {
        for text in [
            "log.retention.ms = \"7d\"\nnum.partitions = 6\nlisteners = [\"127.0.0.1:1\", \"[::1]:2\"]",
            "\"log.retention.ms\" = 604_800_000\n\"num.partitions\" = \"6\"\nlisteners = \"127.0.0.1:1,[::1]:2\"",
            "listeners = [\"127.0.0.1:1\", \"[::1]:2\"]\n[log]\nretention.ms = \"1w\"\n[num]\npartitions = 0x6",
        ] {
            let config = file(text).unwrap();
            assert_eq!(config.topic_defaults().retention_ms, Some(604_800_000), "{text}");
            assert_eq!(config.num_partitions, 6, "{text}");
            assert_eq!(config.listeners.len(), 2, "{text}");
        }
    }

    #[test]
    fn flag_beats_environment_beats_file() {
        let sources = Sources::new()
            .file(
                Path::new("f"),
                "num.partitions = 2\nnode.id = 5\nfetch.max.bytes = \"1MiB\"".to_owned(),
            )
            .environment([
                ("SAWLOG__NUM__PARTITIONS".to_owned(), "3".to_owned()),
                ("SAWLOG__NODE_ID".to_owned(), "6".to_owned()),
                ("SAWLOG_BROKERS".to_owned(), "a client's".to_owned()),
                ("HOME".to_owned(), "/root".to_owned()),
            ])
            .flag("-X", "num.partitions", "4");
        let config = sources.load().unwrap();
        assert_eq!(
            (config.num_partitions, config.node_id, config.fetch_max_bytes),
            (4, 6, 1 << 20)
        );
    }

    #[test]
    fn an_unknown_name_names_its_line_and_a_suggestion() {
        assert_eq!(
            refusal("node.id = 1\n\nnum.partition = 3"),
            "sawlog.toml:3: unknown broker setting \"num.partition\"; did you mean \"num.partitions\"?"
        );
        assert_eq!(
            refusal("[colours]\nred = 1"),
            "sawlog.toml:1: unknown broker setting \"colours.red\""
        );
        let sources =
            Sources::new().environment([("SAWLOG__NODE__IDD".to_owned(), "1".to_owned())]);
        assert_eq!(
            sources.load().unwrap_err().to_string(),
            "environment variable SAWLOG__NODE__IDD: unknown broker setting \"node.idd\"; did you mean \"node.id\"?"
        );
    }

    #[test]
    fn an_unusable_value_names_its_place_and_what_is_expected() {
        assert_eq!(
            refusal("num.partitions = 0"),
            "sawlog.toml:1: invalid value \"0\" for \"num.partitions\": expected 1 to 10000"
        );
        assert_eq!(
            Sources::new().flag("--listen", "listeners", "nowhere").load().unwrap_err().to_string(),
            "flag --listen: invalid value \"nowhere\" for \"listeners\": expected host:port, such as 127.0.0.1:9092"
        );
        assert!(refusal("num.partitions = 1.5").starts_with("sawlog.toml:1: the value of"));
    }

    #[test]
    fn broken_toml_names_its_line() {
        assert!(refusal("node.id = 1\nnum.partitions 3").starts_with("sawlog.toml:2: "));
    }

    #[test]
    fn kafka_settings_without_a_meaning_here_say_what_to_do() {
        let text = refusal("broker.id = 1");
        assert_eq!(text, "sawlog.toml:1: setting \"broker.id\" is not supported yet: use node.id");
    }

    #[test]
    fn a_missing_file_is_one_clear_line() {
        let error = Sources::new().read_file(Path::new("/nonexistent/sawlog.toml")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read configuration file /nonexistent/sawlog.toml: "),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }
}
