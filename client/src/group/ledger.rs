//! Which commits wait, which is on its way, and what is committed. Pure.
//!
//! What always holds:
//! - One commit is on its way at a time, so none overtakes another.
//! - Nothing is sent that is before something this member knows to be committed, as long as that is in
//!   the log.
//! - Whoever waits is told once.

use std::collections::BTreeMap;
use std::time::Instant;

use sawlog_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::commit::{CommitError, CommitOffset, Committing};
use super::membership::{Partitions, Trouble};
use crate::consumer::PartitionKey;
use crate::error::ClientError;

type Waiter = (oneshot::Sender<Result<(), CommitError>>, Partitions, Instant);

/// The commits of one member.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    owned: Partitions,
    committed: BTreeMap<PartitionKey, i64>,
    waiting: BTreeMap<PartitionKey, CommitOffset>,
    waiters: Vec<Waiter>,
    sent: Option<BTreeMap<PartitionKey, CommitOffset>>,
    sent_waiters: Vec<Waiter>,
}

/// What is to be done about a commit that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    /// It is sent again, later.
    Again(ClientError),
    /// The membership has to know.
    Refused(ErrorCode),
}

impl Ledger {
    /// Partitions are the member's; what is committed of them, as far as it is known.
    pub(crate) fn assigned(&mut self, owned: &Partitions, found: &[(PartitionKey, i64)]) {
        self.owned.clone_from(owned);
        self.committed.extend(found.iter().cloned());
    }

    /// Partitions are the member's no more: what waits for them is told.
    pub(crate) fn removed(&mut self, partitions: &Partitions) {
        self.owned.retain(|key| !partitions.contains(key));
        self.committed.retain(|key, _| !partitions.contains(key));
        self.waiting.retain(|key, _| !partitions.contains(key));
        let is_concerned = |keys: &Partitions| !keys.is_disjoint(partitions);
        let (told, kept) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|(_, keys, _)| is_concerned(keys));
        self.waiters = kept;
        tell(told, &Err(CommitError::NotMember { code: None }));
    }

    /// A partition ends at `end`: what is committed beyond is of a log that was cut, and must not keep
    /// what is left from being committed.
    pub(crate) fn ends(&mut self, key: &PartitionKey, end: i64) {
        if let Some(committed) = self.committed.get_mut(key) {
            *committed = end.min(*committed);
        }
    }

    /// Takes in a commit. It is told at once if there is nothing to do, or nothing can be done.
    pub(crate) fn submit(&mut self, committing: Committing, deadline: Instant) {
        let mut keys = Partitions::new();
        for one in &committing.offsets {
            match self.check(one) {
                Ok(true) => {
                    keys.insert(key_of(one));
                }
                Ok(false) => {}
                Err(error) if committing.is_explicit => {
                    let waiter = committing.answer.map(|answer| (answer, keys, deadline));
                    return tell(waiter, &Err(error));
                }
                Err(_) => {}
            }
        }
        for one in committing.offsets {
            if keys.contains(&key_of(&one)) {
                self.waiting.insert(key_of(&one), one);
            }
        }
        let waiter = committing.answer.map(|answer| (answer, keys, deadline));
        match waiter {
            Some(waiter) if !waiter.1.is_empty() => self.waiters.push(waiter),
            waiter => tell(waiter, &Ok(())),
        }
    }

    /// Whether there is something to commit.
    fn check(&self, one: &CommitOffset) -> Result<bool, CommitError> {
        let key = key_of(one);
        let CommitOffset { topic, partition, offset, .. } = one;
        if !self.owned.contains(&key) {
            let (topic, partition) = (topic.clone(), *partition);
            return Err(CommitError::NotOwned { topic, partition });
        }
        let known = self.committed.get(&key).copied().unwrap_or(-1);
        let sent = self.sent.as_ref().and_then(|sent| sent.get(&key)).map_or(-1, |one| one.offset);
        let waiting = self.waiting.get(&key).map_or(-1, |one| one.offset);
        let committed = known.max(sent).max(waiting);
        if *offset < committed {
            let (topic, partition, offset) = (topic.clone(), *partition, *offset);
            return Err(CommitError::Backwards { topic, partition, offset, committed });
        }
        // What is on its way or waits to be is waited for.
        Ok(*offset > known || !one.metadata.is_empty() || sent > known)
    }

    /// The next commit to send, if none is on its way.
    pub(crate) fn next(&mut self) -> Option<Vec<CommitOffset>> {
        if self.sent.is_some() || self.waiting.is_empty() {
            return None;
        }
        let sent = std::mem::take(&mut self.waiting);
        self.sent_waiters = std::mem::take(&mut self.waiters);
        let offsets = sent.values().cloned().collect();
        self.sent = Some(sent);
        Some(offsets)
    }

    /// The member is in no generation: nothing can be committed.
    pub(crate) fn refuse(&mut self) {
        self.waiting.clear();
        let waiters = std::mem::take(&mut self.waiters);
        tell(waiters, &Err(CommitError::NotMember { code: None }));
    }

    /// What came of the commit: for each partition a code, or an error for the whole.
    pub(crate) fn answered(
        &mut self,
        outcome: Result<Vec<(PartitionKey, ErrorCode)>, ClientError>,
        now: Instant,
    ) -> After {
        let sent = self.sent.take().unwrap_or_default();
        let waiters = std::mem::take(&mut self.sent_waiters);
        let failure = match outcome {
            Err(error) => Some(error),
            Ok(codes) => {
                for (key, code) in &codes {
                    if let Some(one) = sent.get(key).filter(|_| !code.is_error())
                        && self.owned.contains(key)
                    {
                        self.committed.insert(key.clone(), one.offset);
                    }
                }
                let refused = codes.into_iter().find(|(_, code)| code.is_error());
                refused.map(|(_, code)| ClientError::broker(code, None))
            }
        };
        let Some(error) = failure else {
            tell(waiters, &Ok(()));
            return After::Nothing;
        };
        match (Trouble::of(&error), error.code()) {
            (Trouble::Coordinator | Trouble::Again, _) => {
                self.put_back(sent, waiters, &error, now);
                After::Again(error)
            }
            (Trouble::Rebalance, code) => {
                tell(waiters, &Err(CommitError::Rebalancing));
                code.map_or(After::Nothing, After::Refused)
            }
            (Trouble::Unknown | Trouble::Outdated | Trouble::Fenced, code) => {
                tell(waiters, &Err(CommitError::NotMember { code }));
                code.map_or(After::Nothing, After::Refused)
            }
            (Trouble::Refused, _) => {
                tell(waiters, &Err(CommitError::Failed(error)));
                After::Nothing
            }
        }
    }

    /// To be sent again; what came later stays. Who has waited long enough is told.
    fn put_back(
        &mut self,
        sent: BTreeMap<PartitionKey, CommitOffset>,
        waiters: Vec<Waiter>,
        error: &ClientError,
        now: Instant,
    ) {
        for (key, one) in sent {
            let committed = self.committed.get(&key).is_some_and(|known| *known >= one.offset);
            if self.owned.contains(&key) && !committed {
                self.waiting.entry(key).or_insert(one);
            }
        }
        let (late, mut left): (Vec<Waiter>, Vec<Waiter>) =
            waiters.into_iter().partition(|(_, _, deadline)| *deadline <= now);
        tell(late, &Err(CommitError::Failed(error.clone())));
        left.append(&mut self.waiters);
        self.waiters = left;
        if self.waiting.is_empty() {
            // All of it was let go of meanwhile.
            self.refuse();
        }
    }
}

fn key_of(one: &CommitOffset) -> PartitionKey {
    (one.topic.clone(), one.partition)
}

fn tell(waiters: impl IntoIterator<Item = Waiter>, outcome: &Result<(), CommitError>) {
    for (answer, _, _) in waiters {
        // Who no longer waits does not need to know.
        drop(answer.send(outcome.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn key(partition: i32) -> PartitionKey {
        (Arc::from("t"), partition)
    }

    fn offset(partition: i32, offset: i64) -> CommitOffset {
        let (topic, partition) = key(partition);
        CommitOffset { topic, partition, offset, leader_epoch: 0, metadata: String::new() }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.assigned(&Partitions::from([key(0), key(1)]), &[(key(0), 10)]);
        ledger
    }

    type Outcome = oneshot::Receiver<Result<(), CommitError>>;

    fn submit(ledger: &mut Ledger, offsets: Vec<CommitOffset>, is_explicit: bool) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let deadline = Instant::now() + Duration::from_secs(30);
        let committing = Committing { offsets, is_explicit, answer: Some(answer) };
        ledger.submit(committing, deadline);
        outcome
    }

    fn told(outcome: &mut Outcome) -> Option<Result<(), CommitError>> {
        outcome.try_recv().ok()
    }

    fn all(ledger: &mut Ledger, code: ErrorCode) -> After {
        let codes = vec![(key(0), code), (key(1), code)];
        ledger.answered(Ok(codes), Instant::now())
    }

    #[test]
    fn offsets_never_go_back_and_one_commit_is_on_its_way() {
        let mut ledger = ledger();
        let mut back = submit(&mut ledger, vec![offset(0, 9)], true);
        let refused = told(&mut back).expect("at once").expect_err("it is behind");
        assert!(matches!(refused, CommitError::Backwards { offset: 9, committed: 10, .. }));
        let mut nothing = submit(&mut ledger, vec![offset(0, 9), offset(0, 10)], false);
        assert_eq!((told(&mut nothing), ledger.next()), (Some(Ok(())), None));

        let mut first = submit(&mut ledger, vec![offset(0, 11), offset(1, 5)], false);
        assert_eq!(ledger.next(), Some(vec![offset(0, 11), offset(1, 5)]));
        let mut second = submit(&mut ledger, vec![offset(0, 12)], true);
        let mut third = submit(&mut ledger, vec![offset(0, 13)], true);
        assert_eq!(ledger.next(), None, "one at a time");
        let mut late = submit(&mut ledger, vec![offset(0, 12)], true);
        assert!(told(&mut late).expect("at once").is_err(), "13 waits to be committed");
        assert_eq!(all(&mut ledger, ErrorCode::NONE), After::Nothing);
        assert_eq!((told(&mut first), told(&mut second)), (Some(Ok(())), None));
        assert_eq!(ledger.next(), Some(vec![offset(0, 13)]), "the last word counts");
        all(&mut ledger, ErrorCode::NONE);
        assert_eq!((told(&mut second), told(&mut third)), (Some(Ok(())), Some(Ok(()))));
    }

    #[test]
    fn a_commit_that_may_have_arrived_is_sent_again_unless_a_later_one_replaced_it() {
        let mut ledger = ledger();
        let mut first = submit(&mut ledger, vec![offset(0, 11), offset(1, 5)], false);
        ledger.next().expect("sent");
        let mut second = submit(&mut ledger, vec![offset(0, 20)], true);
        let lost = ClientError::Closed;
        assert_eq!(ledger.answered(Err(lost.clone()), Instant::now()), After::Nothing);
        assert_eq!(told(&mut first), Some(Err(CommitError::Failed(lost))), "it will not pass");
        assert_eq!(ledger.next(), Some(vec![offset(0, 20)]));
        let late = submit(&mut ledger, vec![offset(0, 21)], true);
        let loading = ClientError::broker(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, None);
        let after = ledger.answered(Err(loading.clone()), Instant::now());
        assert_eq!((after, told(&mut second)), (After::Again(loading), None));
        assert_eq!(ledger.next(), Some(vec![offset(0, 21)]));
        all(&mut ledger, ErrorCode::NONE);
        assert_eq!(told(&mut second), Some(Ok(())));
        drop(late);
    }

    #[test]
    fn after_a_cut_of_the_log_its_end_may_be_committed() {
        let mut ledger = ledger();
        ledger.ends(&key(0), 12);
        assert!(told(&mut submit(&mut ledger, vec![offset(0, 9)], true)).is_some(), "still behind");
        ledger.ends(&key(0), 7);
        let mut outcome = submit(&mut ledger, vec![offset(0, 8)], true);
        assert_eq!((told(&mut outcome), ledger.next()), (None, Some(vec![offset(0, 8)])));
    }

    #[test]
    fn whether_the_member_is_still_in_is_told() {
        for (code, is_member) in [
            (ErrorCode::REBALANCE_IN_PROGRESS, true),
            (ErrorCode::OFFSET_METADATA_TOO_LARGE, true),
            (ErrorCode::ILLEGAL_GENERATION, false),
            (ErrorCode::UNKNOWN_MEMBER_ID, false),
            (ErrorCode::FENCED_INSTANCE_ID, false),
        ] {
            let mut ledger = ledger();
            let mut outcome = submit(&mut ledger, vec![offset(0, 11)], true);
            ledger.next().expect("sent");
            all(&mut ledger, code);
            let error = told(&mut outcome).expect("told").expect_err("refused");
            assert_eq!(error.is_member(), is_member, "{error}");
            let mut again = submit(&mut ledger, vec![offset(0, 11)], true);
            assert_eq!(told(&mut again), None, "nothing was committed");
        }
    }

    #[test]
    fn commits_of_partitions_that_are_gone_are_told_and_not_sent() {
        let mut ledger = ledger();
        let mut outcome = submit(&mut ledger, vec![offset(0, 11)], true);
        ledger.removed(&Partitions::from([key(0)]));
        assert!(told(&mut outcome).expect("told").is_err());
        assert_eq!(ledger.next(), None);
        let mut after = submit(&mut ledger, vec![offset(0, 11)], true);
        let refused = told(&mut after).expect("at once").expect_err("not owned");
        assert!(matches!(refused, CommitError::NotOwned { partition: 0, .. }));
    }
}
