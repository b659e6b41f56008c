//! A client for tests: one blocking connection, requests in, raw replies out.
//!
//! It shares the message definitions with the broker and nothing else: no retries, no metadata, no
//! batching. What it sees is what the broker sent.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::records::{BatchBuilder, Compression};
use sawlog_protocol::{Request, encode_request};

/// No reply for this long means the broker hangs.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    next_correlation: i32,
    /// What the client calls itself.
    pub(crate) client_id: &'static str,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_DEADLINE))?;
        Ok(Self { stream, next_correlation: 0, client_id: "sawlog-test" })
    }

    /// Sends a request; returns its correlation id.
    pub(crate) fn send<'a, R: Request<'a>>(
        &mut self,
        request: &R,
        version: i16,
    ) -> io::Result<i32> {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let rope = encode_request(request, version, correlation, Some(self.client_id));
        for part in rope.parts() {
            self.stream.write_all(part)?;
        }
        Ok(correlation)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives the next reply, header and body, without its length prefix.
    pub(crate) fn receive(&mut self) -> io::Result<Bytes> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let length = usize::try_from(i32::from_be_bytes(prefix))
            .map_err(|_| io::Error::other("negative reply length"))?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Whether the broker closes this connection, rather than answer.
    pub(crate) fn is_closed_by_broker(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// One uncompressed batch.
pub(crate) fn batch(producer: Option<(i64, i16, i32)>, values: &[Vec<u8>]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence)) = producer {
        builder.producer(id, epoch, sequence);
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
    for value in values {
        builder.append(now, None, Some(value), &[]).expect("a small record fits");
    }
    builder.build()
}
