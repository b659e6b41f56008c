//! From the start of a broker to its first connection and its first confirmed record, without a
//! client library's own start in it: one socket, one Produce request, tried until it succeeds.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, Compression};
use sawlog_protocol::{ErrorCode, decode_response, encode_request};

use crate::Failure;
use crate::broker::Broker;

/// The last version that names topics by name, flexible: every broker of the last years has it.
const PRODUCE_VERSION: i16 = 9;

const DEADLINE: Duration = Duration::from_secs(90);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer to one record that is read.
const ANSWER_BYTES_MAX: usize = 1 << 16;

/// Both count from the making of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) accepted_after: Duration,
    pub(crate) acked_after: Duration,
}

/// Waits for the broker to confirm a record (acks=all) in partition 0 of `topic`, which is there.
pub(crate) fn await_first_ack(broker: &mut Broker, topic: &str) -> Result<Start, Failure> {
    let mut connection = Some(await_accept(broker)?);
    let accepted_after = broker.spawned.elapsed();
    let request = request(topic)?;
    while broker.spawned.elapsed() < DEADLINE {
        broker.check_runs()?;
        if connection.is_none() {
            connection = TcpStream::connect(&broker.address).ok();
        }
        let answer = connection.as_mut().map(|stream| produce(stream, &request));
        match answer {
            Some(Ok(code)) if code == ErrorCode::NONE => {
                return Ok(Start { accepted_after, acked_after: broker.spawned.elapsed() });
            }
            // Not ready yet: it says so, or hangs up.
            Some(Ok(_)) => {}
            Some(Err(_)) | None => connection = None,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the broker confirmed no record".into())
}

/// Waits until the broker accepts a connection.
pub(crate) fn await_accept(broker: &mut Broker) -> Result<TcpStream, Failure> {
    while broker.spawned.elapsed() < DEADLINE {
        if let Ok(connection) = TcpStream::connect(&broker.address) {
            connection.set_nodelay(true)?;
            connection.set_read_timeout(Some(ANSWER_DEADLINE))?;
            return Ok(connection);
        }
        broker.check_runs()?;
        std::thread::sleep(Duration::from_micros(200));
    }
    Err("the broker accepted no connection".into())
}

fn request(topic: &str) -> Result<Bytes, Failure> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(0, None, Some(b"first"), &[])?;
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: topic,
            partition_data: vec![PartitionProduceData { index: 0, records: Some(batch.build()) }],
            ..Default::default()
        }],
    };
    Ok(encode_request(&request, PRODUCE_VERSION, 1, Some("sawlog-compare")).to_bytes())
}

fn produce(connection: &mut TcpStream, request: &[u8]) -> Result<ErrorCode, Failure> {
    connection.write_all(request)?;
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    if length > ANSWER_BYTES_MAX {
        return Err("the answer is too long".into());
    }
    let mut frame = vec![0; length];
    connection.read_exact(&mut frame)?;
    let frame = Bytes::from(frame);
    let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, PRODUCE_VERSION)?;
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    Ok(partition.ok_or("no partition in the answer")?.error_code)
}

/// Milliseconds with fractions.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
