//! TLS between brokers: both ends of a connection show a certificate that one of the cluster's own
//! authorities has signed.
//!
//! Always: where it is set up there is no connection without it, in either direction, and none is resumed.
//! Which node a certificate is for ([`node`]) is compared with the greeting, not with the name of a host.
//! Certificates that are replaced on disk are used for connections that begin later; those there are go on.
//!
//! Not here: lists of revoked certificates; the connections of clients.

mod failure;
mod files;
#[cfg(test)]
pub(super) mod fixture;
mod handshake;
mod node;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::base::BrokerId;
use crate::config::BrokerConfig;

pub(super) use failure::Failure;
pub(super) use handshake::{Opened, answer, call, farewell};
pub(super) use node::Certified;

pub use files::TlsError;
use files::{Contents, Files, Material};

/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A certificate that ends within so many days is warned of.
const EXPIRES_SOON_DAYS: i64 = 30;

/// How often.
const WARNING_INTERVAL: Duration = Duration::from_secs(86_400);

/// The certificates of this broker, towards its peers.
pub struct PeerTls {
    files: Files,
    current: ArcSwap<Material>,
    looks: Mutex<Looks>,
    /// Which node this is, once that is known.
    node: OnceLock<BrokerId>,
}

impl PeerTls {
    /// As the configuration says; `None` if it says nothing.
    ///
    /// # Errors
    /// The files are not what they should be.
    pub fn open(config: &BrokerConfig) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(files) = Files::of(config)? else { return Ok(None) };
        let contents = files.read()?;
        let current = ArcSwap::from_pointee(files.understand(&contents)?);
        let looks = Mutex::new(Looks::after(contents));
        Ok(Some(Arc::new(Self { files, current, looks, node: OnceLock::new() })))
    }

    /// The node whose certificate it is; `None` if that of all.
    #[must_use]
    pub fn node(&self) -> Option<BrokerId> {
        self.current.load().certified.node()
    }

    /// This node is `node`, from now on.
    ///
    /// # Errors
    /// The certificate is another's.
    pub fn introduce(&self, node: BrokerId) -> Result<(), TlsError> {
        self.files.check_node(self.current.load().certified, node)?;
        // Said once; the first word holds.
        let _ = self.node.set(node);
        Ok(())
    }

    /// When the certificate ends, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.current.load().expires
    }

    /// Takes certificates that are replaced, and warns of one that ends soon, until `stop` says so.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut warned: Option<Instant> = None;
        loop {
            if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
                warned = self.warn_of_its_end().then(Instant::now);
            }
            // Both are safe to drop.
            tokio::select! {
                () = sleep(LOOK_INTERVAL) => {}
                _ = stop.changed() => return,
            }
            let files = self.files.clone();
            // A disk may take its time.
            let Ok(seen) = tokio::task::spawn_blocking(move || files.read()).await else { return };
            if self.look(seen) {
                warned = None;
            }
        }
    }

    /// What the files are just now; returns whether they are used from now on.
    fn look(&self, seen: Result<Contents, TlsError>) -> bool {
        let Some(changed) = self.looks.lock().look(seen) else { return false };
        match changed.and_then(|contents| self.replacement(&contents)) {
            Ok(material) => {
                let days = days_left(material.expires);
                self.current.store(Arc::new(material));
                info!(expires_in_days = days, "the certificate for peers was replaced");
                true
            }
            Err(error) => {
                warn!(%error, "the certificate for peers is not replaced, the one there was is kept");
                false
            }
        }
    }

    fn replacement(&self, contents: &Contents) -> Result<Material, TlsError> {
        let material = self.files.understand(contents)?;
        if let Some(node) = self.node.get() {
            self.files.check_node(material.certified, *node)?;
        }
        Ok(material)
    }

    /// Returns whether there was something to say.
    fn warn_of_its_end(&self) -> bool {
        let days = days_left(self.expires());
        if days < 0 {
            error!("the certificate for peers has expired: no connection with them can begin");
        } else if days <= EXPIRES_SOON_DAYS {
            warn!(days, "the certificate for peers expires soon");
        }
        days <= EXPIRES_SOON_DAYS
    }
}

/// Whole days until then, rounded down.
fn days_left(expires: u64) -> i64 {
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    signed(expires).saturating_sub(signed(UnixTime::now().as_secs())).div_euclid(86_400)
}

#[cfg(test)]
impl PeerTls {
    /// Uses a certificate that it would not begin with: as one that was good when it began.
    pub(super) fn age(&self, config: &BrokerConfig) {
        let files = Files::of(config).unwrap().unwrap();
        let old = files.unchecked(&files.read().unwrap());
        self.current.store(Arc::new(old));
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What was seen of the files. Three files are not replaced at once: what differs from one look to the
/// next is left alone until it rests.
struct Looks {
    last: Result<Contents, TlsError>,
    /// Used, or found to be of no use.
    tried: Result<Contents, TlsError>,
}

impl Looks {
    fn after(contents: Contents) -> Self {
        Self { last: Ok(contents.clone()), tried: Ok(contents) }
    }

    /// What is to be tried now, if anything.
    fn look(&mut self, seen: Result<Contents, TlsError>) -> Option<Result<Contents, TlsError>> {
        let rests = self.last == seen;
        if !rests {
            self.last = seen;
            return None;
        }
        if self.tried == seen {
            return None;
        }
        self.tried = seen.clone();
        Some(seen)
    }
}

#[cfg(test)]
mod tests;
