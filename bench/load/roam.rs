//! Sessions that are used over other connections than those they were opened on, so that what a forward costs can
//! be measured.
//!
//! The kernel chooses the shard that gets a connection, and nobody tells the client which. But a session lives on
//! the shard that its connection is on, and our session ids say in the open which that is (they are authentic, not
//! secret): so each connection opens a session of its own, learns from its id where the connection is, and is then
//! lent the session of a connection that is where it shall be. No request is wasted on finding out, and no
//! probability is involved.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where a session is, seen from the connection it is used over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On the connection's own shard.
    Own,
    /// On another shard of the same node.
    Shard,
    /// On another node, on the shard with the same number: one hop over the mesh.
    Node,
    /// On another node, on a shard with another number: that node passes it on to the right one.
    Far,
}

impl Place {
    /// All of them, the nearest first.
    pub const ALL: [Place; 4] = [Place::Own, Place::Shard, Place::Node, Place::Far];

    /// As the command line and the results name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Place::Own => "own",
            Place::Shard => "shard",
            Place::Node => "node",
            Place::Far => "far",
        }
    }

    fn fits(self, here: Home, there: Home) -> bool {
        let (same_node, same_shard) = (here.node == there.node, here.shard == there.shard);
        match self {
            Place::Own => same_node && same_shard,
            Place::Shard => same_node && !same_shard,
            Place::Node => !same_node && same_shard,
            Place::Far => !same_node && !same_shard,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Place::ALL.into_iter().find(|place| place.as_str() == text);
        found.ok_or_else(|| "sessions roam to own, shard, node or far".to_owned())
    }
}

/// Where a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Home {
    /// The node.
    pub node: u16,
    /// Its shard.
    pub shard: u16,
}

/// What a session's id says; `None` of an id that is not one of ours.
pub fn home(session: &str) -> Option<Home> {
    let bytes = URL_SAFE_NO_PAD.decode(session).ok()?;
    let [FORMAT, KIND, _key, node_high, node_low, shard_high, shard_low, ..] = bytes[..] else {
        return None;
    };
    let node = u16::from_be_bytes([node_high, node_low]);
    let shard = u16::from_be_bytes([shard_high, shard_low]);
    (bytes.len() == ID_BYTES).then_some(Home { node, shard })
}

/// The format of our sealed tokens, and the kind that session ids are.
const FORMAT: u8 = 1;
const KIND: u8 = 1;
/// Of a session id: format, kind, key, node, shard, slot, generation, epoch, randomness, MAC.
const ID_BYTES: usize = 3 + 2 + 2 + 4 + 4 + 4 + 16 + 16;

/// Whose session each connection shall use: its index, or `None` where nobody is at such a place. Whoever
/// has lent least lends next.
pub fn lend(homes: &[Home], place: Place) -> Vec<Option<usize>> {
    if place == Place::Own {
        return (0..homes.len()).map(Some).collect();
    }
    let mut owners: BTreeMap<Home, Vec<usize>> = BTreeMap::new();
    for (index, home) in homes.iter().enumerate() {
        owners.entry(*home).or_default().push(index);
    }
    // How many of each place's sessions are lent.
    let mut lent: BTreeMap<Home, usize> = BTreeMap::new();
    let each = homes.iter().map(|here| {
        let fitting = owners.keys().filter(|there| place.fits(*here, **there));
        let there = *fitting.min_by_key(|there| lent.get(there).copied().unwrap_or(0))?;
        let (owners, lent) = (&owners[&there], lent.entry(there).or_default());
        *lent += 1;
        Some(owners[(*lent - 1) % owners.len()])
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use erlmcp_protocol::seal::{Keyring, SessionToken};

    use super::*;

    #[test]
    fn a_session_id_says_where_its_session_lives_and_nothing_else_does() {
        let token =
            SessionToken { node: 3, shard: 258, slot: 7, generation: 8, epoch: 9, random: [1; 16] };
        let id = Keyring::new(&[7; 32]).seal_session(&token);
        assert_eq!(home(&id), Some(Home { node: 3, shard: 258 }));
        for other in ["", "AQEA", "not base64!", "3fae8c62-0d3a-4f57-9f3d-0c3a7b7b9d11", &id[4..]] {
            assert_eq!(home(other), None, "{other:?}");
        }
    }

    /// Nodes × shards, so many connections on each.
    fn homes(nodes: u16, shards: u16, each: usize) -> Vec<Home> {
        let all = (1..=nodes).flat_map(|node| (0..shards).map(move |shard| Home { node, shard }));
        all.flat_map(|home| std::iter::repeat_n(home, each)).collect()
    }

    #[track_caller]
    fn check(nodes: u16, shards: u16, place: Place, is_possible: bool) {
        let homes = homes(nodes, shards, 5);
        let lent = lend(&homes, place);
        let mut used = vec![0; homes.len()];
        for (here, owner) in homes.iter().zip(&lent) {
            assert_eq!(owner.is_some(), is_possible, "{nodes} × {shards} {place}");
            let Some(owner) = *owner else { continue };
            assert!(place.fits(*here, homes[owner]), "{place}: {here:?} uses {:?}", homes[owner]);
            used[owner] += 1;
        }
        assert!(used.iter().all(|used| *used <= 2), "{nodes} × {shards} {place}: {used:?}");
    }

    #[test]
    fn sessions_are_lent_to_connections_at_the_place_that_was_asked_for() {
        for place in Place::ALL {
            check(4, 2, place, true);
        }
        check(1, 2, Place::Shard, true);
        check(1, 1, Place::Shard, false);
        check(1, 2, Place::Node, false);
        check(2, 1, Place::Node, true);
        check(2, 1, Place::Far, false);
        assert_eq!(lend(&[], Place::Shard), []);
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        for place in Place::ALL {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert!("elsewhere".parse::<Place>().is_err());
    }
}
