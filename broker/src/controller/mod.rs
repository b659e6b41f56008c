//! What changes the cluster's metadata, and by which rules.
//!
//! [`decide`] is pure: image and requests in, records and answers out. [`Controller`] is the shell
//! around it: it takes all waiting requests, decides them together, proposes one entry, waits for
//! the commit, applies it, publishes the image, and answers. One entry is in flight at a time, so
//! there is no speculative state and nothing to roll back.

mod configs;
mod decide;
mod error;
mod inbox;
pub mod replicas;
mod request;
mod shell;
mod subscriber;
#[cfg(test)]
pub(crate) mod tests;
mod topics;
mod worker;

pub(crate) use configs::check_group_name;
pub use decide::{Decision, decide};
pub use error::AdminError;
pub use request::{
    AlterConfigs, Alteration, ConfigChange, ConfigOperation, ConfigTarget, CreatePartitions,
    CreateTopic, CreatedTopic, DeleteTopic, Registration, Request, Response,
};
pub use shell::{Controller, ControllerError, ControllerOptions};
pub use subscriber::ImageSubscriber;
pub(crate) use topics::check_name;
