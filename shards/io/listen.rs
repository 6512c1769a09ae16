//! Listening sockets, and the claim that makes a second process on the same port fail loudly.
//!
//! Every shard has its own listener on the same address (SO_REUSEPORT), which is exactly what would let a
//! second server start unnoticed and take half of the connections. So a process [`claim`]s the address first.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

/// How a listener is made; accepted sockets inherit all of it but the backlog, so that none of it costs a
/// submission per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections waiting to be accepted; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// SO_RCVBUF in bytes; `None` leaves the kernel's own tuning, up to the last word of net.ipv4.tcp_rmem.
    pub recv_buffer_bytes: Option<u32>,
    /// SO_SNDBUF in bytes; as above, net.ipv4.tcp_wmem.
    pub send_buffer_bytes: Option<u32>,
    /// TCP_NODELAY: what is sent leaves at once, and does not wait for an acknowledgement.
    pub nodelay: bool,
    /// Probes of silent connections; `None`: a peer that vanished without a word is never noticed while idle.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT in milliseconds: how long sent bytes may stay unacknowledged, or a window closed, before
    /// the connection ends. `None`: as long as the kernel retransmits, a quarter of an hour.
    pub user_timeout_ms: Option<u32>,
}

/// When a silent connection is probed (tcp(7)), in the kernel's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe, seconds: 1 to 32,767.
    pub idle_s: u32,
    /// Between probes, seconds: 1 to 32,767.
    pub interval_s: u32,
    /// Unanswered probes that end the connection: 1 to 127.
    pub count: u32,
}

impl Default for ListenOptions {
    /// Left to itself the kernel lets a slow reader's send buffer grow to 4 MB: times 100,000 is no plan. It
    /// doubles our numbers for its own bookkeeping, and takes none of it before there are bytes to keep.
    fn default() -> Self {
        Self {
            backlog: 4096,
            recv_buffer_bytes: Some(128 * 1024),
            send_buffer_bytes: Some(128 * 1024),
            nodelay: true,
            keepalive: Some(Keepalive { idle_s: 120, interval_s: 30, count: 4 }),
            user_timeout_ms: Some(60_000),
        }
    }
}

/// A listening socket of one shard: SO_REUSEADDR, SO_REUSEPORT, IPv6 only for IPv6, and the options.
pub fn bind(addr: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = tcp(addr)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Everything from here to listen() is inherited; buffers because the window scale is told with the SYN.
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(bytes) = options.recv_buffer_bytes {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    if let Some(Keepalive { idle_s, interval_s, count }) = options.keepalive {
        let seconds = |s: u32| Duration::from_secs(s.into());
        let params = TcpKeepalive::new()
            .with_time(seconds(idle_s))
            .with_interval(seconds(interval_s))
            .with_retries(count);
        socket.set_tcp_keepalive(&params)?;
    }
    if let Some(ms) = options.user_timeout_ms {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(ms.into())))?;
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

    /// Opens a listener with these options and gives back what it accepted, by plain accept(2).
    fn accepted(options: &ListenOptions) -> Socket {
        let claim = claim(any_port("127.0.0.1")).expect("a free port");
        let listener = TcpListener::from(bind(claim.addr(), options).expect("listens"));
        let _client = TcpStream::connect(claim.addr()).expect("connects");
        Socket::from(listener.accept().expect("accepts").0)
    }

    #[test]
    fn accepted_sockets_inherit_every_option() {
        let options = ListenOptions {
            backlog: 16,
            recv_buffer_bytes: Some(48 * 1024),
            send_buffer_bytes: Some(40 * 1024),
            nodelay: true,
            keepalive: Some(Keepalive { idle_s: 77, interval_s: 11, count: 3 }),
            user_timeout_ms: Some(12_345),
        };
        let socket = accepted(&options);
        // The kernel doubles what it is asked for (socket(7)).
        assert_eq!(socket.recv_buffer_size().expect("SO_RCVBUF"), 2 * 48 * 1024);
        assert_eq!(socket.send_buffer_size().expect("SO_SNDBUF"), 2 * 40 * 1024);
        assert!(socket.tcp_nodelay().expect("TCP_NODELAY"));
        assert!(socket.keepalive().expect("SO_KEEPALIVE"));
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_keepalive_time().expect("TCP_KEEPIDLE"), seconds(77));
        assert_eq!(socket.tcp_keepalive_interval().expect("TCP_KEEPINTVL"), seconds(11));
        assert_eq!(socket.tcp_keepalive_retries().expect("TCP_KEEPCNT"), 3);
        let timeout = socket.tcp_user_timeout().expect("TCP_USER_TIMEOUT");
        assert_eq!(timeout, Some(Duration::from_millis(12_345)));
    }

    #[test]
    fn what_is_off_stays_as_the_kernel_has_it() {
        let options = ListenOptions {
            recv_buffer_bytes: None,
            send_buffer_bytes: None,
            nodelay: false,
            keepalive: None,
            user_timeout_ms: None,
            ..ListenOptions::default()
        };
        let socket = accepted(&options);
        assert!(!socket.tcp_nodelay().expect("TCP_NODELAY"));
        assert!(!socket.keepalive().expect("SO_KEEPALIVE"));
        assert_eq!(socket.tcp_user_timeout().expect("TCP_USER_TIMEOUT"), None);
        // Not ours: whatever the kernel tunes.
        let ours = accepted(&ListenOptions::default()).send_buffer_size().expect("SO_SNDBUF");
        assert_ne!(socket.send_buffer_size().expect("SO_SNDBUF"), ours);
    }

    #[test]
    fn a_reader_that_does_not_read_costs_no_megabytes() {
        use std::io::Write;
        let claim = claim(any_port("127.0.0.1")).expect("a free port");
        let bound = bind(claim.addr(), &ListenOptions::default()).expect("listens");
        let listener = TcpListener::from(bound);
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        // Its window is the reader's own business; a small one leaves the rest to our send buffer.
        client.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        client.connect(&claim.addr().into()).expect("connects");
        let (mut stream, _) = listener.accept().expect("accepts");
        stream.set_nonblocking(true).expect("nonblocking");
        let chunk = [0; 16 * 1024];
        let mut taken = 0;
        while let Ok(count) = stream.write(&chunk) {
            taken += count;
        }
        assert!(taken < 512 * 1024, "the kernel took {taken} bytes");
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
