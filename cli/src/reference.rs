//! `docs/cli.md`, generated from the definition of the command line.

use std::fmt::Write as _;

use clap::Command;

const INTRODUCTION: &str = "\
<!-- Generated from cli/src. Do not edit: UPDATE_DOCS=1 cargo test -p sawlog-cli command_page -->
# Command line

One binary, `sawlog`, is broker and command line. `sawlog COMMAND --help` says what this page says, and
`sawlog cheat` shows commands to copy.

- **Which broker:** `--brokers`, else `--context`, else the environment (`SAWLOG_BROKERS`,
  `SAWLOG_CONTEXT`), else the context in use, else 127.0.0.1:9092.
- **Output:** data on standard output, everything else on standard error. Rows are a table on a
  terminal and tab-separated without a heading when piped; `-o` or `SAWLOG_OUTPUT` chooses `table`,
  `tsv`, `json`, `jsonl`, `yaml`, `name` or `template={{column}}`. JSON fields are the column names
  with `_` for spaces.
- **Errors:** one line that says what, where and how to fix it, and an exit code:

| code | meaning |
|---:|---|
| 0 | done |
| 1 | failed |
| 2 | the command line or a setting does not make sense |
| 3 | topic, partition, group or file not found |
| 4 | not allowed |
| 5 | no broker answers in time |
| 6 | the state is another than the command needs, such as a topic that exists already or a group with members |
| 7 | some parts worked and some did not |
| 8 | something is unhealthy |
| 130 | interrupted |
";

/// The text of `docs/cli.md`.
pub(crate) fn command_page(root: Command) -> String {
    let mut root = root;
    root.build();
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Overview\n\n| command | what it does |\n|---|---|\n");
    let mut all = Vec::new();
    gather(&root, "sawlog", &mut all);
    for (name, command) in &all {
        let anchor = name.replace(' ', "-");
        line(&mut page, format_args!("| [`{name}`](#{anchor}) | {} |", about(command)));
    }
    page.push_str("\n## Options of every command\n\n");
    options(&mut page, root.get_arguments().filter(|argument| argument.is_global_set()));
    for (name, command) in &all {
        describe(&mut page, name, command);
    }
    page
}

/// Every command without commands of its own, in the order of the definition.
fn gather<'a>(command: &'a Command, name: &str, all: &mut Vec<(String, &'a Command)>) {
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        let name = format!("{name} {}", child.get_name());
        if child.get_subcommands().any(|grandchild| grandchild.get_name() != "help") {
            if !child.is_subcommand_required_set() {
                all.push((name.clone(), child));
            }
            gather(child, &name, all);
        } else {
            all.push((name, child));
        }
    }
}

fn describe(page: &mut String, name: &str, command: &Command) {
    line(page, format_args!("\n## {name}\n\n{}\n", about(command)));
    let usage = command.clone().render_usage().to_string();
    line(page, format_args!("`{}`\n", usage.trim_start_matches("Usage: ")));
    let own = command.get_arguments().filter(|argument| !argument.is_global_set());
    options(page, own);
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
    let shown = arguments.filter(|argument| {
        !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
    });
    let rows: Vec<_> = shown.collect();
    if rows.is_empty() {
        return;
    }
    page.push_str("| option | meaning |\n|---|---|\n");
    for argument in rows {
        line(page, format_args!("| `{}` | {} |", spelling(argument), meaning(argument)));
    }
}

/// `-p, --partition <N>` or `<TOPIC>...`.
fn spelling(argument: &clap::Arg) -> String {
    let text = argument.to_string();
    match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(_)) => format!("-{short}, {text}"),
        _ => text,
    }
}

fn meaning(argument: &clap::Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values = argument.get_possible_values();
    if !values.is_empty() && argument.get_action().takes_values() {
        let names: Vec<_> = values
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let _ = write!(text, ": {}", names.join(", "));
    }
    if let Some(default) = argument.get_default_values().first()
        && !argument.is_hide_default_value_set()
        && argument.get_action().takes_values()
    {
        let _ = write!(text, " (default `{}`)", default.to_string_lossy());
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, " (environment `{}`)", variable.to_string_lossy());
    }
    text.replace('|', "\\|")
}

fn about(command: &Command) -> String {
    let text = command.get_about().map(ToString::to_string).unwrap_or_default();
    text.replace('|', "\\|")
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}
