//! One connection to one broker: frames out, replies in, matched by correlation id.
//!
//! Requests are pipelined and replies come in the order of the requests. A request is written by
//! whoever sends it while the socket takes it, and by a task of the connection from where the socket
//! stops. When the connection ends, everybody who waits is told, once. Versions are negotiated once,
//! at the start; authentication would follow there.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use sawlog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sawlog_protocol::{ApiKey, ErrorCode, Request, decode_response, encode_request};
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::error::ClientError;
use crate::frames::Frames;
use crate::transport::{Connector, Transport};

/// Requests that may wait for their replies.
const PENDING_MAX: usize = 4096;

/// Parts of frames written at once; the kernel takes 1024.
const PARTS_MAX: usize = 64;

/// Name and version in ApiVersions (KIP-511). The name makes a Sawlog broker tell of its own APIs.
const SOFTWARE: (&str, &str) = (sawlog_protocol::OWN_CLIENT, env!("CARGO_PKG_VERSION"));

/// A reply frame, header included, with the version it was asked for in.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) frame: Bytes,
    pub(crate) version: i16,
}

/// A reply frame, or why there is none.
pub(crate) type Outcome = Result<Bytes, ClientError>;

/// Called once with the outcome of a request, on the connection's task: it must not block.
pub(crate) type Answer = Box<dyn FnOnce(Outcome) + Send>;

/// Who waits for which reply.
#[derive(Default)]
struct Pending {
    queue: VecDeque<(i32, Answer)>,
    closed: Option<ClientError>,
}

/// What is on its way to the socket.
struct Output {
    socket: Box<dyn AsyncWrite + Send + Unpin>,
    parts: VecDeque<Bytes>,
    next_correlation: i32,
}

struct Inner {
    address: Arc<str>,
    client_id: Arc<str>,
    timeout: Duration,
    versions: OnceLock<HashMap<i16, (i16, i16)>>,
    // Locked before `pending`: the order on the wire is the order of waiting.
    output: Mutex<Output>,
    pending: Mutex<Pending>,
    /// There is more to write than the socket took.
    unwritten: Notify,
}

/// Ends the tasks with the last clone.
struct Tasks {
    inner: Arc<Inner>,
    handles: [AbortHandle; 2],
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.inner.close("closed by this client");
        for handle in &self.handles {
            handle.abort();
        }
    }
}

/// An open connection. Cheap to clone; closed with the last clone.
#[derive(Clone)]
pub(crate) struct Connection {
    inner: Arc<Inner>,
    _tasks: Arc<Tasks>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

/// How a connection is made.
#[derive(Debug)]
pub(crate) struct ConnectionOptions<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) connector: &'a dyn Connector,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
}

impl Connection {
    /// Connects and negotiates, within the time for connecting.
    pub(crate) async fn open(
        address: &str,
        options: &ConnectionOptions<'_>,
    ) -> Result<Self, ClientError> {
        let unreachable =
            |reason: String| ClientError::Unreachable { address: address.to_owned(), reason };
        let opening = async {
            let transport = options.connector.connect(address).await;
            let transport = transport.map_err(|error| unreachable(plain(&error)))?;
            let connection = Self::over(transport, address, options);
            let versions = connection.negotiate(options.connect_timeout).await?;
            connection.inner.versions.get_or_init(|| versions);
            Ok(connection)
        };
        tokio::time::timeout(options.connect_timeout, opening)
            .await
            .unwrap_or_else(|_| Err(unreachable("connecting took too long".to_owned())))
    }

    fn over(transport: Transport, address: &str, options: &ConnectionOptions<'_>) -> Self {
        let output =
            Output { socket: transport.write, parts: VecDeque::new(), next_correlation: 0 };
        let inner = Arc::new(Inner {
            address: Arc::from(address),
            client_id: Arc::from(options.client_id),
            timeout: options.request_timeout,
            versions: OnceLock::new(),
            output: Mutex::new(output),
            pending: Mutex::default(),
            unwritten: Notify::new(),
        });
        let reader = tokio::spawn(read_all(Frames::new(transport.read), inner.clone()));
        let writer = tokio::spawn(write_rest(inner.clone()));
        let handles = [reader.abort_handle(), writer.abort_handle()];
        Self { _tasks: Arc::new(Tasks { inner: inner.clone(), handles }), inner }
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.inner.pending).closed.is_none()
    }

    /// Ends the connection: everybody who waits is told. For a broker that does not answer: replies
    /// come in order, so nothing behind the missing one would come either.
    pub(crate) fn close(&self, reason: &str) {
        self.inner.close(reason);
    }

    /// The newest version of an API that both sides speak, at most `newest`.
    pub(crate) fn version(&self, key: ApiKey, newest: i16) -> Result<i16, ClientError> {
        let ours = key.versions();
        let address = self.inner.address.to_string();
        let unsupported = || ClientError::Unsupported { address, api: key.name() };
        let theirs = self.inner.versions.get().and_then(|all| all.get(&key.as_i16()));
        let Some((first, last)) = theirs else { return Err(unsupported()) };
        let version = (*last).min(*ours.end()).min(newest);
        if version < (*first).max(*ours.start()) { Err(unsupported()) } else { Ok(version) }
    }

    /// Sends a request in the newest common version and waits for its reply.
    pub(crate) async fn call<'a, R: Request<'a>>(&self, request: &R) -> Result<Reply, ClientError> {
        self.call_up_to(request, i16::MAX, self.inner.timeout).await
    }

    /// The same, with a bound on the version and a time of its own. A reply that does not come in
    /// time closes the connection.
    pub(crate) async fn call_up_to<'a, R: Request<'a>>(
        &self,
        request: &R,
        newest: i16,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let version = self.version(R::KEY, newest)?;
        let frame = self.ask(request, version, timeout).await?;
        Ok(Reply { frame, version })
    }

    async fn ask<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Outcome {
        let (answer, waiting) = oneshot::channel();
        // Who no longer waits does not need to know.
        let answer = Box::new(move |outcome| drop(answer.send(outcome)));
        self.send(request, version, answer)?;
        match tokio::time::timeout(timeout, waiting).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(self.inner.disconnected("the reply was lost")),
            Err(_) => {
                self.close("it does not answer");
                Err(self.timed_out(timeout))
            }
        }
    }

    /// Sends a request; `answer` is called with what comes of it, unless this fails.
    pub(crate) fn send<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
        answer: Answer,
    ) -> Result<(), ClientError> {
        self.write(request, version, Some(answer))
    }

    /// Sends a request that has no reply (acks=0).
    pub(crate) fn send_only<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        self.write(request, version, None)
    }

    fn write<'a, R: Request<'a>>(
        &self,
        request: &R,
        version: i16,
        answer: Option<Answer>,
    ) -> Result<(), ClientError> {
        let inner = &self.inner;
        let mut output = lock(&inner.output);
        let correlation = output.next_correlation;
        {
            let mut pending = lock(&inner.pending);
            if let Some(error) = &pending.closed {
                return Err(error.clone());
            }
            if pending.queue.len() >= PENDING_MAX {
                return Err(inner.disconnected("too many requests wait for their replies"));
            }
            if let Some(answer) = answer {
                pending.queue.push_back((correlation, answer));
            }
        }
        output.next_correlation = correlation.wrapping_add(1) & i32::MAX;
        let was_idle = output.parts.is_empty();
        let rope = encode_request(request, version, correlation, Some(&inner.client_id));
        output.parts.extend(rope.into_parts());
        // With something unwritten the task is at it, and its place in line must stay.
        if was_idle {
            match output.poll_write(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    drop(output);
                    inner.close(&plain(&error));
                }
                Poll::Pending => inner.unwritten.notify_one(),
            }
        }
        Ok(())
    }

    /// The broker's `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.inner.address
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    pub(crate) fn timed_out(&self, timeout: Duration) -> ClientError {
        let address = self.inner.address.to_string();
        ClientError::Timeout { address, timeout_ms: timeout.as_millis() }
    }

    /// Asks what the broker serves. A broker that does not know our version of the question answers
    /// it in version 0 (KIP-511); it is then asked again in that.
    async fn negotiate(&self, timeout: Duration) -> Result<HashMap<i16, (i16, i16)>, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE.0,
            client_software_version: SOFTWARE.1,
        };
        let mut version = *ApiKey::ApiVersions.versions().end();
        loop {
            let frame = self.ask(&request, version, timeout).await?;
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

impl Output {
    /// Writes what is there; `Pending` while the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let count = self.parts.len().min(PARTS_MAX);
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.parts.front_mut() {
            if part.len() > written {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.parts.pop_front();
        }
    }
}

impl Inner {
    fn disconnected(&self, reason: &str) -> ClientError {
        ClientError::Disconnected { address: self.address.to_string(), reason: reason.to_owned() }
    }

    fn close(&self, reason: &str) {
        let error = self.disconnected(reason);
        let waiting = {
            let mut pending = lock(&self.pending);
            pending.closed.get_or_insert_with(|| error.clone());
            std::mem::take(&mut pending.queue)
        };
        for (_, answer) in waiting {
            answer(Err(error.clone()));
        }
        // Wakes the writing task, which then ends and with it the reading one.
        self.unwritten.notify_one();
    }

    fn is_closed(&self) -> bool {
        lock(&self.pending).closed.is_some()
    }
}

/// What the operating system says, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Queues and flags: whole after any panic.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Writes what senders could not, until the connection is closed; then closes the socket.
async fn write_rest(inner: Arc<Inner>) {
    loop {
        inner.unwritten.notified().await;
        let written = std::future::poll_fn(|cx| {
            if inner.is_closed() {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            lock(&inner.output).poll_write(cx)
        });
        if let Err(error) = written.await {
            inner.close(&plain(&error));
            let end = std::future::poll_fn(|cx| {
                Pin::new(&mut lock(&inner.output).socket).poll_shutdown(cx)
            });
            // It is over either way.
            let _ended = end.await;
            return;
        }
    }
}

async fn read_all(mut frames: Frames, inner: Arc<Inner>) {
    let reason = loop {
        match frames.next().await {
            Ok(frame) => {
                let answer = lock(&inner.pending).queue.pop_front();
                let correlation = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
                match answer {
                    Some((expected, answer)) if correlation == Some(expected) => answer(Ok(frame)),
                    Some((_, answer)) => {
                        answer(Err(inner.disconnected(STRAY)));
                        break STRAY.to_owned();
                    }
                    None => break STRAY.to_owned(),
                }
            }
            Err(error) => break plain(&error),
        }
    };
    inner.close(&reason);
}

const STRAY: &str = "a reply to no request";
