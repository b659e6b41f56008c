//! All peers of this node: whom it can call, and what it answers.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::base::BrokerId;
use crate::base::memory::MemoryBudget;
use crate::config::Endpoint;

use super::accept;
use super::departures::Departures;
use super::frame::FRAME_BYTES_MAX;
use super::incarnations::Incarnations;
use super::link::{Caller, Link, Target};
use super::tls::PeerTls;
use super::{PeerCall, PeerError, PeerIdentity, PeerNet, PeerService, Service};

/// How long stopping waits for the tasks of connections.
pub const PEER_STOP_DEADLINE: Duration = Duration::from_secs(1);

/// Messages of one service held in memory, each direction: the largest one has to fit.
const SERVICE_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// After a refusal the same peer is not dialled again for this long: it was told why, and a cause
/// that goes away by itself is gone in seconds.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// The same refusal is logged again after this long.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Refusals remembered for that.
const REFUSALS_MAX: usize = 64;

/// The peers of this node. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

/// What the clones share.
pub(super) struct Shared {
    pub(super) me: ArcSwap<PeerIdentity>,
    /// `None`: connections are neither encrypted nor is anybody asked who it is.
    pub(super) tls: Option<Arc<PeerTls>>,
    pub(super) runtime: Handle,
    pub(super) incarnations: Incarnations,
    services: [OnceLock<Arc<dyn PeerService>>; Service::ALL.len()],
    received: [MemoryBudget; Service::ALL.len()],
    answered: [MemoryBudget; Service::ALL.len()],
    pub(super) departures: Arc<Departures>,
    links: Mutex<HashMap<(Whom, Service), Arc<Link>>>,
    refusals: Mutex<HashMap<String, Instant>>,
}

/// Whom a link is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whom {
    Broker(BrokerId),
    At(Endpoint),
}

impl Peers {
    /// The peers of `me`, whose connections are served by `runtime`, without TLS.
    #[must_use]
    pub fn new(me: PeerIdentity, runtime: Handle) -> Self {
        Self::with_tls(me, runtime, None)
    }

    /// As [`Peers::new`], with TLS if that is set up.
    #[must_use]
    pub fn with_tls(me: PeerIdentity, runtime: Handle, tls: Option<Arc<PeerTls>>) -> Self {
        let budgets = || Service::ALL.map(|_| MemoryBudget::new(SERVICE_BYTES_MAX));
        let shared = Shared {
            me: ArcSwap::from_pointee(me),
            tls,
            departures: Departures::new(runtime.clone()),
            runtime,
            incarnations: Incarnations::default(),
            services: Service::ALL.map(|_| OnceLock::new()),
            received: budgets(),
            answered: budgets(),
            links: Mutex::default(),
            refusals: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who this node is to its peers.
    #[must_use]
    pub fn me(&self) -> PeerIdentity {
        **self.shared.me.load()
    }

    /// This node has become somebody: it has joined a cluster. Connections begin anew.
    pub fn introduce(&self, me: PeerIdentity) {
        self.shared.me.store(Arc::new(me));
        self.shared.links.lock().clear();
    }

    /// Has `service` answered by `by`, from now on. The first one stays.
    pub fn serve(&self, service: Service, by: Arc<dyn PeerService>) {
        if self.shared.services[service.place()].set(by).is_err() {
            warn!(%service, "a service for peers was given twice");
        }
    }

    /// Accepts connections until `stop` says so.
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen(
        &self,
        listener: StdListener,
        stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let _entered = self.shared.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.shared.runtime.spawn(accept::run(listener, self.shared.clone(), stop));
        Ok(())
    }

    /// Where a broker is. A new address ends the connections to the old one.
    pub fn know(&self, broker: BrokerId, at: Endpoint) {
        let before = self.shared.departures.know(broker, at.clone());
        if before.is_some_and(|before| before != at) {
            let mut links = self.shared.links.lock();
            links.retain(|(whom, _), _| *whom != Whom::Broker(broker));
        }
    }

    /// A broker is no member any more.
    pub fn forget(&self, broker: BrokerId) {
        self.shared.departures.forget(broker);
        self.shared.links.lock().retain(|(whom, _), _| *whom != Whom::Broker(broker));
    }

    /// Where a broker is, as far as is known.
    #[must_use]
    pub fn address(&self, broker: BrokerId) -> Option<Endpoint> {
        self.shared.departures.address(broker)
    }

    /// Tells of every broker whose process is found gone from now on: its connections have ended, and
    /// its machine says that nobody listens there any more.
    #[must_use]
    pub fn departures(&self) -> broadcast::Receiver<BrokerId> {
        self.shared.departures.watch()
    }

    /// The brokers of which it is being found out whether their processes are gone.
    #[must_use]
    pub fn doubted(&self) -> watch::Receiver<BTreeSet<BrokerId>> {
        self.shared.departures.doubted()
    }

    /// Asks a broker. The timeout includes dialling it.
    ///
    /// # Errors
    /// There is no answer; see [`PeerError`] for what that means.
    pub async fn call(
        &self,
        to: BrokerId,
        service: Service,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let at = self.address(to);
        let at = at.ok_or_else(|| {
            PeerError::NoRoute(format!("the address of broker {to} is not known"))
        })?;
        let target = Target { at, service, broker: Some(to) };
        self.call_on(Whom::Broker(to), target, request, timeout).await
    }

    /// Asks whoever is at an address.
    ///
    /// # Errors
    /// There is no answer; see [`PeerError`] for what that means.
    pub async fn call_at(
        &self,
        to: &Endpoint,
        service: Service,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let target = Target { at: to.clone(), service, broker: None };
        self.call_on(Whom::At(to.clone()), target, request, timeout).await
    }

    /// Tells a broker something nobody answers. It may be lost.
    pub fn tell(&self, to: BrokerId, service: Service, message: Bytes) {
        let Some(at) = self.address(to) else { return };
        let target = Target { at, service, broker: Some(to) };
        if let Ok(link) = self.shared.link(Whom::Broker(to), target) {
            link.tell(message);
        }
    }

    async fn call_on(
        &self,
        whom: Whom,
        target: Target,
        request: Bytes,
        limit: Duration,
    ) -> Result<Bytes, PeerError> {
        let (at, service) = (target.at.clone(), target.service);
        let link = self.shared.link(whom, target)?;
        let called = timeout(limit, link.call(request, limit)).await;
        let answer = called.unwrap_or(Err(PeerError::TimedOut));
        if let Err(PeerError::Refused(reason)) = &answer {
            self.shared.log_refusal(reason, || {
                warn!(peer = %at, %service, reason, "a peer refuses to be called");
            });
        }
        answer
    }
}

#[cfg(test)]
impl Peers {
    /// The refusals that were logged.
    pub(super) fn refusals(&self) -> Vec<String> {
        self.shared.refusals.lock().keys().cloned().collect()
    }
}

impl PeerNet for Peers {
    fn serve(&self, service: Service, by: Arc<dyn PeerService>) {
        Self::serve(self, service, by);
    }

    fn call(&self, to: BrokerId, service: Service, request: Bytes, timeout: Duration) -> PeerCall {
        let peers = self.clone();
        Box::pin(async move { Self::call(&peers, to, service, request, timeout).await })
    }

    fn tell(&self, to: BrokerId, service: Service, message: Bytes) {
        Self::tell(self, to, service, message);
    }

    fn doubted(&self) -> watch::Receiver<BTreeSet<BrokerId>> {
        self.doubted()
    }
}

impl Shared {
    /// The link to a peer, a new one if there is none that works.
    fn link(&self, whom: Whom, target: Target) -> Result<Arc<Link>, PeerError> {
        let key = (whom, target.service);
        let mut links = self.links.lock();
        if let Some(link) = links.get(&key) {
            match link.ended() {
                None => return Ok(link.clone()),
                Some((refused @ PeerError::Refused(_), since))
                    if since.elapsed() < REFUSED_PAUSE =>
                {
                    return Err(refused);
                }
                Some(_) => {}
            }
        }
        // Addresses nobody answers at any more do not pile up.
        links.retain(|_, link| link.ended().is_none());
        let budget = self.answered[target.service.place()].clone();
        let caller = Caller { me: **self.me.load(), tls: self.tls.clone() };
        let link = Link::start(target, caller, budget, &self.runtime, &self.departures);
        let link = Arc::new(link);
        links.insert(key, link.clone());
        Ok(link)
    }

    /// What answers `service`, if anything does yet.
    pub(super) fn service(&self, service: Service) -> Option<Arc<dyn PeerService>> {
        self.services[service.place()].get().cloned()
    }

    /// The memory for requests to `service`.
    pub(super) fn budget(&self, service: Service) -> MemoryBudget {
        self.received[service.place()].clone()
    }

    /// Has a refusal logged, but not again at every attempt.
    pub(super) fn log_refusal(&self, reason: &str, log: impl FnOnce()) {
        let mut refusals = self.refusals.lock();
        let now = Instant::now();
        refusals.retain(|_, logged| now.saturating_duration_since(*logged) < REFUSAL_LOG_INTERVAL);
        if refusals.len() < REFUSALS_MAX && !refusals.contains_key(reason) {
            refusals.insert(reason.to_owned(), now);
            log();
        }
    }

    /// A connection is accepted from now on.
    pub(super) fn log_accepting(&self, at: &str) {
        info!(address = at, "listening for peers");
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &**self.shared.me.load()).finish_non_exhaustive()
    }
}
