//! Which transactions of a log were aborted, from its markers.
//!
//! Pure. All batches of the part to be compacted, and of what lies behind it as far as it is
//! committed, are shown in offset order. A transaction is what a producer wrote since its last
//! marker. Records are only ever dropped as aborted where the marker that says so was seen; where no
//! marker was seen nothing is decided, and compaction stops in front of it.

use std::collections::BTreeMap;

use sawlog_protocol::records::{BatchHeader, ControlType};

use crate::base::Offset;

/// Transactions remembered of one pass, about 100 bytes each; beyond, the pass ends early.
const TRANSACTIONS_MAX: usize = 500_000;

/// The transactions of a part of a log.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// By producer: the first batch since its last marker.
    open: BTreeMap<i64, Offset>,
    /// By producer and marker: the first batch of an aborted transaction.
    aborted: BTreeMap<(i64, Offset), Offset>,
}

impl Transactions {
    /// Takes note of the next batch; `control` says what a control batch means.
    pub(super) fn observe(&mut self, header: &BatchHeader, control: Option<ControlType>) {
        let producer = header.producer_id;
        match control {
            None if header.is_transactional() => {
                self.open.entry(producer).or_insert(Offset(header.base_offset));
            }
            Some(ControlType::Abort) => {
                if let Some(first) = self.open.remove(&producer) {
                    self.aborted.insert((producer, Offset(header.base_offset)), first);
                }
            }
            Some(ControlType::Commit) => {
                self.open.remove(&producer);
            }
            None | Some(ControlType::Other(_)) => {}
        }
    }

    /// The first offset that belongs to a transaction without a marker.
    pub(super) fn undecided_from(&self) -> Option<Offset> {
        self.open.values().min().copied().filter(|_| !planted!(CompactUndecided))
    }

    /// Whether the batch belongs to an aborted transaction.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        let at = Offset(header.base_offset);
        let mut markers = self.aborted.range((header.producer_id, at)..);
        header.is_transactional()
            && !header.is_control()
            && !planted!(IgnoreAborts)
            && markers.next().is_some_and(|((producer, _), first)| {
                *producer == header.producer_id && *first <= at
            })
    }

    /// Whether no more should be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() + self.aborted.len() >= TRANSACTIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::records::{BatchBuilder, Compression, EndTransactionMarker};

    use super::*;

    fn data(producer: i64, offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(producer, 0, 0).transactional();
        builder.append(0, Some(b"k"), None, &[]).unwrap();
        let mut header = BatchHeader::parse(&builder.build()).unwrap();
        header.base_offset = offset;
        header
    }

    fn marker(producer: i64, control: ControlType, offset: i64) -> BatchHeader {
        let marker = EndTransactionMarker {
            control,
            producer_id: producer,
            producer_epoch: 0,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        let mut header = BatchHeader::parse(&marker.build()).unwrap();
        header.base_offset = offset;
        header
    }

    #[test]
    fn each_batch_shares_the_fate_its_own_marker_tells() {
        let mut seen = Transactions::default();
        let (abort, commit) = (ControlType::Abort, ControlType::Commit);
        for (producer, offset, control) in [
            (1, 0, None),
            (2, 1, None),
            (1, 2, None),
            (1, 3, Some(abort)),
            (1, 4, None),
            (2, 5, Some(commit)),
            (2, 6, None),
            (1, 7, Some(commit)),
            (2, 8, Some(abort)),
            (3, 9, None),
        ] {
            let header = match control {
                None => data(producer, offset),
                Some(control) => marker(producer, control, offset),
            };
            seen.observe(&header, control);
        }
        let aborted = |producer, offset| seen.is_aborted(&data(producer, offset));
        assert!(aborted(1, 0) && aborted(1, 2) && aborted(2, 6));
        assert!(!aborted(2, 1) && !aborted(1, 4) && !aborted(3, 9));
        assert!(!seen.is_aborted(&marker(1, abort, 3)), "a marker is no data");
        assert_eq!(seen.undecided_from(), Some(Offset(9)));
    }

    #[test]
    fn a_plain_batch_of_an_aborting_producer_is_not_aborted() {
        let mut seen = Transactions::default();
        seen.observe(&data(1, 0), None);
        seen.observe(&marker(1, ControlType::Abort, 9), Some(ControlType::Abort));
        let mut plain = data(1, 4);
        plain.attributes = 0;
        assert!(!seen.is_aborted(&plain));
        assert!(seen.is_aborted(&data(1, 4)));
    }

    #[test]
    fn a_control_record_of_another_kind_ends_no_transaction() {
        let mut seen = Transactions::default();
        seen.observe(&data(1, 0), None);
        let other = ControlType::Other(4);
        seen.observe(&marker(1, other, 1), Some(other));
        assert_eq!(seen.undecided_from(), Some(Offset(0)));
    }
}
