//! Requests to the controller, from broker to broker, as bytes.
//!
//! A message is `version u8, kind u8, body`, the values as in the metadata log. Both ends are brokers
//! of one cluster, but not always of one version: a version that is not known is refused, never
//! guessed at. Answers are in `answers`.

mod answers;
mod cluster;
mod partitions;
#[cfg(test)]
mod tests;

use crate::base::BrokerId;
use crate::metadata::{DecodeError, Decoder, Encoder, MetadataOffset};

use super::replicas::BrokerStart;
use super::request::{
    AlterConfigs, Alteration, ConfigChange, ConfigOperation, ConfigTarget, CreatePartitions,
    CreateTopic, DeleteTopic, Heartbeat, Registration, Request,
};
pub(super) use answers::{Reply, decode_reply, encode_reply};

/// Of every message between controllers and those who ask them.
const VERSION: u8 = 1;

const CREATE_TOPICS: u8 = 1;
const DELETE_TOPICS: u8 = 2;
const CREATE_PARTITIONS: u8 = 3;
const ALTER_CONFIGS: u8 = 4;
const ALLOCATE_PRODUCER_IDS: u8 = 5;
const REGISTER_BROKER: u8 = 6;
const HEARTBEAT: u8 = 7;
const ALTER_PARTITIONS: u8 = 8;
const BROKER_GONE: u8 = 9;
const REPORT_REPLICAS: u8 = 10;
const ELECT_LEADERS: u8 = 16;
const ALTER_REASSIGNMENTS: u8 = 17;
const UNREGISTER_BROKER: u8 = 18;
const UPDATE_FEATURES: u8 = 19;
const DESCRIBE_QUORUM: u8 = 20;
const CHANGE_VOTERS: u8 = 21;

/// A request as bytes.
pub(super) fn encode_request(request: &Request) -> Vec<u8> {
    let mut out = Encoder::default();
    out.u8(VERSION);
    match request {
        Request::CreateTopics { topics, validate_only } => {
            out.u8(CREATE_TOPICS);
            out.list(topics, create_topic);
            out.bool(*validate_only);
        }
        Request::DeleteTopics(topics) => {
            out.u8(DELETE_TOPICS);
            out.list(topics, |out, topic| match topic {
                DeleteTopic::Name(name) => {
                    out.u8(0);
                    out.text(name);
                }
                DeleteTopic::Id(id) => {
                    out.u8(1);
                    out.uuid(*id);
                }
            });
        }
        Request::CreatePartitions { topics, validate_only } => {
            out.u8(CREATE_PARTITIONS);
            out.list(topics, |out, topic| {
                out.text(&topic.name);
                out.i32(topic.count);
                out.optional(topic.assignments.as_deref(), |out, all| {
                    out.list(all, |out, one| brokers(out, one));
                });
            });
            out.bool(*validate_only);
        }
        Request::AlterConfigs { resources, validate_only } => {
            out.u8(ALTER_CONFIGS);
            out.list(resources, alter_configs);
            out.bool(*validate_only);
        }
        Request::AllocateProducerIds { broker } => {
            out.u8(ALLOCATE_PRODUCER_IDS);
            out.i32(broker.0);
        }
        Request::RegisterBroker(start) => {
            out.u8(REGISTER_BROKER);
            broker_start(&mut out, start);
        }
        Request::Heartbeat(beat) => {
            out.u8(HEARTBEAT);
            out.i32(beat.broker.0);
            out.i64(beat.epoch);
            out.i64(beat.applied.0);
            out.bool(beat.wants_to_leave);
        }
        Request::AlterPartitions(all) => {
            out.u8(ALTER_PARTITIONS);
            out.list(all, partitions::encode_request);
        }
        Request::ReportReplicas(report) => {
            out.u8(REPORT_REPLICAS);
            partitions::encode_report(&mut out, report);
        }
        Request::BrokerGone { broker, epoch, by_itself } => {
            out.u8(BROKER_GONE);
            out.i32(broker.0);
            out.i64(*epoch);
            out.bool(*by_itself);
        }
        Request::ElectLeaders { election, partitions } => {
            out.u8(ELECT_LEADERS);
            cluster::election(&mut out, *election);
            out.optional(partitions.as_deref(), |out, all| out.list(all, cluster::partition));
        }
        Request::AlterReassignments { partitions, may_change_factor } => {
            out.u8(ALTER_REASSIGNMENTS);
            out.list(partitions, cluster::reassignment);
            out.bool(*may_change_factor);
        }
        Request::UnregisterBroker(broker) => {
            out.u8(UNREGISTER_BROKER);
            out.i32(broker.0);
        }
        Request::DescribeQuorum => out.u8(DESCRIBE_QUORUM),
        Request::ChangeVoters(change) => {
            out.u8(CHANGE_VOTERS);
            cluster::voter_change(&mut out, change);
        }
        Request::UpdateFeatures { updates, validate_only } => {
            out.u8(UPDATE_FEATURES);
            out.list(updates, cluster::feature_update);
            out.bool(*validate_only);
        }
    }
    out.into_bytes()
}

/// The request in `bytes`, which are all of it.
///
/// # Errors
/// The bytes are no request this version knows.
pub(super) fn decode_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    let mut input = Decoder::new(bytes);
    let kind = kind_of(&mut input)?;
    let request = match kind {
        CREATE_TOPICS => Request::CreateTopics {
            topics: input.list(read_create_topic)?,
            validate_only: input.bool()?,
        },
        DELETE_TOPICS => Request::DeleteTopics(input.list(|input| match input.u8()? {
            0 => Ok(DeleteTopic::Name(input.text()?)),
            1 => Ok(DeleteTopic::Id(input.uuid()?)),
            other => Err(DecodeError::UnknownKind(other)),
        })?),
        CREATE_PARTITIONS => Request::CreatePartitions {
            topics: input.list(|input| {
                Ok(CreatePartitions {
                    name: input.text()?,
                    count: input.i32()?,
                    assignments: input.optional(|input| input.list(read_brokers))?,
                })
            })?,
            validate_only: input.bool()?,
        },
        ALTER_CONFIGS => Request::AlterConfigs {
            resources: input.list(read_alter_configs)?,
            validate_only: input.bool()?,
        },
        ALLOCATE_PRODUCER_IDS => Request::AllocateProducerIds { broker: BrokerId(input.i32()?) },
        REGISTER_BROKER => Request::RegisterBroker(read_broker_start(&mut input)?),
        HEARTBEAT => Request::Heartbeat(Heartbeat {
            broker: BrokerId(input.i32()?),
            epoch: input.i64()?,
            applied: MetadataOffset(input.i64()?),
            wants_to_leave: input.bool()?,
        }),
        ALTER_PARTITIONS => Request::AlterPartitions(input.list(partitions::decode_request)?),
        REPORT_REPLICAS => Request::ReportReplicas(partitions::decode_report(&mut input)?),
        BROKER_GONE => Request::BrokerGone {
            broker: BrokerId(input.i32()?),
            epoch: input.i64()?,
            by_itself: input.bool()?,
        },
        ELECT_LEADERS => Request::ElectLeaders {
            election: cluster::read_election(&mut input)?,
            partitions: input.optional(|input| input.list(cluster::read_partition))?,
        },
        ALTER_REASSIGNMENTS => Request::AlterReassignments {
            partitions: input.list(cluster::read_reassignment)?,
            may_change_factor: input.bool()?,
        },
        UNREGISTER_BROKER => Request::UnregisterBroker(BrokerId(input.i32()?)),
        DESCRIBE_QUORUM => Request::DescribeQuorum,
        CHANGE_VOTERS => Request::ChangeVoters(cluster::read_voter_change(&mut input)?),
        UPDATE_FEATURES => Request::UpdateFeatures {
            updates: input.list(cluster::read_feature_update)?,
            validate_only: input.bool()?,
        },
        other => return Err(DecodeError::UnknownKind(other)),
    };
    input.finish()?;
    Ok(request)
}

/// The kind of a message of the version we know.
fn kind_of(input: &mut Decoder<'_>) -> Result<u8, DecodeError> {
    let version = input.u8()?;
    let kind = input.u8()?;
    if version == VERSION { Ok(kind) } else { Err(DecodeError::UnknownRecord { kind, version }) }
}

fn brokers(out: &mut Encoder, ids: &[BrokerId]) {
    out.list(ids, |out, id| out.i32(id.0));
}

fn read_brokers(input: &mut Decoder<'_>) -> Result<Vec<BrokerId>, DecodeError> {
    input.list(|input| Ok(BrokerId(input.i32()?)))
}

fn create_topic(out: &mut Encoder, topic: &CreateTopic) {
    out.text(&topic.name);
    out.optional(topic.partitions, Encoder::i32);
    out.optional(topic.replication_factor.map(i32::from), Encoder::i32);
    out.list(&topic.assignments, |out, (index, replicas)| {
        out.i32(*index);
        brokers(out, replicas);
    });
    out.list(&topic.configs, setting);
    out.bool(topic.is_internal);
}

fn read_create_topic(input: &mut Decoder<'_>) -> Result<CreateTopic, DecodeError> {
    Ok(CreateTopic {
        name: input.text()?,
        partitions: input.optional(Decoder::i32)?,
        // One that does not fit is refused by whoever decides, as any other that is out of range.
        replication_factor: input
            .optional(Decoder::i32)?
            .map(|factor| i16::try_from(factor).unwrap_or(i16::MAX)),
        assignments: input.list(|input| Ok((input.i32()?, read_brokers(input)?)))?,
        configs: input.list(read_setting)?,
        is_internal: input.bool()?,
    })
}

fn setting(out: &mut Encoder, (name, value): &(String, Option<String>)) {
    out.text(name);
    out.optional(value.as_deref(), Encoder::text);
}

fn read_setting(input: &mut Decoder<'_>) -> Result<(String, Option<String>), DecodeError> {
    Ok((input.text()?, input.optional(Decoder::text)?))
}

fn alter_configs(out: &mut Encoder, resource: &AlterConfigs) {
    match &resource.target {
        ConfigTarget::Topic(name) => {
            out.u8(0);
            out.text(name);
        }
        ConfigTarget::Broker(id) => {
            out.u8(1);
            out.i32(id.0);
        }
        ConfigTarget::Cluster => out.u8(2),
        ConfigTarget::Group(name) => {
            out.u8(3);
            out.text(name);
        }
        ConfigTarget::ClientMetrics(name) => {
            out.u8(4);
            out.text(name);
        }
    }
    match &resource.change {
        Alteration::Replace(settings) => {
            out.u8(0);
            out.list(settings, setting);
        }
        Alteration::Incremental(changes) => {
            out.u8(1);
            out.list(changes, |out, change| {
                out.text(&change.name);
                out.u8(match change.operation {
                    ConfigOperation::Set => 0,
                    ConfigOperation::Delete => 1,
                    ConfigOperation::Append => 2,
                    ConfigOperation::Subtract => 3,
                });
                out.optional(change.value.as_deref(), Encoder::text);
            });
        }
    }
}

fn read_alter_configs(input: &mut Decoder<'_>) -> Result<AlterConfigs, DecodeError> {
    let target = match input.u8()? {
        0 => ConfigTarget::Topic(input.text()?),
        1 => ConfigTarget::Broker(BrokerId(input.i32()?)),
        2 => ConfigTarget::Cluster,
        3 => ConfigTarget::Group(input.text()?),
        4 => ConfigTarget::ClientMetrics(input.text()?),
        other => return Err(DecodeError::UnknownKind(other)),
    };
    let change = match input.u8()? {
        0 => Alteration::Replace(input.list(read_setting)?),
        1 => Alteration::Incremental(input.list(read_change)?),
        other => return Err(DecodeError::UnknownKind(other)),
    };
    Ok(AlterConfigs { target, change })
}

fn read_change(input: &mut Decoder<'_>) -> Result<ConfigChange, DecodeError> {
    let name = input.text()?;
    let operation = match input.u8()? {
        0 => ConfigOperation::Set,
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append,
        3 => ConfigOperation::Subtract,
        other => return Err(DecodeError::UnknownKind(other)),
    };
    Ok(ConfigChange { name, operation, value: input.optional(Decoder::text)? })
}

fn broker_start(out: &mut Encoder, start: &BrokerStart) {
    let Registration { id, incarnation, storage_ids, listeners, peer, rack } = &start.registration;
    out.i32(id.0);
    out.uuid(*incarnation);
    out.list(storage_ids, |out, id| out.uuid(*id));
    out.list(listeners, Encoder::endpoint);
    out.optional(peer.as_ref(), Encoder::endpoint);
    out.optional(rack.as_deref(), Encoder::text);
    out.bool(start.was_clean);
    out.list(&start.damaged, partitions::encode_id);
    out.bool(start.gives_up_missing);
}

fn read_broker_start(input: &mut Decoder<'_>) -> Result<BrokerStart, DecodeError> {
    Ok(BrokerStart {
        registration: Registration {
            id: BrokerId(input.i32()?),
            incarnation: input.uuid()?,
            storage_ids: input.list(Decoder::uuid)?,
            listeners: input.list(Decoder::endpoint)?,
            peer: input.optional(Decoder::endpoint)?,
            rack: input.optional(Decoder::text)?,
        },
        was_clean: input.bool()?,
        damaged: input.list(partitions::decode_id)?,
        gives_up_missing: input.bool()?,
        // Whether another process of that id is heard of only the controller knows.
        has_session: false,
    })
}
