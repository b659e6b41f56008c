//! How a broker reaches the controller when it is another one.
//!
//! Only the way: what is said over it is `codec`'s, when it is said again is `shell`'s.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::base::BrokerId;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Nobody listens where the broker did: its process is gone. Nothing was sent.
    #[error("{0}")]
    Gone(String),
    /// The request was not sent.
    #[error("{0}")]
    NotSent(String),
    /// The request may have arrived.
    #[error("{0}")]
    NoAnswer(String),
}

/// The future of an answer.
pub type LinkAnswer<'a> = Pin<Box<dyn Future<Output = Result<Bytes, LinkError>> + Send + 'a>>;

/// The way to the controllers of other brokers.
pub trait ControllerLink: Send + Sync + fmt::Debug {
    /// Sends a request to the controller of `broker`.
    fn call(&self, broker: BrokerId, request: Bytes, timeout: Duration) -> LinkAnswer<'_>;
}

/// There is nobody else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLink;

impl ControllerLink for NoLink {
    fn call(&self, broker: BrokerId, _: Bytes, _: Duration) -> LinkAnswer<'_> {
        let error = LinkError::NotSent(format!("there is no way to broker {broker}"));
        Box::pin(async { Err(error) })
    }
}
