//! Memory held by what the members of all groups say of themselves.
//!
//! A member that joined stays until its session is over, at the longest half an hour, whether its
//! connection does or not. Its subscription and its assignment are charged to a budget of the whole
//! broker where they are taken from the frame, and given back when the last who holds them lets go.
//! Above the budget nobody new is taken in; who is in a group stays.
//!
//! What is read from the log at a start is not charged: it was when it was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tracing::warn;

use super::types::GroupError;

/// What an item costs besides its bytes: a part of its member, of the group's tables and of the
/// allocator's.
const ITEM_BYTES: usize = 512;

/// Memory of all members, charged and given back.
#[derive(Debug)]
pub(crate) struct GroupMemory {
    used: AtomicUsize,
    limit: usize,
    /// Whether it has been said that there is none left; again once half of it is free.
    said: AtomicBool,
}

/// Bytes that are charged as long as they live.
struct Charged {
    bytes: Box<[u8]>,
    cost: usize,
    memory: Arc<GroupMemory>,
}

impl GroupMemory {
    /// `limit` bytes, all of them free.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit, said: AtomicBool::new(false) })
    }

    /// A copy of `bytes`, charged with the `beside` bytes of names kept with it.
    ///
    /// # Errors
    /// [`GroupError::NotAvailable`]: there is no room left; there may be when sessions are over.
    pub(crate) fn keep(self: &Arc<Self>, beside: usize, bytes: &[u8]) -> Result<Bytes, GroupError> {
        let cost = ITEM_BYTES.saturating_add(beside).saturating_add(bytes.len());
        let charge = |used: usize| used.checked_add(cost).filter(|sum| *sum <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge).is_err() {
            if !self.said.swap(true, Ordering::Relaxed) {
                warn!(
                    limit = self.limit,
                    "groups: no memory left for members, new ones are refused"
                );
            }
            return Err(GroupError::NotAvailable);
        }
        Ok(Bytes::from_owner(Charged { bytes: bytes.into(), cost, memory: self.clone() }))
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let before = self.memory.used.fetch_sub(self.cost, Ordering::Relaxed);
        if before - self.cost <= self.memory.limit / 2 {
            self.memory.said.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_charged_until_the_last_copy_is_gone() {
        let memory = GroupMemory::new(2 * ITEM_BYTES + 20);
        let kept = memory.keep(5, b"subscription").unwrap();
        assert_eq!(kept, Bytes::from_static(b"subscription"));
        let (copy, empty) = (kept.clone(), memory.keep(0, b"").unwrap());
        assert_eq!(memory.keep(0, b""), Err(GroupError::NotAvailable));
        drop(kept);
        assert_eq!(memory.keep(0, b""), Err(GroupError::NotAvailable), "a copy is left");
        drop(copy);
        let again = memory.keep(5, b"subscription").unwrap();
        drop((again, empty));
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn more_than_there_ever_is_is_refused_and_costs_nothing() {
        let memory = GroupMemory::new(1000);
        assert_eq!(memory.keep(0, &[0; 1000]), Err(GroupError::NotAvailable));
        assert!(memory.keep(0, &[0; 100]).is_ok());
    }
}
