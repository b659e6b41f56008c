//! Replays the world of one seed, or lives through many.
//!
//! ```text
//! cargo run --profile sim -p sawlog-sim --features sim -- seed 7
//! cargo run --profile sim -p sawlog-sim --features sim -- run --seeds 10000
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Parser, Subcommand};
use sawlog_broker::sim::{Totals, chronicle};

mod history;

/// Lives through simulated clusters.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Live through the world of one seed, and tell what happens.
    Seed {
        /// The seed.
        seed: u64,
        /// Only whether all is well.
        #[arg(long)]
        quiet: bool,
    },
    /// Live through the worlds of many seeds.
    Run {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Worlds at once.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Go on after a violation.
        #[arg(long)]
        keep_going: bool,
    },
    /// Look for each bug that can be switched on.
    #[cfg(feature = "planted-bugs")]
    Planted {
        /// Seeds tried for each.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// Only bugs whose names contain this.
        #[arg(long, default_value = "")]
        named: String,
    },
}

/// Lives through a seed, and holds what its clients were told against the checker of histories.
fn live(seed: u64, is_telling: bool) -> Totals {
    let lived = chronicle(seed, is_telling);
    let violations = history::violations(&lived);
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    lived.totals
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Seed { seed, quiet } => {
            println!("{:#?}", live(seed, !quiet));
            ExitCode::SUCCESS
        }
        Command::Run { seeds, first, threads, keep_going } => {
            run(first..first + seeds, threads, keep_going)
        }
        #[cfg(feature = "planted-bugs")]
        Command::Planted { seeds, named } => planted(seeds, &named),
    }
}

#[cfg(feature = "planted-bugs")]
fn planted(seeds: u64, named: &str) -> ExitCode {
    use sawlog_broker::base::planted::{Bug, switch};
    use sawlog_broker::sim::GROUP_BUGS;
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    for bug in Bug::REPLICATION.iter().chain(Bug::CLUSTER).chain(GROUP_BUGS) {
        if !format!("{bug:?}").contains(named) {
            continue;
        }
        let shows = |seed: &u64| {
            switch(Some(*bug));
            let what = catch_unwind(|| live(*seed, false)).err();
            switch(None);
            let what = what?.downcast_ref::<String>().cloned().unwrap_or_default();
            Some((*seed, what.lines().next().unwrap_or_default().to_owned()))
        };
        match (0..seeds).find_map(|seed| shows(&seed)) {
            Some((seed, what)) => println!("{bug:?}: {}: {what}", seed + 1),
            None => {
                missed += 1;
                println!("{bug:?}: not in {seeds}");
            }
        }
    }
    ExitCode::from(u8::from(missed > 0))
}

fn run(seeds: std::ops::Range<u64>, threads: usize, keep_going: bool) -> ExitCode {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let totals = Mutex::new(Totals::default());
    let begun = Instant::now();
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let over = !keep_going && failed.lock().map_or(true, |failed| !failed.is_empty());
        if seed >= seeds.end || over {
            return;
        }
        match catch_unwind(|| live(seed, false)) {
            Ok(lived) => drop(totals.lock().map(|mut totals| totals.add(&lived))),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                println!("SEED {seed}: what must hold does not: {what}");
                drop(failed.lock().map(|mut failed| failed.push(seed)));
            }
        }
        let done = seed - seeds.start + 1;
        if done.is_multiple_of(1000) {
            println!("{done} seeds, {:.0} s", begun.elapsed().as_secs_f64());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let count = seeds.end - seeds.start;
    #[allow(clippy::cast_precision_loss)]
    let pace = count as f64 / took;
    println!("{count} seeds in {took:.0} s: {pace:.1} a second on {threads} threads");
    let totals = totals.into_inner().unwrap_or_default();
    println!("{totals:#?}");
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        let is_telling = count < 100 || totals.is_telling(count);
        if !is_telling {
            println!("too little happened for {count} seeds to say anything");
        }
        return ExitCode::from(u8::from(!is_telling));
    }
    println!("{} violations, seeds {failed:?}", failed.len());
    ExitCode::FAILURE
}
