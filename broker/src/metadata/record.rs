//! What the metadata log holds: one record per fact.
//!
//! A record on disk is `type u8, version u8, length u32, body`. The version rises with every change
//! of the body; we write the newest and read it and the one before. An unknown type or version is an
//! error, never skipped: a node that ignores a fact would disagree with the others. Fields are only
//! ever added at the end; a record written before a field was has the value that says nothing.

use std::sync::Arc;

use sawlog_protocol::Uuid;

use crate::base::{BrokerId, LeaderEpoch, TopicId};
use crate::config::Endpoint;

use super::codec::{DecodeError, Decoder, Encoder};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A broker started, or one that was known started again.
    RegisterBroker(RegisterBroker),
    /// Something about a registered broker changed.
    BrokerChange(BrokerChange),
    /// A broker is forgotten.
    UnregisterBroker {
        /// The broker.
        id: BrokerId,
        /// Its registration: another one is not forgotten.
        epoch: i64,
    },
    /// The cluster as a whole does something in this version from now on.
    FeatureLevel {
        /// What.
        name: String,
        /// The version; 0 is "not at all".
        level: u16,
    },
    /// A topic exists.
    Topic {
        /// Its name, unique at any time.
        name: String,
        /// Its id, unique for ever.
        id: TopicId,
    },
    /// A topic has one more partition.
    Partition(PartitionRecord),
    /// Something about a partition changed. The partition epoch rises by one; the leader epoch too
    /// if a leader is named.
    PartitionChange(PartitionChange),
    /// A topic, its partitions and its settings are gone.
    RemoveTopic {
        /// Its id.
        id: TopicId,
    },
    /// A setting was made or, without a value, taken back.
    Config {
        /// Of what.
        resource: ConfigResource,
        /// The property.
        key: String,
        /// Canonical text.
        value: Option<String>,
    },
    /// Producer ids below `next` are given away.
    ProducerIds {
        /// The broker that got the block ending at `next`.
        broker: BrokerId,
        /// Its registration epoch.
        epoch: i64,
        /// The first id still free.
        next: i64,
    },
    /// Nothing.
    NoOp,
}

/// A broker's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    /// The broker.
    pub id: BrokerId,
    /// Tells registrations apart: the offset of the entry that holds this record.
    pub epoch: i64,
    /// Tells processes apart.
    pub incarnation: Uuid,
    /// The identity of each data directory.
    pub storage_ids: Vec<Uuid>,
    /// Addresses it is advertised at; empty if clients are told the address they dialled.
    pub listeners: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Whether it is kept out of leadership and in-sync sets.
    pub fenced: bool,
    /// Whether it is about to leave: no new leadership, no in-sync set it is not in already.
    pub shutting_down: bool,
    /// Where other brokers reach it; nowhere if it was alone.
    pub peer: Option<Endpoint>,
}

/// What changed about a broker; `None` is "as before".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerChange {
    /// The broker.
    pub id: BrokerId,
    /// Its registration: of another one nothing is changed.
    pub epoch: i64,
    /// Whether it is kept out of leadership and in-sync sets.
    pub fenced: Option<bool>,
    /// Whether it is about to leave.
    pub shutting_down: Option<bool>,
    /// The identity of each data directory that works.
    pub storage_ids: Option<Vec<Uuid>>,
}

/// A partition as it begins, or as a snapshot keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index; partitions are added in order.
    pub index: i32,
    /// Brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Replicas that hold everything acknowledged.
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that still hold everything acknowledged.
    pub elr: Vec<BrokerId>,
    /// Who leads; nobody if no eligible replica is there.
    pub leader: Option<BrokerId>,
    /// Leaders so far; 0 at creation.
    pub leader_epoch: LeaderEpoch,
    /// Changes so far; 0 at creation.
    pub partition_epoch: i32,
    /// Replicas a reassignment adds; among `replicas` already.
    pub adding: Vec<BrokerId>,
    /// Replicas a reassignment removes when it is complete; still among `replicas`.
    pub removing: Vec<BrokerId>,
    /// The data directory of each replica, in their order, zero where it is not known; empty if
    /// none is.
    pub storage_ids: Vec<Uuid>,
}

/// What changed about a partition; `None` is "as before".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub index: i32,
    /// The new ISR.
    pub isr: Option<Vec<BrokerId>>,
    /// The new ELR.
    pub elr: Option<Vec<BrokerId>>,
    /// The new leader, or that there is none now. Naming the same leader again still begins an epoch.
    pub leader: Option<Option<BrokerId>>,
    /// The new replicas. Those that stay keep their data directories.
    pub replicas: Option<Vec<BrokerId>>,
    /// The replicas a reassignment adds.
    pub adding: Option<Vec<BrokerId>>,
    /// The replicas a reassignment removes.
    pub removing: Option<Vec<BrokerId>>,
    /// The data directory of each replica.
    pub storage_ids: Option<Vec<Uuid>>,
}

impl PartitionChange {
    /// Nothing changed but the partition epoch.
    #[must_use]
    pub fn new(topic: TopicId, index: i32) -> Self {
        Self {
            topic,
            index,
            isr: None,
            elr: None,
            leader: None,
            replicas: None,
            adding: None,
            removing: None,
            storage_ids: None,
        }
    }
}

/// What a setting belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// One topic.
    Topic(TopicId),
    /// One broker.
    Broker(BrokerId),
    /// All brokers.
    Cluster,
    /// One group, which need not exist.
    Group(Arc<str>),
    /// A subscription to metrics of clients.
    ClientMetrics(Arc<str>),
}

const REGISTER_BROKER: u8 = 1;
const TOPIC: u8 = 2;
const PARTITION: u8 = 3;
const PARTITION_CHANGE: u8 = 4;
const REMOVE_TOPIC: u8 = 5;
const CONFIG: u8 = 6;
const PRODUCER_IDS: u8 = 7;
const NO_OP: u8 = 8;
const BROKER_CHANGE: u8 = 9;
const UNREGISTER_BROKER: u8 = 12;
const FEATURE_LEVEL: u8 = 13;

/// The version a type is written in, and its versions before it can be read.
fn newest_version(kind: u8) -> u8 {
    match kind {
        REGISTER_BROKER => 2,
        PARTITION | PARTITION_CHANGE => 1,
        _ => 0,
    }
}

/// The records as bytes.
#[must_use]
pub fn encode_records(records: &[Record]) -> Vec<u8> {
    let mut out = Encoder::default();
    for record in records {
        record.encode(&mut out);
    }
    out.into_bytes()
}

/// The records in `bytes`, all of them.
///
/// # Errors
/// The bytes are not whole records of known types and versions.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let mut input = Decoder::new(bytes);
    let mut records = Vec::new();
    while !input.is_empty() {
        records.push(Record::decode(&mut input)?);
    }
    Ok(records)
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::RegisterBroker(_) => REGISTER_BROKER,
            Self::BrokerChange(_) => BROKER_CHANGE,
            Self::UnregisterBroker { .. } => UNREGISTER_BROKER,
            Self::FeatureLevel { .. } => FEATURE_LEVEL,
            Self::Topic { .. } => TOPIC,
            Self::Partition(_) => PARTITION,
            Self::PartitionChange(_) => PARTITION_CHANGE,
            Self::RemoveTopic { .. } => REMOVE_TOPIC,
            Self::Config { .. } => CONFIG,
            Self::ProducerIds { .. } => PRODUCER_IDS,
            Self::NoOp => NO_OP,
        }
    }

    fn encode(&self, out: &mut Encoder) {
        out.u8(self.kind());
        out.u8(newest_version(self.kind()));
        out.framed(|out| match self {
            Self::RegisterBroker(broker) => broker.encode(out),
            Self::BrokerChange(change) => change.encode(out),
            Self::UnregisterBroker { id, epoch } => {
                out.i32(id.0);
                out.i64(*epoch);
            }
            Self::FeatureLevel { name, level } => {
                out.text(name);
                out.u16(*level);
            }
            Self::Topic { name, id } => {
                out.text(name);
                out.uuid(*id);
            }
            Self::Partition(partition) => partition.encode(out),
            Self::PartitionChange(change) => change.encode(out),
            Self::RemoveTopic { id } => out.uuid(*id),
            Self::Config { resource, key, value } => {
                encode_resource(resource, out);
                out.text(key);
                out.optional(value.as_deref(), Encoder::text);
            }
            Self::ProducerIds { broker, epoch, next } => {
                out.i32(broker.0);
                out.i64(*epoch);
                out.i64(*next);
            }
            Self::NoOp => {}
        });
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let kind = input.u8()?;
        let version = input.u8()?;
        let mut body = input.framed()?;
        if version > newest_version(kind) {
            return Err(DecodeError::UnknownRecord { kind, version });
        }
        let record = match kind {
            REGISTER_BROKER => Self::RegisterBroker(RegisterBroker::decode(&mut body, version)?),
            BROKER_CHANGE => Self::BrokerChange(BrokerChange::decode(&mut body)?),
            UNREGISTER_BROKER => {
                Self::UnregisterBroker { id: BrokerId(body.i32()?), epoch: body.i64()? }
            }
            FEATURE_LEVEL => Self::FeatureLevel { name: body.text()?, level: body.u16()? },
            TOPIC => Self::Topic { name: body.text()?, id: body.uuid()? },
            PARTITION => Self::Partition(PartitionRecord::decode(&mut body, version)?),
            PARTITION_CHANGE => Self::PartitionChange(PartitionChange::decode(&mut body, version)?),
            REMOVE_TOPIC => Self::RemoveTopic { id: body.uuid()? },
            CONFIG => Self::Config {
                resource: decode_resource(&mut body)?,
                key: body.text()?,
                value: body.optional(Decoder::text)?,
            },
            PRODUCER_IDS => Self::ProducerIds {
                broker: BrokerId(body.i32()?),
                epoch: body.i64()?,
                next: body.i64()?,
            },
            NO_OP => Self::NoOp,
            _ => return Err(DecodeError::UnknownRecord { kind, version }),
        };
        body.finish()?;
        Ok(record)
    }
}

impl RegisterBroker {
    fn encode(&self, out: &mut Encoder) {
        out.i32(self.id.0);
        out.i64(self.epoch);
        out.uuid(self.incarnation);
        encode_uuids(&self.storage_ids, out);
        out.list(&self.listeners, |out, listener| out.endpoint(listener));
        out.optional(self.rack.as_deref(), Encoder::text);
        out.bool(self.fenced);
        out.bool(self.shutting_down);
        out.optional(self.peer.as_ref(), Encoder::endpoint);
    }

    fn decode(body: &mut Decoder<'_>, version: u8) -> Result<Self, DecodeError> {
        Ok(Self {
            id: BrokerId(body.i32()?),
            epoch: body.i64()?,
            incarnation: body.uuid()?,
            storage_ids: decode_uuids(body)?,
            listeners: body.list(Decoder::endpoint)?,
            rack: body.optional(Decoder::text)?,
            fenced: body.bool()?,
            shutting_down: version >= 1 && body.bool()?,
            peer: if version >= 2 { body.optional(Decoder::endpoint)? } else { None },
        })
    }
}

impl BrokerChange {
    fn encode(&self, out: &mut Encoder) {
        out.i32(self.id.0);
        out.i64(self.epoch);
        out.optional(self.fenced, Encoder::bool);
        out.optional(self.shutting_down, Encoder::bool);
        out.optional(self.storage_ids.as_deref(), |out, ids| encode_uuids(ids, out));
    }

    fn decode(body: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: BrokerId(body.i32()?),
            epoch: body.i64()?,
            fenced: body.optional(Decoder::bool)?,
            shutting_down: body.optional(Decoder::bool)?,
            storage_ids: body.optional(decode_uuids)?,
        })
    }
}

impl PartitionRecord {
    fn encode(&self, out: &mut Encoder) {
        out.uuid(self.topic);
        out.i32(self.index);
        encode_brokers(&self.replicas, out);
        encode_brokers(&self.isr, out);
        encode_brokers(&self.elr, out);
        out.optional(self.leader, |out, leader| out.i32(leader.0));
        out.i32(self.leader_epoch.0);
        out.i32(self.partition_epoch);
        encode_brokers(&self.adding, out);
        encode_brokers(&self.removing, out);
        encode_uuids(&self.storage_ids, out);
    }

    fn decode(body: &mut Decoder<'_>, version: u8) -> Result<Self, DecodeError> {
        let mut record = Self::decode_first(body)?;
        if version >= 1 {
            record.adding = decode_brokers(body)?;
            record.removing = decode_brokers(body)?;
            record.storage_ids = decode_uuids(body)?;
        }
        Ok(record)
    }

    /// The fields of version 0.
    fn decode_first(body: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            topic: body.uuid()?,
            index: body.i32()?,
            replicas: decode_brokers(body)?,
            isr: decode_brokers(body)?,
            elr: decode_brokers(body)?,
            leader: body.optional(decode_broker)?,
            leader_epoch: LeaderEpoch(body.i32()?),
            partition_epoch: body.i32()?,
            adding: Vec::new(),
            removing: Vec::new(),
            storage_ids: Vec::new(),
        })
    }
}

impl PartitionChange {
    fn encode(&self, out: &mut Encoder) {
        out.uuid(self.topic);
        out.i32(self.index);
        out.optional(self.isr.as_deref(), |out, brokers| encode_brokers(brokers, out));
        out.optional(self.elr.as_deref(), |out, brokers| encode_brokers(brokers, out));
        out.optional(self.leader, |out, leader| {
            out.optional(leader, |out, leader| out.i32(leader.0));
        });
        out.optional(self.replicas.as_deref(), |out, brokers| encode_brokers(brokers, out));
        out.optional(self.adding.as_deref(), |out, brokers| encode_brokers(brokers, out));
        out.optional(self.removing.as_deref(), |out, brokers| encode_brokers(brokers, out));
        out.optional(self.storage_ids.as_deref(), |out, ids| encode_uuids(ids, out));
    }

    fn decode(body: &mut Decoder<'_>, version: u8) -> Result<Self, DecodeError> {
        let mut change = Self::new(body.uuid()?, body.i32()?);
        change.isr = body.optional(decode_brokers)?;
        change.elr = body.optional(decode_brokers)?;
        change.leader = body.optional(|body| body.optional(decode_broker))?;
        change.replicas = body.optional(decode_brokers)?;
        if version >= 1 {
            change.adding = body.optional(decode_brokers)?;
            change.removing = body.optional(decode_brokers)?;
            change.storage_ids = body.optional(decode_uuids)?;
        }
        Ok(change)
    }
}

fn encode_uuids(ids: &[Uuid], out: &mut Encoder) {
    out.list(ids, |out, id| out.uuid(*id));
}

fn decode_uuids(body: &mut Decoder<'_>) -> Result<Vec<Uuid>, DecodeError> {
    body.list(Decoder::uuid)
}

fn encode_brokers(brokers: &[BrokerId], out: &mut Encoder) {
    out.list(brokers, |out, broker| out.i32(broker.0));
}

fn decode_brokers(body: &mut Decoder<'_>) -> Result<Vec<BrokerId>, DecodeError> {
    body.list(decode_broker)
}

fn decode_broker(body: &mut Decoder<'_>) -> Result<BrokerId, DecodeError> {
    Ok(BrokerId(body.i32()?))
}

fn encode_resource(resource: &ConfigResource, out: &mut Encoder) {
    match resource {
        ConfigResource::Topic(id) => {
            out.u8(0);
            out.uuid(*id);
        }
        ConfigResource::Broker(id) => {
            out.u8(1);
            out.i32(id.0);
        }
        ConfigResource::Cluster => out.u8(2),
        ConfigResource::Group(group) => {
            out.u8(3);
            out.text(group);
        }
        ConfigResource::ClientMetrics(name) => {
            out.u8(4);
            out.text(name);
        }
    }
}

fn decode_resource(body: &mut Decoder<'_>) -> Result<ConfigResource, DecodeError> {
    match body.u8()? {
        0 => Ok(ConfigResource::Topic(body.uuid()?)),
        1 => Ok(ConfigResource::Broker(decode_broker(body)?)),
        2 => Ok(ConfigResource::Cluster),
        3 => Ok(ConfigResource::Group(body.text()?.into())),
        4 => Ok(ConfigResource::ClientMetrics(body.text()?.into())),
        other => Err(DecodeError::UnknownResource(other)),
    }
}
