//! Where this broker listens for HTTP, and what it tells there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::info;

use super::{StartError, StartErrorKind, bind_one, is_loopback, refuse_exposure};
use crate::admin::Status;
use crate::base::handles::HandleLimits;
use crate::base::limits::HTTP_CONNECTIONS_MAX;
use crate::config::{BrokerConfig, HttpListener};
use crate::server::http;

/// The usual port.
const PORT: u16 = 9644;

/// Connections there is always room for.
const CONNECTIONS_MIN: usize = 4;

/// The HTTP listener, if there is to be one, beside those of clients.
pub(super) fn bind(
    config: &BrokerConfig,
    clients: &[SocketAddr],
) -> Result<Option<StdListener>, StartError> {
    match config.http() {
        HttpListener::None => Ok(None),
        HttpListener::At(endpoint) => {
            let resolved = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
            let address = resolved.ok().and_then(|mut all| all.next()).ok_or_else(|| {
                StartError::new(
                    StartErrorKind::Config,
                    format!("cannot listen on {endpoint} for HTTP: the host name does not resolve"),
                )
            })?;
            refuse_exposure(config, address, "")?;
            bind_one(address).map(Some)
        }
        HttpListener::Auto => bind_somewhere(clients).map(Some),
    }
}

/// Nobody asked for this address: where it is taken, another will do.
fn bind_somewhere(clients: &[SocketAddr]) -> Result<StdListener, StartError> {
    let own = loopback_ip(clients);
    let any = SocketAddr::new(own, 0);
    // Where even the port of clients is any, many brokers may run on this machine.
    if clients.iter().all(|address| address.port() == 0) {
        return bind_one(any);
    }
    let usual = SocketAddr::new(own, PORT);
    bind_one(usual).or_else(|error| {
        info!(address = %usual, %error, "http: another port is taken instead");
        bind_one(any)
    })
}

/// The loopback address clients connect to, else the usual one.
fn loopback_ip(clients: &[SocketAddr]) -> IpAddr {
    let own = clients.iter().copied().find(|address| is_loopback(*address));
    own.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Answers on `listener` from now on.
pub(super) fn listen(
    runtime: &tokio::runtime::Runtime,
    listener: StdListener,
    status: &Arc<Status>,
    stop: &watch::Receiver<bool>,
) -> Result<(), StartError> {
    let _entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|error| StartError::new(StartErrorKind::Other, error.to_string()))?;
    // Where hardly any descriptors are allowed, clients and logs need them more.
    let connections = HandleLimits::of_process().connections / 4;
    let connections = connections.clamp(CONNECTIONS_MIN, HTTP_CONNECTIONS_MAX);
    runtime.spawn(http::run(listener, status.clone(), connections, stop.clone()));
    Ok(())
}
