//! Groups of our client: members come, go, die and pause, brokers die and come back.
//!
//! What is checked of every run: each record is handed out at least once, no partition has two owners
//! at a time, as far as members know (and none in a generation at all), and committed offsets never
//! go back nor beyond what was processed.

mod apache;
mod log;
mod member;
mod processes;
mod sawlog;
mod scenario;
