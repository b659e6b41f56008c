//! Facts about the decisions of one partition.

mod alone;
mod follower;
mod leader;

use sawlog_protocol::records::{BatchBuilder, BatchHeader, Compression};

use super::*;

const ME: BrokerId = BrokerId(1);
const YOU: BrokerId = BrokerId(2);
const THIRD: BrokerId = BrokerId(3);

/// A moment.
const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn core() -> PartitionCore {
    let log = LogView { start: Offset(0), end: Offset(0), durable: Offset(0) };
    PartitionCore::new(ME, log, EpochCache::default(), ProducerTable::default())
}

fn batch(producer: Option<(i16, i32)>, count: usize) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((epoch, sequence)) = producer {
        builder.producer(9, epoch, sequence);
    }
    for _ in 0..count {
        builder.append(0, None, Some(b"v"), &[]).unwrap();
    }
    BatchHeader::parse(&builder.build()).unwrap()
}

fn append(core: &mut PartitionCore, batch: &BatchHeader) -> bool {
    match core.on_produce(batch, Acks::All).unwrap() {
        Decision::Append { base_offset, .. } => core.on_appended(batch, base_offset, Timestamp(0)),
        repeated @ (Decision::Duplicate { .. } | Decision::Older { .. }) => panic!("{repeated:?}"),
    }
}

fn flush(core: &mut PartitionCore, upto: i64) -> bool {
    core.on_flushed(Offset(upto), core.generation())
}

/// The metadata of a partition on three brokers.
fn state(leader: Option<i32>, epochs: (i32, i32), isr: &[i32]) -> PartitionState {
    PartitionState {
        leader: leader.map(BrokerId),
        leader_epoch: LeaderEpoch(epochs.0),
        partition_epoch: epochs.1,
        replicas: vec![ME, YOU, THIRD],
        isr: isr.iter().copied().map(BrokerId).collect(),
        ..PartitionState::default()
    }
}

fn image(core: &mut PartitionCore, state: &PartitionState) -> ImageOutcome {
    core.on_image(at(0), state, BrokerEpoch(10))
}

/// A registered replica of a topic that demands two in sync.
fn replica() -> PartitionCore {
    let mut core = core();
    core.on_config(FlushMode::Group, 2);
    core.on_registered(BrokerEpoch(10));
    core
}
