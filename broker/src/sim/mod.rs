//! Whole clusters in one thread, each from one seed: the code that brokers run, put together as they
//! put it together, over a simulated network, simulated disks and virtual time.

mod clients;
mod clock;
mod faults;
mod machine;
mod net;
mod oracle;
mod process;
mod quorum;
#[cfg(test)]
mod tests;
mod weather;
mod world;

pub use self::oracle::Totals;
use self::world::World;
use crate::base::tasks::simulate;

/// Lives through the world of `seed`, and tells what happens if it is to.
///
/// # Panics
/// What must hold does not.
#[must_use]
pub fn live(seed: u64, is_telling: bool) -> Totals {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads");
    simulate(true);
    let lived = runtime.block_on(tokio::task::unconstrained(async {
        let world = World::new(seed, is_telling);
        let oracle = world.oracle.clone();
        tokio::select! {
            biased;
            what = oracle.violated() => Err(what),
            totals = world.run() => Ok(totals),
        }
    }));
    simulate(false);
    match lived {
        Ok(totals) => totals,
        Err(what) => panic!("seed {seed}: {what}"),
    }
}
