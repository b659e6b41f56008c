//! The budget for request bytes held in memory, over all connections.
//!
//! A connection charges what it is about to hold *before* it reads it, in steps that grow with what
//! has arrived: a claimed length alone reserves next to nothing, so a client that announces a huge
//! frame and stalls cannot starve the others. A connection that finds the budget spent stops
//! reading until others give back; one that makes no progress for the read deadline is closed,
//! which is also what resolves a budget held by many half-received frames.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit of the semaphore stands for, so that a 100 MiB frame fits its `u32` counts.
const UNIT_BYTES: usize = 1024;

/// The shared budget.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    units: Arc<Semaphore>,
    total: usize,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let total = (bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes a share of `bytes` if the budget has it now.
    pub(crate) fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let permit = self.units.clone().try_acquire_many_owned(self.units_for(bytes)).ok()?;
        Some(Charge { permit })
    }

    /// Takes a share of `bytes` as soon as the budget has it; first come, first served.
    pub(crate) async fn charge(&self, bytes: usize) -> Option<Charge> {
        // The semaphore is never closed, so `None` does not happen; it would mean shutdown.
        let permit = self.units.clone().acquire_many_owned(self.units_for(bytes)).await.ok()?;
        Some(Charge { permit })
    }

    fn units_for(&self, bytes: usize) -> u32 {
        // More than the whole budget could never be granted: ask for all of it instead.
        let units = bytes.div_ceil(UNIT_BYTES).min(self.total);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

impl Charge {
    /// Adds another share to this one.
    pub(crate) fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_grants_nothing_until_a_share_returns() {
        let budget = MemoryBudget::new(4 * UNIT_BYTES);
        let mut first = budget.try_charge(3 * UNIT_BYTES).unwrap();
        assert!(budget.try_charge(2 * UNIT_BYTES).is_none());
        first.merge(budget.try_charge(1).unwrap());
        assert!(budget.try_charge(1).is_none());
        drop(first);
        assert!(budget.try_charge(4 * UNIT_BYTES).is_some());
    }

    #[test]
    fn a_request_above_the_whole_budget_takes_all_of_it() {
        let budget = MemoryBudget::new(4 * UNIT_BYTES);
        let all = budget.try_charge(100 * UNIT_BYTES).unwrap();
        assert!(budget.try_charge(1).is_none());
        drop(all);
    }
}
