//! The runtime the library's tasks run on: tokio, but for the clock that ticks.
//!
//! The library's ticks can be switched off, yet its clock goes on and wakes the thread several times a
//! second for nothing. A node alone has no use for it: while its thread is quiet, nothing it sleeps for
//! wakes it.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use tokio::sync::watch;

type Tokio = openraft::TokioRuntime;

thread_local! {
    /// Whether the library on this thread has nothing to wait for.
    static QUIET: watch::Sender<bool> = watch::Sender::new(false);
}

/// Whether the clock of the library on this thread stands still.
pub(super) fn set_quiet(quiet: bool) {
    QUIET.with(|sender| {
        sender.send_if_modified(|now| std::mem::replace(now, quiet) != quiet);
    });
}

/// See above.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct QuietRuntime;

impl AsyncRuntime for QuietRuntime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Tokio as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <Tokio as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <Tokio as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <Tokio as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Box::pin(Tokio::sleep(duration))
    }

    /// What the clock sleeps with.
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let mut quiet = QUIET.with(watch::Sender::subscribe);
        Box::pin(async move {
            // The sender lives as long as the thread.
            drop(quiet.wait_for(|quiet| !*quiet).await);
            Tokio::sleep_until(deadline).await;
        })
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Tokio::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Tokio::thread_rng()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        Tokio::oneshot()
    }
}
