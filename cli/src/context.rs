//! `sawlog context`: named clusters, in `contexts.toml` under the user's configuration directory.
//!
//! The file is written whole and renamed into place, so a reader never sees half of one. A key
//! nobody knows is an error, never ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};

/// Name clusters, and choose the one commands talk to.
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// Remember the brokers given with -b under a name; the first one is used from then on
    Add {
        /// The name
        name: String,
        /// Use it from now on
        #[arg(long = "use")]
        use_it: bool,
        /// It is fine if the name exists already
        #[arg(long)]
        replace: bool,
    },
    /// Talk to this cluster from now on
    Use {
        /// Its name
        #[arg(add = ArgValueCandidates::new(crate::complete::contexts))]
        name: String,
    },
    /// List the clusters
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Forget a cluster
    Remove {
        /// Its name
        #[arg(add = ArgValueCandidates::new(crate::complete::contexts))]
        name: String,
    },
}

/// What the file says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    brokers: String,
}

impl Context {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let path = path()?;
        let mut all = Contexts::read(&path)?;
        match self {
            Self::List { output } => return all.list(&output),
            Self::Add { name, use_it, replace } => {
                let brokers = global.brokers.clone().ok_or_else(|| {
                    Failure::usage(format!(
                        "which brokers? give them with -b, as in `sawlog context add {name} -b \
                         HOST:PORT`"
                    ))
                })?;
                global.bootstrap()?;
                all.add(name, brokers, replace, use_it)?;
            }
            Self::Use { name } => {
                all.brokers_of(&name)?;
                all.current = Some(name);
            }
            Self::Remove { name } => {
                all.brokers_of(&name)?;
                all.contexts.remove(&name);
                all.current.take_if(|current| *current == name);
            }
        }
        all.write(&path)?;
        say(all.in_use());
        Ok(())
    }
}

impl Contexts {
    /// What is remembered; nothing if there is no file.
    pub(crate) fn load() -> Result<Self, Failure> {
        Self::read(&path()?)
    }

    /// The brokers of a context, or of the one in use; `None` if none is in use.
    pub(crate) fn brokers(&self, name: Option<&str>) -> Result<Option<String>, Failure> {
        match name.or(self.current.as_deref()) {
            Some(name) => self.brokers_of(name).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.contexts.keys().map(String::as_str)
    }

    fn brokers_of(&self, name: &str) -> Result<String, Failure> {
        if let Some(entry) = self.contexts.get(name) {
            return Ok(entry.brokers.clone());
        }
        let meant = sawlog_broker::config::suggest(name, self.names());
        Err(Failure::not_found(match meant {
            Some(meant) => format!("context \"{name}\" does not exist; did you mean \"{meant}\"?"),
            None => format!(
                "context \"{name}\" does not exist; add it with `sawlog context add {name} -b \
                 HOST:PORT`"
            ),
        }))
    }

    fn add(
        &mut self,
        name: String,
        brokers: String,
        replace: bool,
        use_it: bool,
    ) -> Result<(), Failure> {
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Failure::usage(format!("\"{name}\" is no name: no spaces, not empty")));
        }
        if self.contexts.contains_key(&name) && !replace {
            return Err(Failure::new(
                Kind::Precondition,
                format!("context \"{name}\" exists already; change it with --replace"),
            ));
        }
        if use_it || self.contexts.is_empty() {
            self.current = Some(name.clone());
        }
        self.contexts.insert(name, Entry { brokers });
        Ok(())
    }

    fn list(&self, output: &Output) -> Result<(), Failure> {
        let mut rows = Rows::new(&["name", "brokers", "in use"]);
        for (name, entry) in &self.contexts {
            let in_use = self.current.as_deref() == Some(name);
            rows.push(vec![json!(name), json!(entry.brokers), json!(in_use)]);
        }
        output.print(&rows)
    }

    fn in_use(&self) -> String {
        let used = self.current.as_deref().and_then(|name| Some((name, self.contexts.get(name)?)));
        match used {
            Some((name, entry)) => format!("context \"{name}\" is in use: {}", entry.brokers),
            None => "no context is in use; choose one with `sawlog context use NAME`".to_owned(),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Failure::failed(format!("cannot read {}: {error}", path.display())));
            }
        };
        toml::from_str(&text).map_err(|error| {
            let what = error.message().replace('\n', " ");
            Failure::usage(format!("{}: {what}; mend or delete the file", path.display()))
        })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        };
        let text = toml::to_string(self).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        })?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let whole = path.with_extension(format!("toml.{}", std::process::id()));
        std::fs::write(&whole, text).map_err(failed)?;
        std::fs::rename(&whole, path).map_err(failed)
    }
}

/// `$XDG_CONFIG_HOME/sawlog/contexts.toml`, else below `~/.config`.
fn path() -> Result<PathBuf, Failure> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let directory = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| {
            Failure::usage("no place for contexts: set HOME or XDG_CONFIG_HOME to a directory")
        })?;
    Ok(directory.join("sawlog").join("contexts.toml"))
}
