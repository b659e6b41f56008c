//! Why a setting is refused, and where it came from.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a setting was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A command line flag.
    Flag(String),
    /// A request of a client.
    Request,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Request => f.write_str("the request"),
        }
    }
}

/// A setting that cannot be used. The text is one line: what, where, why, and the fix if known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No property has this name.
    #[error("{}unknown {resource} setting \"{key}\"{}", at(.origin), did_you_mean(.suggestion.as_deref()))]
    UnknownKey {
        /// "topic", "group", "client metrics" or "broker".
        resource: &'static str,
        /// The name as written.
        key: String,
        /// The nearest known name, if one is near.
        suggestion: Option<&'static str>,
        /// Where it was written.
        origin: Origin,
    },
    /// A property of Kafka that is not honoured here.
    #[error("{}setting \"{key}\" is not supported yet: {reason}", at(.origin))]
    NotSupported {
        /// The property.
        key: String,
        /// Why not, and what to use instead.
        reason: &'static str,
        /// Where it was written.
        origin: Origin,
    },
    /// The value is of the wrong form or out of range.
    #[error("{}invalid value \"{value}\" for \"{key}\": {reason}", at(.origin))]
    InvalidValue {
        /// The property.
        key: String,
        /// The value as written.
        value: String,
        /// What is expected.
        reason: String,
        /// Where it was written.
        origin: Origin,
    },
    /// The property is read only at start.
    #[error(
        "\"{key}\" cannot be changed while the broker runs: set it in the configuration file and restart"
    )]
    ReadOnly {
        /// The property.
        key: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// The file cannot be read.
    #[error("cannot read configuration file {}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
}

/// A prefix naming the place; empty for requests, whose sender knows it.
fn at(origin: &Origin) -> String {
    match origin {
        Origin::Request => String::new(),
        written => format!("{written}: "),
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}
