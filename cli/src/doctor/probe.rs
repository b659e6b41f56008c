//! The steps themselves, with plain blocking sockets: resolve, connect, speak, and the same for
//! every address the broker sends its clients to.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sawlog_protocol::messages::api_versions::ApiVersionsRequest;
use sawlog_protocol::messages::metadata::MetadataRequest;
use sawlog_protocol::{ApiKey, ErrorCode, Request, decode_response, encode_request};

use super::{Findings, Trouble};

/// Longest reply that is read: a list of brokers is far below it.
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most advertised brokers that are tried.
const BROKERS_MAX: usize = 100;

/// A broker as the cluster tells of it.
pub(super) struct Advertised {
    pub(super) id: i32,
    pub(super) host: String,
    pub(super) port: i32,
}

/// What a broker serves.
struct Spoken {
    /// The APIs, each with its least and newest version.
    apis: Vec<(i16, i16, i16)>,
    /// The newest version of Metadata both sides speak.
    metadata: i16,
}

/// Tries everything with one broker.
pub(super) fn run(address: &str, patience: Duration) -> Findings {
    let mut findings = Findings::default();
    let Some(mut stream) = reach(address, patience, &mut findings, true) else { return findings };
    let newest = match speak(&mut stream) {
        Ok(Spoken { apis, metadata }) => {
            findings.reached = true;
            let what = format!("speaks Kafka's protocol, {} APIs", apis.len());
            findings.good("protocol", address, what);
            metadata
        }
        Err(trouble) => {
            findings.bad("protocol", address, trouble);
            return findings;
        }
    };
    match brokers(&mut stream, newest) {
        Ok(advertised) if advertised.is_empty() => findings.bad(
            "listeners",
            address,
            Trouble::new("the broker knows of no broker", "start the cluster's brokers"),
        ),
        Ok(advertised) => {
            let local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            for broker in advertised.iter().take(BROKERS_MAX) {
                listener(broker, local, patience, &mut findings);
            }
        }
        Err(trouble) => findings.bad("listeners", address, trouble),
    }
    findings
}

/// Resolves and connects; `None` if it failed. A good way is only told of where asked.
fn reach(
    address: &str,
    patience: Duration,
    findings: &mut Findings,
    tell: bool,
) -> Option<TcpStream> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let resolved: Vec<SocketAddr> = match address.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => {
            let why = plain(&error);
            findings.bad(
                "name",
                host,
                Trouble::new(
                    format!("does not resolve: {why}"),
                    "correct the name, add it to DNS or /etc/hosts, or use an IP address",
                ),
            );
            return None;
        }
    };
    if tell {
        let all: Vec<String> = resolved.iter().map(|one| one.ip().to_string()).collect();
        findings.good("name", host, format!("is {}", all.join(", ")));
    }
    let mut last = None;
    for one in &resolved {
        let started = Instant::now();
        match TcpStream::connect_timeout(one, patience) {
            Ok(stream) => {
                let bounded = stream
                    .set_read_timeout(Some(patience))
                    .and_then(|()| stream.set_write_timeout(Some(patience)));
                if bounded.is_err() {
                    continue;
                }
                if tell {
                    let ms = started.elapsed().as_secs_f64() * 1000.0;
                    findings.good("connect", &one.to_string(), format!("in {ms:.1} ms"));
                }
                return Some(stream);
            }
            Err(error) => last = Some((one, error)),
        }
    }
    let trouble = last.map_or_else(
        || Trouble::new("the name has no address", "correct it in DNS or /etc/hosts"),
        |(one, error)| unreachable(*one, &error),
    );
    findings.bad("connect", address, trouble);
    None
}

fn unreachable(address: SocketAddr, error: &std::io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::ConnectionRefused => Trouble::new(
            format!("nothing listens on {address}"),
            "start the broker, correct the port, or have it listen on this address: a broker with \
             listeners=127.0.0.1:9092 is reached from its own machine alone, 0.0.0.0:9092 from \
             everywhere",
        ),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Trouble::new(
            format!("no answer from {address}"),
            "a firewall drops the packets, or the machine is down: allow the port, or correct the \
             address",
        ),
        _ => Trouble::new(
            format!("cannot connect to {address}: {}", plain(error)),
            "check the route to that network",
        ),
    }
}

/// Asks for the APIs.
fn speak(stream: &mut TcpStream) -> Result<Spoken, Trouble> {
    let request = ApiVersionsRequest {
        client_software_name: sawlog_protocol::OWN_CLIENT,
        client_software_version: env!("CARGO_PKG_VERSION"),
    };
    let mut version = *ApiKey::ApiVersions.versions().end();
    loop {
        let frame = ask(stream, &request, version)?;
        let refused = frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        if refused && version > 0 {
            version = 0;
            continue;
        }
        let (_, reply) = decode_response::<ApiVersionsRequest<'_>>(&frame, version)
            .map_err(|error| garbled(&error.to_string()))?;
        if reply.error_code.is_error() {
            return Err(garbled(reply.error_code.message()));
        }
        let range = |key: ApiKey| {
            let found = reply.api_keys.iter().find(|api| api.api_key == key.as_i16())?;
            let ours = key.versions();
            let newest = found.max_version.min(*ours.end());
            (newest >= found.min_version.max(*ours.start())).then_some(newest)
        };
        let apis = reply.api_keys.iter();
        let apis = apis.map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        let metadata = range(ApiKey::Metadata).ok_or_else(|| {
            Trouble::new(
                "serves no version of Metadata this client speaks",
                "use a broker of Apache Kafka 2.1 or newer",
            )
        })?;
        return Ok(Spoken { apis, metadata });
    }
}

fn garbled(why: &str) -> Trouble {
    Trouble::new(
        format!("the reply is not Kafka's: {why}"),
        "check that this is the port of a Kafka listener",
    )
}

fn brokers(stream: &mut TcpStream, version: i16) -> Result<Vec<Advertised>, Trouble> {
    let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let frame = ask(stream, &request, version)?;
    let (_, reply) = decode_response::<MetadataRequest<'_>>(&frame, version)
        .map_err(|error| garbled(&error.to_string()))?;
    Ok(reply
        .brokers
        .iter()
        .map(|broker| Advertised {
            id: broker.node_id,
            host: broker.host.to_owned(),
            port: broker.port,
        })
        .collect())
}

/// Tries the addresses of all brokers, and whether they speak alike: those of one version do.
pub(super) fn all(brokers: &[Advertised], local: bool, patience: Duration) -> Findings {
    let mut findings = Findings::default();
    let tried = brokers.iter().take(BROKERS_MAX);
    let spoken = tried.map(|one| (one.id, listener(one, local, patience, &mut findings)));
    let spoken: Vec<_> = spoken.filter_map(|(id, apis)| Some((id, apis?))).collect();
    let Some((first, apis)) = spoken.first() else { return findings };
    match spoken.iter().find(|(_, other)| other != apis) {
        None => findings.good("versions", "all", "the brokers serve the same APIs"),
        Some((other, _)) => findings.doubtful(
            "versions",
            "all",
            format!("brokers {first} and {other} serve different APIs: their versions differ"),
            "finish the upgrade: restart the older ones, one after another".to_owned(),
        ),
    }
    findings
}

/// Tries the address a broker sends its clients to; returns the APIs it serves.
fn listener(
    broker: &Advertised,
    local: bool,
    patience: Duration,
    findings: &mut Findings,
) -> Option<Vec<(i16, i16, i16)>> {
    let address = if broker.host.contains(':') {
        format!("[{}]:{}", broker.host, broker.port)
    } else {
        format!("{}:{}", broker.host, broker.port)
    };
    let id = broker.id;
    let fix = format!(
        "set advertised.listeners of broker {id} to an address that clients reach, or leave it out: \
         then clients are told the address they dialled"
    );
    let loopback = broker.host == "localhost"
        || broker.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback && !local {
        let what =
            format!("broker {id} sends clients to {address}, which is every client's own machine");
        findings.bad("listeners", &address, Trouble::new(what, fix));
        return None;
    }
    let before = findings.all.len();
    let Some(mut stream) = reach(&address, patience, findings, false) else {
        // Told again as what it is: the clients' first step works, their second does not.
        let why = findings.all.drain(before..).next().map(|one| one.what).unwrap_or_default();
        let what = format!("broker {id} sends clients to {address}: {why}");
        findings.bad("listeners", &address, Trouble::new(what, fix));
        return None;
    };
    match speak(&mut stream) {
        Ok(spoken) => {
            let what = format!("broker {id} sends clients here, and answers");
            findings.good("listeners", &address, what);
            Some(spoken.apis)
        }
        Err(trouble) => {
            let what = format!("broker {id} sends clients to {address}: {}", trouble.what);
            findings.bad("listeners", &address, Trouble::new(what, fix));
            None
        }
    }
}

/// Sends a request and reads its reply.
fn ask<'a, R: Request<'a>>(
    stream: &mut TcpStream,
    request: &R,
    version: i16,
) -> Result<Bytes, Trouble> {
    let frame = encode_request(request, version, 1, Some("sawlog-doctor")).to_bytes();
    stream.write_all(&frame).map_err(|error| silent(&error))?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).map_err(|error| silent(&error))?;
    let length = match prefix {
        [b'H', b'T', b'T', b'P'] => {
            return Err(Trouble::new("this is a web server", "use the port of the Kafka listener"));
        }
        [0x15 | 0x16, 3, _, _] => {
            return Err(Trouble::new(
                "this listener speaks TLS",
                "use a listener without TLS: this client has none yet",
            ));
        }
        prefix => i32::from_be_bytes(prefix),
    };
    let length = usize::try_from(length).ok().filter(|n| (4..=REPLY_BYTES_MAX).contains(n));
    let length = length.ok_or_else(|| garbled("its length is impossible"))?;
    let mut frame = Vec::new();
    let bound = u64::try_from(length).unwrap_or(u64::MAX);
    let read = stream.take(bound).read_to_end(&mut frame).map_err(|error| silent(&error))?;
    if read < length {
        return Err(garbled("it is cut off"));
    }
    Ok(Bytes::from(frame))
}

fn silent(error: &std::io::Error) -> Trouble {
    let fix = "check that this is a Kafka listener without TLS and SASL";
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Trouble::new(
            "connects, but does not answer",
            format!("{fix}, and that the broker is not stuck: see its log"),
        ),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            Trouble::new("hangs up when spoken to in Kafka's protocol", fix)
        }
        _ => Trouble::new(format!("the connection failed: {}", plain(error)), fix),
    }
}

/// What the operating system says, without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
