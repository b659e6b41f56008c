//! Other people's clients against a running broker: what each must find true is in `README.md`.
//!
//! One test per client. A client that is not installed is skipped, unless
//! `SAWLOG_COMPAT=required`; `.ci/install` installs them all.

mod clients;
mod groups;
mod real_input;
mod segments;
mod support;
mod telemetry;
mod tools;
#[path = "../crash/wire.rs"]
mod wire;
