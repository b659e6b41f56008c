//! What changes the cluster's metadata, and by which rules.
//!
//! [`decide`] is pure: image and requests in, records and answers out. [`Controller`] is the shell
//! around it: it takes all waiting requests, decides them together, proposes one entry, waits for
//! the commit, applies it, publishes the image, and answers. One entry is in flight at a time, so
//! there is no speculative state and nothing to roll back.

mod ask;
mod cluster;
mod codec;
mod configs;
mod decide;
mod error;
pub mod features;
mod inbox;
mod link;
mod placement;
pub mod replicas;
mod request;
mod service;
mod sessions;
mod shell;
mod subscriber;
#[cfg(test)]
pub(crate) mod tests;
mod topics;
mod worker;

pub(crate) use configs::{check_group_name, check_subscription_name};
pub use decide::{Decision, decide, fence_all};
pub use error::{AdminError, AdminErrorKind};
pub use link::{ControllerLink, LinkAnswer, LinkError, NoLink};
pub use request::{
    AlterConfigs, AlterRequest, Alteration, ConfigChange, ConfigOperation, ConfigTarget,
    CreatePartitions, CreateTopic, CreatedTopic, DeleteTopic, ElectedLeader, FeatureUpdate,
    Heartbeat, Reassignment, Registration, Request, Response, Standing, UpgradeType,
};
pub use service::ControllerService;
pub use sessions::{HEARTBEAT_INTERVAL, SESSION_TIMEOUT, Sessions};
pub use shell::{Controller, ControllerError, ControllerOptions, Elections};
pub use subscriber::ImageSubscriber;
pub(crate) use topics::check_name;
