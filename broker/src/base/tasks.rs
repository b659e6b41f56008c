//! Where the work of a broker runs: on the tasks of a runtime and on threads of its own, or, in the
//! simulator, all of it on tasks of one simulated process.
//!
//! What work is, and in which order its steps are taken, is the same: a thread takes them one after
//! another, the simulator lets virtual time pass in between.

#[cfg(any(test, feature = "sim"))]
use std::fmt;
use std::future::Future;
#[cfg(any(test, feature = "sim"))]
use std::pin::Pin;
#[cfg(any(test, feature = "sim"))]
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// A step of a thread that takes time.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Until the flusher looks at what is to be synced.
    Gather,
    /// Syncing what it found.
    Sync,
    /// Until the controller decides on what it was asked.
    Decide,
}

/// A process of a simulated world.
#[cfg(any(test, feature = "sim"))]
pub trait SimulatedProcess: Send + Sync + fmt::Debug {
    /// Runs `task` for as long as the process lives.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Lets the time pass that `step` takes.
    fn take_time(&self, step: Step) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Where tasks run.
#[derive(Clone, Debug)]
pub enum Tasks {
    /// On a runtime.
    Runtime(Handle),
    /// In a simulated process.
    #[cfg(any(test, feature = "sim"))]
    Simulated(Arc<dyn SimulatedProcess>),
}

impl Tasks {
    /// Runs `task` to its end.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Runtime(runtime) => drop(runtime.spawn(task)),
            #[cfg(any(test, feature = "sim"))]
            Self::Simulated(process) => process.spawn(Box::pin(task)),
        }
    }

    /// Runs `task` until what is returned is dropped.
    pub fn spawn_owned(&self, task: impl Future<Output = ()> + Send + 'static) -> Owned {
        match self {
            Self::Runtime(runtime) => Owned::Runtime(runtime.spawn(task)),
            #[cfg(any(test, feature = "sim"))]
            Self::Simulated(process) => {
                let over = Arc::new(tokio::sync::Notify::new());
                let told = Arc::clone(&over);
                process.spawn(Box::pin(async move {
                    tokio::select! {
                        biased;
                        () = told.notified() => {}
                        () = task => {}
                    }
                }));
                Owned::Simulated(over)
            }
        }
    }
}

/// A task that ends with this.
#[derive(Debug)]
pub enum Owned {
    /// Of a runtime.
    Runtime(JoinHandle<()>),
    /// Of a simulated process.
    #[cfg(any(test, feature = "sim"))]
    Simulated(Arc<tokio::sync::Notify>),
}

impl Drop for Owned {
    fn drop(&mut self) {
        match self {
            Self::Runtime(task) => task.abort(),
            #[cfg(any(test, feature = "sim"))]
            Self::Simulated(over) => over.notify_one(),
        }
    }
}

/// Runs what may wait for the disk, or takes long, where it keeps nobody.
///
/// # Errors
/// It panicked, or the runtime stops.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(any(test, feature = "sim"))]
    if SIMULATED.get() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// As [`blocking`], for what nobody waits for.
pub fn start_blocking(work: impl FnOnce() + Send + 'static) {
    #[cfg(any(test, feature = "sim"))]
    if SIMULATED.get() {
        return work();
    }
    drop(tokio::task::spawn_blocking(work));
}

#[cfg(any(test, feature = "sim"))]
thread_local! {
    static SIMULATED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Everything on this thread is simulated from now on, or not any more: nothing is handed to others.
#[cfg(any(test, feature = "sim"))]
pub fn simulate(on: bool) {
    SIMULATED.set(on);
}

/// Where work runs that may block.
#[derive(Clone, Debug, Default)]
pub enum Threads {
    /// On threads.
    #[default]
    Real,
    /// On tasks of a simulated process, which never block.
    #[cfg(any(test, feature = "sim"))]
    Simulated(Arc<dyn SimulatedProcess>),
}

impl Threads {
    /// How many threads share a piece of work for which `count` are about right.
    #[must_use]
    pub fn at_most(&self, count: usize) -> usize {
        match self {
            Self::Real => count,
            #[cfg(any(test, feature = "sim"))]
            Self::Simulated(_) => count.min(1),
        }
    }
}
