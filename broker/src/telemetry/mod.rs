//! Metrics that clients push to their broker (KIP-714): who is asked for which, and what they said.
//!
//! A client asks what it is to push ([`Telemetry::subscribe`]) and pushes it, in OpenTelemetry's format,
//! until what it is asked for changes. Its latest values are kept for the page of metrics and for
//! people, here on the broker it spoke to; nothing is written to disk or passed on. The clients are
//! strangers: what they send is read within bounds of time and memory.

mod instances;
mod otlp;
mod page;
mod protobuf;
mod subscription;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sawlog_protocol::Uuid;
use sawlog_protocol::records::{BatchError, Compression, decompress};

use self::instances::Instances;
pub(crate) use self::instances::{ClientView, PushHead, Refusal};
use self::otlp::Readings;
use self::subscription::Subscriptions;
pub(crate) use self::subscription::{ClientFacts, Wanted};
use crate::base::Clock;
use crate::base::limits::CLIENT_PUSH_INFLATED_BYTES_MAX;
use crate::metadata::{ImageCell, Random as _, SystemRandom};
use crate::metrics::Counter;

/// Codecs clients may use, the best first.
pub(crate) const CODECS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

/// What has come of pushes.
#[derive(Debug, Default)]
pub(crate) struct TelemetryMetrics {
    taken: Counter,
    too_early: Counter,
    unknown_subscription: Counter,
    too_large: Counter,
    malformed: Counter,
    otherwise_refused: Counter,
    /// Values beyond what is kept of one client.
    dropped: Counter,
}

/// The clients' metrics on this broker.
#[derive(Debug)]
pub(crate) struct Telemetry {
    clock: Arc<dyn Clock>,
    images: Arc<ImageCell>,
    bytes_max: usize,
    instances: Mutex<Instances>,
    metrics: TelemetryMetrics,
}

impl Telemetry {
    /// Nobody has said anything yet. One push may have `bytes_max` as it is sent.
    pub(crate) fn new(clock: Arc<dyn Clock>, images: Arc<ImageCell>, bytes_max: usize) -> Self {
        let instances = Mutex::new(Instances::new(bytes_max));
        Self { clock, images, bytes_max, instances, metrics: TelemetryMetrics::default() }
    }

    /// `telemetry.max.bytes`.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What a client is to push. It is given an id if it has none yet.
    ///
    /// # Errors
    /// It asks before its time.
    pub(crate) fn subscribe(
        &self,
        instance: Uuid,
        client: &ClientFacts,
    ) -> Result<(Uuid, Arc<Wanted>), Refusal> {
        let instance = if instance.is_zero() { fresh() } else { instance };
        let mut instances = self.instances();
        let wanted = instances.on_get(self.clock.monotonic(), instance, client);
        drop(instances);
        let wanted = wanted.inspect_err(|refusal| self.count(*refusal))?;
        Ok((instance, wanted))
    }

    /// Whether a push is to be read.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(&self, push: PushHead, client: &ClientFacts) -> Result<(), Refusal> {
        let admitted = if is_reserved(push.instance) {
            Err(Refusal::InvalidRequest)
        } else {
            self.instances().on_push(self.clock.monotonic(), push, client)
        };
        admitted.inspect_err(|refusal| self.count(*refusal))
    }

    /// Reads a push that was admitted, and keeps what it says. Takes up to some tens of milliseconds.
    ///
    /// # Errors
    /// It is not what it should be.
    pub(crate) fn take(
        &self,
        instance: Uuid,
        codec: Compression,
        metrics: &Bytes,
    ) -> Result<(), Refusal> {
        // No metrics: the client has nothing to say, or it ends.
        let readings =
            if metrics.is_empty() { Ok(Readings::default()) } else { read(codec, metrics) };
        match readings {
            Ok(readings) => {
                self.metrics.taken.increment();
                self.metrics.dropped.add(readings.dropped);
                if !metrics.is_empty() {
                    self.instances.lock().on_read(instance, readings);
                }
                Ok(())
            }
            Err(refusal) => {
                self.count(refusal);
                self.instances.lock().on_unreadable(instance, refusal);
                Err(refusal)
            }
        }
    }

    /// The clients that are known, those that have been silent for longest first.
    pub(crate) fn clients(&self) -> Vec<ClientView> {
        self.instances().views(self.clock.monotonic())
    }

    /// The clients, asked for what the metadata says now.
    fn instances(&self) -> parking_lot::MutexGuard<'_, Instances> {
        let image = self.images.load();
        let source = image.client_metrics();
        let mut instances = self.instances.lock();
        if !instances.subscriptions().are_of(source) {
            let subscriptions = Subscriptions::new(source.clone());
            instances.subscribe(Arc::new(subscriptions));
        }
        instances
    }

    fn count(&self, refusal: Refusal) {
        match refusal {
            Refusal::TooEarly => &self.metrics.too_early,
            Refusal::UnknownSubscription => &self.metrics.unknown_subscription,
            Refusal::TooLarge => &self.metrics.too_large,
            Refusal::Malformed => &self.metrics.malformed,
            Refusal::InvalidRequest | Refusal::UnsupportedCompression => {
                &self.metrics.otherwise_refused
            }
        }
        .increment();
    }
}

fn read(codec: Compression, metrics: &[u8]) -> Result<Readings, Refusal> {
    let inflated =
        decompress(codec, metrics, CLIENT_PUSH_INFLATED_BYTES_MAX).map_err(
            |error| match error {
                BatchError::InflatedTooLarge { .. } => Refusal::TooLarge,
                _ => Refusal::Malformed,
            },
        )?;
    otlp::read(&inflated).map_err(|_| Refusal::Malformed)
}

/// Ids that mean something else in Kafka: none, and the topic of its metadata.
fn is_reserved(instance: Uuid) -> bool {
    u128::from_be_bytes(instance.0) <= 1
}

fn fresh() -> Uuid {
    let id = SystemRandom.next_uuid();
    // One in 2^127.
    if is_reserved(id) { Uuid([0x7f; 16]) } else { id }
}

#[cfg(test)]
mod tests;
