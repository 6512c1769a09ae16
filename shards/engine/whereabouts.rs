//! Where the session or task lives that a token names.

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::session::SessionLetter;
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
    /// Nobody has it now, but somebody may in a moment.
    Moving,
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
    /// that is reached the other way is none, and stays with its connection. `forwarded`: somebody has sent the
    /// request here. What is not here and not known to be elsewhere is nowhere.
    ///
    /// The shard that made it is asked first; who it does not have is asked for at the directory shard of that
    /// node, and if the node is gone, at that of this one.
    pub(super) fn locate<N: Net>(
        &mut self,
        net: &mut N,
        token: &SessionToken,
        streamable: bool,
        forwarded: bool,
    ) -> Whereabouts {
        let me = self.me();
        let is_own = token.node == me.node && token.epoch == self.config.epoch;
        let is_made_here = is_own && token.shard == me.shard;
        if is_made_here && let Some(key) = self.find_session(token, streamable) {
            return Whereabouts::Here(key);
        }
        let moves = streamable && self.keeping.is_some();
        if moves && let Some(to) = self.gone_to(&token.random) {
            return Whereabouts::At(to);
        }
        let directory = Spot { shard: self.directory_shard(&token.random), ..me };
        if moves
            && directory == me
            && let Some(known) = self.look_up(net, token)
        {
            return known;
        }
        let home = Spot { node: token.node, shard: token.shard };
        if is_own {
            let is_there = token.shard < self.seat.shards;
            return match moves && directory != me {
                true if is_made_here || forwarded => Whereabouts::At(directory),
                _ if is_made_here || !is_there => Whereabouts::Nowhere,
                // The home shard has sent it here, and may have heard before us whose it is.
                _ if forwarded && moves && self.is_unsettled(net) => Whereabouts::Moving,
                _ if forwarded && moves => Whereabouts::Nowhere,
                _ => Whereabouts::At(home),
            };
        }
        match self.view.home(token.node, token.epoch) {
            Some(member) if token.node != me.node => {
                if forwarded && moves && directory == me {
                    // Its home may have sent it here, for what was true before a link broke.
                    let name = token.random;
                    let to = Spot { node: token.node, shard: member.shard_of(&name) };
                    net.post(to, &Letter::Session(SessionLetter::NotMine { name }));
                }
                let is_there = token.shard < member.shards();
                // Who leaves has perhaps handed it over already, and may be gone before it could say so.
                let is_doubtful = moves && !forwarded && member.state == State::Leaving;
                match is_there {
                    true if is_doubtful && directory != me => Whereabouts::At(directory),
                    true => Whereabouts::At(home),
                    false => Whereabouts::Nowhere,
                }
            }
            _ if !moves => Whereabouts::Nowhere,
            _ if directory != me => Whereabouts::At(directory),
            _ => self.whose_now(net, &token.random, token.node),
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
