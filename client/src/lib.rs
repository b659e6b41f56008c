//! A client for Sawlog and anything else that speaks Apache Kafka's protocol: produce, consume by
//! assignment or in a group, administer.
//!
//! ```no_run
//! # async fn example() -> Result<(), sawlog_client::ClientError> {
//! use sawlog_client::{Client, ClientOptions, Producer, ProducerOptions, Record};
//!
//! let client = Client::connect(ClientOptions::new("127.0.0.1:9092")).await?;
//! let producer = Producer::new(client, ProducerOptions::default());
//! let record = Record {
//!     key: Some(b"alice".to_vec()),
//!     value: Some(b"3 apples".to_vec()),
//!     ..Record::default()
//! };
//! let delivery = producer.send("orders", record).await?;
//! println!("at offset {}", delivery.confirmed().await?.offset);
//! # Ok(())
//! # }
//! ```
//!
//! - **[`Client`]** holds what is known of the cluster, and its connections: one pool, metadata asked for
//!   once however many want it, a broker that fails left alone for a growing pause. TLS or anything else
//!   below the protocol comes in as a [`Connector`].
//! - **[`Producer`]** writes: batches by partition, idempotent unless told otherwise. Whatever happens
//!   to brokers and connections, a record that is confirmed is in the log once, and records of a
//!   partition are in the order they were sent. Memory is bounded: [`Producer::send`] waits.
//! - **[`Consumer`]** reads partitions it is assigned, ahead of its reader and bounded in bytes. An
//!   offset that is not in the log is an error, or a jump that is told ([`ResetPolicy`]).
//! - **[`GroupConsumer`]** ([`Consumer::subscribe`]) shares the partitions of topics with the other
//!   members of its group, in the classic protocol or that of KIP-848, and commits how far it is. What
//!   it commits was processed, and no commit of it moves an offset back.
//! - Administration is on [`Client`]: topics, settings, offsets, disks, producers; groups, their members
//!   and how far they have read; brokers, replicas and the quorum.
//!
//! Errors say whether the same thing may succeed later: [`ClientError::is_retriable`]. Everything that
//! waits has a bound: [`ClientOptions::timeout`], [`ProducerOptions::delivery_timeout`].
//!
//! Transactions and authentication are not there yet.

mod admin;
mod backoff;
mod breaker;
mod cluster;
mod connection;
mod consumer;
mod coordinator;
mod error;
mod frames;
mod group;
mod metadata;
mod offsets;
mod producer;
mod search;
mod transport;

pub use admin::{
    ClusterNode, CommittedOffset, ConfigChange, ConfigEntry, ConfigKind, ConfigResource,
    ConfigSynonym, ElectionType, GroupEvent, GroupEventKind, GroupFilter, GroupInfo, GroupMember,
    ListedGroup, LogDir, MemberToRemove, NewReplicas, NewTopic, OffsetOutcome, PartitionCopy,
    PartitionOutcome, PartitionSize, PartitionStatus, PartitionWriter, QuorumInfo, QuorumReplica,
    Reassignment, TopicPartition,
};
pub use cluster::{Client, ClientOptions};
pub use consumer::{
    Assignment, ConsumedRecord, Consumer, ConsumerHooks, ConsumerOptions, Jump, Lag, Position,
    RecordStream, ResetPolicy, TimeQuery,
};
pub use error::ClientError;
pub use group::{
    Assignor, Commit, CommitError, CommitOffset, Committer, GroupConsumer, GroupOptions,
    GroupProtocol, GroupStream, Listening, Rebalance, RebalanceListener, Topics,
};
pub use metadata::{BrokerInfo, ClusterInfo, PartitionInfo, TopicInfo};
pub use offsets::OffsetRange;
pub use producer::{
    Acks, BatchInfo, Delivered, Delivery, Producer, ProducerHooks, ProducerOptions, Record,
    RecordRef, TrySendError, murmur2, partition_of,
};
pub use sawlog_protocol::records::Compression;
pub use transport::{Connecting, Connector, TcpConnector, Transport};
