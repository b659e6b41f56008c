//! From the start of a broker to its first connection and its first confirmed record, without a
//! client library's own start in it: one socket, one Produce request, tried until it succeeds.

use std::net::TcpStream;
use std::time::Duration;

use sawlog_protocol::ErrorCode;

use crate::Failure;
use crate::bare;
use crate::broker::Broker;

const DEADLINE: Duration = Duration::from_secs(90);

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
    let request = bare::request(topic, b"first")?;
    while broker.spawned.elapsed() < DEADLINE {
        broker.check_runs()?;
        if connection.is_none() {
            connection = bare::connect(&broker.address).ok();
        }
        let answer = connection.as_mut().map(|stream| bare::produce(stream, &request));
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
        if let Ok(connection) = bare::connect(&broker.address) {
            return Ok(connection);
        }
        broker.check_runs()?;
        std::thread::sleep(Duration::from_micros(200));
    }
    Err("the broker accepted no connection".into())
}

/// Milliseconds with fractions.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
