//! An idempotent producer that survives its broker: five batches on their way to each partition,
//! sent again with the same sequences after every broken connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sawlog_protocol::messages::init_producer_id::InitProducerIdRequest;
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::{ErrorCode, decode_response};

use super::wire::{Wire, batch};
use super::{PARTITIONS, TOPIC};

const IN_FLIGHT: usize = 5;
const PRODUCE_VERSION: i16 = 9;

/// A record the broker has acknowledged.
#[derive(Debug)]
pub(crate) struct Acked {
    pub(crate) writer: i64,
    pub(crate) partition: i32,
    pub(crate) number: u64,
    pub(crate) offset: i64,
}

/// Records `first..first + count` of one partition.
#[derive(Clone, Debug)]
struct Pending {
    partition: i32,
    first: u64,
    count: u64,
}

#[derive(Debug)]
pub(crate) struct Writer {
    id: i64,
    address: SocketAddr,
    producer: Option<(i64, i16)>,
    next: Vec<u64>,
    pending: VecDeque<Pending>,
    acked: Vec<Acked>,
}

/// A value says whose it is and where it belongs.
fn value(writer: i64, partition: i32, number: u64) -> Vec<u8> {
    let mut value = format!("{writer}/{partition}/{number}/").into_bytes();
    value.resize(value.len() + usize::try_from(number % 300).unwrap(), b'.');
    value
}

pub(crate) fn decode_value(value: &[u8], partition: i32) -> (i64, u64) {
    let text = std::str::from_utf8(value).unwrap();
    let mut parts = text.split('/');
    let writer = parts.next().unwrap().parse().unwrap();
    assert_eq!(parts.next().unwrap().parse::<i32>().unwrap(), partition, "in its own partition");
    let number = parts.next().unwrap().parse().unwrap();
    assert_eq!(value, self::value(writer, partition, number), "as it was written");
    (writer, number)
}

impl Writer {
    pub(crate) fn new(id: i64, address: SocketAddr) -> Self {
        let next = vec![0; usize::try_from(PARTITIONS).unwrap()];
        let (pending, acked) = (VecDeque::new(), Vec::new());
        Self { id, address, producer: None, next, pending, acked }
    }

    /// Writes until told to stop, then until everything is acknowledged.
    pub(crate) fn run(mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> Vec<Acked> {
        while !stop.load(Ordering::Relaxed) || !self.pending.is_empty() {
            // A broken connection is what this test is about: open another.
            if self.session(stop, acknowledged).is_err() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.acked
    }

    fn session(&mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> std::io::Result<()> {
        let mut wire = Wire::connect(self.address)?;
        let producer = match self.producer {
            Some(producer) => producer,
            None => *self.producer.insert(init(&mut wire)?),
        };
        // What was on its way may or may not have arrived: again, in order.
        for again in self.pending.clone() {
            self.send(&mut wire, producer, &again)?;
        }
        loop {
            while self.pending.len() < IN_FLIGHT && !stop.load(Ordering::Relaxed) {
                let new = self.draw();
                // Noted first: a batch whose sending fails must be sent again like any other.
                self.pending.push_back(new.clone());
                self.send(&mut wire, producer, &new)?;
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            self.receive(&mut wire, acknowledged)?;
        }
    }

    fn draw(&mut self) -> Pending {
        let total: u64 = self.next.iter().sum();
        let partition = usize::try_from(total % 7).unwrap() % self.next.len();
        let count = 1 + total % 13;
        let first = self.next[partition];
        self.next[partition] += count;
        Pending { partition: i32::try_from(partition).unwrap(), first, count }
    }

    fn send(&self, wire: &mut Wire, producer: (i64, i16), what: &Pending) -> std::io::Result<()> {
        let values: Vec<Vec<u8>> = (what.first..what.first + what.count)
            .map(|number| value(self.id, what.partition, number))
            .collect();
        let sequence = i32::try_from(what.first).unwrap();
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC,
                partition_data: vec![PartitionProduceData {
                    index: what.partition,
                    records: Some(batch(Some((producer.0, producer.1, sequence)), &values)),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        wire.send(&request, PRODUCE_VERSION).map(|_| ())
    }

    fn receive(&mut self, wire: &mut Wire, acknowledged: &AtomicU64) -> std::io::Result<()> {
        let frame = wire.receive()?;
        let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, PRODUCE_VERSION).unwrap();
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(part.error_code, ErrorCode::NONE, "{:?}", part.error_message);
        let done = self.pending.pop_front().expect("a reply has its request");
        for (index, number) in (0..).zip(done.first..done.first + done.count) {
            let offset = part.base_offset + index;
            let (writer, partition) = (self.id, done.partition);
            self.acked.push(Acked { writer, partition, number, offset });
        }
        acknowledged.fetch_add(done.count, Ordering::Relaxed);
        Ok(())
    }
}

fn init(wire: &mut Wire) -> std::io::Result<(i64, i16)> {
    let request =
        InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
    wire.send(&request, 4)?;
    let frame = wire.receive()?;
    let (_, response) = decode_response::<InitProducerIdRequest<'_>>(&frame, 4).unwrap();
    assert_eq!(response.error_code, ErrorCode::NONE);
    Ok((response.producer_id, response.producer_epoch))
}
