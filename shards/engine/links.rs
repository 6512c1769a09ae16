//! What other nodes say, who they are, and what happens to the links to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::route::{Origin, Route};
use erlmcp_cluster::view::View;

use super::Engine;
use super::aways::Setback;
use super::out::Place;
use crate::net::{Exchange, LinkEvent, Net};

/// Exchanges in one letter.
const LETTER_ORIGINS_MAX: usize = 1024;

impl Engine {
    pub(super) fn letter<N: Net>(&mut self, net: &mut N, from: Spot, letter: Letter<'_>) {
        match letter {
            Letter::Route(route) => self.route_letter(net, from, route),
            Letter::News(news) => self.news_letter(net, from, news),
            Letter::Status(status) => self.status_heard(from, status),
            Letter::Order(order) => self.order_heard(from, order),
            Letter::Session(session) => self.session_letter(net, from, session),
        }
    }

    pub(super) fn link<N: Net>(&mut self, net: &mut N, node: u16, event: LinkEvent) {
        match event {
            LinkEvent::Up => {
                self.watch_again(net, node);
                self.say_all_wants(node);
            }
            LinkEvent::Drained => {}
            LinkEvent::Lost => self.node_lost(net, node),
        }
        if matches!(event, LinkEvent::Up | LinkEvent::Drained) {
            self.tell_watchers_again(net, node);
            self.relay_again(net, node);
        }
        self.keeping_link(net, node, event);
        self.leave_otherwise(net, (event == LinkEvent::Lost).then_some(node));
    }

    /// The cluster has changed.
    pub(super) fn see<N: Net>(&mut self, net: &mut N, view: &Arc<View>) {
        let before = std::mem::replace(&mut self.view, view.clone());
        for member in before.peers() {
            if view.home(member.node, member.epoch).is_none() {
                self.node_lost(net, member.node);
                self.forget_watchers(member.node);
                self.forget_wants(member.node);
            }
        }
        self.meet_peers();
        self.view_seen();
        self.keeping_view(net, &before);
        self.leave_otherwise(net, None);
    }

    /// Nothing that was under way to or from this node will arrive: who waits for it is told, and its own
    /// clients are treated as gone (it tells them).
    fn node_lost<N: Net>(&mut self, net: &mut N, node: u16) {
        let waiting = self.aways.iter().filter(|(_, away)| away.at.node == node);
        let waiting: Vec<Exchange> = waiting.map(|(exchange, _)| *exchange).collect();
        for exchange in waiting {
            self.fail_away(net, exchange, Setback::NodeLost(node));
        }
        let there = self.waiters.keys().filter(|place| place.at.node == node);
        let mut dropped: BTreeMap<Spot, Vec<Origin>> = BTreeMap::new();
        let there: Vec<Place> = there.copied().collect();
        for place in there {
            self.handle_gone_place(net, place);
            dropped.entry(place.at).or_default().push(place.to_origin());
        }
        // A request may have come over a new link before we heard that the old one broke.
        for (holder, origins) in dropped {
            for origins in origins.chunks(LETTER_ORIGINS_MAX) {
                net.post(holder, &Letter::Route(Route::Dropped(origins.to_vec())));
            }
        }
        self.doubt_watchers(node);
    }
}
