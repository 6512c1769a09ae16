//! Who is in the cluster, as one node sees it, and what follows from that for each session.
//!
//! A view is made by the node's first shard and handed to all its shards; it never changes, the next one replaces
//! it. Two nodes with equal views draw equal conclusions from it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::SessionName;

/// How a member fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Heard from.
    Alive,
    /// Not heard from for a while. Still owns what it owns.
    Suspect,
    /// Serves what it has, takes nothing new, and goes.
    Leaving,
    /// Gone: its sessions belong to their successors.
    Dead,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub node: u16,
    /// Which run of it: differs at every boot, and is in the tokens it makes.
    pub epoch: u32,
    /// Grows each time it contradicts a claim against it: a rumour of its death, or what is left of its former run.
    pub incarnation: u32,
    /// How it fares.
    pub state: State,
    /// Where each of its shards listens for links; as many as it has shards.
    pub addresses: Vec<SocketAddr>,
}

impl Member {
    /// How many shards it has; at least 1.
    pub fn shards(&self) -> u16 {
        self.addresses.len().clamp(1, usize::from(u16::MAX)) as u16
    }

    /// Whether it owns its sessions: everyone but the dead.
    pub fn owns(&self) -> bool {
        self.state != State::Dead
    }

    /// Whether it may be given something new: a session's copy, or the session.
    pub fn takes(&self) -> bool {
        matches!(self.state, State::Alive | State::Suspect)
    }

    /// The shard that looks after a session here if this node did not make it: as its owner, as the keeper of its
    /// copy, or as the one who knows where it is.
    pub fn shard_of(&self, session: &SessionName) -> u16 {
        let half = u64::from_be_bytes(*session.first_chunk().unwrap_or(&[0; 8]));
        (half % u64::from(self.shards())) as u16
    }
}

/// All members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whose view.
    pub me: u16,
    /// Counts the views of this node.
    pub version: u64,
    /// By number, this node among them. The dead stay for a while.
    pub members: Vec<Member>,
}

impl View {
    /// What a node sees that is in no cluster.
    pub fn alone(me: u16, epoch: u32, shards: u16) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = vec![nowhere; usize::from(shards)];
        let member = Member { node: me, epoch, incarnation: 0, state: State::Alive, addresses };
        Self { me, version: 0, members: vec![member] }
    }

    /// The member with this number.
    pub fn member(&self, node: u16) -> Option<&Member> {
        let index = self.members.binary_search_by_key(&node, |member| member.node).ok()?;
        Some(&self.members[index])
    }

    /// The member, if it is in the very run that a token names, and not dead.
    pub fn home(&self, node: u16, epoch: u32) -> Option<&Member> {
        self.member(node).filter(|member| member.epoch == epoch && member.owns())
    }

    /// Everyone but this node and the dead.
    pub fn peers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.node != self.me && member.owns())
    }

    /// Who takes a session when its owner is gone, best first: the members that take something new, in an order
    /// of the session's own (rendezvous hashing: a member that comes or goes changes nothing for the others).
    pub fn successors(&self, session: &SessionName, owner: u16) -> Vec<&Member> {
        let takes = |member: &&Member| member.takes() && member.node != owner;
        let mut members: Vec<&Member> = self.members.iter().filter(takes).collect();
        members.sort_by_cached_key(|member| {
            std::cmp::Reverse((weight(session, member.node), member.node))
        });
        members
    }
}

/// How much a session is drawn to a node.
fn weight(session: &SessionName, node: u16) -> u64 {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(session);
    bytes[16..].copy_from_slice(&node.to_be_bytes());
    u64::from_be_bytes(*blake3::hash(&bytes).as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(nodes: &[(u16, State)]) -> View {
        let mut view = View::alone(1, 0, 1);
        let mut member = view.members.remove(0);
        for (node, state) in nodes {
            (member.node, member.state) = (*node, *state);
            view.members.push(member.clone());
        }
        view
    }

    fn order(view: &View, session: u8, owner: u16) -> Vec<u16> {
        view.successors(&[session; 16], owner).iter().map(|member| member.node).collect()
    }

    #[test]
    fn a_member_that_goes_changes_nothing_for_the_others() {
        let all = view(&[1, 2, 3, 4, 5].map(|node| (node, State::Alive)));
        let fewer = view(&[1, 2, 4, 5].map(|node| (node, State::Alive)));
        for session in 0..=255 {
            let mut before = order(&all, session, 1);
            assert_eq!(before.len(), 4);
            before.retain(|node| *node != 3);
            assert_eq!(before, order(&fewer, session, 1));
        }
    }

    #[test]
    fn every_member_succeeds_about_as_often() {
        let all = view(&[1, 2, 3, 4].map(|node| (node, State::Alive)));
        let mut firsts = [0; 5];
        for session in 0..3000_u32 {
            let mut name = [0; 16];
            name[..4].copy_from_slice(&session.to_be_bytes());
            firsts[usize::from(all.successors(&name, 1)[0].node)] += 1;
        }
        assert!(firsts[2..].iter().all(|count| (900..1100).contains(count)), "{firsts:?}");
    }

    #[test]
    fn the_owner_the_leaving_and_the_dead_succeed_nobody() {
        let some =
            view(&[(1, State::Alive), (2, State::Suspect), (3, State::Leaving), (4, State::Dead)]);
        assert_eq!(order(&some, 7, 1), [2]);
        assert_eq!(order(&some, 7, 2), [1]);
        assert!(
            some.home(3, 0).is_some() && some.home(4, 0).is_none() && some.home(3, 1).is_none()
        );
        assert_eq!(some.peers().map(|member| member.node).collect::<Vec<_>>(), [2, 3]);
    }
}
