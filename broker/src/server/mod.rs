//! Sockets: listeners, connections, the order of replies, the memory budget; HTTP beside them.

pub(crate) mod connection;
pub(crate) mod http;
pub(crate) mod input;
pub(crate) mod listener;
pub(crate) mod output;
