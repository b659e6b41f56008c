//! What the members of a group were told, held against each other.
//!
//! (24) A generation has one assignment: all who are told what is theirs in it are told of one plan of
//! one leader. Of the consumer protocol: no partition is given to a member while another one has it,
//! who has not let go of it and cannot have been given up. A commit that was sent after a later
//! generation (or epoch of its member) was told of is refused, for good. What is committed is what was
//! acknowledged last, or later than that and of unknown fate.
//!
//! Brokers that were deposed and do not know it yet may tell what was: they change nothing, which is held
//! against them, but what they say of the past is not. An answer is *sure* where whoever gave it led the
//! group's partition, and knew, when it was asked and when the answer came.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::LeaderEpoch;

/// When something happened, among all that members did and were told.
pub(super) type Moment = u64;

/// Who commits, or is told of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The member's id; empty where generations are the group's, as in the classic protocol.
    pub(super) of: String,
    /// The generation, or the member's epoch.
    pub(super) epoch: i32,
}

/// What a leader has decided.
pub(super) type Plan = BTreeMap<String, Vec<i32>>;

/// An offset that was sent.
#[derive(Debug)]
struct Commit {
    partition: i32,
    offset: i64,
    by: Standing,
    sent: Moment,
    /// When it was known to be committed.
    known: Option<Moment>,
    is_refused: bool,
}

/// Who has a partition.
#[derive(Debug)]
struct Holder {
    id: String,
    /// Since when nobody has said for sure that it is a member.
    heard: Instant,
}

/// What a member has now.
#[derive(Debug)]
struct Place {
    epoch: i32,
    reads: BTreeSet<i32>,
    /// When it asked last whether that is still so, and was told for sure that it is.
    confirmed: Moment,
}

/// All that is known of a group.
#[derive(Debug, Default)]
pub(super) struct Facts {
    now: Moment,
    plans: Vec<Plan>,
    /// Which plan a generation goes by.
    generations: BTreeMap<i32, usize>,
    /// When each was told of an epoch first.
    told: BTreeMap<String, BTreeMap<i32, Moment>>,
    /// Leaderships of the coordinator's partition that have told anybody of the group.
    serving: BTreeSet<LeaderEpoch>,
    commits: Vec<Commit>,
    holders: BTreeMap<i32, Holder>,
    places: BTreeMap<u32, Place>,
    /// When a member's place has changed last.
    changed: Moment,
}

impl Facts {
    /// The moment after all there were.
    pub(super) fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A leader has made a plan. Returns its number.
    pub(super) fn plan(&mut self, plan: Plan) -> usize {
        self.plans.push(plan);
        self.plans.len() - 1
    }

    /// A member is told what it is to read in a generation, and by which plan. Returns whether nobody was
    /// told of that generation before.
    pub(super) fn on_assigned(
        &mut self,
        generation: i32,
        id: &str,
        (plan, reads): (usize, &BTreeSet<i32>),
    ) -> bool {
        let known = self.generations.get(&generation).copied();
        assert!(
            known.is_none_or(|known| known == plan),
            "(24) generation {generation} has two assignments: {id} is told of {:?}, and another \
             was of {:?}",
            self.plans.get(plan),
            known.and_then(|known| self.plans.get(known)),
        );
        let planned = self.plans.get(plan).and_then(|plan| plan.get(id));
        let planned = planned.map(|planned| planned.iter().copied().collect::<BTreeSet<i32>>());
        assert!(
            planned.as_ref() == Some(reads),
            "(24) {id} is to read {reads:?} in generation {generation}, planned was {planned:?}"
        );
        self.generations.insert(generation, plan);
        known.is_none()
    }

    /// Somebody was told, or has been given, an epoch. Returns whether for the first time.
    pub(super) fn on_told(&mut self, to: &Standing) -> bool {
        let now = self.tick();
        let told = self.told.entry(to.of.clone()).or_default();
        let is_new = !told.contains_key(&to.epoch);
        told.entry(to.epoch).or_insert(now);
        is_new
    }

    /// (24) What is said for sure after `asked` is not of an epoch before one that was told of by then.
    pub(super) fn check_sure(&self, said: &Standing, asked: Moment) {
        let later = self.over_since(said);
        assert!(
            later.is_none_or(|later| later > asked),
            "(24) {said:?} is taken for the present by who leads, after {:?} were told of",
            self.told.get(&said.of)
        );
    }

    /// In this leadership the group has been told of: it is not being loaded any more.
    pub(super) fn on_serving(&mut self, leads: Option<LeaderEpoch>) {
        self.serving.extend(leads);
    }

    /// Whether that is known. Heartbeats are taken blindly until then, as Kafka takes them.
    pub(super) fn is_serving(&self, leads: Option<LeaderEpoch>) -> bool {
        leads.is_some_and(|leads| self.serving.contains(&leads))
    }

    /// Since when there is a later epoch.
    fn over_since(&self, standing: &Standing) -> Option<Moment> {
        let later = self.told.get(&standing.of)?.range(standing.epoch.checked_add(1)?..);
        later.map(|(_, told)| *told).min()
    }

    /// An offset is sent to be committed, higher than all before. Returns what to call it, and the offset.
    pub(super) fn on_commit(&mut self, partition: i32, by: Standing) -> (usize, i64) {
        let sent = self.tick();
        let before = self.commits.iter().filter(|it| it.partition == partition).count();
        let offset = i64::try_from(before).unwrap_or(i64::MAX - 1) + 1;
        self.commits.push(Commit { partition, offset, by, sent, known: None, is_refused: false });
        (self.commits.len() - 1, offset)
    }

    /// It is certain that it was committed, or never will be.
    pub(super) fn on_outcome(&mut self, commit: usize, is_committed: bool) {
        let now = self.tick();
        let Some(commit) = self.commits.get_mut(commit) else { return };
        if is_committed {
            commit.known.get_or_insert(now);
        } else {
            commit.is_refused = true;
        }
        let Some(commit) = self.commits.iter().find(|it| it.known == Some(now)) else { return };
        self.check_present(commit);
    }

    fn check_present(&self, commit: &Commit) {
        let over = self.over_since(&commit.by);
        assert!(
            over.is_none_or(|over| over > commit.sent),
            "(24) a commit of the past is accepted: {commit:?}, and told were {:?}",
            self.told.get(&commit.by.of)
        );
    }

    /// (24) Who asked at `asked` was told for sure that this is committed, -1 for nothing.
    pub(super) fn on_found(&mut self, partition: i32, found: i64, asked: Moment) {
        let now = self.tick();
        let of_it = self.commits.iter().filter(|it| it.partition == partition);
        let done = of_it.clone().filter(|it| it.known.is_some_and(|known| known < asked));
        if found < 0 {
            let lost = done.clone().next_back();
            assert!(lost.is_none(), "(24) nothing is committed of {partition}, but was: {lost:?}");
            return;
        }
        let Some(commit) = of_it.clone().find(|it| it.offset == found) else {
            panic!("(24) {found} is committed of {partition}, which nobody sent");
        };
        assert!(!commit.is_refused, "(24) committed is what was refused: {commit:?}");
        self.check_present(commit);
        let over = commit.known.into_iter().chain(self.over_since(&commit.by)).min();
        let after = done.clone().find(|it| over.is_some_and(|over| over < it.sent));
        assert!(
            after.is_none(),
            "(24) {commit:?} is said to be committed, but was acknowledged later: {after:?}"
        );
        let at = self.commits.iter_mut().find(|it| (it.partition, it.offset) == (partition, found));
        if let Some(commit) = at {
            commit.known.get_or_insert(now);
        }
    }

    /// (24) A member of the consumer protocol, that asked at `asked`, was given partitions for sure.
    pub(super) fn on_given(
        &mut self,
        (id, asked): (&str, Instant),
        partitions: &BTreeSet<i32>,
        session: Duration,
    ) {
        for partition in partitions {
            if let Some(holder) = self.holders.get(partition).filter(|holder| holder.id != id) {
                let since = holder.heard.elapsed();
                assert!(
                    since >= session,
                    "(24) {partition} is given to {id} while {} has it, of which was heard {since:?} \
                     ago",
                    holder.id
                );
            }
            self.holders.insert(*partition, Holder { id: id.to_owned(), heard: asked });
        }
    }

    /// A member was told for sure, having asked at `asked`, that it is one.
    pub(super) fn on_heard(&mut self, id: &str, asked: Instant) {
        for holder in self.holders.values_mut().filter(|holder| holder.id == id) {
            holder.heard = asked;
        }
    }

    /// A member reads no more than these.
    pub(super) fn on_released(&mut self, id: &str, keeps: &BTreeSet<i32>) {
        self.holders.retain(|at, holder| holder.id != id || keeps.contains(at));
    }

    /// What a member has now; none where it is none.
    pub(super) fn on_place(&mut self, member: u32, place: Option<(i32, BTreeSet<i32>)>) {
        let now = self.tick();
        let known = self.places.remove(&member);
        let is_same = match (&known, &place) {
            (Some(known), Some((epoch, reads))) => known.epoch == *epoch && known.reads == *reads,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            self.changed = now;
        }
        if let Some((epoch, reads)) = place {
            let confirmed = known.map_or(0, |known| known.confirmed);
            self.places.insert(member, Place { epoch, reads, confirmed });
        }
    }

    /// A member, who asked at `asked`, was told for sure that all is as it was.
    pub(super) fn on_confirmed(&mut self, member: u32, asked: Moment) {
        if let Some(place) = self.places.get_mut(&member) {
            place.confirmed = asked;
        }
    }

    /// (26) Why the group has not come to rest: every partition is to be read by one of so many members,
    /// all of one epoch, and none of them is told anything else.
    pub(super) fn unrest(&self, members: u32, partitions: i32) -> Option<String> {
        let read: Vec<i32> = self.places.values().flat_map(|place| &place.reads).copied().collect();
        let all: BTreeSet<i32> = (0..partitions).collect();
        let first = self.places.values().next().map(|place| place.epoch);
        let is_at_rest = u32::try_from(self.places.len()) == Ok(members)
            && read.len() == all.len()
            && read.iter().copied().collect::<BTreeSet<i32>>() == all
            && self
                .places
                .values()
                .all(|it| Some(it.epoch) == first && it.confirmed > self.changed);
        (!is_at_rest).then(|| format!("the members of the group have {:?}", self.places))
    }
}
