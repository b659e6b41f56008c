//! What the seeded suites share: the log, the clock and the network around a core.

pub(super) mod later;
pub(super) mod scene;
pub(super) mod shell;

/// A request, by the order in which clients sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(pub(super) u64);
