//! The rings of one thread. It sleeps in the first; the others ring that one's bell.

use std::io;
use std::net::SocketAddr;

use erlmcp_shards::io::ConnId;
use erlmcp_shards::io::bells::Bells;
use erlmcp_shards::io::probe;
use erlmcp_shards::io::uring::{Uring, UringConfig};
use socket2::{Domain, Protocol, Socket, Type};

/// A ring of a worker.
pub struct Ring {
    /// The ring.
    pub io: Uring,
    /// By slot.
    pub owners: Vec<Owner>,
    /// Receives to arm again when this turn's buffers are back.
    pub rearm: Vec<ConnId>,
}

/// Whose connection is in a slot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owner {
    /// Which client.
    pub client: u32,
    /// How often the slot was reused.
    pub generation: u32,
}

/// So many, each with so many descriptors, on the calling thread.
pub fn rings(count: u16, capacity: u32) -> io::Result<Vec<Ring>> {
    let features = probe::probe().map_err(|missing| io::Error::other(missing.to_string()))?;
    let bells = Bells::new(count)?;
    let config = UringConfig {
        capacity,
        buffers: if count == 1 { 1024 } else { 512 },
        no_sqarray: features.no_sqarray,
        ..UringConfig::default()
    };
    let ring = |index: u16| {
        let io = Uring::new(&config, Vec::new(), index, bells.clone())?;
        if index != 0 {
            io.signal(0)?;
        }
        Ok(Ring { io, owners: Vec::new(), rearm: Vec::new() })
    };
    (0..count).map(ring).collect()
}

/// For kernels that cannot connect in the ring: a system call each.
pub fn dial_here(target: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    socket.connect(&target.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::dial_here;

    #[test]
    fn a_kernel_that_cannot_connect_in_the_ring_is_helped_from_the_same_source() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let _socket = dial_here(target, Some("127.5.5.5:0".parse().unwrap())).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), "127.5.5.5");
    }
}
