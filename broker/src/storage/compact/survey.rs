//! A look at all batch headers of a log before it is compacted: transactions and their ends.

use sawlog_protocol::records::{ControlType, control_type_of};

use super::super::error::StorageError;
use super::super::segment::{Located, Segment};
use super::decide::LastBatches;
use super::pass::Scope;
use super::throttle::{CompactionError, Throttle};
use super::transactions::Transactions;
use crate::base::Offset;

/// Bytes read for each header.
const HEADER_BYTES: usize = 61;

/// Longest control batch that is looked into.
const CONTROL_BYTES_MAX: usize = 4096;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) transactions: Transactions,
    /// The last batches, in the segments of the scope, of each producer that is remembered. Later
    /// ones may be lost by a crash.
    pub(super) last: LastBatches,
    /// Segments, from the first on, without a batch whose transaction has no marker.
    pub(super) decided: usize,
    /// Records of the part that is dirty: as many keys at most.
    pub(super) dirty_records: u64,
}

/// Looks at the segments of `scope`, and behind them for the markers of transactions that began
/// in them.
///
/// # Errors
/// A segment cannot be read or is damaged; or it is time to stop.
pub(super) fn survey(scope: &Scope, throttle: &mut Throttle) -> Result<Survey, CompactionError> {
    let first_dirty = scope.side.progress.content().clean_upto;
    let mut seen = Survey { decided: scope.segments.len(), ..Survey::default() };
    for (at, segment) in scope.segments.iter().enumerate() {
        if seen.transactions.is_full() && at > 0 {
            seen.decided = at;
            break;
        }
        look(segment, throttle, |located, control| {
            let header = &located.header;
            seen.transactions.observe(header, control);
            if scope.producers.contains(&header.producer_id) {
                let last = &mut seen.last;
                let known = if control.is_some() { &mut last.markers } else { &mut last.data };
                known.insert(header.producer_id, Offset(header.last_offset()));
            }
            if header.last_offset() >= first_dirty.0 {
                seen.dirty_records += u64::try_from(header.records_count).unwrap_or(0);
            }
            false
        })?;
    }
    let rest = scope.segments.iter().skip(seen.decided).chain(&scope.following);
    for segment in rest {
        if seen.transactions.undecided_from().is_none() {
            break;
        }
        look(segment, throttle, |located, control| {
            if located.header.last_offset() >= scope.committed.0 {
                return true;
            }
            // Only ends count here: what begins here is decided in its own time.
            if control.is_some() {
                seen.transactions.observe(&located.header, control);
            }
            seen.transactions.undecided_from().is_none()
        })?;
    }
    if let Some(undecided) = seen.transactions.undecided_from() {
        let decided = scope.segments.partition_point(|segment| segment.next_offset() <= undecided);
        seen.decided = seen.decided.min(decided);
    }
    Ok(seen)
}

/// Shows the batches of a segment to `found`, until it says that it has seen enough.
fn look(
    segment: &Segment,
    throttle: &mut Throttle,
    mut found: impl FnMut(&Located, Option<ControlType>) -> bool,
) -> Result<(), CompactionError> {
    let mut failure = None;
    segment.walk(0, segment.end(), |located| {
        let control = if located.header.is_control() {
            match control(segment, located) {
                Ok(control) => Some(control),
                Err(error) => {
                    failure = Some(CompactionError::Storage(error));
                    return true;
                }
            }
        } else {
            None
        };
        if let Err(stopped) = throttle.spend(HEADER_BYTES) {
            failure = Some(stopped);
            return true;
        }
        found(located, control)
    })?;
    failure.map_or(Ok(()), Err)
}

/// What a control batch says. Its checksum is looked at: what is dropped depends on it.
fn control(segment: &Segment, located: &Located) -> Result<ControlType, StorageError> {
    let length = located.header.total_len();
    if length > CONTROL_BYTES_MAX {
        return Ok(ControlType::Other(-1));
    }
    let mut bytes = vec![0; length];
    let read = segment.file.read_at(&mut bytes, located.position);
    let read = read.map_err(StorageError::io("cannot read", &segment.path))?;
    bytes.truncate(read);
    sawlog_protocol::records::check_crc(&bytes, &located.header)
        .map_err(|error| segment.corrupt(located.position, error.to_string()))?;
    Ok(control_type_of(&bytes))
}
