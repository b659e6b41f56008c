//! The Sawlog broker as a library: everything a node does.
//!
//! Modules are layered; lower ones never name higher ones:
//! `base` → `metrics`, `config` → `storage`, `net`, `metadata` → `replication`, `controller`,
//! `quorum` → `coordinator` → `handlers` → `server` → `broker`.

mod admin;
#[macro_use]
pub mod base;
mod broker;
pub mod config;
pub mod controller;
pub mod coordinator;
mod handlers;
pub mod metadata;
mod metrics;
pub mod peer;
pub mod quorum;
pub mod replication;
mod server;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod sim;
pub mod storage;
mod telemetry;

pub use broker::{Broker, StartError, StartErrorKind, Summary};
pub use replication::{CompactionStats, RecoveryProgress, ScrubTotals};
