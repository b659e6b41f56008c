//! The controller among brokers: asking that of another, and answering others.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::base::BrokerId;
use crate::peer::{PeerAnswer, PeerError, PeerId, PeerNet, PeerReply, PeerService, Service};

use super::link::{ControllerLink, LinkAnswer, LinkError};
use super::shell::Controller;

impl<N: PeerNet> ControllerLink for N {
    fn call(&self, broker: BrokerId, request: Bytes, timeout: Duration) -> LinkAnswer<'_> {
        Box::pin(async move {
            let answer = PeerNet::call(self, broker, Service::Controller, request, timeout).await;
            answer.map_err(|error| match error {
                PeerError::Unreachable(why) => LinkError::Gone(why),
                PeerError::NoRoute(why) | PeerError::Refused(why) => LinkError::NotSent(why),
                error @ (PeerError::TimedOut | PeerError::Closed) => {
                    LinkError::NoAnswer(format!("broker {broker}: {error}"))
                }
            })
        })
    }
}

/// Answers what other brokers ask the controller. It does not keep the controller: who does stops it.
#[derive(Clone, Debug)]
pub struct ControllerService {
    controller: Weak<Controller>,
}

impl ControllerService {
    /// Answers for `controller`.
    #[must_use]
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self { controller: Arc::downgrade(controller) }
    }
}

impl PeerService for ControllerService {
    fn call(&self, _: PeerId, request: Bytes) -> PeerAnswer {
        let controller = self.controller.upgrade();
        Box::pin(async move {
            match controller {
                Some(controller) => controller.answer(&request).await.into(),
                // Who asked finds the connection closed in a moment.
                None => PeerReply::default(),
            }
        })
    }
}
