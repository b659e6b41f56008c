//! What must hold of groups, whatever happens (RELIABILITY P12), told from outside: from what was
//! sent, what was answered, and what is in the log.

use std::collections::BTreeMap;

use crate::base::seeds;
use crate::coordinator::Record;

/// How much happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) restarts: u64,
    pub(super) owned: u64,
    pub(super) commits: u64,
    pub(super) fetches: u64,
    pub(super) stale: u64,
    pub(super) fenced: u64,
    pub(super) expired: u64,
    pub(super) generations: u64,
}

impl seeds::Totals for Totals {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.restarts += other.restarts;
        self.owned += other.owned;
        self.commits += other.commits;
        self.fetches += other.fetches;
        self.stale += other.stale;
        self.fenced += other.fenced;
        self.expired += other.expired;
        self.generations += other.generations;
    }

    fn is_telling(&self, seeds: u64) -> bool {
        [self.restarts, self.stale, self.fenced].iter().all(|count| *count >= seeds / 5)
            && self.expired >= seeds / 50
            && [self.owned, self.commits, self.fetches].iter().all(|count| *count >= seeds * 2)
    }
}

/// A value of a partition's committed offset, by where it is in the log.
#[derive(Clone, Copy, Debug)]
struct Version {
    at: usize,
    offset: Option<i64>,
}

/// Remembers what was promised.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) totals: Totals,
    /// Who was told to read which partition, by life of the group and generation.
    owners: BTreeMap<(u64, i32, i32), String>,
    /// The newest generation, by life of the group, of which somebody has its assignment.
    assigned: BTreeMap<u64, i32>,
    /// By instance, the number of the newest member id that has an assignment.
    fenced_below: BTreeMap<String, u64>,
    /// By partition, in the order of the log.
    versions: BTreeMap<i32, Vec<Version>>,
    /// By partition: the place in the log that is known to be committed and to be told of.
    required: BTreeMap<i32, usize>,
    /// Values whose commit was refused for good.
    refused: Vec<i64>,
}

impl Oracle {
    /// `record` is in the log at `at`.
    pub(super) fn on_appended(&mut self, at: usize, record: &Record) {
        if let Record::Offset { partition, value, .. } = record {
            let offset = value.as_ref().map(|value| value.offset.0);
            self.versions.entry(partition.partition).or_default().push(Version { at, offset });
        }
    }

    /// The log ends at `end` now: the rest was never committed.
    pub(super) fn on_lost(&mut self, end: usize) {
        for versions in self.versions.values_mut() {
            versions.retain(|version| version.at < end);
        }
    }

    /// A member has its assignment: at most one owner of a partition in a generation.
    pub(super) fn on_assigned(
        &mut self,
        (life, generation): (u64, i32),
        identity: &str,
        partitions: &[i32],
    ) {
        for partition in partitions {
            let owner = self
                .owners
                .entry((life, generation, *partition))
                .or_insert_with(|| identity.to_owned());
            assert_eq!(owner, identity, "two read {partition} in generation {generation}");
        }
        let newest = self.assigned.entry(life).or_insert(generation);
        if *newest < generation {
            self.totals.generations += 1;
        }
        *newest = (*newest).max(generation);
        self.totals.owned += 1;
    }

    pub(super) fn on_instance(&mut self, instance: &str, number: u64) {
        let below = self.fenced_below.entry(instance.to_owned()).or_default();
        *below = (*below).max(number);
    }

    /// The newest generation somebody has the assignment of.
    pub(super) fn newest(&self, life: u64) -> i32 {
        self.assigned.get(&life).copied().unwrap_or(-1)
    }

    pub(super) fn is_fenced(&self, instance: &str, number: u64) -> bool {
        self.fenced_below.get(instance).is_some_and(|below| number < *below)
    }

    /// The commit of `offset` was answered with success, and is in the log at `at`.
    pub(super) fn on_committed(&mut self, partition: i32, at: usize) {
        let required = self.required.entry(partition).or_insert(at);
        *required = (*required).max(at);
        self.totals.commits += 1;
    }

    /// The commit of `offset` was refused, and never sent twice.
    pub(super) fn on_commit_refused(&mut self, offset: i64) {
        self.refused.push(offset);
        self.totals.stale += 1;
    }

    /// The group was deleted by the records from `at` on: nothing it had committed is left.
    pub(super) fn on_deleted(&self, at: usize) {
        for (partition, versions) in &self.versions {
            let before = versions.iter().rfind(|version| version.at < at);
            let after = versions.iter().find(|version| version.at >= at);
            let is_gone = after.is_some_and(|version| version.offset.is_none());
            let had_one = before.is_some_and(|version| version.offset.is_some());
            assert!(is_gone || !had_one, "an offset of {partition} outlives its group");
        }
    }

    /// What a fetch sent now has to tell of at least.
    pub(super) fn required(&self, partition: i32) -> Option<usize> {
        self.required.get(&partition).copied()
    }

    /// A fetch was answered with `offset`: it was committed, and what `required` demands is not
    /// newer.
    pub(super) fn on_fetched(
        &mut self,
        partition: i32,
        offset: Option<i64>,
        required: Option<usize>,
        committed: usize,
    ) {
        self.totals.fetches += 1;
        let versions = self.versions.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let lives = |index: usize| {
            versions.get(index).is_none_or(|next| required.is_none_or(|at| next.at > at))
        };
        if offset.is_none() && lives(0) {
            return;
        }
        let seen = versions.iter().enumerate().find(|(index, version)| {
            version.offset == offset && version.at < committed && lives(index + 1)
        });
        let Some((_, version)) = seen else {
            panic!(
                "fetched {offset:?} of {partition}, asked for {required:?} of {committed}: {versions:?}"
            )
        };
        let required = self.required.entry(partition).or_insert(version.at);
        *required = (*required).max(version.at);
    }

    /// At the end: nothing that was refused is in the log.
    pub(super) fn finish(&self) {
        for version in self.versions.values().flatten() {
            if let Some(offset) = version.offset {
                assert!(
                    !self.refused.contains(&offset),
                    "the refused commit {offset} is in the log"
                );
            }
        }
    }
}
