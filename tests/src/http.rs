//! The least of an HTTP client: one request, one reply, one connection.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Far above what a page takes.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(30);

/// A reply.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its head, status line included.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// GET of `path` from `host:port`.
///
/// # Panics
/// If there is no reply, or none of HTTP.
pub fn get(address: &str, path: &str) -> Reply {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}

/// Sends `request` as it is and reads to the end.
///
/// # Panics
/// As [`get`].
pub fn exchange(address: &str, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).expect("the HTTP listener takes connections");
    stream.set_read_timeout(Some(REPLY_WAIT_MAX)).expect("a time-out can be set");
    stream.write_all(request.as_bytes()).expect("the request can be sent");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("the reply ends");
    let reply = String::from_utf8(reply).expect("text");
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a reply of HTTP: {reply:?}"));
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

impl Reply {
    /// Checks a page of metrics: every line is a value of a family that was headed, once, before it, and no
    /// value is told twice.
    ///
    /// # Panics
    /// If it is not so.
    pub fn check_metrics(&self) {
        let (mut heads, mut told) = (HashSet::new(), HashSet::new());
        let mut head = "";
        for line in self.body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                head = rest.split(' ').next().unwrap_or_default();
                assert!(heads.insert(head), "{head} is headed twice");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').expect("a name and a value");
                assert!(value.parse::<f64>().is_ok(), "{line} has no value");
                assert!(told.insert(series), "{series} is told twice");
                let name = series.split('{').next().unwrap_or_default();
                let ends = ["_bucket", "_sum", "_count"];
                let family = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                assert!([name, family].contains(&head), "{line} stands under {head}");
            }
        }
        assert!(told.len() > 20, "{}", self.body);
    }

    /// The value of a metric, by its name and labels as they stand on the page.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let line = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }
}

/// `host:port` of the HTTP listener of a broker that greeted with `said`, last.
///
/// # Panics
/// If it has none, or has not said so yet.
pub fn address_in(said: &str) -> &str {
    let (_, rest) = said.rsplit_once("http://").expect("a broker that has an HTTP listener");
    rest.split_once('/').expect("an address ends with a slash").0
}
