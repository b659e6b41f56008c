//! What tests of the whole broker share: the binary under test, and a running broker.
//!
//! A test owns the broker it starts; dropping it kills the process and removes its data.

mod address;
mod binary;
pub mod cluster;
mod decay;
pub mod history;
pub mod http;
mod server;

pub use address::free_address;
pub use binary::{sawlog, target_dir};
pub use decay::flip;
pub use server::Server;
