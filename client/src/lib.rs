//! A client for Sawlog and anything else that speaks Apache Kafka's protocol: produce, consume by
//! assignment, administer.
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
//! Consumer groups and transactions are not there yet.

mod admin;
mod backoff;
mod breaker;
mod cluster;
mod connection;
mod consumer;
mod error;
mod frames;
mod metadata;
mod offsets;
mod producer;
mod transport;

pub use admin::{ConfigChange, ConfigEntry, ConfigResource, NewTopic, PartitionSize};
pub use cluster::{Client, ClientOptions};
pub use consumer::{
    Assignment, ConsumedRecord, Consumer, ConsumerHooks, ConsumerOptions, Jump, Lag, Position,
    RecordStream, ResetPolicy, TimeQuery,
};
pub use error::ClientError;
pub use metadata::{BrokerInfo, ClusterInfo, PartitionInfo, TopicInfo};
pub use offsets::OffsetRange;
pub use producer::{
    Acks, BatchInfo, Delivered, Delivery, Producer, ProducerHooks, ProducerOptions, Record,
    RecordRef, TrySendError, murmur2, partition_of,
};
pub use sawlog_protocol::records::Compression;
pub use transport::{Connecting, Connector, TcpConnector, Transport};
