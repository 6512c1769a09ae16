//! Who calls: listeners that remember the addresses of the connections they accept.
//!
//! A multishot accept has one place for addresses and many connections, so these listeners accept one at a time;
//! worth it where connections are few and strangers are to be named.

use std::net::{IpAddr, SocketAddr};

use super::Uring;
use crate::io::ListenerIndex;

/// Bytes of the largest internet address (`sockaddr_in6`).
const NAME_BYTES: usize = 28;
/// The same in words, which is its alignment.
pub(super) const NAME_WORDS: usize = NAME_BYTES / 4;

/// Where the kernel writes the address of an accepted connection, in words.
pub(super) struct Name {
    words: [u32; NAME_WORDS],
    length: libc::socklen_t,
}

impl Name {
    /// What the kernel is told: where, and how much room there is.
    pub fn place(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        self.length = NAME_BYTES as libc::socklen_t;
        ((&raw mut self.words).cast(), &raw mut self.length)
    }
}

impl Uring {
    /// From now on [`crate::io::Io::caller`] tells who was accepted here. Before the first accept.
    pub fn remember_callers(&mut self, listener: ListenerIndex) {
        let name = Name { words: [0; NAME_WORDS], length: 0 };
        self.memory.names.insert(listener, Box::new(name));
    }

    /// A connection was accepted into a slot.
    pub(super) fn note_caller(&mut self, listener: ListenerIndex, slot: u32) {
        let Some(words) = self.name_words(listener) else { return };
        let mut bytes = [0; NAME_BYTES];
        for (piece, word) in bytes.chunks_exact_mut(4).zip(words) {
            piece.copy_from_slice(&word.to_ne_bytes());
        }
        if let Some(address) = parse(&bytes) {
            self.callers.insert(slot, address);
        }
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
fn parse(bytes: &[u8; NAME_BYTES]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip = match family {
        libc::AF_INET => IpAddr::from(*bytes[4..].first_chunk::<4>()?),
        libc::AF_INET6 => IpAddr::from(*bytes[8..].first_chunk::<16>()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
