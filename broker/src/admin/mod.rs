//! Health and numbers of this broker, for whoever watches it: how far it is, whether it is well, what
//! it counts.
//!
//! Reads what the parts know of themselves when it is asked, and changes nothing. Pages are text; how
//! they are served is [`crate::server::http`]'s.

mod metrics_page;
mod process;
mod readiness;
mod replication_page;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::base::BrokerId;
use crate::controller::Controller;
use crate::coordinator::Coordinator;
use crate::metadata::ImageCell;
use crate::metrics::BrokerMetrics;
use crate::peer::PeerTls;
use crate::replication::{CompactionStats, Partitions, RecoveryProgress, ScrubTotals};
use crate::telemetry::Telemetry;

/// The parts of a started broker that can be asked.
pub(crate) struct Parts {
    /// This broker.
    pub(crate) id: BrokerId,
    pub(crate) images: Arc<ImageCell>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) groups: Arc<Coordinator>,
    pub(crate) metrics: Arc<BrokerMetrics>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) compaction: Box<dyn Fn() -> CompactionStats + Send + Sync>,
    pub(crate) scrub: Box<dyn Fn() -> ScrubTotals + Send + Sync>,
    /// Certificates towards its peers, if it has any.
    pub(crate) tls: Option<Arc<PeerTls>>,
}

/// What a broker is doing, and its parts once it has them. One per broker.
pub(crate) struct Status {
    /// Partitions opened so far, and all of them.
    opened: AtomicUsize,
    partitions: AtomicUsize,
    parts: OnceLock<Parts>,
    /// It was told to stop, and hands over what it leads.
    leaves: AtomicBool,
    stop: watch::Receiver<bool>,
}

impl Status {
    /// Of a broker that begins to start, and is stopping once `stop` says so.
    pub(crate) fn starting(stop: watch::Receiver<bool>) -> Arc<Self> {
        let (opened, partitions) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (parts, leaves) = (OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { opened, partitions, parts, leaves, stop })
    }

    /// Recovery is so far.
    pub(crate) fn recovering(&self, progress: RecoveryProgress) {
        self.partitions.store(progress.partitions, Ordering::Relaxed);
        self.opened.store(progress.done, Ordering::Relaxed);
    }

    /// The broker serves clients.
    pub(crate) fn serving(&self, parts: Parts) {
        // Said once; the first word holds.
        let _ = self.parts.set(parts);
    }

    /// The broker was told to stop: nobody new is to be sent to it.
    pub(crate) fn leaving(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }

    /// The clients whose own metrics are known here, a line each.
    pub(crate) fn clients(&self) -> String {
        self.parts.get().map_or_else(String::new, |parts| parts.telemetry.table())
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status")
            .field("serving", &self.parts.get().is_some())
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}
