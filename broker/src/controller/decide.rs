//! Requests to records and answers, without I/O.
//!
//! Requests are decided one after another on a scratch image, so that each sees what those before it
//! did; all their records make one entry. A part of a request that fails leaves no record.

use std::time::Duration;

use crate::base::BrokerId;
use crate::metadata::{Image, Random, Record, ReplicaReport};
use crate::quorum::QuorumStatus;

use super::error::AdminError;
use super::replicas;
use super::replicas::BrokerStart;
use super::request::{Heartbeat, Request, Response, Standing};
use super::sessions::Sessions;
use super::{cluster, configs, topics};

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

/// Decides `requests` in order on top of `image`, `now` being monotonic time.
#[must_use]
pub fn decide(
    image: &Image,
    sessions: &mut Sessions,
    requests: &[Request],
    now: Duration,
    random: &mut dyn Random,
) -> Decision {
    let mut scratch = Scratch { image: image.clone(), records: Vec::new(), random };
    let mut members = Members { sessions, now };
    let decide = |request| decide_one(&mut scratch, &mut members, request);
    let responses = requests.iter().map(decide).collect();
    Decision { records: scratch.records, responses }
}

fn decide_one(scratch: &mut Scratch<'_>, members: &mut Members<'_>, request: &Request) -> Response {
    match request {
        Request::CreateTopics { topics, validate_only } => {
            Response::CreateTopics(topics::create(scratch, topics, *validate_only))
        }
        Request::DeleteTopics(topics) => Response::DeleteTopics(topics::delete(scratch, topics)),
        Request::CreatePartitions { topics, validate_only } => {
            Response::CreatePartitions(topics::grow(scratch, topics, *validate_only))
        }
        Request::AlterConfigs { resources, validate_only } => {
            let answers = configs::alter(scratch, resources, *validate_only);
            scratch.push(replicas::settle(&scratch.image));
            Response::AlterConfigs(answers)
        }
        Request::AllocateProducerIds { broker } => {
            Response::AllocateProducerIds(Ok(allocate_producer_ids(scratch, *broker)))
        }
        Request::RegisterBroker(start) => {
            Response::RegisterBroker(members.register(scratch, start))
        }
        Request::Heartbeat(beat) => Response::Heartbeat(members.heartbeat(scratch, beat)),
        Request::AlterPartitions(all) => {
            let (records, answers) = replicas::alter_partitions(&scratch.image, all);
            scratch.push(records);
            Response::AlterPartitions(answers)
        }
        Request::ReportReplicas(report) => {
            Response::ReportReplicas(report_replicas(scratch, report))
        }
        Request::BrokerGone { broker, epoch, by_itself } => {
            let epoch = (*epoch, *by_itself);
            Response::BrokerGone(members.gone(scratch, *broker, epoch))
        }
        Request::ElectLeaders { election, partitions } => {
            let named = partitions.as_deref();
            Response::ElectLeaders(cluster::elect_leaders(scratch, *election, named))
        }
        Request::AlterReassignments { partitions, may_change_factor } => {
            let all = cluster::alter_reassignments(scratch, partitions, *may_change_factor);
            Response::AlterReassignments(all)
        }
        Request::UnregisterBroker(broker) => {
            Response::UnregisterBroker(cluster::unregister_broker(scratch, *broker))
        }
        // Nothing to decide: who may change voters is asked before, and here nobody may.
        Request::ChangeVoters(_) => {
            let reason = "the metadata log of this broker has no other nodes";
            Response::ChangeVoters(Err(AdminError::InvalidRequest(reason.to_owned())))
        }
        // Nothing to decide: the log knows, and whoever holds it fills it in.
        Request::DescribeQuorum => Response::DescribeQuorum(QuorumStatus::default()),
        Request::UpdateFeatures { updates, validate_only } => {
            Response::UpdateFeatures(cluster::update_features(scratch, updates, *validate_only))
        }
    }
}

/// Fences brokers that are silent, in one entry.
#[must_use]
pub fn fence_all(image: &Image, brokers: &[BrokerId]) -> Vec<Record> {
    let mut after = image.clone();
    let mut records = Vec::new();
    for broker in brokers {
        for record in replicas::fence(&after, *broker) {
            apply_decided(&mut after, &record);
            records.push(record);
        }
    }
    records
}

/// A decided record that does not fit is a bug that must not reach the log, where every node would
/// stumble over it.
fn apply_decided(image: &mut Image, record: &Record) {
    if let Err(reason) = image.apply(record) {
        panic!("decided a record that does not fit: {reason}");
    }
}

/// The image as it will be, and the records that get it there.
pub(super) struct Scratch<'a> {
    pub(super) image: Image,
    pub(super) records: Vec<Record>,
    pub(super) random: &'a mut dyn Random,
}

impl Scratch<'_> {
    /// Takes records that were checked to fit.
    pub(super) fn push(&mut self, records: Vec<Record>) {
        for record in records {
            apply_decided(&mut self.image, &record);
            self.records.push(record);
        }
    }
}

fn allocate_producer_ids(scratch: &mut Scratch<'_>, broker: BrokerId) -> (i64, i64) {
    let first = scratch.image.producer_id_next();
    let epoch = scratch.image.broker(broker).map_or(-1, |known| known.epoch);
    let next = first.saturating_add(PRODUCER_ID_BLOCK);
    if !planted!(ForgetProducerIds) {
        scratch.push(vec![Record::ProducerIds { broker, epoch, next }]);
    }
    (first, next.saturating_sub(first))
}

fn report_replicas(scratch: &mut Scratch<'_>, report: &ReplicaReport) -> Result<(), AdminError> {
    let known = scratch.image.broker(report.broker).filter(|known| known.epoch == report.epoch);
    known.ok_or(AdminError::StaleRegistration(report.broker))?;
    let records = replicas::report(&scratch.image, report);
    scratch.push(records);
    Ok(())
}

/// Brokers that come, stay and go.
struct Members<'a> {
    sessions: &'a mut Sessions,
    now: Duration,
}

impl Members<'_> {
    /// Registers a process. Its epoch is above every earlier one of the broker. Asked again by the
    /// same process, which may not have heard the answer, nothing changes.
    fn register(
        &mut self,
        scratch: &mut Scratch<'_>,
        start: &BrokerStart,
    ) -> Result<i64, AdminError> {
        let registration = &start.registration;
        let known = scratch.image.broker(registration.id);
        if let Some(known) = known.filter(|k| k.incarnation == registration.incarnation) {
            return Ok(known.epoch);
        }
        let has_session =
            known.is_some_and(|known| !known.fenced && self.sessions.is_alive(known, self.now));
        let start = BrokerStart { has_session, ..start.clone() };
        let is_controller = registration.id == self.sessions.own();
        let decided = if is_controller {
            replicas::register_controller(&scratch.image, &start)
        } else {
            replicas::register(&scratch.image, &start)
        };
        let (epoch, records) = decided?;
        scratch.push(records);
        self.sessions.hear(registration.id, epoch, scratch.image.offset(), self.now);
        Ok(epoch)
    }

    fn heartbeat(
        &mut self,
        scratch: &mut Scratch<'_>,
        beat: &Heartbeat,
    ) -> Result<Standing, AdminError> {
        let Heartbeat { broker, epoch, applied, wants_to_leave } = *beat;
        let known = scratch.image.broker(broker).filter(|known| known.epoch == epoch);
        let known = known.ok_or(AdminError::StaleRegistration(broker))?;
        let (is_fenced, is_leaving) = (known.fenced, known.shutting_down);
        self.sessions.hear(broker, epoch, applied, self.now);
        if wants_to_leave {
            return Ok(self.leave(scratch, broker, is_leaving));
        }
        // It takes up roles only once it knows of its own registration (E2). An epoch is the offset of its
        // entry, or more where two processes of the broker registered in one.
        let registered = epoch.min(scratch.image.offset().0);
        if is_fenced && applied.0 >= registered {
            let records = replicas::unfence(&scratch.image, broker);
            scratch.push(records);
            return Ok(Standing { fenced: false, leaving: is_leaving, may_leave: false });
        }
        Ok(Standing { fenced: is_fenced, leaving: is_leaving, may_leave: false })
    }

    /// P6: others take over what they can, and the broker goes once all of them know.
    fn leave(
        &mut self,
        scratch: &mut Scratch<'_>,
        broker: BrokerId,
        was_leaving: bool,
    ) -> Standing {
        let records = replicas::shut_down(&scratch.image, broker);
        let begins = !records.is_empty();
        scratch.push(records);
        if was_leaving {
            // Whoever has applied this has applied the entry by which it began.
            self.sessions.leave(broker, scratch.image.offset());
        }
        let all_know = was_leaving && self.sessions.all_know(&scratch.image, broker);
        let fenced = scratch.image.broker(broker).is_none_or(|known| known.fenced);
        let is_awaited = replicas::is_awaited(&scratch.image, broker);
        let is_done = all_know && (!is_awaited || planted!(LetGoWhoLeads));
        Standing { fenced, leaving: begins || was_leaving, may_leave: fenced || is_done }
    }

    /// A process is gone, and nobody waits for its session to end. Returns whether it was fenced.
    fn gone(
        &mut self,
        scratch: &mut Scratch<'_>,
        broker: BrokerId,
        (epoch, by_itself): (i64, bool),
    ) -> bool {
        let known = scratch.image.broker(broker).filter(|known| known.epoch == epoch);
        let is_gone = known
            .is_some_and(|known| !known.fenced && (by_itself || self.sessions.is_suspect(known)));
        if is_gone {
            let records = replicas::fence(&scratch.image, broker);
            scratch.push(records);
        }
        is_gone
    }
}
