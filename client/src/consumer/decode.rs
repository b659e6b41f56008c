//! Fetched bytes into records, as far as they are asked for.

use std::sync::Arc;

use bytes::Bytes;
use sawlog_protocol::records::{Batch, Records, Split, check_crc, split};

use crate::error::ClientError;

/// A record as it was read. Key, value and headers are slices of what came over the wire: to keep
/// one for long, copy it, or it keeps the whole reply in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Epoch of the leader that wrote it, -1 in logs that do not know.
    pub leader_epoch: i32,
    /// Its timestamp, in milliseconds since the Unix epoch; -1 for none.
    pub timestamp: i64,
    /// Its key; `None` for null.
    pub key: Option<Bytes>,
    /// Its value; `None` for null.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Batches of one partition that are being handed out.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) id: usize,
    pub(crate) generation: u64,
    topic: Arc<str>,
    partition: i32,
    batches: Split,
    records: Option<Records>,
    /// Offset behind the batch that is being handed out.
    batch_end: i64,
    batch_epoch: i32,
    /// The offset that comes next.
    pub(crate) next: i64,
    /// Epoch of what comes before it, -1 if nothing was read.
    pub(crate) epoch: i32,
    until: Option<i64>,
    inflated_bytes: usize,
}

/// Where a cursor begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) next: i64,
    pub(crate) until: Option<i64>,
    pub(crate) inflated_bytes: usize,
}

impl Cursor {
    pub(crate) fn new(
        (id, generation): (usize, u64),
        (topic, partition): (Arc<str>, i32),
        bytes: &Bytes,
        span: Span,
    ) -> Self {
        Self {
            id,
            generation,
            topic,
            partition,
            batches: split(bytes),
            records: None,
            batch_end: span.next,
            batch_epoch: -1,
            next: span.next,
            epoch: -1,
            until: span.until,
            inflated_bytes: span.inflated_bytes,
        }
    }

    /// Appends records until there are `limit`. False once there are no more.
    pub(crate) fn take(
        &mut self,
        limit: usize,
        out: &mut Vec<ConsumedRecord>,
    ) -> Result<bool, ClientError> {
        loop {
            if let Some(records) = &mut self.records {
                while out.len() < limit {
                    let Some(record) = records.next() else { break };
                    let record = record.map_err(|error| {
                        unreadable(&self.topic, self.partition, self.next, error)
                    })?;
                    if record.offset < self.next {
                        continue;
                    }
                    if self.until.is_some_and(|until| record.offset >= until) {
                        self.next = self.until.unwrap_or(self.next);
                        return Ok(false);
                    }
                    (self.next, self.epoch) = (record.offset + 1, self.batch_epoch);
                    out.push(ConsumedRecord {
                        topic: self.topic.clone(),
                        partition: self.partition,
                        offset: record.offset,
                        leader_epoch: self.batch_epoch,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    });
                }
                if out.len() >= limit {
                    return Ok(true);
                }
                // Compaction leaves batches whose last records are gone.
                self.pass_batch();
                self.records = None;
            }
            if !self.next_batch()? {
                return Ok(false);
            }
        }
    }

    fn next_batch(&mut self) -> Result<bool, ClientError> {
        let Some(batch) = self.batches.next() else { return Ok(false) };
        let unreadable = |error| unreadable(&self.topic, self.partition, self.next, error);
        let (header, bytes) = batch.map_err(unreadable)?;
        (self.batch_end, self.batch_epoch) = (header.next_offset(), header.partition_leader_epoch);
        if header.is_control() || self.batch_end <= self.next {
            self.pass_batch();
            return Ok(true);
        }
        check_crc(&bytes, &header).map_err(unreadable)?;
        let records = Batch::parse(bytes).and_then(|batch| batch.records(self.inflated_bytes));
        self.records = Some(records.map_err(unreadable)?);
        Ok(true)
    }

    /// Goes on behind the batch.
    fn pass_batch(&mut self) {
        if self.batch_end > self.next {
            (self.next, self.epoch) = (self.batch_end, self.batch_epoch);
        }
    }
}

fn unreadable(
    topic: &str,
    partition: i32,
    offset: i64,
    error: impl std::fmt::Display,
) -> ClientError {
    let (topic, reason) = (topic.to_owned(), error.to_string());
    ClientError::Unreadable { topic, partition, offset, reason }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::records::{BatchBuilder, Compression, patched_prefix};

    use super::*;

    fn batch(base_offset: i64, records: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for number in 0..records {
            builder.append(1000, None, Some(&[number]), &[]).expect("a small record");
        }
        let bytes = builder.build();
        let header = Batch::parse(bytes.clone()).expect("a batch").header;
        let mut bytes = bytes.to_vec();
        bytes[..16].copy_from_slice(&patched_prefix(&header, base_offset, 3));
        bytes
    }

    fn cursor(bytes: Vec<u8>, next: i64, until: Option<i64>) -> Cursor {
        let span = Span { next, until, inflated_bytes: 1 << 20 };
        Cursor::new((0, 0), (Arc::from("t"), 4), &Bytes::from(bytes), span)
    }

    fn offsets(records: &[ConsumedRecord]) -> Vec<i64> {
        records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_come_in_portions_from_where_the_reader_is() {
        let mut cursor = cursor([batch(10, 5), batch(15, 5)].concat(), 12, None);
        let mut out = Vec::new();
        assert_eq!(cursor.take(4, &mut out), Ok(true));
        assert_eq!((offsets(&out), cursor.next), (vec![12, 13, 14, 15], 16));
        out.clear();
        assert_eq!(cursor.take(100, &mut out), Ok(false));
        assert_eq!((offsets(&out), cursor.next), (vec![16, 17, 18, 19], 20));
    }

    #[test]
    fn the_end_is_exclusive_and_a_cut_off_batch_is_left() {
        let mut bytes = [batch(0, 5), batch(5, 5)].concat();
        bytes.pop();
        let mut out = Vec::new();
        let mut whole = cursor(bytes.clone(), 0, None);
        assert_eq!(whole.take(100, &mut out), Ok(false));
        assert_eq!((offsets(&out), whole.next), (vec![0, 1, 2, 3, 4], 5));
        out.clear();
        let mut part = cursor(bytes, 0, Some(3));
        assert_eq!(part.take(100, &mut out), Ok(false));
        assert_eq!((offsets(&out), part.next), (vec![0, 1, 2], 3));
    }

    #[test]
    fn a_damaged_batch_is_told_with_its_offset() {
        let mut bytes = [batch(0, 2), batch(2, 2)].concat();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let mut out = Vec::new();
        let error = cursor(bytes, 0, None).take(100, &mut out).expect_err("damage");
        assert_eq!(offsets(&out), [0, 1]);
        assert!(
            matches!(error, ClientError::Unreadable { offset: 2, partition: 4, .. }),
            "{error}"
        );
    }
}
