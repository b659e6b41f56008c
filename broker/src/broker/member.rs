//! This broker's life in its cluster: registered, heard of, and gone in good order.
//!
//! Always: it says how far it has applied the metadata, never further; a registration that is over is
//! not renewed by the process that had it, which has to stop: another one has its place.
//!
//! A broker that is the controller itself, and not kept out of anything, has nothing to say: alone in
//! its cluster it has no timer here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::contact::Contact;
use crate::base::{BrokerEpoch, BrokerId};
use crate::controller::replicas::BrokerStart;
use crate::controller::{
    AdminErrorKind, Controller, ControllerError, HEARTBEAT_INTERVAL, Heartbeat, Request, Response,
    Standing,
};
use crate::metadata::{Image, MetadataOffset};
use crate::quorum::LogRole;

/// How long stopping waits for others to take over.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// How long it asks a controller that does not answer: longer than an election takes.
const LEAVE_UNANSWERED: Duration = Duration::from_secs(3);

/// How often a broker that wants to leave asks whether it may.
const LEAVE_INTERVAL: Duration = Duration::from_millis(50);

/// How long a broker tries to say that it is gone. Unsaid, it is found out when its connections end.
const LAST_WORD_DEADLINE: Duration = Duration::from_millis(500);

/// How long a start waits to be let into its roles before it goes on all the same.
const WELCOME_DEADLINE: Duration = Duration::from_secs(5);

/// A registered process.
#[derive(Debug)]
pub(crate) struct Member {
    controller: Arc<Controller>,
    id: BrokerId,
    epoch: i64,
    contact: Arc<Contact>,
    /// Why it cannot go on, once it cannot.
    over: watch::Sender<Option<String>>,
}

impl Member {
    /// Registers this process; waits until a controller takes it, and until its own image knows.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) async fn register(
        controller: Arc<Controller>,
        start: BrokerStart,
    ) -> Result<Arc<Self>, ControllerError> {
        let id = start.registration.id;
        let epoch = controller.register_broker(start).await?;
        let mut changes = controller.watch();
        let known = |image: &Arc<Image>| image.broker(id).is_some_and(|me| me.epoch >= epoch);
        changes.wait_for(known).await.map_err(|_| ControllerError::Stopped)?;
        let over = watch::Sender::new(None);
        let contact = Arc::new(Contact::new());
        Ok(Arc::new(Self { controller, id, epoch, contact, over }))
    }

    /// How long ago it heard from the controller.
    pub(crate) fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }

    /// The registration of this process.
    pub(crate) fn epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.epoch)
    }

    /// Waits, not too long, until it may lead and be in sync.
    pub(crate) async fn welcome(&self) {
        let mut changes = self.controller.watch();
        let is_in = |image: &Arc<Image>| image.broker(self.id).is_some_and(|me| !me.fenced);
        if timeout(WELCOME_DEADLINE, changes.wait_for(is_in)).await.is_err() {
            warn!("the controller does not let this broker into its roles yet; it starts without");
        }
    }

    /// Waits until it cannot go on, and tells why.
    pub(crate) async fn over(&self) -> String {
        let mut over = self.over.subscribe();
        let why = over.wait_for(Option::is_some).await.map(|why| why.clone().unwrap_or_default());
        match why {
            Ok(why) => why,
            // Nobody can say any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// Says that it is there, until `stop` says so, or it is over.
    pub(crate) async fn beat(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut roles = self.controller.role();
        let mut changes = self.controller.watch();
        loop {
            let role = roles.get();
            let image = changes.get();
            let fenced = image.broker(self.id).is_none_or(|me| me.fenced);
            let is_quiet = matches!(role, LogRole::Leader { .. }) && !fenced;
            let mut said = MetadataOffset(i64::MAX);
            if is_quiet {
                self.contact.is_here();
            } else {
                let now = Instant::now();
                match role {
                    LogRole::Follower { leader: None } => self.contact.was_here(now),
                    LogRole::Follower { .. } | LogRole::Leader { .. } => {}
                }
                said = image.offset();
                match self.say(false, HEARTBEAT_INTERVAL * 2).await {
                    Ok(_) => self.contact.heard(now),
                    Err(ControllerError::Refused(refused))
                        if refused.kind() == AdminErrorKind::StaleRegistration =>
                    {
                        let why = format!(
                            "{refused}: another process was started as broker {}, or it was \
                             unregistered",
                            self.id
                        );
                        self.over.send_replace(Some(why));
                        return;
                    }
                    Err(error) => debug!(%error, "a heartbeat was not answered"),
                }
            }
            let id = self.id;
            // What it has to say at once: that it may come back, or that it knows who leaves.
            let is_urgent = move |image: &Arc<Image>| {
                let fenced = image.broker(id).is_none_or(|me| me.fenced);
                let leaves = |offset| {
                    image.offset() > offset
                        && image.brokers().any(|one| one.shutting_down && !one.fenced)
                };
                (is_quiet && fenced) || leaves(said)
            };
            // All branches only wait: dropping them loses nothing.
            tokio::select! {
                biased;
                () = sleep(HEARTBEAT_INTERVAL), if !is_quiet => {}
                changed = roles.changed() => if changed.is_err() { return },
                changed = changes.wait_for(is_urgent) => if changed.is_err() { return },
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn say(
        &self,
        wants_to_leave: bool,
        patience: Duration,
    ) -> Result<Standing, ControllerError> {
        let applied = self.controller.images().peek().offset();
        let beat = Heartbeat { broker: self.id, epoch: self.epoch, applied, wants_to_leave };
        match self.controller.ask_within(Request::Heartbeat(beat), patience).await? {
            Response::Heartbeat(standing) => Ok(standing?),
            _ => Err(ControllerError::Stopped),
        }
    }

    /// Whether there is nobody who could take over, or would have to know.
    fn is_alone(&self) -> bool {
        let image = self.controller.images().load();
        !image.live_brokers().any(|broker| broker.id != self.id)
    }

    /// P6: has others take over what they can, and returns once all of them know, or it took too
    /// long. Returns whether the controller has let it go.
    pub(crate) async fn leave(&self) -> bool {
        if self.is_alone() {
            return false;
        }
        let deadline = Instant::now() + LEAVE_DEADLINE;
        let mut answered_at = Instant::now();
        while Instant::now() < deadline.min(answered_at + LEAVE_UNANSWERED) {
            match self.say(true, HEARTBEAT_INTERVAL).await {
                Ok(standing) if standing.may_leave => {
                    info!("others have taken over");
                    return true;
                }
                Ok(_) => answered_at = Instant::now(),
                Err(ControllerError::Refused(_) | ControllerError::Stopped) => return false,
                Err(error) => debug!(%error, "cannot ask to leave"),
            }
            if self.is_alone() {
                return false;
            }
            sleep(LEAVE_INTERVAL).await;
        }
        warn!("stopping although others have not taken over everything");
        false
    }

    /// Says that it is gone, so that nobody has to find out.
    pub(crate) async fn last_word(&self) {
        // A controller that stops has its successor when its connections end, which nobody can tell it
        // any more: there is nobody to say it to.
        let is_heard =
            matches!(self.controller.role().get(), LogRole::Follower { leader: Some(_) });
        if self.is_alone() || !is_heard {
            return;
        }
        let gone = Request::BrokerGone { broker: self.id, epoch: self.epoch, by_itself: true };
        if let Err(error) = self.controller.ask_within(gone, LAST_WORD_DEADLINE).await {
            debug!(%error, "nobody was told that this broker is gone");
        }
    }
}
