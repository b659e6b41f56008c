//! What every module stands on: ids, units, limits, time.
//!
//! Time, disk and randomness enter the broker only through this module, so that the code which
//! decides can be run by a simulator from one seed.

#[macro_use]
pub mod planted;

pub mod clock;
pub mod data_directory;
pub mod disk;
#[cfg(test)]
mod disk_contract;
pub mod disk_real;
pub mod disk_sim;
pub mod handles;
pub mod hashing;
pub mod ids;
pub mod limits;
pub(crate) mod memory;
pub(crate) mod parts;
mod reserve;
#[cfg(test)]
pub(crate) mod seeds;
pub mod tasks;
pub mod units;
pub mod waiting;
pub mod watched;

pub use clock::{Clock, ManualClock, SystemClock};
pub use data_directory::DataDirectory;
pub use hashing::HashMap;
pub use ids::{BrokerId, PartitionId, ProducerId, TopicId, TopicPartition};
pub use tasks::{Tasks, Threads};
pub use units::{BrokerEpoch, LeaderEpoch, Offset, Position, Timestamp};
