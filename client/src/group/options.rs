//! How a consumer takes part in a group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::assignor::Assignor;
use super::listener::RebalanceListener;
use crate::consumer::ConsumerOptions;
use crate::error::ClientError;

/// What a consumer subscribes to. Made from a name or a list of names, or by [`Topics::matching`].
///
/// ```
/// use sawlog_client::Topics;
///
/// let one: Topics = "orders".into();
/// let two: Topics = ["orders", "payments"].into();
/// let some = Topics::matching("orders-.*");
/// # let _all = (one, two, some);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Named(BTreeSet<Arc<str>>),
    Matching(Arc<str>),
}

impl Topics {
    /// Every topic whose whole name matches a regular expression, those created later included. In
    /// groups of the consumer protocol the broker finds them; in classic groups the client does,
    /// each [`ClientOptions::metadata_max_age`](crate::ClientOptions::metadata_max_age). Topics the
    /// cluster keeps for itself are never among them.
    #[must_use]
    pub fn matching(pattern: &str) -> Self {
        Self(Kind::Matching(Arc::from(pattern)))
    }
}

impl From<&str> for Topics {
    fn from(name: &str) -> Self {
        [name].into()
    }
}

impl<const N: usize> From<[&str; N]> for Topics {
    fn from(names: [&str; N]) -> Self {
        Self(Kind::Named(names.into_iter().map(Arc::from).collect()))
    }
}

impl From<&[String]> for Topics {
    fn from(names: &[String]) -> Self {
        Self(Kind::Named(names.iter().map(|name| Arc::from(name.as_str())).collect()))
    }
}

impl From<Vec<String>> for Topics {
    fn from(names: Vec<String>) -> Self {
        names.as_slice().into()
    }
}

/// How the members of a group and its coordinator agree on who reads what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// [`GroupProtocol::Consumer`] where the broker serves it, else [`GroupProtocol::Classic`].
    #[default]
    Auto,
    /// Every change stops all members, and one of them shares the partitions out.
    Classic,
    /// The broker shares out, and only members something changes for notice (KIP-848).
    Consumer,
}

/// How a consumer takes part in a group. [`GroupOptions::new`] gives the defaults.
///
/// ```
/// use std::time::Duration;
/// use sawlog_client::{ConsumerOptions, GroupOptions, ResetPolicy};
///
/// let options = GroupOptions {
///     instance: Some("till-3".to_owned()),
///     commit_interval: Some(Duration::from_secs(1)),
///     consumer: ConsumerOptions { reset: ResetPolicy::Earliest, ..ConsumerOptions::default() },
///     ..GroupOptions::new("billing")
/// };
/// assert_eq!(options.group, "billing");
/// ```
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The group.
    pub group: String,
    /// Makes the member a static one (KIP-345): it keeps its partitions if it is back within the
    /// session timeout. Each member needs another. Default none.
    pub instance: Option<String>,
    /// Default [`GroupProtocol::Auto`].
    pub protocol: GroupProtocol,
    /// Classic groups: what this member can share out by, the preferred one first. Groups change
    /// hands cooperatively if all of them can. Default range, then cooperative-sticky, as in Java.
    pub assignors: Vec<Assignor>,
    /// Groups of the consumer protocol: `uniform`, `range`, or what else the broker knows. Default
    /// the broker's choice.
    pub server_assignor: Option<String>,
    /// Classic groups: a member that is not heard of for so long is out. In groups of the consumer
    /// protocol the broker decides. Default 45 s.
    pub session_timeout: Duration,
    /// Classic groups: pause between heartbeats. In groups of the consumer protocol the broker
    /// decides. Default 3 s.
    pub heartbeat_interval: Duration,
    /// Longest time from one request for records to the next: then the member leaves the group, says
    /// why, and joins again when it is asked for records. Default 5 min.
    pub max_poll_interval: Duration,
    /// How long a member may take to let go of partitions. Default [`GroupOptions::max_poll_interval`].
    pub rebalance_timeout: Option<Duration>,
    /// How often progress is committed in the background; it is also when partitions are let go of and
    /// at the end. `None`: only the caller commits. Default 5 s.
    pub commit_interval: Option<Duration>,
    /// Is told what the member is assigned, and what it loses. Default nobody.
    pub listener: Option<Arc<dyn RebalanceListener>>,
    /// How it reads. [`ConsumerOptions::reset`] also says where a partition begins of which the group
    /// has committed nothing: with [`ResetPolicy::Error`](crate::ResetPolicy::Error), the default,
    /// the reader is told so and the partition waits for a seek.
    pub consumer: ConsumerOptions,
}

impl GroupOptions {
    /// The defaults, for this group.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            instance: None,
            protocol: GroupProtocol::Auto,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            server_assignor: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_mins(5),
            rebalance_timeout: None,
            commit_interval: Some(Duration::from_secs(5)),
            listener: None,
            consumer: ConsumerOptions::default(),
        }
    }

    pub(crate) fn rebalance_timeout(&self) -> Duration {
        self.rebalance_timeout.unwrap_or(self.max_poll_interval)
    }

    pub(crate) fn check(&self, topics: &Topics) -> Result<(), ClientError> {
        let wrong = if self.group.is_empty() {
            "a group needs a name"
        } else if self.instance.as_deref() == Some("") {
            "an instance id is not empty"
        } else if self.assignors.is_empty() {
            "a member needs an assignor"
        } else if self.session_timeout <= self.heartbeat_interval {
            "a session lasts longer than the pause between heartbeats"
        } else if self.heartbeat_interval.is_zero() || self.max_poll_interval.is_zero() {
            "heartbeats and polls need time between them"
        } else if topics.is_empty() {
            "there is nothing to subscribe to"
        } else {
            return Ok(());
        };
        Err(ClientError::InvalidGroup(wrong.to_owned()))
    }
}

impl Topics {
    fn is_empty(&self) -> bool {
        match &self.0 {
            Kind::Named(names) => names.is_empty(),
            Kind::Matching(pattern) => pattern.is_empty(),
        }
    }
}
