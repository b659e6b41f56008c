//! What surrounds a core: its clock, its log, of which only a part is committed, and replies that wait
//! for that part to grow. Restarts lose the rest, or some of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::CallId;
use crate::base::{Offset, Timestamp};
use crate::coordinator::tests::driver::group;
use crate::coordinator::*;
use crate::metadata::Image;

/// A reply that waits for the log.
#[derive(Debug)]
pub(in crate::coordinator::tests) struct Held {
    /// Records that have to be committed.
    needs: usize,
    request: RequestId,
    pub(in crate::coordinator::tests) reply: Reply,
    /// Counts how often the group had been removed for good.
    pub(in crate::coordinator::tests) life: u64,
    /// Where the records of the same output are.
    pub(in crate::coordinator::tests) wrote: Option<usize>,
}

/// A core, and what its shell keeps for it.
#[derive(Debug)]
pub(in crate::coordinator::tests) struct Shell {
    pub(in crate::coordinator::tests) now: Now,
    pub(in crate::coordinator::tests) core: GroupCore,
    /// Tells cores apart.
    pub(in crate::coordinator::tests) core_number: u64,
    pub(in crate::coordinator::tests) options: GroupOptions,
    image: Arc<Image>,
    pub(in crate::coordinator::tests) log: Vec<Record>,
    /// Ends of batches: what a restart may cut.
    batches: Vec<usize>,
    pub(in crate::coordinator::tests) committed: usize,
    held: Vec<Held>,
    /// Who gets the reply; requests whose reply has left are gone.
    asked: BTreeMap<RequestId, CallId>,
    life: u64,
}

impl Shell {
    pub(in crate::coordinator::tests) fn new(options: GroupOptions, image: Arc<Image>) -> Self {
        Self {
            now: Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_795_000_000_000) },
            core: GroupCore::new(options.clone(), image.clone()),
            core_number: 0,
            options,
            image,
            log: Vec::new(),
            batches: vec![0],
            committed: 0,
            held: Vec::new(),
            asked: BTreeMap::new(),
            life: 0,
        }
    }

    pub(in crate::coordinator::tests) fn life(&self) -> u64 {
        self.life
    }

    pub(in crate::coordinator::tests) fn jump(&mut self, to: Duration) {
        let by = to.saturating_sub(self.now.monotonic);
        self.now.monotonic += by;
        self.now.wall.0 += i64::try_from(by.as_millis()).unwrap();
    }

    /// The cluster looks like this from now on.
    pub(in crate::coordinator::tests) fn see(&mut self, image: Arc<Image>) {
        self.image = image;
        self.core.see(&self.image);
    }

    /// Brings a request of `call` to the core.
    pub(in crate::coordinator::tests) fn ask(
        &mut self,
        (id, call): (RequestId, CallId),
        request: Request,
    ) -> Output {
        self.asked.insert(id, call);
        self.core.on_request(self.now, id, request)
    }

    /// The call a request of the core came with.
    pub(in crate::coordinator::tests) fn call_of(&self, request: RequestId) -> Option<CallId> {
        self.asked.get(&request).copied()
    }

    /// Appends the records of an output, as one batch. Returns where they are.
    pub(in crate::coordinator::tests) fn append(&mut self, records: &[Record]) -> Option<usize> {
        let is_end = |record: &Record| matches!(record, Record::Group { value: None, .. });
        self.life += u64::try_from(records.iter().filter(|it| is_end(it)).count()).unwrap();
        let base = self.log.len();
        self.log.extend_from_slice(records);
        self.core.on_appended(records.to_vec(), Offset(i64::try_from(base).unwrap()));
        if records.is_empty() {
            return None;
        }
        self.batches.push(self.log.len());
        Some(base)
    }

    /// Replies of an output whose records were written at `wrote`.
    pub(in crate::coordinator::tests) fn hold(
        &mut self,
        replies: Vec<Outgoing>,
        wrote: Option<usize>,
    ) {
        let own = wrote.map_or(0, |_| self.log.len());
        for Outgoing { request, reply, after } in replies {
            let after = after.map_or(0, |after| usize::try_from(after.0).unwrap() + 1);
            self.held.push(Held { needs: after.max(own), request, reply, life: self.life, wrote });
        }
    }

    /// The log takes no records just now, and these were all offsets: the core is as before.
    pub(in crate::coordinator::tests) fn refuse(&mut self, refusal: Option<(RequestId, Reply)>) {
        self.core.on_refused();
        let Some((request, reply)) = refusal else { return };
        self.held.push(Held { needs: 0, request, reply, life: self.life, wrote: None });
    }

    /// What is below `upto` is committed.
    pub(in crate::coordinator::tests) fn commit(&mut self, upto: usize) {
        self.committed = self.committed.max(upto.min(self.log.len()));
    }

    /// Replies that wait no longer.
    pub(in crate::coordinator::tests) fn release(&mut self) -> Vec<(CallId, Held)> {
        let committed = self.committed;
        let (ready, held): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| held.needs <= committed);
        self.held = held;
        let mut call = |held: &Held| self.asked.remove(&held.request).expect("answered once");
        ready.into_iter().map(|held| (call(&held), held)).collect()
    }

    /// Every request is waiting in the core, held back here, or answered.
    pub(in crate::coordinator::tests) fn check_waiting(&self, seed: u64) {
        let open = self.core.waiting_requests().len() + self.held.len();
        assert_eq!(open, self.asked.len(), "seed {seed}: a request is forgotten");
    }

    /// Records that are not committed.
    pub(in crate::coordinator::tests) fn uncommitted(&self) -> u64 {
        u64::try_from(self.log.len() - self.committed).unwrap()
    }

    /// All but the first `keep` records that are not committed, and the batch these end in, are lost.
    /// Returns where the log ends.
    pub(in crate::coordinator::tests) fn lose(&mut self, keep: u64) -> usize {
        let keep = self.committed + usize::try_from(keep).unwrap();
        let batch = |end: &&usize| **end <= keep && **end >= self.committed;
        let end = self.batches.iter().rev().find(batch).copied().unwrap_or(self.committed);
        self.log.truncate(end);
        self.batches.retain(|batch| *batch <= end);
        end
    }

    /// The coordinator starts anew: a new leader serves once all it has is committed.
    pub(in crate::coordinator::tests) fn restart(&mut self) -> Output {
        self.committed = self.log.len();
        self.held.clear();
        self.asked.clear();
        self.core_number += 1;
        self.core = self.replayed();
        self.core.on_loaded(self.now)
    }

    fn replayed(&self) -> GroupCore {
        let mut core = GroupCore::new(self.options.clone(), self.image.clone());
        for (at, record) in (0..).zip(&self.log) {
            core.replay(record.clone(), Offset(at));
        }
        core
    }

    /// A core the log alone gives.
    pub(in crate::coordinator::tests) fn copy(&self) -> GroupCore {
        let mut core = self.replayed();
        let records = core.on_loaded(self.now).records;
        core.on_appended(records, Offset(i64::try_from(self.log.len()).unwrap()));
        core
    }

    /// The committed offsets are those the log gives.
    pub(in crate::coordinator::tests) fn check_offsets(&mut self, copy: &mut GroupCore, seed: u64) {
        let ours = offsets(&mut self.core, self.now);
        assert_eq!(ours, offsets(copy, self.now), "seed {seed}: replayed");
    }
}

/// Asks a core, without taking part.
pub(in crate::coordinator::tests) fn ask<A: Ask>(
    core: &mut GroupCore,
    now: Now,
    ask: A,
) -> A::Answer {
    let mut output = core.on_request(now, RequestId(u64::MAX), ask.into_request());
    A::answer(output.replies.pop().expect("answered").reply).expect("its kind")
}

fn offsets(core: &mut GroupCore, now: Now) -> Vec<FetchedOffset> {
    let request = OffsetFetch { group: group(), member: None, member_epoch: -1, partitions: None };
    ask(core, now, request).expect("fetched")
}
