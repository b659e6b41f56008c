//! Fetch sessions (KIP-227): the broker remembers what a consumer reads, so that a request names
//! only what changed and a reply holds only what is new.
//!
//! A session belongs to one consumer, which numbers its requests; a number out of turn ends the
//! session and the consumer starts over. Sessions are bounded: the one unused longest makes room.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sawlog_protocol::messages::fetch::{FetchPartition, FetchRequest};
use sawlog_protocol::{ErrorCode, Uuid};

use crate::base::limits::{FETCH_SESSION_PARTITIONS_MAX, FETCH_SESSION_PARTITIONS_TOTAL};
use crate::base::{LeaderEpoch, Offset};

/// First Fetch version that names topics by id (KIP-516).
pub(crate) const TOPIC_ID_VERSION_MIN: i16 = 13;

/// "No session wanted", and the number that ends one.
const FINAL_EPOCH: i32 = -1;
/// "A new session, please".
const INITIAL_EPOCH: i32 = 0;

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicRef {
    Name(Arc<str>),
    Id(Uuid),
}

/// One partition a consumer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) topic: TopicRef,
    pub(crate) partition: i32,
    pub(crate) fetch_offset: Offset,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: LeaderEpoch,
    pub(crate) last_fetched_epoch: LeaderEpoch,
    /// What the consumer was told last; `None` before the first reply.
    pub(crate) told: Option<Told>,
}

/// What a consumer knows of a partition besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) error: ErrorCode,
}

/// What one request asks for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    /// Set if replies go through a session.
    pub(crate) session: Option<SessionReply>,
}

/// How the reply of a session is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionReply {
    pub(crate) id: i32,
    /// The number of the request after this one: tells whether the session is still at this reply.
    next_epoch: i32,
    /// Leave out partitions with nothing new.
    pub(crate) incremental: bool,
}

#[derive(Debug)]
struct Session {
    next_epoch: i32,
    by_id: bool,
    targets: Vec<Target>,
    last_used: u64,
}

/// The sessions of a broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    /// Most sessions at once; 0 for none at all.
    slots: usize,
    sessions: HashMap<i32, Session>,
    last_id: i32,
    uses: u64,
}

impl FetchSessions {
    /// Keeps at most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(slots: usize) -> Self {
        let cache = Cache { slots, sessions: HashMap::new(), last_id: 0, uses: 0 };
        Self { cache: Mutex::new(cache) }
    }

    /// Resolves a request to what it reads.
    ///
    /// # Errors
    /// The error of the whole reply; the consumer starts over with a full request.
    pub(crate) fn plan(&self, request: &FetchRequest<'_>, version: i16) -> Result<Plan, ErrorCode> {
        let by_id = version >= TOPIC_ID_VERSION_MIN;
        let mut cache = self.cache.lock();
        match (request.session_id, request.session_epoch) {
            (id, FINAL_EPOCH) => {
                cache.sessions.remove(&id);
                Ok(Plan { targets: targets(request, by_id), session: None })
            }
            (id, INITIAL_EPOCH) => {
                cache.sessions.remove(&id);
                let targets = targets(request, by_id);
                let session = cache.open(&targets, by_id);
                Ok(Plan { targets, session })
            }
            (id, epoch) => cache.go_on(id, epoch, request, by_id),
        }
    }

    /// Remembers what a reply told, and where it put partitions that had records: behind those
    /// that had none, which come first next time.
    pub(crate) fn replied(
        &self,
        reply: SessionReply,
        told: &[(usize, Told)],
        with_records: &[usize],
    ) {
        let mut cache = self.cache.lock();
        let Some(session) = cache.sessions.get_mut(&reply.id) else { return };
        if session.next_epoch != reply.next_epoch {
            return;
        }
        for (at, told) in told {
            if let Some(target) = session.targets.get_mut(*at) {
                target.told = Some(*told);
            }
        }
        if with_records.is_empty() || with_records.len() >= session.targets.len() {
            return;
        }
        let mut served = Vec::with_capacity(with_records.len());
        for at in with_records.iter().rev() {
            if *at < session.targets.len() {
                served.push(session.targets.remove(*at));
            }
        }
        session.targets.extend(served.into_iter().rev());
    }
}

impl Cache {
    /// Opens a session, unless it would be too large to remember.
    fn open(&mut self, targets: &[Target], by_id: bool) -> Option<SessionReply> {
        if targets.len() > FETCH_SESSION_PARTITIONS_MAX || self.slots == 0 {
            return None;
        }
        let mut remembered: usize = self.sessions.values().map(|s| s.targets.len()).sum();
        while self.sessions.len() >= self.slots
            || remembered + targets.len() > FETCH_SESSION_PARTITIONS_TOTAL
        {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
            let id = oldest.map(|(id, _)| *id)?;
            remembered -= self.sessions.remove(&id).map_or(0, |session| session.targets.len());
        }
        self.uses += 1;
        loop {
            // Ids are positive; 0 is "no session".
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.sessions.contains_key(&self.last_id) {
                break;
            }
        }
        let session =
            Session { next_epoch: 1, by_id, targets: targets.to_vec(), last_used: self.uses };
        self.sessions.insert(self.last_id, session);
        Some(SessionReply { id: self.last_id, next_epoch: 1, incremental: false })
    }

    fn go_on(
        &mut self,
        id: i32,
        epoch: i32,
        request: &FetchRequest<'_>,
        by_id: bool,
    ) -> Result<Plan, ErrorCode> {
        self.uses += 1;
        let uses = self.uses;
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if epoch != session.next_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if by_id != session.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.next_epoch = epoch.checked_add(1).unwrap_or(1);
        session.last_used = uses;
        session.forget(request);
        session.update(targets(request, by_id));
        if session.targets.len() > FETCH_SESSION_PARTITIONS_MAX {
            self.sessions.remove(&id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        let reply = SessionReply { id, next_epoch: session.next_epoch, incremental: true };
        Ok(Plan { targets: session.targets.clone(), session: Some(reply) })
    }
}

impl Session {
    fn forget(&mut self, request: &FetchRequest<'_>) {
        for topic in &request.forgotten_topics_data {
            let named = topic_ref(topic.topic, topic.topic_id, self.by_id);
            self.targets.retain(|target| {
                target.topic != named || !topic.partitions.contains(&target.partition)
            });
        }
    }

    fn update(&mut self, changed: Vec<Target>) {
        if changed.is_empty() {
            return;
        }
        let index: HashMap<(TopicRef, i32), usize> = self
            .targets
            .iter()
            .enumerate()
            .map(|(at, target)| ((target.topic.clone(), target.partition), at))
            .collect();
        for mut target in changed {
            match index.get(&(target.topic.clone(), target.partition)) {
                Some(at) => {
                    if let Some(known) = self.targets.get_mut(*at) {
                        target.told = known.told;
                        *known = target;
                    }
                }
                None => self.targets.push(target),
            }
        }
    }
}

fn targets(request: &FetchRequest<'_>, by_id: bool) -> Vec<Target> {
    let mut targets = Vec::new();
    for topic in &request.topics {
        let named = topic_ref(topic.topic, topic.topic_id, by_id);
        targets.extend(topic.partitions.iter().map(|partition| target(&named, partition)));
    }
    targets
}

fn topic_ref(name: &str, id: Uuid, by_id: bool) -> TopicRef {
    if by_id { TopicRef::Id(id) } else { TopicRef::Name(Arc::from(name)) }
}

fn target(topic: &TopicRef, partition: &FetchPartition) -> Target {
    Target {
        topic: topic.clone(),
        partition: partition.partition,
        fetch_offset: Offset(partition.fetch_offset),
        max_bytes: partition.partition_max_bytes,
        current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
        told: None,
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::messages::fetch::{FetchTopic, ForgottenTopic};

    use super::*;

    const SLOTS: usize = 20;

    fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest<'static> {
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics: vec![FetchTopic {
                topic: "t",
                partitions: partitions
                    .iter()
                    .map(|(partition, fetch_offset)| FetchPartition {
                        partition: *partition,
                        fetch_offset: *fetch_offset,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn offsets(plan: &Plan) -> Vec<(i32, i64)> {
        plan.targets.iter().map(|target| (target.partition, target.fetch_offset.0)).collect()
    }

    #[test]
    fn a_session_remembers_updates_and_forgets() {
        let sessions = FetchSessions::new(SLOTS);
        let plan = sessions.plan(&request(0, 0, &[(0, 5), (1, 7)]), 12).unwrap();
        let id = plan.session.unwrap().id;
        assert!(id > 0);
        let plan = sessions.plan(&request(id, 1, &[(1, 9), (2, 0)]), 12).unwrap();
        assert_eq!(offsets(&plan), [(0, 5), (1, 9), (2, 0)]);
        assert!(plan.session.unwrap().incremental);
        let mut forgetting = request(id, 2, &[]);
        forgetting.forgotten_topics_data =
            vec![ForgottenTopic { topic: "t", partitions: vec![0], ..Default::default() }];
        let plan = sessions.plan(&forgetting, 12).unwrap();
        assert_eq!(offsets(&plan), [(1, 9), (2, 0)]);
    }

    #[test]
    fn wrong_numbers_and_unknown_sessions_are_errors() {
        let sessions = FetchSessions::new(SLOTS);
        let unknown = sessions.plan(&request(77, 1, &[]), 12);
        assert_eq!(unknown.unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        let id = sessions.plan(&request(0, 0, &[(0, 0)]), 12).unwrap().session.unwrap().id;
        let skipped = sessions.plan(&request(id, 2, &[]), 12);
        assert_eq!(skipped.unwrap_err(), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        let other_naming = sessions.plan(&request(id, 1, &[]), 13);
        assert_eq!(other_naming.unwrap_err(), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        assert!(sessions.plan(&request(id, FINAL_EPOCH, &[(0, 0)]), 12).unwrap().session.is_none());
        let closed = sessions.plan(&request(id, 1, &[]), 12);
        assert_eq!(closed.unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn served_partitions_go_behind_the_others() {
        let sessions = FetchSessions::new(SLOTS);
        let plan = sessions.plan(&request(0, 0, &[(0, 0), (1, 0), (2, 0)]), 12).unwrap();
        let session = plan.session.unwrap();
        let id = session.id;
        sessions.replied(session, &[], &[0, 1]);
        let plan = sessions.plan(&request(id, 1, &[]), 12).unwrap();
        assert_eq!(offsets(&plan), [(2, 0), (0, 0), (1, 0)]);
    }

    #[test]
    fn the_session_unused_longest_makes_room() {
        let sessions = FetchSessions::new(SLOTS);
        let open = || sessions.plan(&request(0, 0, &[(0, 0)]), 12).unwrap().session.unwrap().id;
        let first = open();
        let second = open();
        sessions.plan(&request(first, 1, &[]), 12).unwrap();
        for _ in 2..=SLOTS {
            open();
        }
        assert!(sessions.plan(&request(first, 2, &[]), 12).is_ok());
        assert_eq!(
            sessions.plan(&request(second, 1, &[]), 12).unwrap_err(),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
        );
    }
}
