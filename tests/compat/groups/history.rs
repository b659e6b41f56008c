//! What the members of one group told, merged, and what must be true of it.
//!
//! A member owns what it was assigned until it says otherwise, dies, or is stopped: one that is stopped
//! cannot know what is taken from it, and may hand on what it had fetched.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A member's own clock is the machine's: microseconds since 1970.
type Micros = u64;

/// One line of a member.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) member: String,
    pub(super) at: Micros,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Partitions were added, in this generation if the client tells it.
    Assigned(Vec<i32>, Option<i64>),
    /// Partitions were given up: asked for, or found to be lost.
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
    Records(i32, Vec<i64>),
    Committed(BTreeMap<i32, i64>),
    /// The driver killed or stopped it: it owns nothing from here on.
    Silenced,
    /// A commit was refused, or the member closed.
    Other,
}

impl Event {
    /// A line of a member; `None` if it is none.
    pub(super) fn parse(member: &str, line: &str) -> Option<Event> {
        let json: Value = serde_json::from_str(line).ok()?;
        let partitions = || -> Option<Vec<i32>> {
            let all = json["partitions"].as_array()?.iter();
            all.map(|p| i32::try_from(p.as_i64()?).ok()).collect()
        };
        let what = match json["event"].as_str()? {
            "assigned" => What::Assigned(partitions()?, json["generation"].as_i64()),
            "revoked" => What::Revoked(partitions()?),
            "lost" => What::Lost(partitions()?),
            "records" => {
                let offsets = json["offsets"].as_array()?.iter().map(Value::as_i64);
                What::Records(number(&json["partition"])?, offsets.collect::<Option<_>>()?)
            }
            "committed" => {
                let offsets = json["offsets"].as_object()?.iter();
                What::Committed(
                    offsets
                        .map(|(p, o)| Some((p.parse().ok()?, o.as_i64()?)))
                        .collect::<Option<_>>()?,
                )
            }
            _ => What::Other,
        };
        Some(Event { member: member.to_owned(), at: json["at"].as_u64()?, what })
    }
}

fn number(json: &Value) -> Option<i32> {
    i32::try_from(json.as_i64()?).ok()
}

/// Everything told so far, in the order it was heard: of one member, that is the order it happened.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Whatever else they printed, to be shown with a failure.
    pub(super) said: Vec<String>,
    events: Vec<Event>,
    owned: BTreeMap<String, BTreeSet<i32>>,
    /// Which offsets of each partition were handed to a member.
    processed: BTreeMap<i32, BTreeSet<i64>>,
    /// The highest commit of each partition that was confirmed.
    committed: BTreeMap<i32, i64>,
}

impl History {
    pub(super) fn add(&mut self, event: Event) {
        let owned = self.owned.entry(event.member.clone()).or_default();
        match &event.what {
            What::Assigned(partitions, _) => owned.extend(partitions),
            What::Revoked(partitions) | What::Lost(partitions) => {
                owned.retain(|p| !partitions.contains(p));
            }
            What::Silenced => owned.clear(),
            What::Records(partition, offsets) => {
                self.processed.entry(*partition).or_default().extend(offsets);
            }
            What::Committed(offsets) => {
                for (partition, offset) in offsets {
                    let highest = self.committed.entry(*partition).or_default();
                    *highest = (*highest).max(*offset);
                }
            }
            What::Other => {}
        }
        self.events.push(event);
    }

    pub(super) fn owned(&self, member: &str) -> BTreeSet<i32> {
        self.owned.get(member).cloned().unwrap_or_default()
    }

    pub(super) fn committed(&self) -> &BTreeMap<i32, i64> {
        &self.committed
    }

    /// Whether every offset below the ends was processed by someone.
    pub(super) fn has_processed(&self, ends: &BTreeMap<i32, i64>) -> bool {
        ends.iter().all(|(partition, end)| self.missing(*partition, *end) == 0)
    }

    fn missing(&self, partition: i32, end: i64) -> usize {
        let seen = self.processed.get(&partition);
        (0..end).filter(|offset| !seen.is_some_and(|seen| seen.contains(offset))).count()
    }

    /// How many records nobody has processed, by partition.
    pub(super) fn unprocessed(&self, ends: &BTreeMap<i32, i64>) -> Vec<(i32, usize)> {
        let counts = ends.iter().map(|(p, end)| (*p, self.missing(*p, *end)));
        counts.filter(|(_, missing)| *missing > 0).collect()
    }

    /// What a member was told and did from its `since`th event on.
    pub(super) fn of<'a>(&'a self, member: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.member == member)
    }

    /// The first offset the member was handed of each partition.
    pub(super) fn first_offsets(&self, members: &[&str]) -> BTreeMap<i32, i64> {
        let mut first = BTreeMap::new();
        for event in self.events.iter().filter(|e| members.contains(&e.member.as_str())) {
            if let What::Records(partition, offsets) = &event.what
                && let Some(offset) = offsets.first()
            {
                first.entry(*partition).or_insert(*offset);
            }
        }
        first
    }

    /// No partition is owned by two members in one generation. What a member had is free when it is dead.
    pub(super) fn check_generations(&self) -> Result<(), String> {
        let mut owned: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        let mut claims: BTreeMap<(i64, &str), BTreeSet<i32>> = BTreeMap::new();
        for event in &self.events {
            let mine = owned.entry(&event.member).or_default();
            match &event.what {
                What::Assigned(partitions, generation) => {
                    mine.extend(partitions);
                    let Some(now) = generation.filter(|g| *g >= 0) else { continue };
                    claims.insert((now, &event.member), mine.clone());
                    let others =
                        claims.iter().filter(|((g, m), _)| *g == now && *m != event.member);
                    for ((_, other), theirs) in others {
                        if !theirs.is_disjoint(mine) {
                            let me = &event.member;
                            return Err(format!(
                                "generation {now}: {me} has {mine:?}, {other} {theirs:?}"
                            ));
                        }
                    }
                }
                What::Revoked(partitions) | What::Lost(partitions) => {
                    mine.retain(|p| !partitions.contains(p));
                }
                What::Silenced => {
                    mine.clear();
                    claims.retain(|(_, member), _| *member != event.member);
                }
                What::Records(..) | What::Committed(_) | What::Other => {}
            }
        }
        Ok(())
    }

    /// No partition is owned by two members at one time. A member that was expelled, because the machine
    /// had no time for it, learns that late, and says that its partitions were lost: that is no overlap.
    pub(super) fn check_times(&self) -> Result<(), String> {
        let mut spans: Vec<(i32, &str, Micros, Micros)> = Vec::new();
        let mut open: BTreeMap<(&str, i32), Micros> = BTreeMap::new();
        let mut lost: BTreeSet<(&str, i32, Micros)> = BTreeSet::new();
        for event in &self.events {
            let member = event.member.as_str();
            let ended: Vec<i32> = match &event.what {
                What::Assigned(partitions, _) => {
                    for partition in partitions {
                        open.entry((member, *partition)).or_insert(event.at);
                    }
                    continue;
                }
                What::Revoked(partitions) | What::Lost(partitions) => partitions.clone(),
                What::Silenced => open.keys().filter(|(m, _)| *m == member).map(|k| k.1).collect(),
                What::Records(..) | What::Committed(_) | What::Other => continue,
            };
            for partition in ended {
                if let Some(since) = open.remove(&(member, partition)) {
                    spans.push((partition, member, since, event.at));
                    if matches!(event.what, What::Lost(_)) {
                        lost.insert((member, partition, since));
                    }
                }
            }
        }
        spans.extend(open.iter().map(|((member, p), since)| (*p, *member, *since, Micros::MAX)));
        spans.retain(|(p, member, since, _)| !lost.contains(&(*member, *p, *since)));
        spans.sort_by_key(|(partition, _, since, _)| (*partition, *since));
        for pair in spans.windows(2) {
            let [(p, one, from, until), (q, other, since, _)] = pair else { continue };
            if p == q && one != other && since < until {
                return Err(format!(
                    "partition {p}: {one} has it from {from} to {until}, {other} from {since}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &[(&str, &str)]) -> History {
        let mut history = History::default();
        for (member, line) in lines {
            history.add(Event::parse(member, line).unwrap_or_else(|| panic!("{line}")));
        }
        history
    }

    const A1: (&str, &str) =
        ("a", r#"{"at":1,"event":"assigned","partitions":[0,1],"generation":1}"#);
    const B1: (&str, &str) =
        ("b", r#"{"at":5,"event":"assigned","partitions":[1],"generation":1}"#);
    const B2: (&str, &str) =
        ("b", r#"{"at":5,"event":"assigned","partitions":[1],"generation":2}"#);

    #[test]
    fn a_partition_owned_twice_is_found() {
        assert!(history(&[A1, B1]).check_generations().is_err());
        assert!(history(&[A1, B2]).check_generations().is_ok());
        assert!(history(&[A1, B2]).check_times().is_err());
        let revoked = ("a", r#"{"at":4,"event":"revoked","partitions":[1]}"#);
        assert!(history(&[A1, revoked, B2]).check_times().is_ok());
        let late = ("a", r#"{"at":6,"event":"revoked","partitions":[1]}"#);
        assert!(history(&[A1, B2, late]).check_times().is_err());
        let lost = ("a", r#"{"at":6,"event":"lost","partitions":[0,1]}"#);
        assert!(history(&[A1, B2, lost]).check_times().is_ok());
    }

    #[test]
    fn a_record_nobody_processed_is_found() {
        let seen = ("a", r#"{"at":1,"event":"records","partition":0,"offsets":[0,2]}"#);
        let history = history(&[seen]);
        assert_eq!(history.unprocessed(&BTreeMap::from([(0, 3), (1, 2)])), [(0, 1), (1, 2)]);
        assert!(history.has_processed(&BTreeMap::from([(0, 1)])));
    }
}
