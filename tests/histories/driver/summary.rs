//! What was done and seen, in tables that can go into a document as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use sawlog_tests::history::{Checked, History, Micros, Sent};

use super::Happened;
use super::stalls::Longest;

#[derive(Debug)]
pub(super) struct Summary<'a> {
    pub(super) happened: &'a [Happened],
    /// How long the load was on.
    pub(super) loaded: Duration,
    pub(super) waits: &'a [Longest],
    pub(super) history: &'a History,
}

impl Summary<'_> {
    pub(super) fn print(&self, checked: &Checked) {
        let seconds = self.loaded.as_secs().max(1);
        println!(
            "{} faults in {seconds} s: {} records acknowledged, {} a second, {} in the median second",
            self.happened.len(),
            checked.acked,
            checked.acked / seconds,
            self.median_second(),
        );
        println!(
            "{} records in the log, {} MB on all replicas; {} consumers read {}; {} ends were asked for",
            checked.records,
            checked.bytes / 1_000_000,
            self.history.consumers.len(),
            checked.seen,
            self.history.looked.len(),
        );
        let violations = &checked.counts;
        println!(
            "violations: {}\n",
            if violations.is_empty() { "none".to_owned() } else { format!("{violations:?}") }
        );
        self.producers();
        self.faults();
    }

    /// How many records were acknowledged in each second, outages included.
    fn median_second(&self) -> u64 {
        let mut seconds: BTreeMap<Micros, u64> = BTreeMap::new();
        for acked in self.history.producers.values().flat_map(|sent| &sent.acked) {
            *seconds.entry(acked.done / 1_000_000).or_default() += acked.run.count;
        }
        let (Some(first), Some(last)) = (seconds.keys().next(), seconds.keys().last()) else {
            return 0;
        };
        let mut all: Vec<u64> =
            (*first..=*last).map(|at| seconds.get(&at).copied().unwrap_or_default()).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }

    fn producers(&self) {
        println!(
            "| producer | acknowledged | failed | longest wait while others went on |\n|---|---|---|---|"
        );
        for sent in self.history.producers.values() {
            let acked: u64 = sent.acked.iter().map(|acked| acked.run.count).sum();
            let wait = self.waits.iter().find(|wait| wait.name == sent.name);
            let wait = wait.map_or_else(String::new, |one| {
                format!("{:.1?}, partition {}", one.wait, one.partition)
            });
            let Sent { name, failed, .. } = sent;
            println!("| {name} | {acked} | {} | {wait} |", failed.len());
        }
    }

    fn faults(&self) {
        let mut kinds: BTreeMap<&str, Vec<&Happened>> = BTreeMap::new();
        for one in self.happened {
            kinds.entry(&one.kind).or_default().push(one);
        }
        println!(
            "\n| fault | times | silence of a partition, median | longest | recovery, longest |"
        );
        println!("|---|---|---|---|---|");
        for (kind, all) in kinds {
            let mut silences: Vec<Duration> = all.iter().map(|one| one.silence).collect();
            silences.sort_unstable();
            let (median, longest) = (silences[silences.len() / 2], silences[silences.len() - 1]);
            let recovery = all.iter().map(|one| one.recovery).max().unwrap_or_default();
            let count = all.len();
            println!("| {kind} | {count} | {median:.1?} | {longest:.1?} | {recovery:.1?} |");
        }
        println!();
    }
}
