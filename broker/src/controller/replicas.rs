//! What the controller decides about replicas: who is in sync, who may lead, who leads.
//!
//! Pure functions from an image to the records of one entry.
//!
//! Always, of every image they lead to: the in-sync set holds no fenced broker, and one that is
//! shutting down only where it is the last; the leader is in the in-sync set, or there is none; a
//! replica outside it that has everything acknowledged is in the ELR until enough are in sync again
//! (KIP-966), unless its storage is lost.

mod alter;
mod draft;
mod election;
mod fencing;
mod internal;
mod reassignment;
mod registration;
mod removal;
mod report;
#[cfg(test)]
mod tests;

pub use alter::{alter_partition, alter_partitions};
pub use election::{Elected, Election, ElectionError, elect, prefer_first, settle};
pub use fencing::{elect_missing, fence, is_awaited, is_released, shut_down, unfence};
pub use internal::raise_internal;
pub use reassignment::{ReassignmentError, Wanted, cancel_reassignment, reassign, reassign_all};
pub use registration::{BrokerStart, DuplicateBroker, register, register_controller};
pub use removal::{RemovalError, unregister};
pub use report::report;
