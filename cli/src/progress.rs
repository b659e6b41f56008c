//! A line on standard error that shows how far something has come: only on a terminal, only for
//! what takes longer than half a second, and gone when it is done.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Nothing is shown before.
const QUIET: Duration = Duration::from_millis(500);

/// Time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);

/// Cells of the bar.
const BAR: u64 = 24;

/// How far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    unit: &'static str,
    total: Option<u64>,
    shown: bool,
    started: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Counts `unit` up to `total`, if that is known. Shown if asked for and on a terminal.
    pub(crate) fn new(unit: &'static str, total: Option<u64>, shown: bool) -> Self {
        let shown = shown && std::io::stderr().is_terminal();
        Self { unit, total, shown, started: Instant::now(), drawn: None }
    }

    /// `done` of them are done.
    pub(crate) fn update(&mut self, done: u64) {
        if !self.shown {
            return;
        }
        let elapsed = self.started.elapsed();
        if elapsed < QUIET || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = line(self.unit, done, self.total, elapsed);
        // Nobody to show it to is no reason to stop.
        let _gone = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _gone = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

fn line(unit: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = per_second(done, elapsed);
    match total.filter(|total| *total > 0) {
        None => format!("{done} {unit}  {rate}/s"),
        Some(total) => {
            let cells = usize::try_from(done.min(total) * BAR / total).unwrap_or(0);
            let width = usize::try_from(BAR).unwrap_or(0);
            let left =
                total.saturating_sub(done).checked_div(rate).map(|s| format!("  {s} s left"));
            let bar = "=".repeat(cells);
            format!("[{bar:width$}] {done}/{total} {unit}  {rate}/s{}", left.unwrap_or_default())
        }
    }
}

/// How many a second.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> u64 {
    let per_second = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_rate_and_time_left() {
        let second = Duration::from_secs(1);
        assert_eq!(line("records", 50, None, second), "50 records  50/s");
        let bar = line("records", 50, Some(100), second);
        assert_eq!(bar, "[============            ] 50/100 records  50/s  1 s left");
        assert!(line("records", 0, Some(100), second).contains("0/100"));
        assert!(line("records", 300, Some(100), second).contains("300/100"));
    }
}
