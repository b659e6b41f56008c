//! Who hears nothing while others do: of each producer and partition, how long it waited for an
//! acknowledgement while another producer got them there.
//!
//! An outage is no stall: nobody gets anything; nor is the time until a program has started. A wait
//! that goes on is told while it lasts, and the program is asked what it is doing, so that the cause can
//! be found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::LOOK_AGAIN;
use crate::ours::micros;
use crate::programs::Told;

/// A wait that is told while it lasts.
const STALL_MIN: Duration = Duration::from_secs(15);

/// Another producer goes on in a partition if it had something acknowledged within this.
const GOES_ON: Duration = Duration::from_millis(500);

/// A producer that is watched, and what makes its program say what it does.
pub(super) struct Watched {
    pub(super) told: Arc<Mutex<Told>>,
    pub(super) ask: Box<dyn Fn() + Send>,
}

/// The longest wait of a producer.
#[derive(Clone, Debug, Default)]
pub(super) struct Longest {
    pub(super) name: String,
    pub(super) wait: Duration,
    pub(super) partition: i32,
}

/// What is watched until it is ended.
#[derive(Debug)]
pub(super) struct Stalls {
    over: Arc<AtomicBool>,
    watcher: JoinHandle<Vec<Longest>>,
}

impl Stalls {
    pub(super) fn watch(all: Vec<Watched>) -> Stalls {
        let over = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&over);
        let watcher = thread::spawn(move || watch(&all, &stop));
        Stalls { over, watcher }
    }

    /// The longest wait of each.
    pub(super) fn end(self) -> Vec<Longest> {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().expect("it ends")
    }
}

/// How long one has waited in one partition.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    /// Its last acknowledgement.
    acked_at: u64,
    /// How long others went on since then.
    waited: Duration,
}

impl Wait {
    /// Its last acknowledgement, and how long others went on since the last look.
    fn look(&mut self, acked_at: u64, others: Option<Duration>) {
        if acked_at != self.acked_at {
            *self = Wait { acked_at, waited: Duration::ZERO };
        } else if acked_at > 0 {
            self.waited += others.unwrap_or_default();
        }
    }
}

fn watch(all: &[Watched], over: &AtomicBool) -> Vec<Longest> {
    let name = |one: &Watched| one.told.lock().expect("no holder panics").sent.name.clone();
    let of = |one| Longest { name: name(one), ..Longest::default() };
    let mut longest: Vec<Longest> = all.iter().map(of).collect();
    let acked_at = |one: &Watched| one.told.lock().expect("no holder panics").acked_at.clone();
    let mut waits: Vec<Vec<Wait>> =
        all.iter().map(|one| vec![Wait::default(); acked_at(one).len()]).collect();
    let mut looked = Instant::now();
    while !over.load(Ordering::Relaxed) {
        thread::sleep(LOOK_AGAIN);
        let passed = looked.elapsed();
        looked += passed;
        let acked: Vec<Vec<u64>> = all.iter().map(acked_at).collect();
        let recent = micros() - u64::try_from(GOES_ON.as_micros()).expect("short");
        for (who, waits) in waits.iter_mut().enumerate() {
            for (at, wait) in waits.iter_mut().enumerate() {
                let others_go_on = acked.iter().any(|one| one[at] > recent);
                let before = wait.waited;
                wait.look(acked[who][at], others_go_on.then_some(passed));
                let longest = &mut longest[who];
                if wait.waited > longest.wait {
                    longest.wait = wait.waited;
                    longest.partition = i32::try_from(at).expect("few");
                }
                if before < STALL_MIN && wait.waited >= STALL_MIN {
                    let name = &longest.name;
                    eprintln!("       {name} waits {STALL_MIN:?} in partition {at}, others do not");
                    (all[who].ask)();
                }
            }
        }
    }
    longest
}
