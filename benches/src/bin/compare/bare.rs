//! One socket and prepared Produce requests: what a broker does without a client library's part.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use sawlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use sawlog_protocol::records::{BatchBuilder, Compression};
use sawlog_protocol::{ErrorCode, decode_response, encode_request};

use crate::Failure;
use crate::load::{FixedRate, histogram, micros, wait_until};

/// The last version that names topics by name, flexible: every broker of the last years has it.
const PRODUCE_VERSION: i16 = 9;

/// The longest answer to one record that is read.
const ANSWER_BYTES_MAX: usize = 1 << 16;

const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// About as long as a broker's answer to one record.
const ECHO_BYTES: usize = 60;

/// The frame of a request to write one record with acks=all to partition 0 of `topic`.
pub(crate) fn request(topic: &str, value: &[u8]) -> Result<Bytes, Failure> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(0, None, Some(value), &[])?;
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

/// A connection that sends at once and does not wait for ever.
pub(crate) fn connect(address: &str) -> Result<TcpStream, std::io::Error> {
    let connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_DEADLINE))?;
    Ok(connection)
}

/// Sends a request and waits for its answer.
pub(crate) fn produce(connection: &mut TcpStream, request: &[u8]) -> Result<ErrorCode, Failure> {
    let frame = Bytes::from(exchange(connection, request)?);
    let (_, response) = decode_response::<ProduceRequest<'_>>(&frame, PRODUCE_VERSION)?;
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    Ok(partition.ok_or("no partition in the answer")?.error_code)
}

/// Sends a frame and returns the frame that comes back, without its length.
fn exchange(connection: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, Failure> {
    connection.write_all(request)?;
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    if length > ANSWER_BYTES_MAX {
        return Err("the answer is too long".into());
    }
    let mut frame = vec![0; length];
    connection.read_exact(&mut frame)?;
    Ok(frame)
}

/// One record after the other at a fixed rate, each a request of its own: due to confirmed, in
/// microseconds.
pub(crate) fn round_trips(
    address: &str,
    topic: &str,
    what: FixedRate,
) -> Result<Histogram<u64>, Failure> {
    let mut connection = connect(address)?;
    let request = request(topic, &vec![b'x'; what.bytes])?;
    at_rate(what, || match produce(&mut connection, &request)? {
        ErrorCode::NONE => Ok(()),
        code => Err(format!("the broker answered {code}").into()),
    })
}

/// The same from a thread that does nothing but answer: what two wake-ups and four system calls
/// cost on this machine.
pub(crate) fn echo(what: FixedRate) -> Result<Histogram<u64>, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    let request = request("echo", &vec![b'x'; what.bytes])?;
    let length = request.len();
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut frame = vec![0; length];
        let mut answer = (ECHO_BYTES as i32).to_be_bytes().to_vec();
        answer.resize(4 + ECHO_BYTES, 0);
        while stream.read_exact(&mut frame).is_ok() {
            stream.write_all(&answer)?;
        }
        Ok(())
    });
    let mut connection = connect(&address)?;
    let times = at_rate(what, || exchange(&mut connection, &request).map(drop));
    drop(connection);
    server.join().map_err(|_| "the echo panicked")??;
    times
}

fn at_rate(
    what: FixedRate,
    mut once: impl FnMut() -> Result<(), Failure>,
) -> Result<Histogram<u64>, Failure> {
    // By default the kernel may wake a sleeper 50 µs late, which would count as latency.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000))?;
    let mut times = histogram()?;
    let started = Instant::now();
    for number in 0..what.warm_up + what.records {
        let due = what.due(number);
        wait_until(started, due);
        once()?;
        if number >= what.warm_up {
            times.saturating_record(micros(started).saturating_sub(due).max(1));
        }
    }
    Ok(times)
}
