//! The HTTP listener: health and metrics, for probes, scrapers and people.
//!
//! Plain HTTP/1.1, reading only: GET and HEAD, no bodies. Everything is bounded: connections, the size of
//! a request, the time for one, the life of a connection, and the pages in memory. What is told
//! is [`crate::admin`]'s. On a loopback address only requests for such a name are answered: a page of
//! the web whose name its owner points at 127.0.0.1 reads nothing here.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use crate::admin::Status;
use crate::base::limits::{HTTP_HEADER_BYTES_MAX, HTTP_PAGES_MAX};

/// How long a client has for a request, from connecting or from the end of the one before.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a connection lives; a client that reads a page slowly goes with it.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);

/// How long a request waits until one of the pages in memory is gone.
const PAGE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What people get who ask for nothing.
const INDEX: &str = "\
sawlog
  /livez     the process answers
  /readyz    200 if clients may be sent here, else 503 and why not
  /metrics   numbers, in the text format of Prometheus
  /clients   clients that push metrics of their own
";

/// Pages for people and probes.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Pages for Prometheus.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What all connections share.
#[derive(Debug)]
struct Site {
    status: Arc<Status>,
    /// Whether it listens where only this machine can reach it.
    is_loopback: bool,
    connections: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

/// Accepts until `stop` says so, at most `connections_max` at once.
pub(crate) async fn run(
    listener: TcpListener,
    status: Arc<Status>,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let address = listener.local_addr();
    let site = Arc::new(Site {
        status,
        is_loopback: address.is_ok_and(|address| is_loopback(address.ip())),
        connections: Arc::new(Semaphore::new(connections_max)),
        pages: Arc::new(Semaphore::new(HTTP_PAGES_MAX)),
    });
    loop {
        // Both branches are safe to drop: an unaccepted connection stays in the backlog.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, client)) => {
                // One too many is closed at once.
                let Ok(permit) = site.connections.clone().try_acquire_owned() else {
                    debug!(%client, "http: connection refused: there are too many");
                    continue;
                };
                tokio::spawn(serve(stream, site.clone(), permit));
            }
            Err(error) => {
                warn!(%error, "http: cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, site: Arc<Site>, _permit: OwnedSemaphorePermit) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .max_header_size(HTTP_HEADER_BYTES_MAX)
        .max_buf_size(HTTP_HEADER_BYTES_MAX);
    let answer = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = pin!(http.serve_connection(TokioIo::new(stream), answer));
    match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "http: connection ended"),
        Err(_) => debug!("http: connection closed: it has been open for long"),
    }
}

impl Site {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Page> {
        if !self.is_meant(request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this is not the host asked for\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/" => text(StatusCode::OK, INDEX),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness().await,
            "/metrics" => self.page(METRICS, Status::metrics).await,
            "/clients" => self.page(TEXT, Status::clients).await,
            _ => text(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }

    /// On loopback, whether the request is for an address or for `localhost`.
    fn is_meant<B>(&self, request: &Request<B>) -> bool {
        if !self.is_loopback {
            return true;
        }
        let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/1.0 needs no host, and no browser speaks it.
        named.or_else(|| request.uri().host()).is_none_or(is_of_this_machine)
    }

    async fn readiness(&self) -> Response<Page> {
        let status = self.status.clone();
        // It looks into every shard of the groups, whose locks may be held for a while.
        let reasons = tokio::task::spawn_blocking(move || status.unready()).await;
        match reasons.as_deref() {
            Ok([]) => text(StatusCode::OK, "ready\n"),
            Ok(reasons) => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n")))
            }
            // It panicked, which the hook has told, or the broker stops.
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "cannot tell\n"),
        }
    }

    /// A page that may become large, written on a thread that serves no clients.
    async fn page(
        &self,
        kind: HeaderValue,
        write: impl FnOnce(&Status) -> String + Send + 'static,
    ) -> Response<Page> {
        let permit = self.pages.clone().acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(PAGE_WAIT_MAX, permit).await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "others are asking\n");
        };
        let status = self.status.clone();
        match tokio::task::spawn_blocking(move || write(&status)).await {
            Ok(page) => {
                response(StatusCode::OK, kind, Bytes::from_owner(Held { page, _permit: permit }))
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write this page\n"),
        }
    }
}

/// A page that counts as long as it is in memory.
struct Held {
    page: String,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.page.as_bytes()
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Page> {
    response(status, TEXT, Bytes::from(text.into()))
}

fn response(status: StatusCode, kind: HeaderValue, bytes: Bytes) -> Response<Page> {
    let mut response = Response::new(Page(Some(bytes)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A body that is there as a whole.
struct Page(Option<Bytes>);

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(crate::metrics::count(self.0.as_ref().map_or(0, Bytes::len)))
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether `host`, with or without a port, is an address or `localhost`: no name that somebody else
/// can point at this machine.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_own_are_not_this_machine() {
        for own in
            ["localhost", "LOCALHOST:9644", "127.0.0.1", "127.0.0.7:1", "[::1]:9644", "[::1]"]
        {
            assert!(is_of_this_machine(own), "{own}");
        }
        for other in
            ["", "evil.example", "evil.example:9644", "127.0.0.1.evil.example", "localhost.", "::1"]
        {
            assert!(!is_of_this_machine(other), "{other}");
        }
    }
}
