//! What lies between the nodes of a world: links that take letters, are short of room, and break.
//!
//! A letter that was taken arrives, after those before it from that shard to that shard, unless the link breaks
//! first. What shards hear of links and of the cluster they hear in order, and when their turn comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::news::News;
use erlmcp_cluster::letter::route::Route;
use erlmcp_cluster::letter::{Letter, Urgency};
use erlmcp_cluster::view::{State, View};

use super::world::{NODE, World};
use crate::net::LinkEvent;
use crate::service::Service;

/// Where something waits to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// News for a shard, by index.
    Notice(u16),
    /// A letter.
    Letter((Spot, Spot)),
    /// Mail between two shards of a node, by index.
    Mail((u16, u16)),
}

enum Notice {
    Link(u16, LinkEvent),
    View(Arc<View>),
}

/// The links of a world. Nodes are given by their index here, the first is 0.
pub struct Mesh {
    shards: u16,
    /// From a shard to a node: the least urgent letter it takes, if any.
    links: HashMap<(Spot, u16), Option<Urgency>>,
    letters: BTreeMap<(Spot, Spot), VecDeque<Vec<u8>>>,
    /// Replies that wait for the link they go by.
    early: BTreeMap<(Spot, Spot), VecDeque<Vec<u8>>>,
    notices: BTreeMap<u16, VecDeque<Notice>>,
    /// Nodes whose links must break, because a reply could not be sent.
    broken: BTreeSet<(u16, u16)>,
    /// How many letters of a kind were taken from a node to another.
    sent: HashMap<(u16, u16, &'static str), usize>,
}

impl Mesh {
    pub fn new(shards: u16) -> Self {
        Self {
            shards,
            links: HashMap::new(),
            letters: BTreeMap::new(),
            early: BTreeMap::new(),
            notices: BTreeMap::new(),
            broken: BTreeSet::new(),
            sent: HashMap::new(),
        }
    }

    pub fn post(&mut self, from: Spot, to: Spot, letter: &Letter<'_>) -> bool {
        assert!(from.node != to.node && to.shard < self.shards, "{letter:?} to {to:?}");
        let link = self.links.get(&(from, to.node)).copied();
        let urgency = letter.urgency();
        let lanes = match link {
            Some(Some(least)) if least <= urgency => &mut self.letters,
            None if urgency == Urgency::Reply => &mut self.early,
            // Whoever waits for it must hear that it does not come.
            Some(_) if urgency == Urgency::Reply => {
                self.broken.insert((from.node, to.node));
                return false;
            }
            Some(_) | None => return false,
        };
        let mut bytes = Vec::new();
        letter.write(&mut bytes);
        lanes.entry((from, to)).or_default().push_back(bytes);
        let key = (from.node - NODE, to.node - NODE, kind_of(letter));
        *self.sent.entry(key).or_default() += 1;
        true
    }

    fn open(&mut self, from: Spot, node: u16) {
        self.links.insert((from, node), Some(Urgency::Sync));
        let early: Vec<_> =
            self.early.extract_if(.., |lane, _| lane.0 == from && lane.1.node == node).collect();
        for (lane, letters) in early {
            self.letters.entry(lane).or_default().extend(letters);
        }
    }

    pub fn waiting(&self) -> impl Iterator<Item = Lane> {
        let full = self.letters.iter().filter(|(_, letters)| !letters.is_empty());
        self.notices
            .keys()
            .map(|index| Lane::Notice(*index))
            .chain(full.map(|(l, _)| Lane::Letter(*l)))
    }

    /// From now on the links from a node to another take nothing at all.
    pub fn close(&mut self, from: u16, to: u16) {
        for ((at, node), taken) in &mut self.links {
            if (at.node, *node) == (NODE + from, NODE + to) {
                *taken = None;
            }
        }
    }

    /// All letters under way vanish.
    pub fn forget_letters(&mut self) {
        self.letters.clear();
    }

    fn notice(&mut self, node: u16, notice: impl Fn() -> Notice) {
        let first = (node - NODE) * self.shards;
        for index in first..first + self.shards {
            self.notices.entry(index).or_default().push_back(notice());
        }
    }

    fn break_between(&mut self, one: u16, other: u16) {
        let between = |a: u16, b: u16| (a, b) == (one, other) || (b, a) == (one, other);
        self.links.retain(|(from, to), _| !between(from.node, *to));
        self.letters.retain(|(from, to), _| !between(from.node, to.node));
        self.notice(one, || Notice::Link(other, LinkEvent::Lost));
        self.notice(other, || Notice::Link(one, LinkEvent::Lost));
    }
}

fn kind_of(letter: &Letter<'_>) -> &'static str {
    match letter {
        Letter::Route(Route::Forward(_)) => "forward",
        Letter::Route(Route::Elsewhere { .. }) => "elsewhere",
        Letter::Route(Route::Reply { .. }) => "reply",
        Letter::Route(Route::PipeReply { .. }) => "pipe reply",
        Letter::Route(Route::Gone(_)) => "gone",
        Letter::Route(Route::Dropped(_)) => "dropped",
        Letter::Route(Route::Watch { .. }) => "watch",
        Letter::Route(Route::TaskNews { .. }) => "task news",
        Letter::News(News::Changed(_)) => "changed",
        Letter::News(News::Wants(_)) => "wants",
        Letter::News(News::Heard(_)) => "heard",
        Letter::Session(_) => "session",
        Letter::Status(_) => "status",
        Letter::Order(_) => "order",
    }
}

impl World {
    /// The number of a node.
    pub fn number(&self, node: u16) -> u16 {
        NODE + node
    }

    /// How many letters of this kind were taken from a node to another.
    pub fn letters(&self, from: u16, to: u16, kind: &'static str) -> usize {
        self.mesh.borrow().sent.get(&(from, to, kind)).copied().unwrap_or_default()
    }

    /// How many letters of this kind were taken in all.
    pub fn all_letters(&self, kind: &'static str) -> usize {
        let mesh = self.mesh.borrow();
        mesh.sent.iter().filter(|((_, _, sent), _)| *sent == kind).map(|(_, count)| count).sum()
    }

    /// All nodes learn of each other, and their links stand.
    pub fn meet(&mut self) {
        let count = self.nodes.len() as u16;
        for node in 0..count {
            self.see(node, |_| State::Alive);
        }
        for (from, to) in (0..count * count).map(|pair| (pair / count, pair % count)) {
            if from < to {
                self.link(from, to);
            }
        }
        self.pump();
    }

    /// A node sees the others like this.
    pub fn see(&mut self, node: u16, state: impl Fn(u16) -> State) {
        let me = self.number(node);
        let mut view = View::alone(me, 0, self.shards);
        let any = view.members.remove(0);
        for (index, other) in self.nodes.iter().enumerate() {
            let mut member = any.clone();
            (member.node, member.epoch) = (self.number(index as u16), other.config.epoch);
            member.state = state(index as u16);
            view.members.push(member);
        }
        let view = Arc::new(view);
        self.mesh.borrow_mut().notice(me, || Notice::View(view.clone()));
        self.settle();
    }

    /// The links between two nodes stand, in both directions.
    pub fn link(&mut self, one: u16, other: u16) {
        let (one, other) = (self.number(one), self.number(other));
        let mut mesh = self.mesh.borrow_mut();
        mesh.notice(one, || Notice::Link(other, LinkEvent::Up));
        mesh.notice(other, || Notice::Link(one, LinkEvent::Up));
        drop(mesh);
        self.settle();
    }

    /// The links between two nodes break; what was under way is lost.
    pub fn lose_link(&mut self, one: u16, other: u16) {
        let (one, other) = (self.number(one), self.number(other));
        self.mesh.borrow_mut().break_between(one, other);
        self.settle();
    }

    /// From now on the links from a node to another take only letters at least as urgent as this.
    pub fn narrow(&mut self, from: u16, to: u16, least: Urgency) {
        let (from, to) = (self.number(from), self.number(to));
        let mut mesh = self.mesh.borrow_mut();
        for ((at, node), taken) in &mut mesh.links {
            if (at.node, *node) == (from, to) {
                *taken = Some(least);
            }
        }
        if least == Urgency::Sync {
            mesh.notice(from, || Notice::Link(to, LinkEvent::Drained));
        }
        drop(mesh);
        self.settle();
    }

    /// A node is gone from one moment to the next, with everything in it; in its place there is one that nobody
    /// knows yet. The others only see their links break.
    pub fn kill(&mut self, node: u16) {
        let others: Vec<u16> =
            (0..self.nodes.len() as u16).filter(|other| *other != node).collect();
        let number = self.number(node);
        let mut mesh = self.mesh.borrow_mut();
        for other in &others {
            mesh.break_between(number, NODE + other);
        }
        let shards = node * self.shards..(node + 1) * self.shards;
        mesh.notices.retain(|index, _| !shards.contains(index));
        mesh.early.retain(|(from, to), _| from.node != number && to.node != number);
        drop(mesh);
        self.forget_mail(node);
        let known = &self.nodes[usize::from(node)].config;
        let (limits, epoch) = (known.limits.clone(), known.epoch + 100);
        let (handle, seed) = (self.catalog(), self.draw(usize::MAX) as u64);
        if node == 0 {
            self.handle = handle.clone();
        }
        self.boot(node, handle, limits, epoch, seed);
        self.settle();
    }

    /// A node is gone, and the others know.
    pub fn lose_node(&mut self, node: u16) {
        self.kill(node);
        self.see_all(|_, other| if other == node { State::Dead } else { State::Alive });
    }

    /// The node that stands in the place of a killed one joins the others.
    pub fn join(&mut self, node: u16) {
        self.see_all(|_, _| State::Alive);
        for other in (0..self.nodes.len() as u16).filter(|other| *other != node) {
            self.link(node, other);
        }
    }

    /// Every two nodes are linked again, as often as it takes: a reply that comes before its link breaks it.
    pub fn relink(&mut self) {
        let count = self.nodes.len() as u16;
        let pairs = (0..count * count).map(|pair| (pair / count, pair % count));
        let pairs: Vec<(u16, u16)> = pairs.filter(|(one, other)| one < other).collect();
        while let Some((one, other)) = pairs.iter().find(|(one, other)| !self.linked(*one, *other))
        {
            self.lose_link(*one, *other);
            self.link(*one, *other);
        }
    }

    fn linked(&self, one: u16, other: u16) -> bool {
        let mesh = self.mesh.borrow();
        let (one, other) = (self.number(one), self.number(other));
        (0..self.shards).all(|shard| {
            let from = |node, to| mesh.links.contains_key(&(Spot { node, shard }, to));
            from(one, other) && from(other, one)
        })
    }

    /// What each node sees of each: who looks, and at whom.
    pub fn see_all(&mut self, state: impl Fn(u16, u16) -> State) {
        for node in 0..self.nodes.len() as u16 {
            self.see(node, |other| if other == node { State::Alive } else { state(node, other) });
        }
    }

    /// Breaks the links that could not take a reply.
    pub fn break_links(&mut self) {
        let mut mesh = self.mesh.borrow_mut();
        for (one, other) in std::mem::take(&mut mesh.broken) {
            mesh.break_between(one, other);
        }
    }

    pub fn deliver_letter(&mut self, lane: Lane) {
        match lane {
            Lane::Notice(index) => {
                let mut mesh = self.mesh.borrow_mut();
                let Some(queue) = mesh.notices.get_mut(&index) else { return };
                let Some(notice) = queue.pop_front() else { return };
                if queue.is_empty() {
                    mesh.notices.remove(&index);
                }
                if let Notice::Link(node, LinkEvent::Up) = notice {
                    let at = self.wires[usize::from(index)].at;
                    mesh.open(at, node);
                }
                drop(mesh);
                let (engine, wire) = self.at(index);
                match notice {
                    Notice::Link(node, event) => engine.handle_link(wire, node, event),
                    Notice::View(view) => engine.handle_view(wire, &view),
                }
            }
            Lane::Letter((from, to)) => {
                let mut mesh = self.mesh.borrow_mut();
                let letters = mesh.letters.get_mut(&(from, to));
                let Some(bytes) = letters.and_then(|letters| letters.pop_front()) else { return };
                drop(mesh);
                let (engine, wire) = self.at((to.node - NODE) * self.shards + to.shard);
                let letter = Letter::read(&bytes).expect("what was written can be read");
                engine.handle_letter(wire, from, letter);
            }
            Lane::Mail(_) => {}
        }
    }
}
