//! Three brokers under the load of several clients at once, one fault after another, and in the end
//! everything that clients were told held against what every replica has on disk.
//!
//! The short form draws a few faults. The long one is
//!
//! ```sh
//! cargo test --release -p sawlog-tests --test histories -- --ignored --nocapture
//! ```
//!
//! `SAWLOG_HISTORIES_SEED` draws others, `SAWLOG_HISTORIES_FAULTS` says how many (200), `…_RATE` how many
//! records a second each producer sends (12500, as long as the cluster takes them), `…_ONLY` which kinds, by the beginnings of their names, separated by commas.
//! `…_KEEP` is a directory that logs and what brokers said are copied to where something is wrong.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what was done and seen is what these tests are read for"
)]

mod draw;
mod driver;
mod faults;
mod ours;
mod programs;
#[path = "../compat/support/mod.rs"]
#[allow(dead_code, reason = "a part of what the compatibility suite needs")]
mod support;

use std::env;
use std::str::FromStr;

use driver::{Driver, Plan};

fn setting<T: FromStr>(name: &str, default: T) -> T {
    let text = env::var(format!("SAWLOG_HISTORIES_{name}")).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn plan(faults: usize, rate: u32) -> Plan {
    Plan {
        seed: setting("SEED", 1),
        faults: setting("FAULTS", faults),
        rate: setting("RATE", rate),
        only: setting::<String>("ONLY", String::new())
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

#[test]
fn eight_faults_lose_double_and_reorder_nothing() {
    Driver::start(plan(8, 400)).run();
}

#[test]
#[ignore = "takes half an hour"]
fn two_hundred_faults_lose_double_and_reorder_nothing() {
    Driver::start(plan(200, 12_500)).run();
}
