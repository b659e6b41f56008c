//! `sawlog health`: whether the broker of this machine may be sent clients, for probes of containers and
//! scripts. Asks its HTTP listener, so that it is answered also while the broker starts and stops.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::failure::{Failure, Kind};
use crate::output::{Output, Rows};

/// Where a broker answers that was told nothing else.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9644";

/// How often it is looked again with --wait.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longest page that is read: one with a line for each reason is far below it.
const PAGE_BYTES_MAX: u64 = 64 * 1024;

/// Say whether the broker of this machine is ready: it serves, its cluster counts on it, its replicas are
/// in sync. Exits with 0 if so, 1 if not, 5 if nobody answers
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Where it answers about itself over HTTP
    #[arg(value_name = "HOST:PORT", env = "SAWLOG_HTTP", default_value = DEFAULT_ADDRESS)]
    address: String,
    /// Only whether its process answers
    #[arg(long)]
    live: bool,
    /// Wait until it is so, at most so long
    #[arg(long, value_name = "TIME", value_parser = crate::position::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    output: Output,
}

/// What a page says.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    status: u16,
    body: String,
}

impl Health {
    pub(crate) async fn run(self, patience: Duration) -> Result<(), Failure> {
        crate::address(&self.address)?;
        let path = if self.live { "/livez" } else { "/readyz" };
        let deadline = Instant::now() + self.wait.unwrap_or_default();
        loop {
            let asked = timeout(patience, ask(&self.address, path)).await;
            let asked = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let is_over = Instant::now() >= deadline;
            match asked {
                Ok(page) if page.status == 200 || is_over => return self.tell(&page),
                Err(why) if is_over => return Err(self.silent(&why)),
                Ok(_) | Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    fn tell(&self, page: &Page) -> Result<(), Failure> {
        let is_well = page.status == 200;
        let mut rows = Rows::new(&["well", "detail"]);
        for line in page.body.lines() {
            rows.push(vec![json!(is_well), json!(line)]);
        }
        self.output.print(&rows)?;
        if is_well {
            return Ok(());
        }
        let what = if self.live { "is not well" } else { "is not ready" };
        Err(Failure::failed(format!("the broker at {} {what}", self.address)))
    }

    fn silent(&self, why: &str) -> Failure {
        let what = format!(
            "no health at {}: {why}; the broker's first lines say where it is (http), name it or set \
             SAWLOG_HTTP",
            self.address
        );
        Failure::new(Kind::Unreachable, what)
    }
}

/// One GET, over a connection of its own.
async fn ask(address: &str, path: &str) -> Result<Page, String> {
    let plain = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(plain)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(plain)?;
    let mut bytes = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut bytes).await.map_err(plain)?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| "the answer is not HTTP".to_owned())
}

fn parse(text: &str) -> Option<Page> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_status_and_a_body_and_anything_else_is_none() {
        let page = parse("HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nstopping\n");
        assert_eq!(page, Some(Page { status: 503, body: "stopping\n".to_owned() }));
        for broken in
            ["", "HTTP/1.1 200 OK\r\n", "\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "SSH-2.0\r\n\r\n"]
        {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }
}
