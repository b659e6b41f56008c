//! The clients whose metrics are known: what each was asked for, when it spoke last, what it said.
//!
//! Decides; `now` comes in, nothing is done beside. Always holds: there are at most
//! [`CLIENT_INSTANCES_MAX`] clients, their metrics take at most [`CLIENT_METRICS_BYTES_MAX`] (as counted
//! here), and a client that has been silent for three of its intervals, and a minute, is forgotten.
//! Where there is no room, who has been silent for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sawlog_protocol::Uuid;

use super::otlp::{OWNER_LABELS, Reading, Readings, Series};
use super::subscription::{ClientFacts, Subscriptions, Wanted};
use crate::base::limits::{CLIENT_INSTANCES_MAX, CLIENT_METRICS_BYTES_MAX};
use crate::metrics::Labelling;

/// How long a client is known at least after it has spoken (Kafka's number).
const KNOWN_MIN: Duration = Duration::from_secs(60);

/// What a value takes beside its texts.
const SERIES_BYTES: usize = 96;

/// How often those are looked for that have been silent for long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why a request about metrics is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// It names no client that can be, or one that said it was its last.
    InvalidRequest,
    /// It comes before its time.
    TooEarly,
    /// The client was asked for something else since.
    UnknownSubscription,
    /// Compressed with what is no codec.
    UnsupportedCompression,
    /// More than a push may hold.
    TooLarge,
    /// No metrics.
    Malformed,
}

/// What a push says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PushHead {
    pub(crate) instance: Uuid,
    pub(crate) subscription_id: i32,
    /// The client is about to end.
    pub(crate) terminating: bool,
    /// Whether there is such a codec.
    pub(crate) is_codec_known: bool,
    /// Bytes of metrics as they were sent.
    pub(crate) bytes: usize,
}

/// What is known of one client.
#[derive(Debug)]
struct Instance {
    client: Arc<ClientFacts>,
    wanted: Arc<Wanted>,
    last_get: Option<Duration>,
    last_push: Option<Duration>,
    /// It was told what to push since it pushed last.
    is_told_since: bool,
    last_refusal: Option<Refusal>,
    has_terminated: bool,
    metrics: Arc<ClientValues>,
    /// When it spoke last, and how many had spoken before: who spoke longest ago has the least.
    heard_at: Duration,
    heard: u64,
}

/// The metrics of one client as it pushed them last.
#[derive(Debug, Default)]
pub(crate) struct ClientValues {
    /// Labels of the client itself.
    pub(super) owner: Box<str>,
    pub(super) by_series: BTreeMap<Series, Reading>,
    bytes: usize,
}

/// A client, as people see it.
#[derive(Debug)]
pub(crate) struct ClientView {
    pub(crate) instance: Uuid,
    pub(crate) client: Arc<ClientFacts>,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) metrics: Arc<ClientValues>,
    /// Since it pushed, if it has.
    pub(crate) pushed_ago: Option<Duration>,
    pub(crate) has_terminated: bool,
}

/// All clients whose metrics are known.
#[derive(Debug)]
pub(super) struct Instances {
    subscriptions: Arc<Subscriptions>,
    by_id: HashMap<Uuid, Instance>,
    /// Who spoke when; the first has been silent for longest.
    by_silence: BTreeMap<u64, Uuid>,
    heard: u64,
    bytes: usize,
    swept_at: Duration,
    telemetry_bytes_max: usize,
}

impl Instances {
    pub(super) fn new(telemetry_bytes_max: usize) -> Self {
        Self {
            subscriptions: Arc::default(),
            by_id: HashMap::new(),
            by_silence: BTreeMap::new(),
            heard: 0,
            bytes: 0,
            swept_at: Duration::ZERO,
            telemetry_bytes_max,
        }
    }

    pub(super) fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.subscriptions
    }

    /// From now on clients are asked for this. Those that are known find out when they speak next.
    pub(super) fn subscribe(&mut self, subscriptions: Arc<Subscriptions>) {
        self.subscriptions = subscriptions;
        for (id, instance) in &mut self.by_id {
            let wanted = self.subscriptions.of(*id, &instance.client);
            if *instance.wanted != wanted {
                instance.wanted = Arc::new(wanted);
                // It may ask at once what it is that changed.
                instance.last_get = None;
                instance.last_push = None;
            }
        }
    }

    /// A client asks what to push.
    pub(super) fn on_get(
        &mut self,
        now: Duration,
        id: Uuid,
        client: &ClientFacts,
    ) -> Result<Arc<Wanted>, Refusal> {
        let instance = self.hear(now, id, client);
        let interval = instance.interval();
        let last = instance.last_get.max(instance.last_push);
        // What it was told before is of no use to it any more: asking again is what it should do.
        let is_sent_back = matches!(
            instance.last_refusal,
            Some(Refusal::UnknownSubscription | Refusal::UnsupportedCompression)
        );
        if !is_sent_back && last.is_some_and(|last| now.saturating_sub(last) < interval) {
            return Err(Refusal::TooEarly);
        }
        instance.last_get = Some(now);
        instance.is_told_since = true;
        instance.last_refusal = None;
        Ok(instance.wanted.clone())
    }

    /// A client pushes; whether that is to be read.
    pub(super) fn on_push(
        &mut self,
        now: Duration,
        push: PushHead,
        client: &ClientFacts,
    ) -> Result<(), Refusal> {
        let bytes_max = self.telemetry_bytes_max;
        let instance = self.hear(now, push.instance, client);
        let admitted = instance.admit(now, push, bytes_max);
        instance.last_refusal = admitted.err();
        instance.has_terminated |= push.terminating;
        admitted
    }

    /// What a client pushed has been read.
    pub(super) fn on_read(&mut self, id: Uuid, readings: Readings) {
        let Some(instance) = self.by_id.get_mut(&id) else { return };
        let before = instance.metrics.bytes;
        let values = instance.metrics.followed_by(readings.by_series);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(values.bytes);
        instance.metrics = Arc::new(values);
        self.make_room();
    }

    /// What a client pushed could not be read.
    pub(super) fn on_unreadable(&mut self, id: Uuid, refusal: Refusal) {
        if let Some(instance) = self.by_id.get_mut(&id) {
            instance.last_refusal = Some(refusal);
        }
    }

    /// All clients, those that have been silent for longest first.
    pub(super) fn views(&mut self, now: Duration) -> Vec<ClientView> {
        self.sweep(now);
        let known = self.by_silence.values().filter_map(|id| Some((id, self.by_id.get(id)?)));
        let view = |(id, instance): (&Uuid, &Instance)| ClientView {
            instance: *id,
            client: instance.client.clone(),
            wanted: instance.wanted.clone(),
            metrics: instance.metrics.clone(),
            pushed_ago: instance.last_push.map(|at| now.saturating_sub(at)),
            has_terminated: instance.has_terminated,
        };
        known.map(view).collect()
    }

    /// The client, known from now on, if it was not.
    fn hear(&mut self, now: Duration, id: Uuid, client: &ClientFacts) -> &mut Instance {
        if now.saturating_sub(self.swept_at) >= SWEEP_INTERVAL {
            self.sweep(now);
        }
        self.heard += 1;
        let heard = self.heard;
        match self.by_id.get(&id) {
            Some(known) => {
                self.by_silence.remove(&known.heard);
            }
            None if self.by_id.len() >= CLIENT_INSTANCES_MAX => self.forget_most_silent(),
            None => {}
        }
        self.by_silence.insert(heard, id);
        let subscriptions = &self.subscriptions;
        let instance =
            self.by_id.entry(id).or_insert_with(|| Instance::new(subscriptions, id, client));
        instance.heard = heard;
        instance.heard_at = now;
        instance
    }

    fn sweep(&mut self, now: Duration) {
        self.swept_at = now;
        let (by_silence, bytes) = (&mut self.by_silence, &mut self.bytes);
        self.by_id.retain(|_, instance| {
            let stays = now.saturating_sub(instance.heard_at) < instance.known_for();
            if !stays {
                by_silence.remove(&instance.heard);
                *bytes = bytes.saturating_sub(instance.metrics.bytes);
            }
            stays
        });
    }

    fn make_room(&mut self) {
        while self.bytes > CLIENT_METRICS_BYTES_MAX && self.by_id.len() > 1 {
            self.forget_most_silent();
        }
    }

    fn forget_most_silent(&mut self) {
        let Some((_, id)) = self.by_silence.pop_first() else { return };
        if let Some(instance) = self.by_id.remove(&id) {
            self.bytes = self.bytes.saturating_sub(instance.metrics.bytes);
        }
    }

    /// Asserts what always holds.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.by_id.len(), self.by_silence.len());
        assert!(self.by_id.len() <= CLIENT_INSTANCES_MAX);
        for (heard, id) in &self.by_silence {
            assert_eq!(self.by_id.get(id).map(|instance| instance.heard), Some(*heard));
        }
        let bytes: usize = self.by_id.values().map(|instance| instance.metrics.bytes).sum();
        assert_eq!(self.bytes, bytes);
        assert!(bytes <= CLIENT_METRICS_BYTES_MAX || self.by_id.len() == 1);
    }
}

impl Instance {
    fn new(subscriptions: &Subscriptions, id: Uuid, client: &ClientFacts) -> Self {
        Self {
            client: Arc::new(client.clone()),
            wanted: Arc::new(subscriptions.of(id, client)),
            last_get: None,
            last_push: None,
            is_told_since: false,
            last_refusal: None,
            has_terminated: false,
            metrics: Arc::new(ClientValues::of(id, client)),
            heard_at: Duration::ZERO,
            heard: 0,
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.wanted.interval_ms.into())
    }

    fn known_for(&self) -> Duration {
        KNOWN_MIN.max(self.interval() * 3)
    }

    fn admit(&mut self, now: Duration, push: PushHead, bytes_max: usize) -> Result<(), Refusal> {
        if self.has_terminated {
            return Err(Refusal::InvalidRequest);
        }
        // The first push after being told may come early: clients spread them over the interval.
        let is_due = self.last_push.is_none_or(|last| now.saturating_sub(last) >= self.interval());
        if self.is_told_since || is_due {
            self.last_push = Some(now);
            self.is_told_since = false;
        } else if !push.terminating {
            return Err(Refusal::TooEarly);
        }
        if push.subscription_id != self.wanted.subscription_id {
            return Err(Refusal::UnknownSubscription);
        }
        if !push.is_codec_known {
            return Err(Refusal::UnsupportedCompression);
        }
        if push.bytes > bytes_max {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }
}

impl ClientValues {
    fn of(id: Uuid, client: &ClientFacts) -> Self {
        let software = client.software.as_ref().map_or(("", ""), |(name, version)| (name, version));
        let values = [&*client.id, &id.to_string(), software.0, software.1];
        let mut owner = Labelling::default();
        OWNER_LABELS.iter().zip(values).for_each(|(name, value)| owner.add(name, value));
        Self { owner: owner.into_text().into(), by_series: BTreeMap::new(), bytes: 0 }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.by_series.len()
    }

    /// After a push of these: what is measured is as it says, what is counted since the push before is
    /// added up.
    fn followed_by(&self, mut pushed: BTreeMap<Series, Reading>) -> Self {
        let counted = self.by_series.iter().filter(|(_, reading)| reading.is_delta);
        for (series, before) in counted {
            match pushed.get_mut(series) {
                Some(now) if now.is_delta => now.value += before.value,
                // It is told as a whole now.
                Some(_) => {}
                None => {
                    pushed.insert(series.clone(), *before);
                }
            }
        }
        while pushed.len() > crate::base::limits::CLIENT_SERIES_MAX {
            pushed.pop_last();
        }
        let bytes = |series: &Series| series.name.len() + series.labels.len() + SERIES_BYTES;
        let bytes = self.owner.len() + pushed.keys().map(bytes).sum::<usize>();
        Self { owner: self.owner.clone(), by_series: pushed, bytes }
    }
}

#[cfg(test)]
mod tests;
