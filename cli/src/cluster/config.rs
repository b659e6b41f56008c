//! `sawlog cluster config`: the settings of a broker.

use clap::{Args, Subcommand};
use sawlog_client::{BrokerInfo, Client, ConfigChange, ConfigEntry, ConfigResource};
use serde_json::json;

use crate::failure::{Failure, say};
use crate::output::{Output, Rows};

/// The settings in force on a broker
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    output: Output,
    /// Of the broker of this id; of the one that answers if not given
    #[arg(long, global = true, value_name = "ID")]
    broker: Option<i32>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the value of a setting
    Get {
        /// The setting
        name: String,
    },
    /// Change settings that can be changed while the broker runs
    Set {
        /// The settings and their new values
        #[arg(value_name = "KEY=VALUE", value_parser = crate::topic::setting, required_unless_present = "delete")]
        settings: Vec<(String, String)>,
        /// Take a setting back to what it inherits; may be given several times
        #[arg(short = 'd', long, value_name = "KEY")]
        delete: Vec<String>,
        /// Only say whether it would work
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the settings that differ from their defaults
    Diff {
        #[command(flatten)]
        output: Output,
    },
    /// Say what a setting means, its value and where that comes from
    Explain {
        /// The setting
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

impl Config {
    pub(super) async fn run(self, client: &Client, brokers: &[BrokerInfo]) -> Result<(), Failure> {
        let broker = ConfigResource::Broker(self.which(brokers)?);
        match self.action {
            None => table(&client.configs(broker).await?, &self.output),
            Some(Action::Diff { output }) => {
                let mut all = client.configs(broker).await?;
                all.retain(|config| config.source != DEFAULT);
                table(&all, &output)
            }
            Some(Action::Get { name }) => {
                let all = client.configs(broker).await?;
                let value = find(&all, &name)?.value.as_deref().unwrap_or_default();
                Output::write(format!("{value}\n").as_bytes())
            }
            Some(Action::Explain { name, output }) => {
                explain(find(&client.configs(broker).await?, &name)?, &output)
            }
            Some(Action::Set { settings, delete, dry_run }) => {
                let mut changes: Vec<ConfigChange> = Vec::new();
                changes
                    .extend(settings.into_iter().map(|(key, value)| ConfigChange::Set(key, value)));
                changes.extend(delete.into_iter().map(ConfigChange::Delete));
                client
                    .alter_configs(broker, &changes, dry_run)
                    .await
                    .map_err(|error| Failure::from(error).while_doing("cannot change settings"))?;
                say(if dry_run { "settings can be changed" } else { "changed settings" });
                Ok(())
            }
        }
    }
}

impl Config {
    /// The broker asked for, which must be there; else the first.
    fn which(&self, brokers: &[BrokerInfo]) -> Result<i32, Failure> {
        let ids: Vec<i32> = brokers.iter().map(|broker| broker.id).collect();
        let wanted = self.broker.or(ids.first().copied());
        wanted.filter(|id| ids.contains(id)).ok_or_else(|| {
            let all: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let wanted = wanted.map(|id| format!(" {id}")).unwrap_or_default();
            let there = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            Failure::not_found(format!("the cluster has no broker{wanted}; its brokers: {there}"))
        })
    }
}

/// Kafka's code of a setting nobody set.
const DEFAULT: i8 = 5;

fn find<'a>(all: &'a [ConfigEntry], name: &str) -> Result<&'a ConfigEntry, Failure> {
    all.iter().find(|config| config.name == name).ok_or_else(|| {
        let names = all.iter().map(|config| config.name.as_str());
        Failure::not_found(match sawlog_broker::config::suggest(name, names) {
            Some(meant) => format!("no setting \"{name}\"; did you mean \"{meant}\"?"),
            None => format!("no setting \"{name}\"; see `sawlog cluster config`"),
        })
    })
}

fn table(all: &[ConfigEntry], output: &Output) -> Result<(), Failure> {
    let mut rows = Rows::new(&["setting", "value", "source", "read only"]);
    for config in all {
        rows.push(vec![
            json!(config.name),
            json!(config.value),
            json!(config.source_name()),
            json!(config.read_only),
        ]);
    }
    rows.sort();
    output.print(&rows)
}

fn explain(config: &ConfigEntry, output: &Output) -> Result<(), Failure> {
    let mut rows = Rows::new(&["setting", "value", "source", "change", "meaning"]);
    rows.push(vec![
        json!(config.name),
        json!(config.value),
        json!(config.source_name()),
        json!(if config.read_only { "restart" } else { "dynamic" }),
        json!(config.documentation),
    ]);
    output.print(&rows)
}
