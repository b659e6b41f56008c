//! Fetch: records out of partition logs, as slices of the mapped segments.
//!
//! A fetch that finds fewer than `min_bytes` waits: it registers with its partitions and is woken
//! by the append that commits, never by a timer; then it re-reads only what moved. Nothing is
//! copied between log and socket, and no lock is held while a reply is written.
//!
//! Threads that serve connections never wait for the disk: what is not in memory is read on a
//! thread that may.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sawlog_protocol::messages::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use sawlog_protocol::{ErrorCode, Rope, Uuid};

use super::fetch_sessions::{Plan, SessionReply, TOPIC_ID_VERSION_MIN, Target, Told, TopicRef};
use super::leader_hints::{HintedBroker, LeaderHints};
use super::{
    CloseReason, Node, READ_COMMITTED, Reply, ReplyTo, RequestContext, absent_error, epoch_error,
};
use crate::base::waiting::without_waiting;
use crate::base::{BrokerId, LeaderEpoch, Offset};
use crate::replication::{Partition, Signal, Slice, View};
use crate::storage::ReadError;

/// First version with an error for the whole reply.
const TOP_LEVEL_ERROR_VERSION_MIN: i16 = 7;

/// First version that says where leaders are (KIP-951).
const LEADER_HINTS_VERSION_MIN: i16 = 16;

/// First version that followers answer, too, below what they know to be committed (KIP-392).
const FOLLOWERS_VERSION_MIN: i16 = 11;

/// One partition's part of the reply.
#[derive(Debug, Default)]
struct Outcome {
    error: ErrorCode,
    slice: Slice,
    /// The epoch and offset where the consumer's log leaves ours (KIP-595).
    diverging: Option<(LeaderEpoch, Offset)>,
    /// Not read: the disk would have to be waited for.
    cold: bool,
    /// Who is nearer to the consumer, and has what it asks for (KIP-392).
    nearer: Option<BrokerId>,
}

/// A fetch under way.
#[derive(Debug)]
struct Fetch {
    node: Arc<Node>,
    reply_to: ReplyTo,
    plan: Plan,
    outcomes: Vec<Outcome>,
    view: View,
    /// Where the consumer is; empty where it does not say.
    rack: Box<str>,
    min_bytes: usize,
    max_bytes: usize,
}

/// Handles one request.
pub(crate) fn handle(ctx: &RequestContext<'_>, request: FetchRequest<'_>) -> Reply {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // A replica's fetch moves the high watermark: never on a client listener (CVE-2018-1288).
        return refuse(ctx, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let plan = match ctx.node.fetch_sessions.plan(&request, ctx.version) {
        Ok(plan) => plan,
        Err(error) => return refuse(ctx, error),
    };
    let view =
        if request.isolation_level == READ_COMMITTED { View::Stable } else { View::Committed };
    let bytes = |value: i32| usize::try_from(value).unwrap_or(0);
    let mut fetch = Fetch {
        node: ctx.node.clone(),
        reply_to: ctx.reply_to(),
        outcomes: Vec::with_capacity(plan.targets.len()),
        plan,
        view,
        rack: if ctx.version >= FOLLOWERS_VERSION_MIN { request.rack_id.into() } else { "".into() },
        min_bytes: bytes(request.min_bytes),
        max_bytes: bytes(request.max_bytes)
            .min(usize::try_from(ctx.node.config.fetch_max_bytes).unwrap_or(usize::MAX)),
    };
    without_waiting(|| fetch.read_all());
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    if fetch.is_cold() {
        return Reply::Pending(Box::pin(fetch.read_cold_and_wait(wait)));
    }
    if wait.is_zero() || fetch.is_due() {
        return Reply::Ready(fetch.reply());
    }
    Reply::Pending(Box::pin(fetch.wait(wait)))
}

fn refuse(ctx: &RequestContext<'_>, error: ErrorCode) -> Reply {
    if ctx.version < TOP_LEVEL_ERROR_VERSION_MIN {
        return Reply::Close(CloseReason::Refused(ctx.key, error));
    }
    Reply::Ready(ctx.reply(&FetchResponse { error_code: error, ..Default::default() }))
}

impl Fetch {
    fn is_cold(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.cold)
    }

    /// Reads on a thread that may wait for the disk.
    async fn read_cold(mut self) -> Result<Self, CloseReason> {
        let key = self.reply_to.key;
        let read = move || {
            self.read_all();
            self
        };
        // It panicked, or the broker stops.
        crate::base::tasks::blocking(read).await.map_err(|_| CloseReason::Failed(key))
    }

    async fn read_cold_and_wait(self, wait: Duration) -> Result<Rope, CloseReason> {
        let fetch = self.read_cold().await?;
        if wait.is_zero() || fetch.is_due() { Ok(fetch.reply()) } else { fetch.wait(wait).await }
    }

    fn read_all(&mut self) {
        self.outcomes.clear();
        let mut taken = 0;
        for target in &self.plan.targets {
            let outcome = self.read(target, taken);
            taken += outcome.slice.records.len();
            self.outcomes.push(outcome);
        }
    }

    /// Whether there is something to answer with: enough bytes, or news that cannot wait.
    fn is_due(&self) -> bool {
        let bytes: usize = self.outcomes.iter().map(|outcome| outcome.slice.records.len()).sum();
        self.plan.targets.is_empty()
            || bytes >= self.min_bytes.max(1)
            || self.outcomes.iter().any(Outcome::is_news)
    }

    /// Waits until due, at most for `wait`.
    async fn wait(mut self, wait: Duration) -> Result<Rope, CloseReason> {
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        let partitions = vec![None; self.plan.targets.len()];
        let mut watched = Watched { partitions, signal: Signal::new() };
        for slot in 0..self.plan.targets.len() {
            self.watch(slot, &mut watched);
        }
        while !self.is_due() {
            // Dropping this future loses nothing: fired slots stay in the signal. The deadline comes
            // first, so that no signal, however often it fires, keeps the wait from its end.
            let fired = std::future::poll_fn(|cx| {
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                watched.signal.poll_fired(cx.waker()).map(Some)
            })
            .await;
            let Some(fired) = fired else { break };
            for &slot in &fired {
                without_waiting(|| self.read_again(slot));
            }
            if self.is_cold() {
                self = self.read_cold().await?;
            }
            for slot in fired {
                self.watch(slot, &mut watched);
            }
        }
        Ok(self.reply())
    }

    /// Asks for a wake-up when partition `slot` has more than was read.
    fn watch(&self, slot: usize, watched: &mut Watched) {
        let (Some(target), Some(outcome)) = (self.plan.targets.get(slot), self.outcomes.get(slot))
        else {
            return;
        };
        // The partition that was read: it may have been made anew since it was watched, and the former one
        // says at once, and for ever, that it is gone.
        let partition = find(&self.node, target);
        if let Some(partition) = &partition {
            let above = outcome.slice.high_watermark;
            partition.notify_readable_above(above, &watched.signal, slot);
        }
        watched.keep(slot, partition);
    }

    fn read_again(&mut self, slot: usize) {
        let Some(target) = self.plan.targets.get(slot) else { return };
        let taken: usize = self
            .outcomes
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != slot)
            .map(|(_, outcome)| outcome.slice.records.len())
            .sum();
        let outcome = self.read(target, taken);
        if let Some(place) = self.outcomes.get_mut(slot) {
            *place = outcome;
        }
    }

    fn reply(&self) -> Rope {
        let session = self.plan.session;
        let by_id = self.reply_to.version >= TOPIC_ID_VERSION_MIN;
        let any_moved = self.reply_to.version >= LEADER_HINTS_VERSION_MIN
            && self.outcomes.iter().any(Outcome::is_moved);
        let mut hints = any_moved.then(|| LeaderHints::new(&self.node));
        let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
        let mut last_topic: Option<&TopicRef> = None;
        let mut told = Vec::new();
        let mut with_records = Vec::new();
        for (at, (target, outcome)) in self.plan.targets.iter().zip(&self.outcomes).enumerate() {
            let news = Told {
                high_watermark: outcome.slice.high_watermark,
                log_start: outcome.slice.log_start,
                error: outcome.error,
            };
            let has_records = !outcome.slice.records.is_empty();
            if session.is_some() {
                told.push((at, news));
                if has_records {
                    with_records.push(at);
                }
            }
            let incremental = session.is_some_and(|session| session.incremental);
            if incremental && !has_records && !outcome.is_news() && target.told == Some(news) {
                continue;
            }
            if last_topic != Some(&target.topic) {
                last_topic = Some(&target.topic);
                let (topic, topic_id) = match &target.topic {
                    TopicRef::Name(name) => (&**name, Uuid::ZERO),
                    TopicRef::Id(id) => ("", *id),
                };
                debug_assert_eq!(by_id, matches!(target.topic, TopicRef::Id(_)));
                responses.push(FetchableTopicResponse { topic, topic_id, partitions: Vec::new() });
            }
            if let Some(topic) = responses.last_mut() {
                let mut data = self.partition_data(target.partition, outcome);
                if let Some(hints) = hints.as_mut().filter(|_| outcome.is_moved()) {
                    let (leader_id, leader_epoch) =
                        hints.leader(topic.topic, topic.topic_id, target.partition);
                    data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
                }
                topic.partitions.push(data);
            }
        }
        if let Some(session) = session {
            self.node.fetch_sessions.replied(session, &told, &with_records);
        }
        self.reply_to.reply(&FetchResponse {
            session_id: session.map_or(0, |session: SessionReply| session.id),
            responses,
            node_endpoints: hints.iter().flat_map(|hints| hints.brokers().map(endpoint)).collect(),
            ..Default::default()
        })
    }

    /// Reads one partition, `taken` bytes into the reply.
    fn read(&self, target: &Target, taken: usize) -> Outcome {
        let followers = self.reply_to.version >= FOLLOWERS_VERSION_MIN;
        let from = if followers { From::AnyReplica } else { From::Leader };
        if !self.rack.is_empty()
            && let Some(nearer) = self.nearer(target)
        {
            let outcome = read(&self.node, target, (self.view, from), 0, usize::MAX);
            return Outcome { nearer: Some(nearer), ..outcome };
        }
        read(&self.node, target, (self.view, from), self.max_bytes, taken)
    }

    /// A replica in the consumer's rack that has what it asks for, where this one is not.
    fn nearer(&self, target: &Target) -> Option<BrokerId> {
        let partition = find(&self.node, target)?;
        partition.leader_epoch()?;
        let image = self.node.images.peek();
        let is_near = |id: BrokerId| {
            image.broker(id).is_some_and(|it| !it.fenced && it.rack.as_deref() == Some(&*self.rack))
        };
        if is_near(BrokerId(self.node.config.node_id)) {
            return None;
        }
        partition.inspect(|core| core.preferred_replica(target.fetch_offset, is_near))
    }

    fn partition_data(&self, index: i32, outcome: &Outcome) -> PartitionData {
        let failed = outcome.error != ErrorCode::NONE;
        let or_none = |offset: Offset| if failed { -1 } else { offset.0 };
        PartitionData {
            partition_index: index,
            error_code: outcome.error,
            high_watermark: or_none(outcome.slice.high_watermark),
            last_stable_offset: or_none(outcome.slice.last_stable_offset),
            log_start_offset: or_none(outcome.slice.log_start),
            diverging_epoch: outcome.diverging.map_or_else(
                EpochEndOffset::default,
                |(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 },
            ),
            // Only read_committed consumers are told of aborted transactions; there are none yet.
            aborted_transactions: (self.view == View::Stable).then(Vec::new),
            preferred_read_replica: outcome.nearer.map_or(-1, |broker| broker.0),
            // Empty, not null: librdkafka takes null for a broken message set.
            records: Some(outcome.slice.records.clone()),
            ..Default::default()
        }
    }
}

impl Outcome {
    /// Whether it cannot wait, although there may be no records in it.
    fn is_news(&self) -> bool {
        self.error != ErrorCode::NONE || self.diverging.is_some() || self.nearer.is_some()
    }

    /// Whether somebody else leads, or leads by now.
    fn is_moved(&self) -> bool {
        matches!(self.error, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH)
    }
}

fn endpoint(broker: HintedBroker<'_>) -> NodeEndpoint<'_> {
    let HintedBroker { id, host, port, rack } = broker;
    NodeEndpoint { node_id: id, host, port: port.into(), rack }
}

/// Which replicas may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Leader,
    AnyReplica,
}

/// The partitions a waiting fetch is registered with; it takes its registrations back however it
/// ends, also when the client goes away.
struct Watched {
    partitions: Vec<Option<Arc<Partition>>>,
    signal: Arc<Signal>,
}

impl Watched {
    fn keep(&mut self, slot: usize, partition: Option<Arc<Partition>>) {
        let Some(place) = self.partitions.get_mut(slot) else { return };
        let former = std::mem::replace(place, partition);
        let is_other = |former: &Arc<Partition>| {
            self.partitions.iter().flatten().all(|kept| !Arc::ptr_eq(kept, former))
        };
        if let Some(former) = former.filter(is_other) {
            former.forget(&self.signal);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for partition in self.partitions.iter().flatten() {
            partition.forget(&self.signal);
        }
    }
}

fn find(node: &Node, target: &Target) -> Option<Arc<Partition>> {
    match &target.topic {
        TopicRef::Name(name) => node.partitions.by_name(name, target.partition),
        TopicRef::Id(id) => node.partitions.by_id(*id, target.partition),
    }
}

/// Reads one partition into what is left of the reply's `max_bytes`.
fn read(
    node: &Node,
    target: &Target,
    (view, from): (View, From),
    max_bytes: usize,
    taken: usize,
) -> Outcome {
    let failed = |error| Outcome { error, ..Outcome::default() };
    let Some(partition) = find(node, target) else {
        return failed(match &target.topic {
            TopicRef::Id(id) if node.partitions.topic_by_id(*id).is_none() => {
                ErrorCode::UNKNOWN_TOPIC_ID
            }
            TopicRef::Id(id) => {
                absent_error(node.partitions.topic_by_id(*id).as_deref(), target.partition)
            }
            TopicRef::Name(name) => {
                absent_error(node.partitions.topic_by_name(name).as_deref(), target.partition)
            }
        });
    };
    let checked = match from {
        From::Leader => partition.check_epoch(target.current_leader_epoch),
        From::AnyReplica => partition.check_epoch_to_read(target.current_leader_epoch),
    };
    if let Err(mismatch) = checked {
        return failed(epoch_error(mismatch));
    }
    let mut diverging = None;
    if target.last_fetched_epoch != LeaderEpoch::NONE {
        let end = partition.inspect(|core| core.end_offset_for(target.last_fetched_epoch));
        match end {
            Some((epoch, end))
                if epoch < target.last_fetched_epoch || end < target.fetch_offset =>
            {
                diverging = Some((epoch, end));
            }
            Some(_) => {}
            None => return failed(ErrorCode::OFFSET_OUT_OF_RANGE),
        }
    }
    // The first partition with records may exceed the limit, so that a large batch gets through.
    let room = max_bytes.saturating_sub(taken);
    let wanted = usize::try_from(target.max_bytes).unwrap_or(0).min(room);
    let wanted = if diverging.is_some() { 0 } else { wanted };
    let at_least_one = taken == 0 && diverging.is_none();
    match partition.read(target.fetch_offset, view, wanted, at_least_one) {
        Ok(slice) => Outcome { slice, diverging, ..Outcome::default() },
        Err(error) if error.would_wait() => Outcome { cold: true, ..Outcome::default() },
        Err(ReadError::OutOfRange { .. }) => failed(ErrorCode::OFFSET_OUT_OF_RANGE),
        Err(error @ ReadError::Quarantined { .. }) => {
            // Logged when it was found; a consumer that stays here asks many times.
            tracing::debug!(partition = %partition.name, %error, "not served");
            failed(ErrorCode::KAFKA_STORAGE_ERROR)
        }
        Err(ReadError::Storage(error)) => {
            tracing::error!(partition = %partition.name, %error, "cannot read");
            failed(ErrorCode::KAFKA_STORAGE_ERROR)
        }
    }
}
