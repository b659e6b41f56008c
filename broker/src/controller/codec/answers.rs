//! What a controller answers another broker, as bytes.
//!
//! Refusals travel as their kind and their text: who asked for a topic wants to know why there is
//! none, in the words of whoever decided.

use crate::base::BrokerId;
use crate::config::Overrides;
use crate::metadata::{DecodeError, Decoder, Encoder, MetadataOffset};

use super::super::error::{AdminError, AdminErrorKind};
use super::super::request::{CreatedTopic, Response, Standing};
use super::{
    ALLOCATE_PRODUCER_IDS, ALTER_CONFIGS, ALTER_PARTITIONS, ALTER_REASSIGNMENTS, BROKER_GONE,
    CHANGE_VOTERS, CREATE_PARTITIONS, CREATE_TOPICS, DELETE_TOPICS, DESCRIBE_QUORUM, ELECT_LEADERS,
    HEARTBEAT, REGISTER_BROKER, REPORT_REPLICAS, UNREGISTER_BROKER, UPDATE_FEATURES, VERSION,
    cluster, kind_of, partitions,
};

const ANSWERED: u8 = 0;
const NOT_LEADER: u8 = 1;
const UNKNOWN_OUTCOME: u8 = 2;
const FAILED: u8 = 3;
const NOT_UNDERSTOOD: u8 = 4;

/// What becomes of a request that was sent to another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) enum Reply {
    /// Decided; who asked has to wait until it has applied the offset itself.
    Answered(MetadataOffset, Response),
    /// Not looked at: this broker is not the controller.
    NotLeader(Option<BrokerId>),
    /// The leadership was lost while it was decided.
    UnknownOutcome,
    /// The controller cannot change anything now: why.
    Failed(String),
    /// The request is of a version, or kind, that this broker does not know.
    NotUnderstood(String),
}

pub(in crate::controller) fn encode_reply(reply: &Reply) -> Vec<u8> {
    let mut out = Encoder::default();
    out.u8(VERSION);
    match reply {
        Reply::Answered(offset, response) => {
            out.u8(ANSWERED);
            out.i64(offset.0);
            encode_response(&mut out, response);
        }
        Reply::NotLeader(leader) => {
            out.u8(NOT_LEADER);
            out.optional(*leader, |out, leader| out.i32(leader.0));
        }
        Reply::UnknownOutcome => out.u8(UNKNOWN_OUTCOME),
        Reply::Failed(why) => {
            out.u8(FAILED);
            out.text(why);
        }
        Reply::NotUnderstood(why) => {
            out.u8(NOT_UNDERSTOOD);
            out.text(why);
        }
    }
    out.into_bytes()
}

/// The reply in `bytes`, which are all of it.
///
/// # Errors
/// The bytes are no reply this version knows.
pub(in crate::controller) fn decode_reply(bytes: &[u8]) -> Result<Reply, DecodeError> {
    let mut input = Decoder::new(bytes);
    let reply = match kind_of(&mut input)? {
        ANSWERED => Reply::Answered(MetadataOffset(input.i64()?), decode_response(&mut input)?),
        NOT_LEADER => Reply::NotLeader(input.optional(|input| Ok(BrokerId(input.i32()?)))?),
        UNKNOWN_OUTCOME => Reply::UnknownOutcome,
        FAILED => Reply::Failed(input.text()?),
        NOT_UNDERSTOOD => Reply::NotUnderstood(input.text()?),
        other => return Err(DecodeError::UnknownKind(other)),
    };
    input.finish()?;
    Ok(reply)
}

fn encode_response(out: &mut Encoder, response: &Response) {
    match response {
        Response::CreateTopics(all) => {
            out.u8(CREATE_TOPICS);
            out.list(all, |out, one| result(out, one, created));
        }
        Response::DeleteTopics(all) => {
            out.u8(DELETE_TOPICS);
            out.list(all, |out, one| {
                result(out, one, |out, (name, id)| {
                    out.text(name);
                    out.uuid(*id);
                });
            });
        }
        Response::CreatePartitions(all) => {
            out.u8(CREATE_PARTITIONS);
            out.list(all, |out, one| result(out, one, |_, ()| ()));
        }
        Response::AlterConfigs(all) => {
            out.u8(ALTER_CONFIGS);
            out.list(all, |out, one| result(out, one, |_, ()| ()));
        }
        Response::AllocateProducerIds(block) => {
            out.u8(ALLOCATE_PRODUCER_IDS);
            result(out, block, |out, (first, count)| {
                out.i64(*first);
                out.i64(*count);
            });
        }
        Response::RegisterBroker(epoch) => {
            out.u8(REGISTER_BROKER);
            result(out, epoch, |out, epoch| out.i64(*epoch));
        }
        Response::Heartbeat(standing) => {
            out.u8(HEARTBEAT);
            result(out, standing, |out, standing| {
                out.bool(standing.fenced);
                out.bool(standing.leaving);
                out.bool(standing.may_leave);
            });
        }
        Response::AlterPartitions(all) => {
            out.u8(ALTER_PARTITIONS);
            out.list(all, partitions::encode_answer);
        }
        Response::ReportReplicas(one) => {
            out.u8(REPORT_REPLICAS);
            result(out, one, |_, ()| ());
        }
        Response::BrokerGone(fenced) => {
            out.u8(BROKER_GONE);
            out.bool(*fenced);
        }
        Response::ElectLeaders(all) => {
            out.u8(ELECT_LEADERS);
            out.list(all, cluster::elected);
        }
        Response::AlterReassignments(all) => {
            out.u8(ALTER_REASSIGNMENTS);
            out.list(all, |out, one| result(out, one, |_, ()| ()));
        }
        Response::UnregisterBroker(one) => {
            out.u8(UNREGISTER_BROKER);
            result(out, one, |_, ()| ());
        }
        Response::DescribeQuorum(status) => {
            out.u8(DESCRIBE_QUORUM);
            cluster::quorum(out, status);
        }
        Response::ChangeVoters(one) => {
            out.u8(CHANGE_VOTERS);
            result(out, one, |_, ()| ());
        }
        Response::UpdateFeatures(all) => {
            out.u8(UPDATE_FEATURES);
            out.list(all, |out, one| result(out, one, |_, ()| ()));
        }
    }
}

fn decode_response(input: &mut Decoder<'_>) -> Result<Response, DecodeError> {
    Ok(match input.u8()? {
        CREATE_TOPICS => {
            Response::CreateTopics(input.list(|input| read_result(input, read_created))?)
        }
        DELETE_TOPICS => Response::DeleteTopics(
            input.list(|input| read_result(input, |input| Ok((input.text()?, input.uuid()?))))?,
        ),
        CREATE_PARTITIONS => {
            Response::CreatePartitions(input.list(|input| read_result(input, |_| Ok(())))?)
        }
        ALTER_CONFIGS => {
            Response::AlterConfigs(input.list(|input| read_result(input, |_| Ok(())))?)
        }
        ALLOCATE_PRODUCER_IDS => Response::AllocateProducerIds(read_result(input, |input| {
            Ok((input.i64()?, input.i64()?))
        })?),
        REGISTER_BROKER => Response::RegisterBroker(read_result(input, |input| input.i64())?),
        HEARTBEAT => Response::Heartbeat(read_result(input, |input| {
            Ok(Standing { fenced: input.bool()?, leaving: input.bool()?, may_leave: input.bool()? })
        })?),
        ALTER_PARTITIONS => Response::AlterPartitions(input.list(partitions::decode_answer)?),
        REPORT_REPLICAS => Response::ReportReplicas(read_result(input, |_| Ok(()))?),
        BROKER_GONE => Response::BrokerGone(input.bool()?),
        ELECT_LEADERS => Response::ElectLeaders(input.list(cluster::read_elected)?),
        ALTER_REASSIGNMENTS => {
            Response::AlterReassignments(input.list(|input| read_result(input, |_| Ok(())))?)
        }
        UNREGISTER_BROKER => Response::UnregisterBroker(read_result(input, |_| Ok(()))?),
        DESCRIBE_QUORUM => Response::DescribeQuorum(cluster::read_quorum(input)?),
        CHANGE_VOTERS => Response::ChangeVoters(read_result(input, |_| Ok(()))?),
        UPDATE_FEATURES => {
            Response::UpdateFeatures(input.list(|input| read_result(input, |_| Ok(())))?)
        }
        other => return Err(DecodeError::UnknownKind(other)),
    })
}

pub(super) fn result<T>(
    out: &mut Encoder,
    result: &Result<T, AdminError>,
    write: impl FnOnce(&mut Encoder, &T),
) {
    match result {
        Ok(value) => {
            out.u8(0);
            write(out, value);
        }
        Err(error) => {
            out.u8(error.kind().number());
            out.text(&error.to_string());
        }
    }
}

pub(super) fn read_result<T>(
    input: &mut Decoder<'_>,
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<Result<T, AdminError>, DecodeError> {
    match input.u8()? {
        0 => read(input).map(Ok),
        number => {
            let kind = AdminErrorKind::of(number);
            Ok(Err(AdminError::Told { kind, text: input.text()? }))
        }
    }
}

fn created(out: &mut Encoder, topic: &CreatedTopic) {
    out.text(&topic.name);
    out.uuid(topic.id);
    out.i32(topic.partitions);
    out.i32(i32::from(topic.replication_factor));
    let configs: Vec<_> = topic.configs.iter().collect();
    out.list(&configs, |out, (key, value)| {
        out.text(key);
        out.text(value);
    });
}

fn read_created(input: &mut Decoder<'_>) -> Result<CreatedTopic, DecodeError> {
    Ok(CreatedTopic {
        name: input.text()?,
        id: input.uuid()?,
        partitions: input.i32()?,
        replication_factor: i16::try_from(input.i32()?).unwrap_or(i16::MAX),
        configs: input
            .list(|input| Ok((input.text()?, input.text()?)))?
            .into_iter()
            .collect::<Overrides>(),
    })
}
