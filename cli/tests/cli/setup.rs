//! Commands around the others: contexts, completion, manual, cheat sheet, forms of output.

use std::path::Path;
use std::process::Command;

use crate::support::{Broker, assert_fails, free_address, path, sawlog, stderr};

fn with_config(directory: &Path) -> Command {
    let mut command = sawlog();
    command.env("XDG_CONFIG_HOME", directory);
    command
}

fn runs(directory: &Path, arguments: &[&str]) -> String {
    let output = with_config(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(directory: &Path, arguments: &[&str], code: i32, says: &str) {
    assert_fails(&with_config(directory).args(arguments).output().unwrap(), code, says);
}

#[test]
fn a_context_names_the_brokers_to_talk_to() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "here"], b"");
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    runs(home, &["context", "add", "mine", "-b", &broker.address]);
    runs(home, &["context", "add", "gone", "-b", &free_address()]);
    assert_eq!(runs(home, &["topic", "list", "-o", "name"]), "here\n", "the first is used");
    runs(home, &["context", "use", "gone"]);
    fails(home, &["topic", "list"], 5, "cannot reach");
    assert_eq!(runs(home, &["--context", "mine", "topic", "list", "-o", "name"]), "here\n");
    assert_eq!(runs(home, &["-b", &broker.address, "topic", "list", "-o", "name"]), "here\n");
    let list = runs(home, &["context", "list"]);
    assert!(
        list.contains("\ttrue\n") && list.contains(&format!("mine\t{}\tfalse", broker.address))
    );
    runs(home, &["context", "remove", "gone"]);
    assert_eq!(runs(home, &["context", "list", "-o", "name"]), "mine\n");
}

#[test]
fn wrong_contexts_are_named() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fails(home, &["context", "add", "x"], 2, "-b HOST:PORT");
    runs(home, &["context", "add", "production", "-b", "h:1"]);
    fails(home, &["context", "add", "production", "-b", "h:2"], 6, "--replace");
    fails(home, &["context", "use", "prduction"], 3, "did you mean \"production\"?");
    fails(home, &["context", "remove", "other"], 3, "does not exist");
    fails(home, &["--context", "other", "topic", "list"], 3, "does not exist");
    let file = home.join("sawlog").join("contexts.toml");
    std::fs::write(&file, "curent = \"x\"\n").unwrap();
    fails(home, &["topic", "list"], 2, "curent");
}

/// What a shell is offered for the words; the last one is being typed.
fn offered(broker: &str, words: &[&str]) -> Vec<String> {
    let output = sawlog()
        .env("SAWLOG_COMPLETE", "bash")
        .env("SAWLOG_BROKERS", broker)
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .env("_CLAP_IFS", "\n")
        .arg("--")
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn shells_are_offered_topics_and_commands() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "orders", "outbox", "payments"], b"");
    let topics = offered(&broker.address, &["sawlog", "topic", "describe", "o"]);
    assert_eq!(topics, ["orders", "outbox"]);
    let nobody = free_address();
    let by_flag = ["sawlog", "-b", &broker.address, "consume", "pay"];
    assert_eq!(offered(&nobody, &by_flag), ["payments"]);
    assert_eq!(offered(&nobody, &["sawlog", "consume", "pay"]), [""; 0], "no broker, no topics");
    assert_eq!(offered(&nobody, &["sawlog", "prod"]), ["produce"]);
    for shell in ["bash", "zsh", "fish"] {
        let output = sawlog().args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("SAWLOG_COMPLETE"), "{shell}: {script}");
    }
    assert_eq!(sawlog().args(["completion", "tcsh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn the_manual_and_the_cheat_sheet_print() {
    let nowhere = tempfile::tempdir().unwrap();
    let home = nowhere.path();
    assert!(runs(home, &["man"]).contains(".TH sawlog 1"));
    assert!(runs(home, &["man", "topic", "create"]).contains("partitions"));
    fails(home, &["man", "topic", "crate"], 3, "no command \"topic crate\"");
    let pages = home.join("man1");
    runs(home, &["man", "--dir", path(&pages)]);
    assert!(pages.join("sawlog-topic-create.1").is_file());
    let all = runs(home, &["cheat"]);
    let one = runs(home, &["cheat", "consume"]);
    assert!(all.contains(&one) && one.starts_with("# consume\n") && one.len() < all.len());
    fails(home, &["cheat", "cooking"], 3, "consume");
}

#[test]
fn rows_are_printed_in_the_form_asked_for() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    let list = |form: &str| broker.ok(&["topic", "list", "-o", form], b"");
    assert_eq!(list("template={{name}} has {{partitions}}"), "t has 2\n");
    assert!(list("yaml").starts_with("- name: \"t\"\n  partitions: 2\n"));
    assert!(list("table").starts_with("NAME "));
    broker.fails(&["topic", "list", "-o", "template={{nme}}"], 2, "no column \"nme\"");
    assert_eq!(broker.run(&["topic", "list", "-o", "xml"], b"").status.code(), Some(2));
}
