//! Whole clusters in one thread, each from one seed: the code that brokers run, put together as they
//! put it together, over a simulated network, simulated disks and virtual time.
//!
//! Real are: the controller's thread and what it decides, registration and heartbeats, partitions with
//! their logs, recovery and producer state, the flusher's steps, the exchange between replicas, and the
//! handlers clients speak to in Kafka's protocol. Simulated are: the network ([`net`]), the disks
//! ([`crate::base::disk_sim`]), time, the metadata log ([`quorum`]: what Raft comes to, without Raft,
//! which has a suite of its own), and processes ([`process`]), which are killed, stopped and started.
//!
//! A seed chooses how large its world is, what is slow in it and what goes wrong ([`weather`]): processes
//! killed or stopped for a while, power cut of one machine or all, disks replaced, hanging or failing a
//! sync, partitions of the network, lost and late messages, wall clocks that jump, controllers deposed
//! with an entry that may or may not come out; brokers shut down in order, new ones, replicas moved,
//! topics deleted and made again, settings changed; in some worlds one disk decays ([`decay`]). After 26 virtual seconds of that everything comes
//! back, and the world must come to rest.
//!
//! What must hold, by the numbers messages of violations begin with, and where it is looked at. After
//! every step of every process ([`oracle`]):
//!
//! | | | |
//! |---|---|---|
//! | 1 | who begins to lead has all that is committed | `ledger::on_leader` |
//! | 2, 3 | what is committed never changes, nothing else is exposed by a high watermark or to a consumer | `ledger::on_high_watermark`, `check_read` |
//! | 4 | an epoch has one leader and writes an offset once (but for a partition's only replica, which keeps its epoch over a restart while nobody else has a record of it) | `ledger::on_leader`, `on_begun_again`, `on_written` |
//! | 5, 6 | equal epochs mean equal prefixes; epochs in a log never fall | `ledger::on_replicated`, `on_written` |
//! | 7 | no replica cuts what is committed, but for one that is not in sync nor eligible and still follows a leader of the past | `replica::look_at`, `ledger::on_cut` |
//! | 8, 11, 14 | who is in sync or eligible has all that is committed on its disk: after each advance and each entry of metadata | `replica::check_members` |
//! | 9 | nothing is committed with fewer in sync than `min.insync.replicas` | `replica::look_at` |
//! | 10 | what is acknowledged is committed, and on enough disks | `replica::check_acknowledged`, `ledger::finish` |
//! | 12 | epochs of brokers, leaders and partitions rise as they must, high watermarks of a leader never fall | `images`, `replica::look_at` |
//! | 13 | the shape of every image; no fenced leader | `images::check_shape`, `Image::check` |
//! | 15 | roles are taken by metadata that knows of the process | `replica::look_at` |
//! | 16 | every node has the same metadata at an offset, by entries or by snapshot; decoding inverts encoding | `images` |
//! | 18 | what the controller has answered to operators and leaders is in the metadata | `answers::check_answer`, `check_told` |
//! | 19 | who stays when a replica leaves a partition has all that is committed on as many disks as have to, or as had it | `answers::check_leaving` |
//! | 20 | who was told that it may go leads nothing others could lead, is in sync only where it is alone, and comes in sync nowhere | `answers::on_released`, `check_departing` |
//! | 21 | a topic made again under its name shows nothing of the old one: offsets and values are looked up by id | `check_read` |
//! | 22 | the sequences of a producer are gapless, but for one all of whose records are deleted, and no retry is refused for its sequence | `ledger::on_high_watermark`, `clients` |
//! | 24 | what is committed for a group is what was acknowledged last, or what nobody knows the fate of | `committer`, `members::facts` |
//! | 24 | a generation has one assignment; no partition is given to a member while another has it; no commit of an earlier generation is accepted once a later one was told of | `members::facts` |
//! | 25 | a start finds all that was durable | `replica::on_recovered` |
//! | 26 | at rest: all brokers run, all replicas are in sync and equal, all writes answered, all metadata everywhere; every partition a group reads is read by one of its members | `world::unrest`, `members::facts` |
//! | 27 | what has decayed is not taken by another replica nor counted as read; only what has is found damaged; at rest nothing is: all logs read back from their disks as they were written | `replica::look_at`, `decay`, `clients`, `world::unrest` |
//! | 28 | what clients were told is deleted, none has who is in sync or eligible; a start finds the log start that was kept | `replica::check_members`, `on_recovered` |
//!
//! Not checked here: 17 (Raft, its own suite) and 23 (transactions).
//!
//! A seed that was lived through twice is the same twice; a test shows it.
//! `cargo run -p sawlog-sim --features sim -- seed 7` tells what happens in one,
//! `SAWLOG_SIM_SEEDS` and `SAWLOG_SIM_FIRST_SEED` choose what the test lives through.

mod chronicle;
mod clients;
mod clock;
mod committer;
mod decay;
mod deleter;
mod faults;
mod machine;
mod members;
mod net;
mod oracle;
#[cfg(all(test, feature = "planted-bugs"))]
mod planted;
mod process;
mod quorum;
#[cfg(test)]
mod scenes;
#[cfg(test)]
mod tests;
mod weather;
mod world;

use std::sync::{Arc, Weak};

pub use self::chronicle::{Copy, Lived, Micros, Read, Write};
pub use self::oracle::Totals;
use self::process::Process;
use self::world::World;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::Bug;
use crate::base::tasks::simulate;

/// Bugs of coordinators that worlds with members of groups show.
#[cfg(feature = "planted-bugs")]
pub const GROUP_BUGS: &[Bug] = &[
    Bug::AnswerAtAppend,
    Bug::AnswerBeforeCommit,
    Bug::AcceptStaleGeneration,
    Bug::RepeatGeneration,
    Bug::WriteBeforeAssignment,
    Bug::ForgetSessions,
    Bug::ForgetRevocation,
    Bug::AcceptStaleMemberEpoch,
    Bug::ForgetCurrent,
];

/// Lives through the world of `seed`, and tells what happens if it is to.
///
/// # Panics
/// What must hold does not.
#[must_use]
pub fn live(seed: u64, is_telling: bool) -> Totals {
    chronicle(seed, is_telling).totals
}

/// As [`live`], and returns what clients did and were told, and what replicas held in the end.
///
/// # Panics
/// What must hold does not.
#[must_use]
pub fn chronicle(seed: u64, is_telling: bool) -> Lived {
    match history(|| World::new(seed, is_telling)).0 {
        Ok(lived) => lived,
        Err(what) => panic!("seed {seed}: {what}"),
    }
}

/// What came of a world, and what is left of it in memory: processes, and owners of its oracle.
fn history(make: impl FnOnce() -> World) -> (Result<Lived, String>, usize) {
    let (lived, processes, oracle) = simulated(async {
        let world = make();
        let (oracle, processes) = (world.oracle.clone(), world.processes.clone());
        let lived = tokio::select! {
            biased;
            what = oracle.violated() => Err(what),
            lived = world.run() => Ok(lived),
        };
        (lived, processes, Arc::downgrade(&oracle))
    });
    let is_left = |process: &&Weak<Process>| process.strong_count() > 0;
    let left = processes.lock().iter().filter(is_left).count();
    (lived, left + oracle.strong_count())
}

/// Runs a world's life in this thread, in virtual time. Nothing of it goes on afterwards.
fn simulated<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads");
    simulate(true);
    let lived = runtime.block_on(tokio::task::unconstrained(life));
    drop(runtime);
    simulate(false);
    lived
}
