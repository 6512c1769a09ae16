//! Refused links in the log: each peer address once per interval, however often it comes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::io::Millis;

/// How long a peer's further refusals are only counted, milliseconds.
const QUIET_MS: Millis = 60_000;
/// Peers remembered; beyond that the oldest is forgotten.
const PEERS_MAX: usize = 256;

/// What was said about whom.
#[derive(Default)]
pub(super) struct Refusals {
    /// Since when, and how many since, by peer. Ports differ with every connection of one peer to us; those that we
    /// dial are its name.
    said: BTreeMap<Peer, (Millis, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Unknown,
    From(IpAddr),
    At(SocketAddr),
}

impl Refusals {
    /// We refused.
    pub fn note_ours(&mut self, now: Millis, address: Option<SocketAddr>, reason: &str) {
        let peer = address.map_or(Peer::Unknown, |address| Peer::From(address.ip()));
        if let Some(before) = self.note(now, peer) {
            log::warn!("a link of {peer} was refused: {reason}{}", More(before));
        }
    }

    /// The other end refused. Nothing proves who that is.
    pub fn note_theirs(&mut self, now: Millis, address: Option<SocketAddr>, reason: &str) {
        let peer = address.map_or(Peer::Unknown, Peer::At);
        if let Some(before) = self.note(now, peer) {
            log::warn!("{peer} refuses our links: {reason}{}", More(before));
        }
    }

    /// How many were only counted since it was last said; `None`: this one is only counted too.
    fn note(&mut self, now: Millis, peer: Peer) -> Option<u64> {
        if let Some((since, count)) = self.said.get_mut(&peer) {
            if now < since.saturating_add(QUIET_MS) {
                *count += 1;
                return None;
            }
            *since = now;
            return Some(std::mem::take(count));
        }
        if PEERS_MAX <= self.said.len()
            && let Some(oldest) = self.said.iter().min_by_key(|(_, (since, _))| *since)
        {
            let oldest = *oldest.0;
            self.said.remove(&oldest);
        }
        self.said.insert(peer, (now, 0));
        Some(0)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unknown => f.write_str("a peer"),
            Peer::From(address) => address.fmt(f),
            Peer::At(address) => address.fmt(f),
        }
    }
}

/// How many went unsaid.
struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more since it was last said)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_once_per_interval_with_what_went_unsaid() {
        let mut refusals = Refusals::default();
        let peer = Peer::From(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(refusals.note(1_000, peer), Some(0));
        for _ in 0..5 {
            assert_eq!(refusals.note(1_000 + QUIET_MS - 1, peer), None);
        }
        assert_eq!(refusals.note(1_000, Peer::Unknown), Some(0), "another peer is another matter");
        assert_eq!(refusals.note(1_000 + QUIET_MS, peer), Some(5));
    }

    #[test]
    fn peers_remembered_are_bounded() {
        let mut refusals = Refusals::default();
        for number in 0..2 * PEERS_MAX as u32 {
            let peer = Peer::From(IpAddr::from(number.to_be_bytes()));
            assert_eq!(refusals.note(Millis::from(number), peer), Some(0));
            assert!(refusals.said.len() <= PEERS_MAX);
        }
    }
}
