//! Who wants to know of rebalances.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use super::commit::Committer;
use crate::consumer::{Position, Shared};
use crate::error::ClientError;

/// What a listener does before it is done.
pub type Listening<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Is told what a member of a group is assigned, and what it loses.
///
/// It is called while the consumer is asked for records, and never while records it handed out are
/// being processed: whoever asks for more is done with those. No records are handed out until it
/// returns. A listener that takes longer than the rebalance timeout costs the member its place.
///
/// ```
/// use sawlog_client::{Listening, Rebalance, RebalanceListener};
///
/// #[derive(Debug)]
/// struct Saying;
///
/// impl RebalanceListener for Saying {
///     fn assigned<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
///         Box::pin(async move { println!("reading {:?} from now on", rebalance.partitions) })
///     }
/// }
/// ```
pub trait RebalanceListener: Debug + Send + Sync {
    /// Partitions are the member's from now on. They begin where the group committed last, or where
    /// [`Rebalance::seek`] says. Called after each rebalance, also if nothing was added.
    fn assigned<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        let _ = rebalance;
        Box::pin(std::future::ready(()))
    }

    /// Partitions are let go of: others wait for them. With automatic commits progress was committed
    /// just now, otherwise this is the last moment for it ([`Rebalance::committer`]).
    fn revoked<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        let _ = rebalance;
        Box::pin(std::future::ready(()))
    }

    /// Partitions are gone: the group went on without this member. Somebody else may be reading them,
    /// and nothing can be committed.
    fn lost<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
        let _ = rebalance;
        Box::pin(std::future::ready(()))
    }
}

/// A change of what a member reads.
#[derive(Debug)]
pub struct Rebalance {
    /// What is assigned, revoked or lost.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// Everything the member has afterwards.
    pub owned: Vec<(Arc<str>, i32)>,
    /// The generation of the group, or the epoch of the member, in which that is so.
    pub generation: i32,
    /// The id the coordinator knows the member by.
    pub member: Arc<str>,
    pub(crate) committer: Committer,
    pub(crate) consumer: Arc<Shared>,
}

impl Rebalance {
    /// To commit with before partitions are let go of.
    #[must_use]
    pub fn committer(&self) -> &Committer {
        &self.committer
    }

    /// Has a partition begin elsewhere, for who keeps positions outside the group.
    ///
    /// # Errors
    /// The partition is not the member's.
    ///
    /// ```
    /// use sawlog_client::{Listening, Position, Rebalance, RebalanceListener};
    ///
    /// /// Keeps positions elsewhere: reads everything from its start here.
    /// #[derive(Debug)]
    /// struct FromStart;
    ///
    /// impl RebalanceListener for FromStart {
    ///     fn assigned<'a>(&'a self, rebalance: &'a Rebalance) -> Listening<'a> {
    ///         for (topic, partition) in &rebalance.partitions {
    ///             // A partition that is gone again meanwhile needs no position.
    ///             let _gone = rebalance.seek(topic, *partition, Position::Start);
    ///         }
    ///         Box::pin(std::future::ready(()))
    ///     }
    /// }
    /// ```
    pub fn seek(&self, topic: &str, partition: i32, to: Position) -> Result<(), ClientError> {
        self.consumer.seek(topic, partition, to)
    }
}
