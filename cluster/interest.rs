//! Who wants to hear of which resource, so that a change of it travels to the nodes that care and to no other.
//!
//! A resource is a [`Topic`], a hash of its URI. Each topic has one *relay* on every node, a shard that follows from
//! the topic. Every shard tells the relays of all peers what it wants ([`Wanted`]); the relay of the node where
//! something changes tells each node that cares once ([`Relay`]).
//!
//! A subscription takes a moment to reach the relays, so they remember what they sent nobody a moment ago, and
//! send it when somebody turns out to want it. What found no room is remembered too, and sent when there is some.
//! Nothing is sent to a node twice. Wants are numbered, and confirmed a second later: whoever missed one is told
//! everything again.
//! Refused: periodic digests of all wants (bytes for nothing), and telling everybody of everything.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::letter::news::{Change, Heard, Wants};
use crate::{Millis, Spot, Table};

/// A resource, as relays know it.
pub type Topic = u64;

/// Topics of one shard that are named; with more of them it wants everything.
pub const TOPICS_MAX: usize = 65_536;
/// Topics in one letter.
pub const LETTER_TOPICS_MAX: usize = 4096;
/// How long after the change a late subscriber is still told of it, milliseconds.
pub const LATE_MS: Millis = 500;
/// How long a change waits for room on a link, milliseconds.
pub const REFUSED_MS: Millis = 10_000;
/// Changes a relay remembers.
pub const REMEMBERED_MAX: usize = 1024;
/// When wants are confirmed, and what was refused is tried again, milliseconds.
pub const CONFIRM_MS: Millis = 1000;

const TOPIC_BYTES: usize = size_of::<Topic>();

/// The topic of a resource; the same on all nodes.
pub fn topic(uri: &str) -> Topic {
    u64::from_le_bytes(*blake3::hash(uri.as_bytes()).as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Which of so many shards relays a change. Lists have relays too, but everybody hears of them.
pub fn relay_of(change: Change<'_>, shards: u16) -> u16 {
    let number = match change {
        Change::Resource(uri) => topic(uri),
        Change::Tools => 0,
        Change::Prompts => 1,
        Change::Resources => 2,
    };
    relay_of_topic(number, shards)
}

fn relay_of_topic(topic: Topic, shards: u16) -> u16 {
    (topic % u64::from(shards.max(1))) as u16
}

/// What one shard wants, and what each relay was told of it.
///
/// Say [`Wanted::want`] and [`Wanted::forget`] as subscribers come and go, and tell it of peers and of what they
/// answer; then poll until it has nothing to say. While [`Wanted::is_confirmed`] is false, call
/// [`Wanted::handle_timeout`] every [`CONFIRM_MS`].
#[derive(Debug, Default)]
pub struct Wanted {
    /// With the number of URIs behind each, which is 1 but for collisions.
    topics: HashMap<Topic, u32>,
    changed: Vec<Topic>,
    /// There are too many to name.
    everything: bool,
    peers: BTreeMap<u16, Vec<Told>>,
    said: VecDeque<Say>,
}

/// What one relay was told.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// The number of the last letter.
    sent: u32,
    /// It has come, and all before it.
    is_heard: bool,
    /// All must be said again.
    is_behind: bool,
}

/// A letter about wants, for one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Say {
    /// Which.
    pub to: Spot,
    number: u32,
    begins: bool,
    ends: bool,
    everything: bool,
    more: Vec<u8>,
    less: Vec<u8>,
}

impl Say {
    /// As it travels.
    pub fn wants(&self) -> Wants<'_> {
        let Say { number, begins, ends, everything, .. } = *self;
        Wants { number, begins, ends, everything, more: &self.more, less: &self.less }
    }
}

impl Wanted {
    /// A resource has its first subscriber here.
    pub fn want(&mut self, topic: Topic) {
        let count = self.topics.entry(topic).or_default();
        *count += 1;
        if *count == 1 {
            self.change(topic);
        }
    }

    /// It has lost its last one.
    pub fn forget(&mut self, topic: Topic) {
        let Some(count) = self.topics.get_mut(&topic) else { return };
        *count -= 1;
        if *count == 0 {
            self.topics.remove(&topic);
            if self.topics.capacity() > 64 && self.topics.len() * 4 < self.topics.capacity() {
                self.topics.shrink_to_fit();
            }
            self.change(topic);
        }
    }

    fn change(&mut self, topic: Topic) {
        if self.peers.is_empty() {
            return;
        }
        // Half of it again before they are named again: a boundary that is easily crossed is crossed too often.
        let everything = match self.everything {
            true => self.topics.len() > TOPICS_MAX / 2,
            false => self.topics.len() > TOPICS_MAX,
        };
        if everything != std::mem::replace(&mut self.everything, everything) {
            self.peers.values_mut().flatten().for_each(|told| told.is_behind = true);
            self.say_behind();
        } else if !everything {
            self.changed.push(topic);
        }
    }

    /// The peer is told everything, from the beginning: it is new, or the link to it is.
    pub fn handle_peer(&mut self, node: u16, shards: u16) {
        let told = self.peers.entry(node).or_default();
        told.resize(usize::from(shards), Told::default());
        told.iter_mut().for_each(|told| told.is_behind = true);
        self.everything = self.topics.len() > TOPICS_MAX;
        self.say_behind();
    }

    /// Whether this peer was ever told anything, and how many relays it has.
    pub fn peer(&self, node: u16) -> Option<usize> {
        self.peers.get(&node).map(Vec::len)
    }

    /// The peer is dead.
    pub fn handle_dead(&mut self, node: u16) {
        self.peers.remove(&node);
    }

    /// A letter found no room.
    pub fn handle_refused(&mut self, to: Spot) {
        self.said.retain(|say| say.to != to);
        if let Some(told) = self.told(to) {
            told.is_behind = true;
            told.is_heard = false;
        }
    }

    /// A relay says what it has heard.
    pub fn handle_heard(&mut self, from: Spot, heard: Heard) {
        let Some(told) = self.told(from) else { return };
        if !heard.is_whole {
            told.is_behind = true;
            self.say_behind();
        } else if heard.number == told.sent {
            told.is_heard = true;
        }
    }

    fn told(&mut self, relay: Spot) -> Option<&mut Told> {
        self.peers.get_mut(&relay.node)?.get_mut(usize::from(relay.shard))
    }

    /// Whether all relays know everything, and we know that they do.
    pub fn is_confirmed(&self) -> bool {
        self.peers.values().flatten().all(|told| told.is_heard && !told.is_behind)
    }

    /// What is not confirmed is asked for, and what was refused tried again.
    pub fn handle_timeout(&mut self) {
        for (node, relays) in &mut self.peers {
            for (shard, told) in relays.iter_mut().enumerate() {
                if !told.is_heard && !told.is_behind {
                    let to = Spot { node: *node, shard: shard as u16 };
                    self.said.push_back(told.say(to));
                }
            }
        }
        self.say_behind();
    }

    /// The next letter. Whoever cannot send it says [`Wanted::handle_refused`].
    pub fn poll(&mut self) -> Option<Say> {
        if !self.changed.is_empty() {
            self.say_changed();
        }
        self.said.pop_front()
    }

    /// Says everything to whom it must be said.
    fn say_behind(&mut self) {
        let named = !self.everything;
        for (node, relays) in &mut self.peers {
            let shards = relays.len() as u16;
            for (shard, told) in relays.iter_mut().enumerate().filter(|(_, told)| told.is_behind) {
                let to = Spot { node: *node, shard: shard as u16 };
                told.is_behind = false;
                self.said.retain(|say| say.to != to);
                let mine = self.topics.keys().copied();
                let mut mine: Vec<Topic> = mine
                    .filter(|topic| named && relay_of_topic(*topic, shards) == to.shard)
                    .collect();
                mine.sort_unstable();
                let mut chunks = mine.chunks(LETTER_TOPICS_MAX).peekable();
                let mut begins = true;
                while begins || chunks.peek().is_some() {
                    let mut say = told.say(to);
                    say.begins = std::mem::take(&mut begins);
                    let topics = chunks.next().unwrap_or_default();
                    say.more = topics.iter().flat_map(|topic| topic.to_le_bytes()).collect();
                    say.ends = chunks.peek().is_none();
                    say.everything = !named;
                    self.said.push_back(say);
                }
            }
        }
    }

    fn say_changed(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        for (node, relays) in &mut self.peers {
            let shards = relays.len() as u16;
            for (shard, told) in relays.iter_mut().enumerate().filter(|(_, told)| !told.is_behind) {
                let to = Spot { node: *node, shard: shard as u16 };
                let theirs = |topic: &&Topic| relay_of_topic(**topic, shards) == to.shard;
                let theirs: Vec<&Topic> = changed.iter().filter(theirs).collect();
                for topics in theirs.chunks(LETTER_TOPICS_MAX) {
                    let mut say = told.say(to);
                    for topic in topics {
                        let wanted = self.topics.contains_key(*topic);
                        let list = if wanted { &mut say.more } else { &mut say.less };
                        list.extend_from_slice(&topic.to_le_bytes());
                    }
                    self.said.push_back(say);
                }
            }
        }
    }
}

impl Told {
    /// The next letter, which asks for a confirmation if it stays empty.
    fn say(&mut self, to: Spot) -> Say {
        self.sent = self.sent.wrapping_add(1);
        self.is_heard = false;
        let (more, less) = (Vec::new(), Vec::new());
        Say { to, number: self.sent, begins: false, ends: false, everything: false, more, less }
    }
}

/// What a relay knows of the wants of other nodes, and what it sent lately.
///
/// Every method that sends is given `post`, which says whether a change was taken for a node.
#[derive(Debug, Default)]
pub struct Relay {
    sources: Table<Spot, Source>,
    by_topic: HashMap<Topic, Vec<Want>>,
    remembered: VecDeque<Remembered>,
    lost: u64,
}

/// One shard of another node.
#[derive(Debug, Clone, Copy, Default)]
struct Source {
    seen: u32,
    is_whole: bool,
    /// Counts how often everything was said.
    round: u8,
    topics: usize,
    everything: bool,
}

/// A shard wants a topic.
#[derive(Debug, Clone, Copy)]
struct Want {
    source: Spot,
    round: u8,
}

#[derive(Debug)]
struct Remembered {
    at: Millis,
    /// `None`: a list.
    topic: Option<Topic>,
    change: Owned,
    sent: Vec<u16>,
    refused: Vec<u16>,
}

#[derive(Debug)]
enum Owned {
    Resource(Box<str>),
    Tools,
    Prompts,
    Resources,
}

impl Owned {
    fn change(&self) -> Change<'_> {
        match self {
            Owned::Resource(uri) => Change::Resource(uri),
            Owned::Tools => Change::Tools,
            Owned::Prompts => Change::Prompts,
            Owned::Resources => Change::Resources,
        }
    }
}

impl Relay {
    /// Something has changed on this node: tells each peer that cares, once.
    pub fn publish(
        &mut self,
        now: Millis,
        change: Change<'_>,
        peers: impl Iterator<Item = u16>,
        mut post: impl FnMut(u16, Change<'_>) -> bool,
    ) {
        let (topic, change_kept) = match change {
            Change::Resource(uri) => (Some(topic(uri)), Owned::Resource(uri.into())),
            Change::Tools => (None, Owned::Tools),
            Change::Prompts => (None, Owned::Prompts),
            Change::Resources => (None, Owned::Resources),
        };
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        for node in peers.filter(|node| topic.is_none_or(|topic| self.cares(*node, topic))) {
            let list = if post(node, change) { &mut sent } else { &mut refused };
            list.push(node);
        }
        self.remembered.push_back(Remembered {
            at: now,
            topic,
            change: change_kept,
            sent,
            refused,
        });
        self.expire(now);
    }

    /// Whether a node wants to hear of a topic.
    pub fn cares(&self, node: u16, topic: Topic) -> bool {
        let wants = self.by_topic.get(&topic).map(Vec::as_slice).unwrap_or_default();
        wants.iter().any(|want| want.source.node == node)
            || self.sources.iter().any(|(spot, source)| spot.node == node && source.everything)
    }

    /// A shard of another node says what it wants; what it has just missed it is sent. Returns what to answer.
    pub fn handle_wants(
        &mut self,
        now: Millis,
        from: Spot,
        wants: Wants<'_>,
        mut post: impl FnMut(u16, Change<'_>) -> bool,
    ) -> Option<Heard> {
        let Wants { number, begins, ends, everything, more, less } = wants;
        let known = self.sources.contains_key(&from);
        let source = self.sources.entry(from).or_default();
        if begins {
            source.is_whole = true;
            source.round = source.round.wrapping_add(1);
            source.everything = everything;
        } else if !known {
            source.is_whole = false;
        } else if number.wrapping_sub(source.seen).cast_signed() <= 0 {
            return None; // Said before what we know.
        } else if number != source.seen.wrapping_add(1) {
            source.is_whole = false;
        }
        source.seen = number;
        for topic in topics(more) {
            self.add(from, topic);
        }
        for topic in topics(less) {
            self.remove(from, topic);
        }
        if ends {
            self.sweep(from);
        }
        let source = self.sources.get(&from).copied().unwrap_or_default();
        self.expire(now);
        for event in
            self.remembered.iter_mut().filter(|event| now.saturating_sub(event.at) <= LATE_MS)
        {
            let Some(topic) = event.topic else { continue };
            let wanted = source.everything || topics(more).any(|more| more == topic);
            if wanted && !event.sent.contains(&from.node) {
                event.try_again(from.node, &mut post);
            }
        }
        let asks = more.is_empty() && less.is_empty();
        (asks || ends).then_some(Heard { number: source.seen, is_whole: source.is_whole })
    }

    /// The link to a node has room: what it had none for goes now.
    pub fn handle_room(
        &mut self,
        now: Millis,
        node: u16,
        mut post: impl FnMut(u16, Change<'_>) -> bool,
    ) {
        self.expire(now);
        for event in &mut self.remembered {
            if event.refused.contains(&node) && !event.try_again(node, &mut post) {
                return;
            }
        }
    }

    /// The node is dead: whoever comes back in its place says anew what it wants.
    pub fn handle_dead(&mut self, node: u16) {
        self.sources.retain(|spot, _| spot.node != node);
        self.by_topic.retain(|_, wants| {
            wants.retain(|want| want.source.node != node);
            !wants.is_empty()
        });
        for event in &mut self.remembered {
            event.refused.retain(|refused| *refused != node);
        }
    }

    /// Forgets what other nodes than these have said.
    pub fn retain(&mut self, is_peer: impl Fn(u16) -> bool) {
        let mut others: Vec<u16> = self.sources.keys().map(|spot| spot.node).collect();
        others.retain(|node| !is_peer(*node));
        others.dedup();
        others.into_iter().for_each(|node| self.handle_dead(node));
    }

    /// Changes that never found room, since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// How many wants are known; bounded by [`TOPICS_MAX`] for each shard of each peer.
    pub fn wants(&self) -> usize {
        self.by_topic.values().map(Vec::len).sum()
    }

    /// How many changes are remembered; at most [`REMEMBERED_MAX`].
    pub fn remembered(&self) -> usize {
        self.remembered.len()
    }

    fn add(&mut self, from: Spot, topic: Topic) {
        let Some(source) = self.sources.get_mut(&from) else { return };
        let wants = self.by_topic.entry(topic).or_default();
        match wants.iter_mut().find(|want| want.source == from) {
            Some(want) => want.round = source.round,
            None if source.topics < TOPICS_MAX => {
                source.topics += 1;
                wants.push(Want { source: from, round: source.round });
            }
            // More than it should name: it wants everything until it begins anew.
            None => source.everything = true,
        }
        if wants.is_empty() {
            self.by_topic.remove(&topic);
        }
    }

    fn remove(&mut self, from: Spot, topic: Topic) {
        let Some(wants) = self.by_topic.get_mut(&topic) else { return };
        let before = wants.len();
        wants.retain(|want| want.source != from);
        if let Some(source) = self.sources.get_mut(&from) {
            source.topics -= before - wants.len();
        }
        if wants.is_empty() {
            self.by_topic.remove(&topic);
        }
    }

    /// Forgets what was not said again in this round.
    fn sweep(&mut self, from: Spot) {
        let Some(source) = self.sources.get_mut(&from) else { return };
        let round = source.round;
        self.by_topic.retain(|_, wants| {
            let before = wants.len();
            wants.retain(|want| want.source != from || want.round == round);
            source.topics -= before - wants.len();
            !wants.is_empty()
        });
        if self.by_topic.len() * 4 < self.by_topic.capacity() {
            self.by_topic.shrink_to_fit();
        }
    }

    fn expire(&mut self, now: Millis) {
        while let Some(oldest) = self.remembered.front() {
            let keep_ms = if oldest.refused.is_empty() { LATE_MS } else { REFUSED_MS };
            if now.saturating_sub(oldest.at) <= keep_ms && self.remembered.len() <= REMEMBERED_MAX {
                return;
            }
            self.lost += oldest.refused.len() as u64;
            self.remembered.pop_front();
        }
    }
}

impl Remembered {
    fn try_again(&mut self, node: u16, post: &mut impl FnMut(u16, Change<'_>) -> bool) -> bool {
        let taken = post(node, self.change.change());
        if taken {
            self.refused.retain(|refused| *refused != node);
            self.sent.push(node);
        } else if !self.refused.contains(&node) {
            self.refused.push(node);
        }
        taken
    }
}

fn topics(bytes: &[u8]) -> impl Iterator<Item = Topic> {
    bytes.as_chunks::<TOPIC_BYTES>().0.iter().map(|bytes| Topic::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
