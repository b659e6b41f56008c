//! Addresses to listen on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use socket2::{Domain, Socket, Type};

/// An address nobody else uses: every call has a loopback address of its own, so that tests which run
/// beside each other never take each other's ports.
///
/// Nobody listens there, not even for a moment: a process that another test is starting just then has our
/// sockets until it is what it is to be, and whoever waits for a broker would be let in by that one.
///
/// # Panics
/// If there is no free port.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option every socket has");
    socket.bind(&SocketAddr::from((ip, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    address.as_socket().expect("it is one of IPv4")
}
