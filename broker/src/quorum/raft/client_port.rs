//! Who is asked to take a node in may be named by the address clients use: it is easy to mistake for the
//! one for peers. Any broker tells there, in the protocol of clients, where those who vote listen.

use std::time::Duration;

use bytes::Bytes;
use sawlog_protocol::decode_response;
use sawlog_protocol::encode_request;
use sawlog_protocol::messages::describe_quorum::DescribeQuorumRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Endpoint;

/// How long the answer may take: the broker may have to ask the one that leads.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest answer that is read: a handful of addresses.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The version that tells addresses.
const VERSION: i16 = 2;

/// Where the peers of the broker listen whose clients connect to `address`; `None` if it is no such
/// address.
pub(super) async fn peers_behind(address: &Endpoint) -> Option<Vec<Endpoint>> {
    let answer = timeout(PATIENCE, ask(address)).await.ok()?.ok()?;
    let (_, answer) = decode_response::<DescribeQuorumRequest<'_>>(&answer, VERSION).ok()?;
    let listeners = answer.nodes.iter().flat_map(|node| &node.listeners);
    let peers: Vec<Endpoint> = listeners
        .map(|it| Endpoint { name: it.name.to_owned(), host: it.host.to_owned(), port: it.port })
        .collect();
    (!peers.is_empty()).then_some(peers)
}

async fn ask(address: &Endpoint) -> std::io::Result<Bytes> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let request = DescribeQuorumRequest { topics: Vec::new() };
    let request = encode_request(&request, VERSION, 1, Some("sawlog-join"));
    stream.write_all(&request.to_bytes()).await?;
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
    let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer.into())
}
