//! Where the session or task lives that a token names.

use erlmcp_cluster::Spot;
use erlmcp_cluster::view::State;
use erlmcp_protocol::seal::SessionToken;

use super::Engine;
use super::sessions::Channel;
use super::slots::Key;
use crate::net::Net;

/// Where a request for a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// This shard has the session.
    Here(Key),
    /// That shard has it, or knows better than this one. Never this shard.
    At(Spot),
    /// Nobody has it.
    Nowhere,
}

/// Where a request for a task goes. A task stays where it was made, and goes with its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskWhereabouts {
    /// If it lives, on this shard.
    Here,
    /// If it lives, on that one.
    At(Spot),
    /// On a node that is dead, as far as we know. It may prove us wrong.
    Lost,
    /// Nowhere.
    Nowhere,
}

impl Engine {
    /// Where the session of a token is, as far as this shard knows. `streamable`: how it is reached; a session
    /// that is reached the other way is none. What is not here and not known to be elsewhere is nowhere.
    pub(super) fn locate<N: Net>(
        &mut self,
        _net: &mut N,
        token: &SessionToken,
        streamable: bool,
    ) -> Whereabouts {
        let me = self.me();
        if token.node == me.node && token.epoch == self.config.epoch {
            if token.shard == me.shard {
                return match self.find_session(token, streamable) {
                    Some(key) => Whereabouts::Here(key),
                    None => Whereabouts::Nowhere,
                };
            }
            let is_there = token.shard < self.seat.shards;
            let spot = Spot { node: me.node, shard: token.shard };
            return if is_there { Whereabouts::At(spot) } else { Whereabouts::Nowhere };
        }
        match self.view.home(token.node, token.epoch) {
            Some(home) if token.node != me.node && token.shard < home.shards() => {
                Whereabouts::At(Spot { node: token.node, shard: token.shard })
            }
            _ => Whereabouts::Nowhere,
        }
    }

    /// The living session of this shard's own that a token names, if it is reached the way the token was used.
    fn find_session(&self, token: &SessionToken, streamable: bool) -> Option<Key> {
        let key = Key { slot: token.slot, generation: token.generation };
        let session = self.sessions.get(key)?;
        let reached = matches!(session.channel, Channel::Streamable) == streamable;
        (session.random == token.random && reached).then_some(key)
    }

    /// Where the task of a token is.
    pub(super) fn locate_task(&self, token: &SessionToken) -> TaskWhereabouts {
        let me = self.me();
        let spot = Spot { node: token.node, shard: token.shard };
        if token.node == me.node {
            let is_there = token.epoch == self.config.epoch && token.shard < self.seat.shards;
            return match is_there {
                true if spot == me => TaskWhereabouts::Here,
                true => TaskWhereabouts::At(spot),
                false => TaskWhereabouts::Nowhere,
            };
        }
        let member = self.view.member(token.node).filter(|member| member.epoch == token.epoch);
        match member {
            Some(member) if token.shard >= member.shards() => TaskWhereabouts::Nowhere,
            Some(member) if member.state == State::Dead => TaskWhereabouts::Lost,
            Some(_) => TaskWhereabouts::At(spot),
            None => TaskWhereabouts::Nowhere,
        }
    }
}
