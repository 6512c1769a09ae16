//! Sockets to the server. On loopback each few thousand get a source address of their own, because an
//! address has only so many ports, and those of earlier connections rest in TIME_WAIT.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address.
const DIALS_PER_SOURCE: u32 = 4000;
/// Source addresses are 127.0.1.0 and those after it.
const SOURCE_FIRST: u32 = u32::from_be_bytes([127, 0, 1, 0]);
/// How many there are, up to 127.255.0.0.
const SOURCES: u32 = u32::from_be_bytes([127, 255, 0, 0]) - SOURCE_FIRST;

/// Dials of this process, ever.
static DIALS: AtomicU32 = AtomicU32::new(0);

/// A connected socket.
pub fn dial(target: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let IpAddr::V4(host) = target.ip()
        && host.is_loopback()
    {
        let source = source(DIALS.fetch_add(1, Ordering::Relaxed));
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// Runs of this program do not begin with the same address: the last one's ports may still rest.
fn source(dial: u32) -> Ipv4Addr {
    let begin = std::process::id().wrapping_mul(97);
    Ipv4Addr::from(SOURCE_FIRST + begin.wrapping_add(dial / DIALS_PER_SOURCE) % SOURCES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_loopback_and_change_before_ports_run_out() {
        assert_eq!(source(0), source(DIALS_PER_SOURCE - 1));
        assert_ne!(source(0), source(DIALS_PER_SOURCE));
        for dial in (0..100_000_000).step_by(9_999_991) {
            assert!(source(dial).is_loopback(), "{}", source(dial));
        }
    }
}
