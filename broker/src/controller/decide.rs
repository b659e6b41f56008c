//! Requests to records and answers, without I/O.
//!
//! Requests are decided one after another on a scratch image, so that each sees what those before it
//! did; all their records make one entry. A part of a request that fails leaves no record.

use crate::base::BrokerId;
use crate::metadata::{Image, Random, Record, RegisterBroker};

use super::request::{Registration, Request, Response};
use super::{configs, topics};

/// Producer ids set aside at a time.
pub(super) const PRODUCER_ID_BLOCK: i64 = 1000;

/// What the requests come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One entry for the metadata log; empty if nothing changes.
    pub records: Vec<Record>,
    /// One answer per request, true once the entry is committed.
    pub responses: Vec<Response>,
}

/// Decides `requests` in order on top of `image`.
#[must_use]
pub fn decide(image: &Image, requests: &[Request], random: &mut dyn Random) -> Decision {
    let mut scratch = Scratch { image: image.clone(), records: Vec::new(), random };
    let responses = requests.iter().map(|request| decide_one(&mut scratch, request)).collect();
    Decision { records: scratch.records, responses }
}

fn decide_one(scratch: &mut Scratch<'_>, request: &Request) -> Response {
    match request {
        Request::CreateTopics { topics, validate_only } => {
            Response::CreateTopics(topics::create(scratch, topics, *validate_only))
        }
        Request::DeleteTopics(topics) => Response::DeleteTopics(topics::delete(scratch, topics)),
        Request::CreatePartitions { topics, validate_only } => {
            Response::CreatePartitions(topics::grow(scratch, topics, *validate_only))
        }
        Request::AlterConfigs { resources, validate_only } => {
            Response::AlterConfigs(configs::alter(scratch, resources, *validate_only))
        }
        Request::AllocateProducerIds { broker } => {
            Response::AllocateProducerIds(Ok(allocate_producer_ids(scratch, *broker)))
        }
        Request::RegisterBroker(registration) => {
            Response::RegisterBroker(Ok(register(scratch, registration)))
        }
    }
}

/// The image as it will be, and the records that get it there.
pub(super) struct Scratch<'a> {
    pub(super) image: Image,
    pub(super) records: Vec<Record>,
    pub(super) random: &'a mut dyn Random,
}

impl Scratch<'_> {
    /// Takes records that were checked to fit. One that does not is a bug that must not reach the
    /// log, where every node would stumble over it.
    pub(super) fn push(&mut self, records: Vec<Record>) {
        for record in records {
            if let Err(reason) = self.image.apply(&record) {
                panic!("decided a record that does not fit: {reason}");
            }
            self.records.push(record);
        }
    }
}

fn allocate_producer_ids(scratch: &mut Scratch<'_>, broker: BrokerId) -> (i64, i64) {
    let first = scratch.image.producer_id_next();
    let epoch = scratch.image.broker(broker).map_or(-1, |known| known.epoch);
    let next = first.saturating_add(PRODUCER_ID_BLOCK);
    scratch.push(vec![Record::ProducerIds { broker, epoch, next }]);
    (first, next.saturating_sub(first))
}

/// Registers a broker. Its epoch is above every earlier one.
fn register(scratch: &mut Scratch<'_>, registration: &Registration) -> i64 {
    let known = scratch.image.broker(registration.id).map_or(-1, |broker| broker.epoch);
    let epoch = scratch.image.offset().next().0.max(known.saturating_add(1));
    let Registration { id, incarnation, storage_ids, listeners, rack } = registration.clone();
    scratch.push(vec![Record::RegisterBroker(RegisterBroker {
        id,
        epoch,
        incarnation,
        storage_ids,
        listeners,
        rack,
        // A cluster of one has nobody to vouch for it but itself.
        fenced: false,
        shutting_down: false,
    })]);
    epoch
}
