//! Ranges of committed records that one replica asks another for, to make its own log whole.
//!
//! Every replica answers for what it knows to be committed, where all of them have the same; a leader for
//! all it has, and who asks looks at the epochs. A range it has damaged itself it does not serve. It looks
//! before it does: who was given something damaged otherwise says so by asking for it here.
//!
//! Decoding never panics.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use sawlog_protocol::Uuid;

use super::super::partition::Partition;
use crate::base::{Offset, PartitionId};
use crate::peer::PeerReply;

/// The first byte of a question; what followers ask begins with another.
const RANGE: u8 = 0x40;

/// Most bytes of records in one answer, but for a larger batch.
const BYTES_MAX: usize = 1024 * 1024;

const SERVED: u8 = 0;
const NOT_SERVED: u8 = 1;

/// Records one replica asks another for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) struct Range {
    pub(in crate::replication) partition: PartitionId,
    pub(in crate::replication) from: Offset,
    pub(in crate::replication) to: Offset,
}

impl Range {
    pub(in crate::replication) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(37);
        out.push(RANGE);
        out.extend(self.partition.topic.0);
        out.extend(self.partition.index.to_be_bytes());
        out.extend(self.from.0.to_be_bytes());
        out.extend(self.to.0.to_be_bytes());
        out.into()
    }

    /// The range a request asks for; none if it asks for something else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes;
        if bytes.try_get_u8().ok()? != RANGE {
            return None;
        }
        let range = Self {
            partition: PartitionId {
                topic: Uuid(bytes.try_get_u128().ok()?.to_be_bytes()),
                index: bytes.try_get_i32().ok()?,
            },
            from: Offset(bytes.try_get_i64().ok()?),
            to: Offset(bytes.try_get_i64().ok()?),
        };
        (bytes.is_empty() && Offset::ZERO <= range.from && range.from < range.to).then_some(range)
    }

    /// Reads the range, or the first of it, for another replica. Waits for the disk.
    pub(super) fn serve(&self, partition: Option<&Arc<Partition>>) -> PeerReply {
        let refused = PeerReply::from(vec![NOT_SERVED]);
        let Some(partition) = partition else { return refused };
        // Up to there all replicas have the same, or had until it was damaged. Who leads has all that is
        // committed, though it does not know yet how far that goes: it may need who asks to be whole first.
        let leads = partition.leader_epoch().is_some();
        let upto = if leads { partition.log_end() } else { partition.high_watermark() };
        if partition.is_failed() || upto < self.to {
            return refused;
        }
        match partition.read_whole(self.from, self.to, BYTES_MAX) {
            Ok(records) => PeerReply { head: vec![SERVED].into(), records: vec![records] },
            Err(error) => {
                tracing::debug!(partition = %partition.name, %error, "a range is not served");
                refused
            }
        }
    }
}

/// The records in an answer; none if the range is not served there.
pub(in crate::replication) fn records_in(mut answer: Bytes) -> Option<Bytes> {
    let status = answer.try_get_u8().ok()?;
    (status == SERVED).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_understood_and_others_are_not_taken_for_one() {
        let partition = PartitionId { topic: Uuid([7; 16]), index: 3 };
        let range = Range { partition, from: Offset(5), to: Offset(9) };
        let bytes = range.encode();
        assert_eq!(Range::decode(&bytes), Some(range));
        for length in 0..bytes.len() {
            assert_eq!(Range::decode(&bytes[..length]), None, "{length}");
        }
        let backwards = Range { from: Offset(9), to: Offset(9), ..range };
        assert_eq!(Range::decode(&backwards.encode()), None);
        assert_eq!(super::super::codec::Message::decode(&bytes), None);
    }

    #[test]
    fn an_answer_has_records_or_none() {
        assert_eq!(records_in(Bytes::from_static(b"\x00abc")), Some(Bytes::from_static(b"abc")));
        assert_eq!(records_in(Bytes::from_static(b"\x01")), None);
        assert_eq!(records_in(Bytes::new()), None);
    }
}
