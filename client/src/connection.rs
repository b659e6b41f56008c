//! One connection to one broker: frames out, replies in, matched by correlation id.
//!
//! Requests are pipelined: a task writes them as they come, another reads replies and hands each to
//! who waits for it. When the connection ends, everybody waiting is told. Versions are negotiated
//! once, at the start.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use sawlog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sawlog_protocol::{ApiKey, ErrorCode, Request, Rope, decode_response, encode_request};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::error::ClientError;

/// Replies longer than this are not read: nothing this client asks for is.
const REPLY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Requests that may wait to be written.
const QUEUE_MAX: usize = 64;

/// Name and version in ApiVersions (KIP-511).
const SOFTWARE: (&str, &str) = ("sawlog", env!("CARGO_PKG_VERSION"));

/// A reply frame, header included, with the version it was asked for in.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) frame: Bytes,
    pub(crate) version: i16,
}

type Answer = oneshot::Sender<Result<Bytes, String>>;

/// Who waits for which reply. Brokers answer in order.
#[derive(Debug, Default)]
struct Pending {
    queue: VecDeque<(i32, Answer)>,
    closed: Option<String>,
}

/// An open connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    address: Arc<str>,
    client_id: Arc<str>,
    writer: mpsc::Sender<Rope>,
    pending: Arc<Mutex<Pending>>,
    next_correlation: Arc<AtomicI32>,
    versions: Arc<HashMap<i16, (i16, i16)>>,
    timeout: Duration,
}

impl Connection {
    /// Connects and negotiates.
    pub(crate) async fn open(
        address: &str,
        client_id: &str,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let unreachable =
            |reason: String| ClientError::Unreachable { address: address.to_owned(), reason };
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable("connecting took too long".to_owned()))?
            .map_err(|error| unreachable(plain(&error)))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let (read, write) = stream.into_split();
        let (writer, queue) = mpsc::channel(QUEUE_MAX);
        let pending = Arc::new(Mutex::new(Pending::default()));
        tokio::spawn(write_all(write, queue, pending.clone()));
        tokio::spawn(read_all(read, pending.clone()));
        let mut connection = Self {
            address: Arc::from(address),
            client_id: Arc::from(client_id),
            writer,
            pending,
            next_correlation: Arc::default(),
            versions: Arc::default(),
            timeout,
        };
        connection.versions = Arc::new(connection.negotiate().await?);
        Ok(connection)
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.pending).closed.is_none()
    }

    /// The newest version of an API that both sides speak, at most `newest`.
    pub(crate) fn version(&self, key: ApiKey, newest: i16) -> Result<i16, ClientError> {
        let ours = key.versions();
        let unsupported =
            || ClientError::Unsupported { address: self.address.to_string(), api: key.name() };
        let (first, last) = *self.versions.get(&key.as_i16()).ok_or_else(unsupported)?;
        let version = last.min(*ours.end()).min(newest);
        if version < first.max(*ours.start()) { Err(unsupported()) } else { Ok(version) }
    }

    /// Sends a request in the newest common version and waits for its reply.
    pub(crate) async fn call<'a, R: Request<'a>>(&self, request: &R) -> Result<Reply, ClientError> {
        self.call_up_to(request, i16::MAX, self.timeout).await
    }

    /// The same, with a bound on the version and a time of its own.
    pub(crate) async fn call_up_to<'a, R: Request<'a>>(
        &self,
        request: &R,
        newest: i16,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let version = self.version(R::KEY, newest)?;
        let waiting = self.send(request, version).await?;
        let frame = self.wait(waiting, timeout).await?;
        Ok(Reply { frame, version })
    }

    /// Sends a request that has no reply (acks=0).
    pub(crate) async fn send_only<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        let rope = encode_request(request, version, self.correlation(), Some(&self.client_id));
        self.writer.send(rope).await.map_err(|_| self.disconnected("it is closed"))
    }

    /// Queues a request; the receiver gets the reply.
    pub(crate) async fn send<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<oneshot::Receiver<Result<Bytes, String>>, ClientError> {
        // A place in the writer's queue first: order on the wire and among the waiting is one.
        let place = self.writer.reserve().await.map_err(|_| self.disconnected("it is closed"))?;
        let (answer, waiting) = oneshot::channel();
        let mut pending = lock(&self.pending);
        if let Some(reason) = &pending.closed {
            return Err(self.disconnected(reason));
        }
        let correlation = self.correlation();
        pending.queue.push_back((correlation, answer));
        place.send(encode_request(request, version, correlation, Some(&self.client_id)));
        Ok(waiting)
    }

    /// Waits for a reply to [`Connection::send`].
    pub(crate) async fn wait(
        &self,
        waiting: oneshot::Receiver<Result<Bytes, String>>,
        timeout: Duration,
    ) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(timeout, waiting).await {
            Ok(Ok(Ok(frame))) => Ok(frame),
            Ok(Ok(Err(reason))) => Err(self.disconnected(&reason)),
            Ok(Err(_)) => Err(self.disconnected("the reply was lost")),
            Err(_) => Err(ClientError::Timeout {
                address: self.address.to_string(),
                timeout_ms: timeout.as_millis(),
            }),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn correlation(&self) -> i32 {
        self.next_correlation.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    fn disconnected(&self, reason: &str) -> ClientError {
        ClientError::Disconnected { address: self.address.to_string(), reason: reason.to_owned() }
    }

    /// Asks what the broker serves. A broker that does not know our version of the question answers
    /// it in version 0 (KIP-511); it is then asked again in that.
    async fn negotiate(&self) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE.0,
            client_software_version: SOFTWARE.1,
        };
        let mut version = *ApiKey::ApiVersions.versions().end();
        loop {
            let waiting = self.send(&request, version).await?;
            let frame = self.wait(waiting, self.timeout).await?;
            let refused = frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
            if refused && version > 0 {
                version = 0;
                continue;
            }
            let (_, response): (_, ApiVersionsResponse<'_>) =
                decode_response::<ApiVersionsRequest<'_>>(&frame, version)?;
            crate::error::check(response.error_code, None)?;
            let ranges = response.api_keys.iter();
            return Ok(ranges
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect());
        }
    }
}

/// What the operating system says, without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    // The state is a queue and a flag: whole after any panic.
    pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn close(pending: &Mutex<Pending>, reason: &str) {
    let waiting = {
        let mut pending = lock(pending);
        pending.closed.get_or_insert_with(|| reason.to_owned());
        std::mem::take(&mut pending.queue)
    };
    for (_, answer) in waiting {
        // Who no longer waits does not need to know.
        let _gone = answer.send(Err(reason.to_owned()));
    }
}

async fn write_all(
    mut socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Rope>,
    pending: Arc<Mutex<Pending>>,
) {
    while let Some(rope) = queue.recv().await {
        for mut part in rope.into_parts() {
            while part.has_remaining() {
                if let Err(error) = socket.write_buf(&mut part).await {
                    return close(&pending, &plain(&error));
                }
            }
        }
    }
}

async fn read_all(mut socket: OwnedReadHalf, pending: Arc<Mutex<Pending>>) {
    let mut buffer = BytesMut::new();
    let reason = loop {
        match next_frame(&mut buffer) {
            Ok(Some(frame)) => {
                let answer = lock(&pending).queue.pop_front();
                let correlation = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
                match answer {
                    Some((expected, answer)) if correlation == Some(expected) => {
                        // Who no longer waits has timed out.
                        let _gone = answer.send(Ok(frame));
                    }
                    _ => break "a reply to no request".to_owned(),
                }
            }
            Ok(None) => match socket.read_buf(&mut buffer).await {
                Ok(0) => break "closed by the broker".to_owned(),
                Ok(_) => {}
                Err(error) => break plain(&error),
            },
            Err(reason) => break reason,
        }
    };
    close(&pending, &reason);
}

/// Takes a whole frame from the front, or makes room for the rest of one.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        buffer.reserve(16 * 1024);
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes(*prefix))
        .ok()
        .filter(|length| (4..=REPLY_BYTES_MAX).contains(length))
        .ok_or("a reply of impossible length")?;
    if buffer.len() - 4 < length {
        // Grows with what has arrived: at most twice that.
        buffer.reserve((length + 4 - buffer.len()).min(buffer.len().max(64 * 1024)));
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}
