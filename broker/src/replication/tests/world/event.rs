//! What happens: messages that arrive, disks that are done, timers.

use super::disk::Entry;
use crate::base::{BrokerEpoch, LeaderEpoch};
use crate::controller::replicas::BrokerStart;
use crate::metadata::{AlterAnswer, AlterPartition};
use crate::replication::{DurableReport, FetchAnswer, FetchRefusal, LogGeneration, ReplicaFetch};

/// A broker by its place in the world; its id is one more.
pub(super) type NodeAt = usize;

/// One of the partitions.
pub(super) type PartitionAt = usize;

/// Tells the processes of one broker apart.
pub(super) type Life = u64;

/// Something that is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver(Message),
    /// A process looks after what is due.
    Tick(NodeAt, Life),
    /// A disk is done with what it was given.
    Flushed {
        node: NodeAt,
        life: Life,
        partition: PartitionAt,
        upto: usize,
        of: LogGeneration,
    },
    /// A process hears of metadata.
    Metadata(NodeAt, Life),
    /// A process starts.
    Start(NodeAt),
    /// Somebody starts a process again whose log has failed.
    GiveUp(NodeAt, Life),
    /// A producer does what it has to do.
    Client(usize),
    /// Somebody writes with acks=1 to whoever takes it.
    Noise,
    /// The controller looks at sessions.
    Sessions,
    Fault,
    /// The network is whole again, unless it was cut anew since.
    Heal(u64),
}

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Message {
    ToNode { node: NodeAt, from: NodeAt, body: ToNode },
    ToController { node: NodeAt, life: Life, body: ToController },
    FromController { node: NodeAt, life: Life, body: FromController },
    Produce { node: NodeAt, client: usize, call: u64, entry: Entry },
    Produced { client: usize, call: u64, outcome: Outcome },
}

/// Between brokers.
#[derive(Clone, Debug)]
pub(super) enum ToNode {
    Fetch {
        partition: PartitionAt,
        asked: Asked,
    },
    Fetched {
        partition: PartitionAt,
        life: Life,
        number: u64,
        answer: Result<(FetchAnswer, Vec<Entry>), FetchRefusal>,
    },
    Durable {
        partition: PartitionAt,
        report: DurableReport,
    },
}

/// A fetch, and who waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) from: NodeAt,
    pub(super) life: Life,
    pub(super) number: u64,
    pub(super) fetch: ReplicaFetch,
    /// The high watermark the follower knows.
    pub(super) known: usize,
}

#[derive(Clone, Debug)]
pub(super) enum ToController {
    Register(Box<BrokerStart>),
    Heartbeat {
        epoch: BrokerEpoch,
        applied: usize,
        wants_to_leave: bool,
    },
    Alter {
        partition: PartitionAt,
        question: AlterPartition,
    },
    /// These logs have failed.
    Report {
        epoch: BrokerEpoch,
        failed: Vec<PartitionAt>,
    },
}

#[derive(Clone, Debug)]
pub(super) enum FromController {
    Registered(BrokerEpoch),
    /// Another one of its id is alive, or was until a moment ago.
    Duplicate,
    /// The registration is over.
    Stale,
    /// It may go.
    Released,
    Altered {
        partition: PartitionAt,
        epoch: LeaderEpoch,
        number: u64,
        answer: AlterAnswer,
    },
}

/// What a producer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok {
        offset: usize,
    },
    /// Try again, maybe elsewhere.
    Retry,
}
