//! A clean stop of a log, in steps between which what was written becomes durable.
//!
//! ```text
//! records   segments cut to their length; index files and producer state under other names
//! names     those files get their names
//! marker    the checkpoint says where the log ends, and that it was closed cleanly
//! ```
//! Always holds: a step relies only on what earlier steps have written, and all of that is durable
//! before it is taken. One log syncs its own files; of many each takes a step, and then the file
//! system is synced once for all ([`Syncs`]). A crash between steps leaves a log that was not closed.

use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::error::StorageError;
use super::flush::{FlushTicket, Side, Snapshot};
use crate::base::disk::{Aside, Syncs};

/// A log that takes no more writes and is being closed.
#[derive(Debug)]
#[must_use = "the log is closed by its steps"]
pub struct Closing {
    side: Arc<Side>,
    /// What was not synced; none where all was.
    ticket: Option<FlushTicket>,
    snapshot: Option<Snapshot>,
    /// Written, and without their names.
    asides: Vec<Aside>,
    /// What the next start is to find.
    checkpoint: Checkpoint,
    next: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Records,
    Names,
    Marker,
}

impl Closing {
    pub(super) fn new(
        side: Arc<Side>,
        ticket: Option<FlushTicket>,
        snapshot: Option<Snapshot>,
        checkpoint: Checkpoint,
    ) -> Self {
        Self { side, ticket, snapshot, asides: Vec::new(), checkpoint, next: Step::Records }
    }

    /// Takes the next step; returns whether there is another. With [`Syncs::Shared`] the caller
    /// syncs the file system after each, the last one too, and has it [checked](Self::check).
    ///
    /// # Errors
    /// What could not be written or synced. The log is not closed cleanly; the next start reads it.
    pub fn step(&mut self, syncs: Syncs) -> Result<bool, StorageError> {
        match self.next {
            Step::Records => {
                self.write(syncs)?;
                self.next = Step::Names;
                Ok(true)
            }
            Step::Names => {
                self.side.put_in_place(std::mem::take(&mut self.asides))?;
                if syncs == Syncs::Own {
                    self.side.sync_entries()?;
                }
                self.next = Step::Marker;
                Ok(true)
            }
            Step::Marker => {
                self.side.remove_old_snapshots()?;
                let closed = std::mem::take(&mut self.checkpoint);
                self.side.checkpoint.update_with(syncs, |checkpoint| *checkpoint = closed)?;
                Ok(false)
            }
        }
    }

    /// Whether an earlier sync of a file failed where nobody waited for it; to be asked once the
    /// file system was synced.
    ///
    /// # Errors
    /// It did.
    pub fn check(&self) -> Result<(), StorageError> {
        self.ticket.as_ref().map_or(Ok(()), FlushTicket::check)
    }

    fn write(&mut self, syncs: Syncs) -> Result<(), StorageError> {
        if let Some(ticket) = &self.ticket {
            match syncs {
                Syncs::Own => ticket.sync_files()?,
                Syncs::Shared => ticket.prepare()?,
            }
        }
        // A sealed segment is not read again at a start: what is damaged of it must be known.
        self.side.quarantine.persist()?;
        for segment in self.ticket.iter().flat_map(|ticket| &ticket.sealing) {
            match segment.seal_aside(syncs) {
                Ok(files) => self.asides.extend(files),
                // A full disk: the next start reads the segment instead.
                Err(error) if !error.is_fatal() => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(snapshot) = self.snapshot.take() {
            self.asides.push(self.side.write_snapshot_aside(&snapshot, syncs)?);
        }
        Ok(())
    }
}
