//! A batch of one partition, from its first record to its outcome.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use sawlog_protocol::records::{self, BatchBuilder, Compression, set_producer};

use super::delivery::{Delivery, Settlement};
use super::hooks::BatchInfo;
use super::record::RecordRef;
use crate::error::ClientError;

/// The id and epoch under which a broker knows a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// A batch that still takes records.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    builder: BatchBuilder,
    settlement: Arc<Settlement>,
    pub(crate) created: Instant,
    /// Not to be filled any longer: somebody waits for it.
    pub(crate) is_due: bool,
    records: u32,
    weight: usize,
}

/// Most bytes a batch's records inflate to when it is split.
const INFLATED_BYTES_MAX: usize = 1 << 30;

impl OpenBatch {
    pub(crate) fn new(codec: (Compression, Option<i32>), capacity: usize, now: Instant) -> Self {
        let (compression, level) = codec;
        let mut builder = BatchBuilder::new(compression).with_capacity(capacity);
        if let Some(level) = level {
            builder = builder.with_level(level);
        }
        let settlement = Arc::default();
        Self { builder, settlement, created: now, is_due: false, records: 0, weight: 0 }
    }

    /// Whether a record of this weight still goes in.
    pub(crate) fn takes(&self, weight: usize, batch_bytes: usize) -> bool {
        self.records == 0 || self.builder.estimated_len() + weight <= batch_bytes
    }

    /// Bytes so far, before compression.
    pub(crate) fn bytes(&self) -> usize {
        self.builder.estimated_len()
    }

    pub(crate) fn append(
        &mut self,
        record: &RecordRef<'_>,
        weight: usize,
        partition: i32,
        now_ms: i64,
    ) -> Result<Delivery, ClientError> {
        let timestamp = record.timestamp.unwrap_or(now_ms);
        self.builder
            .append(timestamp, record.key, record.value, record.headers)
            .map_err(|error| ClientError::InvalidRecord(error.to_string()))?;
        let index = self.records;
        self.records += 1;
        self.weight += weight;
        Ok(Delivery::new(self.settlement.clone(), partition, index))
    }

    pub(crate) fn settlement(&self) -> &Arc<Settlement> {
        &self.settlement
    }

    /// Ends it: compresses the records.
    pub(crate) fn seal(self) -> Batch {
        self.settlement.close_at(self.records);
        Batch {
            bytes: self.builder.build(),
            records: 0..self.records,
            settlement: self.settlement,
            created: self.created,
            weight: self.weight,
            numbered: None,
            place: 0,
            is_ambiguous: false,
            attempts: 0,
            is_settled: false,
        }
    }
}

/// A finished batch. One that is dropped without an outcome is told as closed.
#[derive(Debug)]
pub(crate) struct Batch {
    /// As on the wire.
    pub(crate) bytes: Bytes,
    /// Its records' places in the settlement.
    records: Range<u32>,
    settlement: Arc<Settlement>,
    pub(crate) created: Instant,
    /// Its share of the buffer, in bytes.
    pub(crate) weight: usize,
    /// Identity and first sequence number it was sent with.
    pub(crate) numbered: Option<(Identity, i32)>,
    /// Which of its partition's batches it is, in the order they were numbered.
    pub(crate) place: u64,
    /// An attempt ended without a broker's word: it may be in the log.
    pub(crate) is_ambiguous: bool,
    pub(crate) attempts: u32,
    is_settled: bool,
}

impl Batch {
    /// How many records.
    pub(crate) fn count(&self) -> u32 {
        self.records.end - self.records.start
    }

    /// How many sequence numbers it takes.
    pub(crate) fn sequences(&self) -> i32 {
        i32::try_from(self.count()).unwrap_or(i32::MAX)
    }

    /// Numbers it, unless it is numbered like that already.
    pub(crate) fn number(&mut self, identity: Identity, sequence: i32) -> Result<(), ClientError> {
        if self.numbered == Some((identity, sequence)) {
            return Ok(());
        }
        // Uncopied unless an earlier attempt is still on its way to a socket.
        let mut bytes = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&*shared));
        let numbered = set_producer(&mut bytes, (identity.id, identity.epoch), sequence);
        self.bytes = bytes.freeze();
        numbered.map_err(|error| ClientError::InvalidRecord(error.to_string()))?;
        self.numbered = Some((identity, sequence));
        Ok(())
    }

    pub(crate) fn settle(mut self, outcome: Result<i64, ClientError>) {
        self.is_settled = true;
        self.settlement.settle(self.records.clone(), outcome);
    }

    pub(crate) fn info<'a>(&self, topic: &'a str, partition: i32, now: Instant) -> BatchInfo<'a> {
        BatchInfo {
            topic,
            partition,
            records: self.count(),
            bytes: self.bytes.len(),
            attempts: self.attempts,
            age: now.saturating_duration_since(self.created),
        }
    }

    /// The same records in two batches, neither sent yet; itself if it does not read.
    pub(crate) fn split(mut self, codec: (Compression, Option<i32>)) -> Result<[Self; 2], Self> {
        let half = self.count() / 2;
        let Some(halves) = halves(&self.bytes, half, codec) else { return Err(self) };
        self.is_settled = true;
        let middle = self.records.start + half;
        let ranges = [self.records.start..middle, middle..self.records.end];
        let mut weights = [self.weight / 2, self.weight - self.weight / 2].into_iter();
        let mut halves = halves.into_iter();
        Ok(ranges.map(|records| Self {
            bytes: halves.next().unwrap_or_default(),
            records,
            settlement: self.settlement.clone(),
            created: self.created,
            weight: weights.next().unwrap_or_default(),
            numbered: None,
            place: 0,
            is_ambiguous: false,
            attempts: self.attempts,
            is_settled: false,
        }))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settlement.settle(self.records.clone(), Err(ClientError::Closed));
        }
    }
}

fn halves(
    bytes: &Bytes,
    half: u32,
    (compression, level): (Compression, Option<i32>),
) -> Option<[Bytes; 2]> {
    if half == 0 {
        return None;
    }
    let new = || {
        let builder = BatchBuilder::new(compression);
        match level {
            Some(level) => builder.with_level(level),
            None => builder,
        }
    };
    let mut builders = [new(), new()];
    let batch = records::Batch::parse(bytes.clone()).ok()?;
    for (index, record) in (0..).zip(batch.records(INFLATED_BYTES_MAX).ok()?) {
        let record = record.ok()?;
        let names: Option<Vec<&str>> =
            record.headers.iter().map(|(name, _)| std::str::from_utf8(name).ok()).collect();
        let headers: Vec<(&str, Option<&[u8]>)> = names?
            .into_iter()
            .zip(record.headers.iter().map(|(_, value)| value.as_deref()))
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builders
            .get_mut(usize::from(index >= half))?
            .append(record.timestamp, key, value, &headers)
            .ok()?;
    }
    Some(builders.map(BatchBuilder::build))
}
