//! The client crate against a real broker: killed, slow, cut off.

#![allow(
    clippy::print_stderr,
    reason = "what a broker says as it panics belongs to the test's output"
)]

mod admin;
mod load;
#[path = "../crash/process.rs"]
mod process;
mod proxy;
mod scripted;
mod silent;

mod cluster;
mod consuming;
mod examples;
mod groups;
mod groups_admin;
mod kafka;
mod moved;
mod producing;
