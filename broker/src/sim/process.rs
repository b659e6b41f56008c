//! A simulated process: its tasks run while it does, wait while it is stopped, and are gone with it.
//!
//! Always: after a task of a process has made a step, whoever watches the world looks at the process.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::disk_sim::SimRandom;
use crate::base::tasks::{SimulatedProcess, Step};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long the steps of a process take, in milliseconds: from, up to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) gather: (u64, u64),
    pub(super) sync: (u64, u64),
    pub(super) decide: (u64, u64),
    /// One step in so many takes long, and how long then.
    pub(super) hiccup: Option<(u64, u64)>,
}

/// What looks at a process after each of its steps.
pub(super) trait Watch: Send + Sync {
    fn look(&self, process: &Process);

    /// What must hold does not.
    fn on_violation(&self, what: String);
}

/// Makes a step; a panic is a violation, and the end of what panicked.
pub(super) fn guarded(watch: &dyn Watch, step: impl FnOnce() -> Poll<()>) -> Poll<()> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        watch.on_violation(text.unwrap_or_default());
        Poll::Ready(())
    })
}

/// A process.
pub(super) struct Process {
    pub(super) broker: i32,
    /// Which life of the world this is.
    pub(super) life: u64,
    state: Mutex<State>,
    watch: Arc<dyn Watch>,
    me: Weak<Self>,
}

struct State {
    is_dead: bool,
    is_stopped: bool,
    tasks: Vec<Weak<Slot>>,
    /// Tasks that would have made a step, in order.
    waiting: Vec<Waker>,
    random: SimRandom,
    pace: Pace,
    hung_ms: u64,
}

struct Slot(Mutex<Option<Task>>);

impl Process {
    pub(super) fn new(
        (broker, life): (i32, u64),
        pace: Pace,
        seed: u64,
        watch: Arc<dyn Watch>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            broker,
            life,
            state: Mutex::new(State {
                is_dead: false,
                is_stopped: false,
                tasks: Vec::new(),
                waiting: Vec::new(),
                random: SimRandom::new(seed),
                pace,
                hung_ms: 0,
            }),
            watch,
            me: me.clone(),
        })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Everything it does ends here.
    pub(super) fn kill(&self) {
        let (tasks, waiting) = {
            let mut state = self.state.lock();
            state.is_dead = true;
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.waiting))
        };
        for slot in tasks.iter().filter_map(Weak::upgrade) {
            let task = slot.0.lock().take();
            drop(task);
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    /// It makes no step any more, or goes on.
    pub(super) fn stop(&self, stopped: bool) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_stopped = stopped;
            if stopped { Vec::new() } else { std::mem::take(&mut state.waiting) }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Its disk answers nothing for so long.
    pub(super) fn hang(&self, ms: u64) {
        self.state.lock().hung_ms = ms;
    }

    pub(super) fn set_pace(&self, pace: Pace) {
        self.state.lock().pace = pace;
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} ({})", self.broker, self.life)
    }
}

impl SimulatedProcess for Process {
    fn spawn(&self, task: Task) {
        let slot = Arc::new(Slot(Mutex::new(Some(task))));
        {
            let mut state = self.state.lock();
            if state.is_dead {
                return;
            }
            if state.tasks.len() == state.tasks.capacity() {
                state.tasks.retain(|task| task.strong_count() > 0);
            }
            state.tasks.push(Arc::downgrade(&slot));
        }
        if let Some(process) = self.me.upgrade() {
            tokio::spawn(Running { process, slot });
        }
    }

    fn take_time(&self, step: Step) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let ms = {
            let mut state = self.state.lock();
            let pace = state.pace;
            let (from, to) = match step {
                Step::Gather => pace.gather,
                Step::Sync => pace.sync,
                Step::Decide => pace.decide,
            };
            let mut ms = from + state.random.below(to - from + 1);
            if let Some((one_in, most)) = pace.hiccup
                && state.random.below(one_in) == 0
            {
                ms += state.random.below(most);
            }
            match step {
                Step::Gather | Step::Sync => ms + std::mem::take(&mut state.hung_ms),
                Step::Decide => ms,
            }
        };
        Box::pin(async move {
            if ms > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        })
    }
}

/// A task on the runtime of the world.
struct Running {
    process: Arc<Process>,
    slot: Arc<Slot>,
}

impl Future for Running {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = self.process.state.lock();
            if state.is_dead {
                return Poll::Ready(());
            }
            if state.is_stopped {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        guarded(&*self.process.watch, || {
            let polled = {
                let mut slot = self.slot.0.lock();
                let Some(task) = slot.as_mut() else { return Poll::Ready(()) };
                let polled = task.as_mut().poll(context);
                if polled.is_ready() {
                    *slot = None;
                }
                polled
            };
            self.process.watch.look(&self.process);
            polled
        })
    }
}
