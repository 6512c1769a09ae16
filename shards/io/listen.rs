//! Listening sockets, and the claim that makes a second process on the same port fail loudly.
//!
//! Every shard has its own listener on the same address (SO_REUSEPORT), which is exactly what would let a
//! second server start unnoticed and take half of the connections. So a process [`claim`]s the address first.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// How a listener is made; accepted sockets inherit all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections waiting to be accepted; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// SO_RCVBUF in bytes; `None` leaves the kernel's own tuning, which is nearly always better.
    pub recv_buffer_bytes: Option<usize>,
    /// SO_SNDBUF in bytes; as above.
    pub send_buffer_bytes: Option<usize>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, recv_buffer_bytes: None, send_buffer_bytes: None }
    }
}

/// A listening socket of one shard: SO_REUSEADDR, SO_REUSEPORT, TCP_NODELAY, IPv6 only for IPv6.
pub fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = tcp(addr)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Set here and inherited: a submission per accepted connection saved.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = options.recv_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&addr.into()).map_err(|err| explain(addr, &err))?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// The right of this process to listen on an address, until dropped.
#[derive(Debug)]
pub struct Claim {
    addr: SocketAddr,
    /// Bound, never listening: keeps the port from strangers until the first shard listens.
    _place: Socket,
    /// An abstract name; the kernel frees it when the process ends, however it ends.
    _lock: UnixListener,
}

impl Claim {
    /// The address to [`bind`], with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Claims an address for this process; port 0 lets the kernel choose. Fails with `AddrInUse` when somebody
/// listens there, whether or not they share ports.
///
/// Two processes claiming the same address are kept apart by the lock from the first moment. What remains is
/// a window between the claim and the first listener in which a *different but overlapping* address (0.0.0.0
/// and 127.0.0.1) can be claimed too; whoever is slower then fails, or shares the port if both are in the
/// window. A supervisor that starts one configuration twice never gets there.
pub fn claim(addr: SocketAddr) -> io::Result<Claim> {
    let place = tcp(addr)?;
    // Only past the remains of closed connections; a listening socket still refuses.
    place.set_reuse_address(true)?;
    place.bind(&addr.into()).map_err(|err| explain(addr, &err))?;
    let bound = local_addr(&place)?;
    let name = UnixAddr::from_abstract_name(format!("erlmcp-shard/{bound}"))?;
    let lock = UnixListener::bind_addr(&name).map_err(|err| explain(bound, &err))?;
    // From here on our own listeners, and nobody who does not share ports, may join.
    place.set_reuse_port(true)?;
    place.set_reuse_address(false)?;
    Ok(Claim { addr: bound, _place: place, _lock: lock })
}

fn tcp(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    let addr: SockAddr = socket.local_addr()?;
    addr.as_socket().ok_or_else(|| io::Error::other("the kernel bound no IP address"))
}

fn explain(addr: SocketAddr, err: &io::Error) -> io::Error {
    let advice = match err.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; `ss -ltnp` shows which",
        io::ErrorKind::AddrNotAvailable => "this host has no such address; `ip addr` shows which",
        io::ErrorKind::PermissionDenied => {
            "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
        }
        _ => return io::Error::new(err.kind(), format!("cannot listen on {addr}: {err}")),
    };
    io::Error::new(err.kind(), format!("cannot listen on {addr}: {err} ({advice})"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn any_port(host: &str) -> SocketAddr {
        format!("{host}:0").parse().expect("an address")
    }

    #[test]
    fn all_shards_listen_on_the_port_that_was_claimed() {
        let claim = claim(any_port("127.0.0.1")).expect("a free port");
        assert_ne!(claim.addr().port(), 0);
        let listeners: Vec<_> = (0..4)
            .map(|_| bind(claim.addr(), &ListenOptions::default()).expect("shares the port"))
            .collect();
        // The placeholder must not attract any: each connection reaches a listener's queue.
        let listeners: Vec<TcpListener> = listeners.into_iter().map(TcpListener::from).collect();
        let clients: Vec<_> =
            (0..32).map(|_| TcpStream::connect(claim.addr()).expect("connects")).collect();
        let mut accepted = 0;
        for listener in &listeners {
            listener.set_nonblocking(true).expect("nonblocking");
            while let Ok((stream, _)) = listener.accept() {
                assert!(stream.nodelay().expect("nodelay"), "inherited from the listener");
                accepted += 1;
            }
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn a_second_claim_fails_and_says_what_to_do() {
        let first = claim(any_port("127.0.0.1")).expect("a free port");
        for _ in 0..2 {
            let err = claim(first.addr()).expect_err("claimed twice");
            assert_eq!(err.kind(), io::ErrorKind::AddrInUse);
            assert!(err.to_string().contains("ss -ltnp"), "{err}");
            // The second time with a listener standing.
            drop(bind(first.addr(), &ListenOptions::default()).expect("ours"));
        }
        let addr = first.addr();
        drop(first);
        claim(addr).expect("free again");
    }

    #[test]
    fn an_overlapping_address_is_refused_once_a_shard_listens() {
        let first = claim(any_port("127.0.0.1")).expect("a free port");
        let _listener = bind(first.addr(), &ListenOptions::default()).expect("ours");
        let mut wide = first.addr();
        wide.set_ip("0.0.0.0".parse().expect("an address"));
        assert_eq!(claim(wide).expect_err("overlaps").kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stranger_sharing_the_port_is_noticed() {
        let free = claim(any_port("127.0.0.1")).expect("a free port").addr();
        let stranger = tcp(free).expect("socket");
        stranger.set_reuse_port(true).expect("reuse");
        stranger.set_reuse_address(true).expect("reuse");
        stranger.bind(&free.into()).expect("bind");
        stranger.listen(1).expect("listen");
        assert_eq!(claim(free).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn ipv6_and_ipv4_do_not_disturb_each_other() {
        let Ok(six) = claim(any_port("[::]")) else {
            return println!("skipped: no IPv6 here");
        };
        let four = SocketAddr::new("0.0.0.0".parse().expect("an address"), six.addr().port());
        let _six = bind(six.addr(), &ListenOptions::default()).expect("six");
        let claim = claim(four).expect("the other family is free");
        bind(claim.addr(), &ListenOptions::default()).expect("four");
    }
}
