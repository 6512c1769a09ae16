//! Who owns the sessions that have left the shard that made them. Lives: in each shard, for the names that
//! [`crate::view::Member::shard_of`] gives to it. View: all shards of the node.
//!
//! Invariants: of each session at most one owner, that of the highest (term, node), whatever order the news come in;
//! bounded, and what finds no room is counted and told again when its owner's link comes up.

use crate::letter::route::Token;
use crate::{SessionName, Spot, Table};

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whereabouts {
    /// What the session's id says.
    pub token: Token,
    /// How often it has changed its owner.
    pub term: u32,
    /// The shard that owns it.
    pub owner: Spot,
    /// Which run of the owner's node.
    pub epoch: u32,
    round: u32,
}

/// What news were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// New.
    News,
    /// Known already.
    Known,
    /// Outdated: somebody else has a higher claim.
    Old,
    /// There was no room.
    Full,
}

/// All entries of a shard.
#[derive(Debug)]
pub struct Directory {
    entries_max: usize,
    entries: Table<SessionName, Whereabouts>,
    /// The round each owner is in. Bounded by the shards of the members.
    rounds: Table<Spot, u32>,
}

impl Directory {
    /// Without entries.
    pub fn new(entries_max: usize) -> Self {
        Self { entries_max, entries: Table::default(), rounds: Table::default() }
    }

    /// How many sessions have moved.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An owner says that a session is its own.
    pub fn moved(&mut self, token: Token, term: u32, owner: Spot, epoch: u32) -> Told {
        let round = self.rounds.get(&owner).copied().unwrap_or(0);
        let news = Whereabouts { token, term, owner, epoch, round };
        let is_full = self.entries_max <= self.entries.len();
        match self.entries.get_mut(&token.name) {
            Some(known) if (term, owner.node) < (known.term, known.owner.node) => Told::Old,
            Some(known) => {
                let same = (known.term, known.owner, known.epoch) == (term, owner, epoch);
                *known = news;
                if same { Told::Known } else { Told::News }
            }
            None if is_full => Told::Full,
            None => {
                self.entries.insert(token.name, news);
                Told::News
            }
        }
    }

    /// Who owns a session that has moved.
    pub fn whose(&self, name: &SessionName) -> Option<&Whereabouts> {
        self.entries.get(name)
    }

    /// A session is over, or an owner of this rank has taken it over without telling where: forget what is not
    /// higher.
    pub fn outdated(&mut self, name: &SessionName, rank: (u32, u16)) {
        let is_old = |known: &Whereabouts| (known.term, known.owner.node) <= rank;
        if self.entries.get(name).is_some_and(is_old) {
            self.entries.remove(name);
        }
    }

    /// A shard does not own a session, whatever was heard of that before.
    pub fn disowned(&mut self, name: &SessionName, by: Spot) {
        if self.entries.get(name).is_some_and(|known| known.owner == by) {
            self.entries.remove(name);
        }
    }

    /// An owner begins to say everything again.
    pub fn begin(&mut self, owner: Spot, round: u32) {
        self.rounds.insert(owner, round);
    }

    /// It has said everything; returns how many entries it did not name.
    pub fn end(&mut self, owner: Spot, epoch: u32, round: u32) -> usize {
        let before = self.entries.len();
        let is_its = |known: &Whereabouts| (known.owner, known.epoch) == (owner, epoch);
        self.entries.retain(|_, known| !is_its(known) || known.round == round);
        before - self.entries.len()
    }

    /// Entries of owners that are gone are kept until somebody else claims the session, or this long after.
    pub fn forget(&mut self, is_gone: impl Fn(&Whereabouts) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, known| !is_gone(known));
        before - self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: u8) -> Token {
        Token { at: Spot { node: 1, shard: 0 }, epoch: 1, slot: 0, generation: 0, name: [name; 16] }
    }

    fn spot(node: u16) -> Spot {
        Spot { node, shard: 0 }
    }

    #[test]
    fn whatever_the_order_of_the_news_the_highest_claim_stays() {
        let claims = [(1, 2), (1, 3), (2, 2)];
        for first in 0..3 {
            for second in 0..3 {
                let mut directory = Directory::new(9);
                let order = [first, second, (3 - first) % 3, (4 - second) % 3, 0, 1, 2];
                for (term, node) in order.map(|index| claims[index]) {
                    directory.moved(token(1), term, spot(node), 1);
                }
                let known = directory.whose(&[1; 16]).expect("told");
                assert_eq!((known.term, known.owner.node), (2, 2));
            }
        }
    }

    #[test]
    fn entries_are_bounded_and_go_when_their_owner_no_longer_names_them() {
        let mut directory = Directory::new(2);
        assert_eq!(directory.moved(token(1), 1, spot(2), 1), Told::News);
        assert_eq!(directory.moved(token(2), 1, spot(2), 1), Told::News);
        assert_eq!(directory.moved(token(3), 1, spot(2), 1), Told::Full);
        assert_eq!(directory.moved(token(2), 1, spot(2), 1), Told::Known);
        directory.begin(spot(2), 1);
        directory.moved(token(2), 1, spot(2), 1);
        assert_eq!((directory.end(spot(2), 1, 1), directory.len()), (1, 1));
        directory.outdated(&[2; 16], (1, 1));
        assert_eq!(directory.len(), 1, "a lower claim ends nothing");
        directory.outdated(&[2; 16], (1, 2));
        assert!(directory.is_empty());
    }
}
