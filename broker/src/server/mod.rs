//! Sockets: listeners, connections, the order of replies, the memory budget.

pub(crate) mod connection;
pub(crate) mod input;
pub(crate) mod listener;
pub(crate) mod output;
