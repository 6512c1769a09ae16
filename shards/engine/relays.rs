//! Changes between nodes ([`erlmcp_cluster::interest`]): every shard says which resources its subscribers wait for,
//! and of each change one shard of the node where it happens tells the other nodes.

use erlmcp_catalog::Change;
use erlmcp_cluster::Spot;
use erlmcp_cluster::interest::{CONFIRM_MS, relay_of};
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::news::{self, News};
use erlmcp_cluster::view::View;

use super::{Engine, EngineMail};
use crate::message::Mail;
use crate::net::{Net, TimerKey};

impl Engine {
    // ---- What this shard wants ----

    /// Tells the relays of other nodes what has changed of what this shard wants.
    pub(super) fn say_wants<N: Net>(&mut self, net: &mut N) {
        let Some(wanted) = self.listens.wanted() else { return };
        let mut said = false;
        while let Some(say) = wanted.poll() {
            said = true;
            if !net.post(say.to, &Letter::News(News::Wants(say.wants()))) {
                wanted.handle_refused(say.to);
            }
        }
        if said {
            self.set_interest_timer(net);
        }
    }

    fn set_interest_timer<N: Net>(&mut self, net: &mut N) {
        if !std::mem::replace(&mut self.interest_timer, true) {
            net.timer(net.now() + CONFIRM_MS, TimerKey::Interest);
        }
    }

    /// A second after something was said: has it come?
    pub(super) fn interest_timer<N: Net>(&mut self, net: &mut N) {
        self.interest_timer = false;
        let Some(wanted) = self.listens.wanted() else { return };
        if !wanted.is_confirmed() {
            wanted.handle_timeout();
            self.set_interest_timer(net);
        }
    }

    /// The link to a node is new: what was said before may be lost.
    pub(super) fn say_all_wants(&mut self, node: u16) {
        let member = self.view.peers().find(|member| member.node == node);
        if let Some(shards) = member.map(|member| member.shards()) {
            self.listens.join().handle_peer(node, shards);
        }
    }

    /// Whoever is new among the peers must be told everything, and what others said that are none is forgotten.
    pub(super) fn meet_peers(&mut self) {
        let is_peer = |node| self.view.peers().any(|member| member.node == node);
        self.relay.retain(is_peer);
        for member in self.view.peers() {
            let wanted = self.listens.join();
            if wanted.peer(member.node) != Some(usize::from(member.shards())) {
                wanted.handle_peer(member.node, member.shards());
            }
        }
    }

    /// A node is dead.
    pub(super) fn forget_wants(&mut self, node: u16) {
        self.relay.handle_dead(node);
        if let Some(wanted) = self.listens.wanted() {
            wanted.handle_dead(node);
        }
    }

    // ---- What others want ----

    /// Something has changed on this node. If this shard relays it, the other nodes are told.
    pub(super) fn relay<N: Net>(&mut self, net: &mut N, change: &Change) {
        // Alone, as most are.
        if self.view.members.len() < 2 {
            return;
        }
        let (me, change) = (self.me(), letter_of(change));
        if relay_of(change, self.seat.shards) != me.shard {
            return;
        }
        let view = &*self.view;
        let (now, peers) = (net.now(), view.peers().map(|member| member.node));
        self.relay.publish(now, change, peers, |node, change| tell(net, me, view, node, change));
        count_lost(net, self.relay.take_lost());
    }

    /// The link to a node has room, or is new: what it had no room for goes now.
    pub(super) fn relay_again<N: Net>(&mut self, net: &mut N, node: u16) {
        let (me, view, now) = (self.me(), &*self.view, net.now());
        self.relay.handle_room(now, node, |node, change| tell(net, me, view, node, change));
        count_lost(net, self.relay.take_lost());
    }

    /// News of another node.
    pub(super) fn news_letter<N: Net>(&mut self, net: &mut N, from: Spot, news: News<'_>) {
        let me = self.me();
        match news {
            News::Changed(change) => {
                let change = change_of(change);
                for shard in (0..self.seat.shards).filter(|shard| *shard != me.shard) {
                    net.mail_surely(shard, Mail::Engine(EngineMail::Relayed(change.clone())));
                }
                self.fan_out(net, &change);
            }
            News::Wants(wants) => {
                let (view, now) = (&*self.view, net.now());
                let post = |node, change: news::Change<'_>| tell(net, me, view, node, change);
                let heard = self.relay.handle_wants(now, from, wants, post);
                if let Some(heard) = heard {
                    net.post(from, &Letter::News(News::Heard(heard)));
                }
            }
            News::Heard(heard) => {
                if let Some(wanted) = self.listens.wanted() {
                    wanted.handle_heard(from, heard);
                }
            }
        }
    }
}

/// Tells one node of a change, by way of one of its shards.
fn tell<N: Net>(net: &mut N, me: Spot, view: &View, node: u16, change: news::Change<'_>) -> bool {
    let Some(member) = view.member(node).filter(|member| member.owns()) else { return false };
    let to = Spot { node, shard: me.shard % member.shards() };
    net.post(to, &Letter::News(News::Changed(change)))
}

fn count_lost<N: Net>(net: &mut N, lost: u64) {
    for _ in 0..lost {
        net.counters().error("news_lost");
    }
}

fn letter_of(change: &Change) -> news::Change<'_> {
    match change {
        Change::Tools => news::Change::Tools,
        Change::Prompts => news::Change::Prompts,
        Change::Resources => news::Change::Resources,
        Change::Resource(uri) => news::Change::Resource(uri),
    }
}

fn change_of(change: news::Change<'_>) -> Change {
    match change {
        news::Change::Tools => Change::Tools,
        news::Change::Prompts => Change::Prompts,
        news::Change::Resources => Change::Resources,
        news::Change::Resource(uri) => Change::Resource(uri.to_owned()),
    }
}
