//! Seeded lives of a log that is compacted while it is written, on a disk that loses power, fails
//! and fills up; after every step the log says what its history says.

use super::history::History;
use super::*;
use crate::base::disk_sim::{Fault, SimRandom};
use crate::base::seeds::setting;

/// Seeds run by default; more with `SAWLOG_COMPACTION_SEEDS`, from `SAWLOG_COMPACTION_FIRST_SEED`
/// on.
const SEEDS: u64 = 150;

struct Life<'a> {
    seed: u64,
    random: &'a mut SimRandom,
    history: &'a mut History,
    disk: &'a SimDisk,
    opened: Opened,
    now: i64,
}

/// The disk has failed under the log, or the power is gone.
struct Down;

impl Life<'_> {
    fn step(&mut self) -> Result<(), Down> {
        match self.random.below(20) {
            0..=12 => self.append(),
            13 => {
                self.opened.roll();
                self.flush()
            }
            14 => self.flush(),
            15 => self.advance_start(),
            16 => {
                self.now += i64::try_from(self.random.below(1500)).unwrap();
                Ok(())
            }
            _ => self.compact(),
        }
    }

    fn append(&mut self) -> Result<(), Down> {
        let draft = self.history.draft(self.random, self.now);
        match self.opened.append(&draft.bytes) {
            Ok(base) => {
                self.history.wrote(&draft, base.0);
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(Down),
            Err(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Down> {
        self.opened.flush().map_err(|_| Down)
    }

    fn advance_start(&mut self) -> Result<(), Down> {
        let (start, end) = (self.opened.log.log_start().0, self.opened.log.durable_end().0);
        let span = u64::try_from(end - start).unwrap() / 8;
        let to = Offset(start + i64::try_from(self.random.below(span + 1)).unwrap());
        match self.opened.log.advance_start(to, &self.opened.epochs) {
            Err(error) if error.is_fatal() => Err(Down),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A pass, with whatever memory; sometimes everything between its groups happens too.
    fn compact(&mut self) -> Result<(), Down> {
        let bytes = [24 * 4, 24 * 12, 1 << 20];
        let bytes = bytes[usize::try_from(self.random.below(3)).unwrap()];
        let options = options(self.now, bytes);
        let limits = self.opened.limits();
        let Opened { log, producers, .. } = &self.opened;
        let scope = log.compaction_scope(limits, options.now, &options.rules, producers);
        let mut throttle = unthrottled();
        let mut pass = match scope.begin(options, &mut throttle) {
            Ok(pass) => pass,
            Err(error) => return self.refused(&error),
        };
        self.history.passed(pass.keys_end().0, self.now);
        loop {
            let replacement = match pass.next_replacement(&mut throttle) {
                Ok(Some(replacement)) => replacement,
                Ok(None) => break,
                Err(error) => return self.refused(&error),
            };
            if self.random.below(3) == 0 {
                self.append()?;
            }
            if self.random.below(8) == 0 {
                self.advance_start()?;
            }
            match self.opened.log.begin_swap(replacement) {
                Ok(ticket) => {
                    if self.random.below(4) == 0 {
                        self.advance_start()?;
                    }
                    let swapped = ticket.run();
                    self.opened.log.end_swap(swapped).map_err(|_| Down)?;
                }
                Err(replacement) => {
                    // Retention was here.
                    let discarded = replacement.discard();
                    return if discarded.is_ok() { Ok(()) } else { self.alive() };
                }
            }
            if self.random.below(4) == 0 {
                self.history.check(&self.opened, 0, self.seed);
            }
        }
        match pass.finish() {
            Ok(report) => {
                self.history.check(&self.opened, report.clean_upto.0, self.seed);
                Ok(())
            }
            Err(_) => self.alive(),
        }
    }

    /// A pass may end early because the disk refuses, not because of what it finds.
    fn refused(&self, error: &CompactionError) -> Result<(), Down> {
        let damaged = matches!(error, CompactionError::Storage(StorageError::Corrupt { .. }));
        assert!(!damaged, "seed {}: {error}", self.seed);
        self.alive()
    }

    fn alive(&self) -> Result<(), Down> {
        if self.disk.has_crashed() { Err(Down) } else { Ok(()) }
    }
}

pub(super) fn simulate(seed: u64) -> String {
    let mut random = SimRandom::new(seed);
    let mut history = History::default();
    let mut disk = disk();
    let mut trace = String::new();
    let (mut now, mut acknowledged) = (10_000, 0);
    for life in 0..4 {
        let opened =
            try_open(&disk).unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
        let end = opened.log.log_end().0;
        assert!(end >= acknowledged, "seed {seed}: {end}, acknowledged {acknowledged}");
        assert!(opened.log.quarantined().is_empty(), "seed {seed}: {:?}", opened.log.quarantined());
        history.lost_from(end);
        history.resume(&opened.producers);
        history.check(&opened, 0, seed);
        let fault = [Fault::Crash, Fault::Crash, Fault::Crash, Fault::Io, Fault::NoSpace];
        let fault = fault[usize::try_from(random.below(5)).unwrap()];
        disk.plan(20 + random.below(400), fault);
        let mut life =
            Life { seed, random: &mut random, history: &mut history, disk: &disk, opened, now };
        for _ in 0..120 {
            if life.step().is_err() || disk.has_crashed() {
                break;
            }
        }
        now = life.now + 10;
        acknowledged = life.opened.log.durable_end().0;
        trace.push_str(&format!("{acknowledged} {};", disk.operations()));
        drop(life);
        disk = disk.restart(random.bits());
    }
    trace
}

#[test]
fn a_compacted_log_says_what_its_history_says_whatever_happens() {
    let first = setting("SAWLOG_COMPACTION_FIRST_SEED").unwrap_or(0);
    for seed in first..first + setting("SAWLOG_COMPACTION_SEEDS").unwrap_or(SEEDS) {
        simulate(seed);
    }
}

#[test]
fn a_seed_run_twice_does_the_same() {
    for seed in 0..6 {
        assert_eq!(simulate(seed), simulate(seed));
    }
}
