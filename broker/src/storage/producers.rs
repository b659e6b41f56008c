//! Idempotent producers: what each wrote last, to tell a repeated batch from a lost one.
//!
//! Pure. For each producer the last five batches are kept (clients have at most five in flight on a
//! connection): a batch sent again is answered as the first time. An older one, from before them but
//! after the first that is known without a gap, is known to be there and no longer where: a client has such
//! when its leader falls silent, another takes over what it was sent and takes more. One out of
//! sequence is refused. State is forgotten after `producer.id.expiration.ms`; a producer without state starts at any sequence,
//! as in Apache Kafka, because retention may have removed what it wrote before.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use sawlog_protocol::records::{BatchHeader, increment_sequence};

use super::envelope::{self, Fields};
use super::error::StorageError;
use crate::base::{Offset, Timestamp};

/// Batches kept for each producer: as many as a client may have in flight.
const BATCHES_KEPT: usize = 5;

/// Producers one partition remembers; beyond, those idle longest are forgotten early.
const PRODUCERS_MAX: usize = 50_000;

const MAGIC: [u8; 4] = *b"SLPR";
const VERSION: u16 = 2;

/// Without how much is known before the batches kept.
const VERSION_WITHOUT_KNOWN: u16 = 1;

/// Sequences further back are not told from such that are ahead: they wrap.
const KNOWN_MAX: u32 = 1 << 30;

/// What a batch's sequence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// It is new.
    Append,
    /// It was written before, at these offsets.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
    },
    /// It was written before, somewhere below this offset.
    Older {
        /// Where the oldest batch begins that is remembered.
        before: Offset,
    },
}

/// Why a batch may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// Batches before it are missing, or it is older than what is remembered.
    #[error(
        "producer {producer_id} sent sequence {sequence}, expected {expected}: batches are missing \
         or were sent again too late"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The first sequence of the batch.
        sequence: i32,
        /// The sequence that would follow.
        expected: i32,
    },
    /// A later instance of the producer has written.
    #[error(
        "producer {producer_id} has epoch {epoch}, a newer instance with epoch {current} wrote"
    )]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// The epoch that wrote last.
        current: i16,
    },
}

/// One batch, as remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    last_offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_timestamp: Timestamp,
    /// How many sequences up to the last one were written without a gap, at most [`KNOWN_MAX`].
    known: u32,
    batches: VecDeque<Span>,
}

impl Producer {
    /// Whether all of a batch was written: its sequences are among those known.
    fn has_written(&self, batch: &BatchHeader) -> bool {
        let Some(newest) = self.batches.back() else { return false };
        let behind = |sequence: i32| {
            let distance = i64::from(newest.last_sequence) - i64::from(sequence);
            distance.rem_euclid(SEQUENCES)
        };
        let (first, last) = (behind(batch.base_sequence), behind(batch.last_sequence()));
        last <= first && first < i64::from(self.known)
    }
}

/// Sequences go from 0 to `i32::MAX`, and on at 0.
const SEQUENCES: i64 = 1 << 31;

/// What is known of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The last sequence it wrote, -1 for none.
    pub last_sequence: i32,
    /// When it wrote last, by the broker's clock.
    pub last_timestamp: Timestamp,
}

/// The idempotent producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerTable {
    producers: BTreeMap<i64, Producer>,
}

impl ProducerTable {
    /// Says what the sequence of `batch` means; changes nothing.
    ///
    /// # Errors
    /// Why it may not be written.
    pub fn check(&self, batch: &BatchHeader) -> Result<Sequence, ProducerError> {
        if batch.producer_id < 0 {
            return Ok(Sequence::Append);
        }
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            return Ok(Sequence::Append);
        };
        let out_of_order = |expected| ProducerError::OutOfOrderSequence {
            producer_id: batch.producer_id,
            sequence: batch.base_sequence,
            expected,
        };
        if batch.producer_epoch < producer.epoch {
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id: batch.producer_id,
                epoch: batch.producer_epoch,
                current: producer.epoch,
            });
        }
        if batch.producer_epoch > producer.epoch {
            return if batch.base_sequence == 0 {
                Ok(Sequence::Append)
            } else {
                Err(out_of_order(0))
            };
        }
        let repeated = producer.batches.iter().find(|span| {
            span.first_sequence == batch.base_sequence
                && span.last_sequence == batch.last_sequence()
        });
        if let Some(span) = repeated {
            let Span { base_offset, last_offset, .. } = *span;
            return Ok(Sequence::Duplicate { base_offset, last_offset });
        }
        if let Some(oldest) = producer.batches.front().filter(|_| producer.has_written(batch)) {
            return Ok(Sequence::Older { before: oldest.base_offset });
        }
        let expected =
            producer.batches.back().map_or(0, |span| increment_sequence(span.last_sequence, 1));
        if batch.base_sequence == expected {
            Ok(Sequence::Append)
        } else {
            Err(out_of_order(expected))
        }
    }

    /// Notes that `batch` is in the log at `base_offset`.
    pub fn record(&mut self, batch: &BatchHeader, base_offset: Offset, now: Timestamp) {
        if batch.producer_id < 0 || batch.is_control() {
            return;
        }
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&batch.producer_id)
        {
            self.forget_idle_half();
        }
        let producer = self.producers.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            last_timestamp: now,
            known: 0,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
        });
        let expected =
            producer.batches.back().map(|span| increment_sequence(span.last_sequence, 1));
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
            producer.known = 0;
        } else if expected != Some(batch.base_sequence) {
            producer.known = 0;
        }
        let records = u32::try_from(batch.last_offset_delta).unwrap_or(0).saturating_add(1);
        producer.known = producer.known.saturating_add(records).min(KNOWN_MAX);
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.last_timestamp = now;
        producer.batches.push_back(Span {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta)),
        });
    }

    /// Forgets producers that have not written for `expiration_ms`.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, producer| now.since(producer.last_timestamp) <= expiration_ms);
    }

    /// The producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = ProducerInfo> {
        self.producers.iter().map(|(id, producer)| ProducerInfo {
            producer_id: *id,
            producer_epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |span| span.last_sequence),
            last_timestamp: producer.last_timestamp,
        })
    }

    /// The last offset of the last batch of each producer, by id.
    #[cfg(test)]
    pub(in crate::storage) fn last_offsets(&self) -> BTreeMap<i64, Offset> {
        let last = |producer: &Producer| producer.batches.back().map(|span| span.last_offset);
        self.producers.iter().filter_map(|(id, producer)| Some((*id, last(producer)?))).collect()
    }

    fn forget_idle_half(&mut self) {
        let mut ages: Vec<Timestamp> = self.producers.values().map(|p| p.last_timestamp).collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let median = *median;
        self.producers.retain(|_, producer| producer.last_timestamp > median);
    }

    /// The content of a snapshot file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.producers.len() * 128);
        for (id, producer) in &self.producers {
            out.extend(id.to_be_bytes());
            out.extend(producer.epoch.to_be_bytes());
            out.extend(producer.last_timestamp.0.to_be_bytes());
            out.extend(producer.known.to_be_bytes());
            out.push(u8::try_from(producer.batches.len()).unwrap_or(u8::MAX));
            for span in &producer.batches {
                out.extend(span.first_sequence.to_be_bytes());
                out.extend(span.last_sequence.to_be_bytes());
                out.extend(span.base_offset.0.to_be_bytes());
                out.extend(span.last_offset.0.to_be_bytes());
            }
        }
        envelope::seal(MAGIC, VERSION, &out)
    }

    /// Refuses a snapshot file of a later version.
    ///
    /// # Errors
    /// It is one.
    pub(super) fn refuse_newer(bytes: &[u8], path: &Path) -> Result<(), StorageError> {
        envelope::refuse_newer(MAGIC, VERSION, bytes, path)
    }

    /// Reads a snapshot file; `None` if it is not a whole one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let tells_known = envelope::version(MAGIC, bytes)? != VERSION_WITHOUT_KNOWN;
        let version = if tells_known { VERSION } else { VERSION_WITHOUT_KNOWN };
        let mut fields = Fields(envelope::open(MAGIC, version, bytes)?);
        let mut table = Self::default();
        while !fields.is_empty() {
            let id = fields.i64()?;
            let epoch = fields.i16()?;
            let last_timestamp = Timestamp(fields.i64()?);
            let known = if tells_known { fields.u32()? } else { 0 };
            let mut batches = VecDeque::new();
            for _ in 0..fields.u8()? {
                batches.push_back(Span {
                    first_sequence: fields.i32()?,
                    last_sequence: fields.i32()?,
                    base_offset: Offset(fields.i64()?),
                    last_offset: Offset(fields.i64()?),
                });
            }
            table.producers.insert(id, Producer { epoch, last_timestamp, known, batches });
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::records::{BatchBuilder, Compression};

    use super::*;

    fn batch(epoch: i16, sequence: i32, count: usize) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(7, epoch, sequence);
        for _ in 0..count {
            builder.append(0, None, Some(b"v"), &[]).unwrap();
        }
        BatchHeader::parse(&builder.build()).unwrap()
    }

    fn written(batches: &[(i16, i32, usize)]) -> ProducerTable {
        let mut table = ProducerTable::default();
        let mut offset = 100;
        for (epoch, sequence, count) in batches {
            table.record(&batch(*epoch, *sequence, *count), Offset(offset), Timestamp(1));
            offset += i64::try_from(*count).unwrap();
        }
        table
    }

    #[test]
    fn a_repeated_batch_gets_its_first_offsets() {
        let table = written(&[(0, 0, 3), (0, 3, 2)]);
        assert_eq!(
            table.check(&batch(0, 0, 3)),
            Ok(Sequence::Duplicate { base_offset: Offset(100), last_offset: Offset(102) })
        );
        assert_eq!(table.check(&batch(0, 5, 1)), Ok(Sequence::Append));
    }

    #[test]
    fn only_of_the_last_five_batches_it_is_known_where_they_are() {
        let table = written(&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)]);
        assert!(matches!(table.check(&batch(0, 1, 1)), Ok(Sequence::Duplicate { .. })));
        let older = Ok(Sequence::Older { before: Offset(101) });
        assert_eq!(table.check(&batch(0, 0, 1)), older);
        // Neither as it was sent, but all of it is there.
        assert_eq!(table.check(&batch(0, 0, 2)), older);
        assert_eq!(table.check(&batch(0, 3, 3)), older);
        let ahead =
            |batch| matches!(table.check(&batch), Err(ProducerError::OutOfOrderSequence { .. }));
        assert!(ahead(batch(0, 5, 2)) && ahead(batch(0, 7, 1)) && ahead(batch(0, i32::MAX, 1)));
        let again = ProducerTable::decode(&table.encode()).unwrap();
        assert_eq!(again.check(&batch(0, 0, 1)), older);
    }

    #[test]
    fn what_came_before_the_first_that_is_known_is_not_taken_for_written() {
        let unknown = |table: &ProducerTable, sequence| {
            matches!(
                table.check(&batch(0, sequence, 1)),
                Err(ProducerError::OutOfOrderSequence { .. })
            )
        };
        // The producer was forgotten, and starts anywhere.
        let table = written(&[(0, 40, 1), (0, 41, 1)]);
        assert!(unknown(&table, 39));
        // A gap that somebody else let through, as in a log that was written elsewhere.
        let table = written(&[(0, 0, 1), (0, 5, 1)]);
        assert!(unknown(&table, 3) && unknown(&table, 4));
        // A snapshot of before says nothing of it.
        let table = written(&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)]);
        let mut old = table.clone();
        old.producers.get_mut(&7).unwrap().known = 0;
        assert!(unknown(&old, 0));
    }

    #[test]
    fn sequences_that_wrapped_are_known_too() {
        let last = i32::MAX;
        let table = written(&[(0, last - 3, 2), (0, last - 1, 2), (0, 0, 1), (0, 1, 1), (0, 2, 1)]);
        let table = {
            let mut table = table;
            table.record(&batch(0, 3, 1), Offset(200), Timestamp(1));
            table
        };
        assert!(matches!(table.check(&batch(0, last - 3, 2)), Ok(Sequence::Older { .. })));
        assert!(table.check(&batch(0, last - 4, 1)).is_err());
        assert_eq!(table.check(&batch(0, 4, 1)), Ok(Sequence::Append));
    }

    #[test]
    fn gaps_are_refused_and_unknown_producers_start_anywhere() {
        let table = written(&[(0, 0, 3)]);
        assert_eq!(
            table.check(&batch(0, 4, 1)),
            Err(ProducerError::OutOfOrderSequence { producer_id: 7, sequence: 4, expected: 3 })
        );
        assert_eq!(ProducerTable::default().check(&batch(0, 40, 1)), Ok(Sequence::Append));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old() {
        let table = written(&[(1, 0, 3)]);
        assert_eq!(table.check(&batch(2, 0, 1)), Ok(Sequence::Append));
        assert!(table.check(&batch(2, 3, 1)).is_err());
        assert_eq!(
            table.check(&batch(0, 3, 1)),
            Err(ProducerError::InvalidProducerEpoch { producer_id: 7, epoch: 0, current: 1 })
        );
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let table = written(&[(0, i32::MAX - 1, 2)]);
        assert_eq!(table.check(&batch(0, 0, 1)), Ok(Sequence::Append));
        let across = written(&[(0, i32::MAX, 3)]);
        assert_eq!(across.check(&batch(0, 2, 1)), Ok(Sequence::Append));
    }

    #[test]
    fn idle_producers_expire() {
        let mut table = written(&[(0, 0, 3)]);
        table.expire(Timestamp(11), 10);
        assert_eq!(table.iter().count(), 1);
        table.expire(Timestamp(12), 10);
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn snapshots_are_read_back_or_refused() {
        let table = written(&[(0, 0, 3), (0, 3, 2)]);
        let bytes = table.encode();
        assert_eq!(ProducerTable::decode(&bytes), Some(table));
        assert_eq!(ProducerTable::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_snapshot_of_the_first_version_is_read() {
        let table = written(&[(3, 0, 3)]);
        let fields: [&[u8]; 8] = [
            &7i64.to_be_bytes(),
            &3i16.to_be_bytes(),
            &1i64.to_be_bytes(),
            &[1],
            &0i32.to_be_bytes(),
            &2i32.to_be_bytes(),
            &100i64.to_be_bytes(),
            &102i64.to_be_bytes(),
        ];
        let bytes = envelope::seal(MAGIC, VERSION_WITHOUT_KNOWN, &fields.concat());
        let read = ProducerTable::decode(&bytes).unwrap();
        assert_eq!(read.check(&batch(3, 0, 3)), table.check(&batch(3, 0, 3)));
        assert_eq!(read.check(&batch(3, 3, 1)), Ok(Sequence::Append));
    }
}
