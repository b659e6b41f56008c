//! Incremental fetch sessions (KIP-227): a broker remembers what is asked of it, and is told what
//! changes only. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use sawlog_protocol::ErrorCode;

/// A topic and a partition.
pub(crate) type PartitionKey = (Arc<str>, i32);

/// What is asked for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) offset: i64,
    /// Epoch of the leader that is asked, -1 if unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) bytes_max: i32,
}

/// What one request says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    /// New or changed.
    pub(crate) asked: Vec<(PartitionKey, Ask)>,
    /// No longer wanted.
    pub(crate) forgotten: Vec<PartitionKey>,
}

/// The session with one broker.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// Of the next request; 0 opens a session.
    epoch: i32,
    known: BTreeMap<PartitionKey, Ask>,
}

impl Session {
    /// What to say so that the broker fetches exactly `wanted`.
    pub(crate) fn plan(&mut self, wanted: &[(PartitionKey, Ask)]) -> Plan {
        let (session_id, session_epoch) = (self.id, self.epoch);
        if session_epoch == 0 {
            self.known = wanted.iter().cloned().collect();
            return Plan { session_id, session_epoch, asked: wanted.to_vec(), forgotten: vec![] };
        }
        let mut asked = Vec::new();
        let mut known = BTreeMap::new();
        for (key, ask) in wanted {
            let before = self.known.remove(key);
            if before.as_ref() != Some(ask) {
                asked.push((key.clone(), *ask));
            }
            known.insert(key.clone(), *ask);
        }
        let forgotten = std::mem::replace(&mut self.known, known).into_keys().collect();
        Plan { session_id, session_epoch, asked, forgotten }
    }

    /// Takes in the broker's word on the session. False: the request is to be made again.
    pub(crate) fn answered(&mut self, code: ErrorCode, session_id: i32) -> bool {
        match code {
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND => *self = Self::default(),
            // The session is there and out of step: this closes it and opens another.
            ErrorCode::INVALID_FETCH_SESSION_EPOCH | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => {
                *self = Self { id: self.id, ..Self::default() };
            }
            code if code.is_error() => self.reset(),
            _ if session_id == 0 => self.reset(),
            _ => {
                self.id = session_id;
                self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
            }
        }
        !code.is_error()
    }

    /// Forgets the session: its connection is gone.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(list: &[(i32, i64)]) -> Vec<(PartitionKey, Ask)> {
        let ask = |offset| Ask { offset, leader_epoch: 0, bytes_max: 1 };
        list.iter().map(|(index, offset)| ((Arc::from("t"), *index), ask(*offset))).collect()
    }

    fn indexes(keys: &[PartitionKey]) -> Vec<i32> {
        keys.iter().map(|(_, index)| *index).collect()
    }

    #[test]
    fn after_the_first_request_only_changes_are_said() {
        let mut session = Session::default();
        let plan = session.plan(&wanted(&[(0, 0), (1, 0), (2, 0)]));
        assert_eq!((plan.session_id, plan.session_epoch, plan.asked.len()), (0, 0, 3));
        assert!(session.answered(ErrorCode::NONE, 77));

        let plan = session.plan(&wanted(&[(0, 0), (1, 5), (3, 0)]));
        assert_eq!((plan.session_id, plan.session_epoch), (77, 1));
        assert_eq!(plan.asked, wanted(&[(1, 5), (3, 0)]));
        assert_eq!(indexes(&plan.forgotten), [2]);
        assert!(session.answered(ErrorCode::NONE, 77));

        let plan = session.plan(&wanted(&[(0, 0), (1, 5), (3, 0)]));
        assert_eq!((plan.session_epoch, plan.asked.len(), plan.forgotten.len()), (2, 0, 0));
    }

    #[test]
    fn a_lost_session_begins_anew_with_everything() {
        for (code, id) in [
            (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0),
            (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 77),
            (ErrorCode::UNKNOWN_SERVER_ERROR, 0),
        ] {
            let mut session = Session::default();
            session.plan(&wanted(&[(0, 0)]));
            session.answered(ErrorCode::NONE, 77);
            session.plan(&wanted(&[(0, 9)]));
            assert!(!session.answered(code, 0), "{code}");
            let plan = session.plan(&wanted(&[(0, 9)]));
            assert_eq!((plan.session_id, plan.session_epoch), (id, 0), "{code}");
            assert_eq!(plan.asked, wanted(&[(0, 9)]));
        }
    }

    #[test]
    fn a_broker_without_sessions_is_told_everything_each_time() {
        let mut session = Session::default();
        for _ in 0..3 {
            let plan = session.plan(&wanted(&[(0, 0), (1, 0)]));
            assert_eq!((plan.session_id, plan.session_epoch, plan.asked.len()), (0, 0, 2));
            assert!(session.answered(ErrorCode::NONE, 0));
        }
    }

    #[test]
    fn the_epoch_wraps_past_the_one_that_opens() {
        let mut session = Session { id: 7, epoch: i32::MAX, ..Session::default() };
        session.answered(ErrorCode::NONE, 7);
        assert_eq!(session.plan(&[]).session_epoch, 1);
    }
}
