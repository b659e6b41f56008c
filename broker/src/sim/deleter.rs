//! Somebody who deletes records: all that is committed, or some more than before.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use sawlog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use sawlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sawlog_protocol::{ErrorCode, decode_response};

use super::clients::{Client, Target};
use super::weather::Subject;
use crate::base::PartitionId;

const DELETE: i16 = 2;
const LIST_OFFSETS: i16 = 7;

/// Who deletes, among clients: the last of those that can be cut off.
pub(super) const DELETER: u32 = 10;

const EARLIEST: i64 = -2;

impl Client {
    /// Deletes, here and there, until writing is over.
    pub(super) async fn delete(mut self, topics: Vec<Subject>) {
        // What is not promised to be kept is not known well enough to look at.
        let kept: Vec<(String, i32)> = topics
            .iter()
            .enumerate()
            .filter(|(_, subject)| !subject.is_os)
            .map(|(at, subject)| (format!("t{at}"), subject.partitions))
            .collect();
        let mut known: BTreeMap<PartitionId, i64> = BTreeMap::new();
        while !self.shared.is_over.load(Ordering::Relaxed) {
            self.pause(2000).await;
            let at = self.random.below(u64::try_from(kept.len()).unwrap_or(1).max(1));
            let Some((name, partitions)) = kept.get(usize::try_from(at).unwrap_or(0)) else {
                return;
            };
            let index = self.random.below(u64::from(partitions.unsigned_abs()));
            let index = i32::try_from(index).unwrap_or(0);
            let target = Target { topic: name.clone(), index };
            let Some((leader, topic)) = self.leader(&target).await else { continue };
            let id = PartitionId { topic, index };
            let more = i64::try_from(self.random.below(40)).unwrap_or(0);
            let all = self.random.below(3) == 0;
            let offset = if all { -1 } else { known.get(&id).copied().unwrap_or(0) + more };
            if let Some(low_watermark) = self.delete_below(leader, &target, offset).await {
                assert!(
                    low_watermark >= offset,
                    "(28) {low_watermark}, and {offset} was asked for"
                );
                known.insert(id, low_watermark);
                self.shared.oracle.with(|known| known.on_deleted(id, name, low_watermark));
            }
        }
    }

    /// The low watermark, if it is done.
    async fn delete_below(&mut self, leader: i32, target: &Target, offset: i64) -> Option<i64> {
        let partition = DeleteRecordsPartition { partition_index: target.index, offset };
        let topic = DeleteRecordsTopic { name: &target.topic, partitions: vec![partition] };
        let timeout_ms = i32::try_from(self.random.below(2500)).unwrap_or(0);
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms };
        let answer = self.ask(leader, &request, DELETE).await?;
        let decoded = decode_response::<DeleteRecordsRequest<'_>>(&answer, DELETE);
        let (_, response) = decoded.expect("an answer that can be read");
        let partition = response.topics.first()?.partitions.first()?;
        (partition.error_code == ErrorCode::NONE).then_some(partition.low_watermark)
    }

    /// Where a log starts, as `broker` says.
    pub(super) async fn first_offset(&self, broker: i32, target: &Target) -> Option<i64> {
        let partition = ListOffsetsPartition {
            partition_index: target.index,
            timestamp: EARLIEST,
            current_leader_epoch: -1,
        };
        let topic = ListOffsetsTopic { name: &target.topic, partitions: vec![partition] };
        let request =
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let answer = self.ask(broker, &request, LIST_OFFSETS).await?;
        let decoded = decode_response::<ListOffsetsRequest<'_>>(&answer, LIST_OFFSETS);
        let (_, response) = decoded.expect("an answer that can be read");
        let partition = response.topics.first()?.partitions.first()?;
        (partition.error_code == ErrorCode::NONE).then_some(partition.offset)
    }
}
