//! A broker that will not come back is forgotten (KIP-631).
//!
//! Its replicas stay assigned to its id until they are moved; what it held counts no more, because
//! whoever registers under that id later may be a machine with empty disks.

use crate::base::BrokerId;
use crate::metadata::{Image, Record};

use super::draft::{Draft, Target};

/// Why a broker is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalError {
    /// Nobody registered under that id.
    #[error("broker {0} is not registered")]
    Unknown(BrokerId),
    /// It is heard of.
    #[error("broker {0} is running: stop it first")]
    Running(BrokerId),
}

/// Forgets a broker.
///
/// # Errors
/// Nothing changes.
pub fn unregister(image: &Image, broker: BrokerId) -> Result<Vec<Record>, RemovalError> {
    let known = image.broker(broker).ok_or(RemovalError::Unknown(broker))?;
    if !known.fenced {
        return Err(RemovalError::Running(broker));
    }
    let epoch = known.epoch;
    let mut draft = Draft::new(image);
    for (topic, index) in draft.partitions(|state| state.elr.contains(&broker)) {
        let Some((state, _)) = draft.partition(topic, index) else { continue };
        draft.change(topic, index, Target { isr: state.isr, lost: vec![broker], replicas: None });
    }
    draft.push(Record::UnregisterBroker { id: broker, epoch });
    Ok(draft.records)
}
