//! Owners, keepers and directories of a few nodes, over links that lose, refuse and come back, from seeds: when all
//! is well again, every session has its copies where they belong, as they should be, and nothing else is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use erlmcp_cluster::copies::{Copies, CopyLimits, Verdict};
use erlmcp_cluster::directory::{Directory, Told};
use erlmcp_cluster::letter::route::Token;
use erlmcp_cluster::letter::session::{EventRecord, Record};
use erlmcp_cluster::replicas::{Replicas, Say, Standing};
use erlmcp_cluster::view::{Member, State, View};
use erlmcp_cluster::{SessionName, Spot};

const ROOM: CopyLimits = CopyLimits { copies_max: 1000, bytes_max: 1 << 20, tail_bytes_max: 2000 };
const MESSAGE: &[u8] = b"{\"jsonrpc\":\"2.0\"}";

/// What travels, as the engine would make letters of it.
enum Letter {
    Say(Say, Option<(Token, u32)>),
    Event { name: SessionName, term: u32, rev: u32, seq: u32 },
    Kept(SessionName, u32),
    NotKept(SessionName, u32),
    Missing(SessionName),
}

struct Shard {
    replicas: Replicas,
    copies: Copies,
    directory: Directory,
}

#[derive(Default)]
struct Link {
    is_up: bool,
    is_full: bool,
    under_way: VecDeque<(Spot, Letter)>,
}

struct World {
    random: u64,
    replicas: usize,
    shards: BTreeMap<Spot, Shard>,
    /// From a shard to a node.
    links: BTreeMap<(Spot, u16), Link>,
    alive: BTreeSet<u16>,
    sizes: BTreeMap<u16, u16>,
    epochs: BTreeMap<u16, u32>,
    sessions: HashMap<SessionName, (Spot, u32)>,
    /// Revisions that all keepers are thought to have: a client was answered.
    promised: HashMap<SessionName, u32>,
    names: u32,
    version: u64,
    /// Acknowledgements and complaints that wait for room, as a keeper must keep them.
    owed: BTreeMap<(Spot, Spot), Vec<Letter>>,
    /// Of eight new copies, so many find no room.
    refused: usize,
    /// Milliseconds.
    now: u64,
    /// What visits may cost in each of them.
    units: usize,
}

fn record(token: Token, term: u32, rev: u32) -> Record<'static> {
    Record {
        token,
        term,
        rev,
        version: "2025-11-25",
        capabilities: 0,
        log_level: "info",
        next_request: 1,
        idle_ms: 0,
        subscriptions: vec!["a://b"],
        last_stream: 0,
        streams: Vec::new(),
    }
}

impl World {
    fn new(seed: u64, nodes: u16, replicas: usize) -> Self {
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            replicas,
            shards: BTreeMap::new(),
            links: BTreeMap::new(),
            alive: (1..=nodes).collect(),
            sizes: BTreeMap::new(),
            epochs: BTreeMap::new(),
            sessions: HashMap::new(),
            promised: HashMap::new(),
            names: 0,
            version: 0,
            owed: BTreeMap::new(),
            refused: 2,
            now: 0,
            // So few sessions are walked over in one turn, or in many.
            units: [usize::MAX, 1, 7][seed as usize % 3],
        };
        for node in 1..=nodes {
            let size = world.below(3) as u16 + 1;
            world.sizes.insert(node, size);
            world.epochs.insert(node, 0);
        }
        (1..=nodes).for_each(|node| world.boot(node));
        world.show_view();
        world
    }

    fn below(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) as usize % below.max(1)
    }

    fn boot(&mut self, node: u16) {
        *self.epochs.entry(node).or_default() += 1;
        self.alive.insert(node);
        let view = Arc::new(self.view(node));
        for shard in 0..self.sizes[&node] {
            let spot = Spot { node, shard };
            let (copies, directory) = (Copies::new(ROOM), Directory::new(1000));
            let replicas = Replicas::new(self.replicas, view.clone()).paced(self.units);
            self.shards.insert(spot, Shard { replicas, copies, directory });
            for peer in self.sizes.keys().filter(|peer| **peer != node) {
                self.links.insert((spot, *peer), Link::default());
            }
        }
    }

    fn view(&self, me: u16) -> View {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let member = |(node, size): (&u16, &u16)| Member {
            node: *node,
            epoch: self.epochs[node],
            incarnation: 0,
            state: if self.alive.contains(node) { State::Alive } else { State::Dead },
            addresses: vec![nowhere; usize::from(*size)],
        };
        View { me, version: self.version, members: self.sizes.iter().map(member).collect() }
    }

    fn show_view(&mut self) {
        self.version += 1;
        for node in self.alive.clone() {
            let view = Arc::new(self.view(node));
            for shard in 0..self.sizes[&node] {
                let shard = self.shards.get_mut(&Spot { node, shard }).expect("booted");
                shard.replicas.handle_view(&view);
                // Adoption is the engine's business: here an orphan is let go.
                for name in shard.copies.orphans(&view) {
                    shard.copies.take(&name);
                }
                shard.directory.forget(|known| view.home(known.owner.node, known.epoch).is_none());
            }
        }
    }

    /// Posts a letter over a link; whether it left.
    fn post(links: &mut BTreeMap<(Spot, u16), Link>, from: Spot, to: Spot, letter: Letter) -> bool {
        let link = links.get_mut(&(from, to.node)).filter(|link| link.is_up && !link.is_full);
        let Some(link) = link else { return false };
        link.under_way.push_back((to, letter));
        true
    }

    /// Lets a shard say what it has to say.
    fn speak(&mut self, from: Spot) {
        for ((keeper, owner), letters) in &mut self.owed {
            if *keeper == from {
                letters.reverse();
                while let Some(letter) = letters.pop() {
                    let is_free = self
                        .links
                        .get(&(from, owner.node))
                        .is_some_and(|link| link.is_up && !link.is_full);
                    if !is_free {
                        letters.push(letter);
                        break;
                    }
                    Self::post(&mut self.links, from, *owner, letter);
                }
                letters.reverse();
            }
        }
        self.now += 1;
        let shard = self.shards.get_mut(&from).expect("booted");
        shard.replicas.handle_time(self.now);
        shard.replicas.visit();
        while let Some(say) = shard.replicas.poll() {
            let what = match say {
                Say::Copy { name, term, .. } => Some((self.sessions[&name].0, term)),
                _ => None,
            };
            let what = what.map(|(at, term)| (token(at, &say), term));
            if !Self::post(&mut self.links, from, say.to(), Letter::Say(say, what)) {
                shard.replicas.refused(say);
            }
        }
    }

    /// Delivers the first letter of a link.
    fn deliver(&mut self, from: Spot, node: u16) -> bool {
        let link = self.links.get_mut(&(from, node)).expect("made at boot");
        let Some((to, letter)) = link.under_way.pop_front() else { return false };
        let epoch = self.epochs[&from.node];
        let is_full = self.below(8) < self.refused;
        let Some(shard) = self.shards.get_mut(&to).filter(|_| self.alive.contains(&node)) else {
            return true;
        };
        let mut answer = None;
        let verdict = |name: SessionName, rev, verdict| match verdict {
            Verdict::Kept => Some(Letter::Kept(name, rev)),
            Verdict::Missing => Some(Letter::Missing(name)),
            Verdict::Old | Verdict::Full => None,
        };
        match letter {
            Letter::Say(Say::Begin { round, .. }, _) => {
                shard.copies.begin(from, round);
                shard.directory.begin(from, round);
            }
            Letter::Say(Say::End { round, .. }, _) => {
                shard.copies.end(from, epoch, round);
                shard.directory.end(from, epoch, round);
            }
            Letter::Say(Say::Copy { name, rev, .. }, Some((token, term))) => {
                if is_full && shard.copies.get(&name).is_none() {
                    self.owed.entry((to, from)).or_default().push(Letter::NotKept(name, rev));
                    return true;
                }
                let kept = shard.copies.keep(from, epoch, &record(token, term, rev));
                answer = verdict(name, rev, kept);
            }
            Letter::Say(Say::Copy { .. }, None) => unreachable!("posted with its record"),
            Letter::Say(Say::Moved { token, term, .. }, _) => {
                assert_ne!(shard.directory.moved(token, term, from, epoch), Told::Full);
            }
            Letter::Say(Say::Drop { name, term, .. }, _) => {
                shard.copies.drop_copy(from, &name, term);
            }
            Letter::Say(Say::Ended { name, term, .. }, _) => {
                shard.copies.outdated(&name, (term, from.node));
                shard.directory.outdated(&name, (term, from.node));
            }
            Letter::Event { name, term, rev, seq } => {
                let event = EventRecord { seq, message: MESSAGE };
                let appended = shard.copies.append(from, &name, term, rev, 0, true, event);
                answer = verdict(name, rev, appended);
            }
            Letter::Kept(name, rev) => shard.replicas.handle_kept(from.node, &name, rev),
            Letter::NotKept(name, rev) => {
                shard.replicas.handle_not_kept(from.node, &name, rev);
            }
            Letter::Missing(name) => shard.replicas.handle_missing(from.node, &name),
        }
        if let Some(answer) = answer {
            self.owed.entry((to, from)).or_default().push(answer);
        }
        true
    }

    /// A link breaks: what is under way is lost, and both nodes hear of it.
    fn lose(&mut self, from: Spot, node: u16) {
        let link = self.links.get_mut(&(from, node)).expect("made at boot");
        link.under_way.clear();
        if std::mem::take(&mut link.is_up) {
            for (spot, shard) in &mut self.shards {
                if spot.node == node {
                    shard.replicas.handle_lost(from.node);
                } else if spot.node == from.node {
                    shard.replicas.handle_lost(node);
                }
            }
        }
    }

    fn raise(&mut self, from: Spot, node: u16) {
        let is_possible = self.alive.contains(&from.node) && self.alive.contains(&node);
        let link = self.links.get_mut(&(from, node)).expect("made at boot");
        if is_possible && !std::mem::replace(&mut link.is_up, true) {
            link.is_full = false;
            self.shards.get_mut(&from).expect("booted").replicas.handle_up(node);
        }
    }

    /// The latest revision that a copy has.
    fn copied(&self, name: &SessionName) -> u32 {
        let copies = self.shards.values().filter_map(|shard| shard.copies.get(name));
        copies.map(|copy| copy.rev()).max().unwrap_or_default()
    }

    /// What may be answered now is on its keepers, and stays there.
    fn promise(&mut self, seed: u64) {
        for (name, (at, _)) in &self.sessions {
            let replicas = &self.shards[at].replicas;
            let rev = replicas.rev(name).expect("known to its owner");
            let is_safe = replicas.standing(name, rev) == Standing::Safe;
            if is_safe && !replicas.keepers(name).is_empty() {
                self.promised.insert(*name, rev);
            }
            let promised = self.promised.get(name).copied().unwrap_or_default();
            let copied = self.copied(name);
            assert!(promised <= copied, "seed {seed}: {promised} of {name:?}, {copied} there");
        }
    }

    fn kill(&mut self, node: u16) {
        self.alive.remove(&node);
        let touched = self.links.keys().filter(|(from, to)| from.node == node || *to == node);
        for (from, to) in touched.copied().collect::<Vec<_>>() {
            self.lose(from, to);
        }
        self.shards.retain(|spot, _| spot.node != node);
        self.owed.retain(|(keeper, owner), _| keeper.node != node && owner.node != node);
        self.sessions.retain(|_, (at, _)| at.node != node);
        // Of a session that has lost a keeper a second loss at once may cost more.
        let left: Vec<(SessionName, u32)> = self
            .promised
            .iter()
            .map(|(name, rev)| (*name, (*rev).min(self.copied(name))))
            .collect();
        self.promised = left.into_iter().collect();
        self.show_view();
    }

    fn step(&mut self) {
        let spots: Vec<Spot> = self.shards.keys().copied().collect();
        let spot = spots[self.below(spots.len())];
        let links: Vec<(Spot, u16)> = self.links.keys().copied().collect();
        let (from, node) = links[self.below(links.len())];
        let mine: Vec<SessionName> = self
            .sessions
            .iter()
            .filter(|(_, (at, _))| *at == spot)
            .map(|(name, _)| *name)
            .collect();
        let picked = mine.get(self.below(mine.len())).copied();
        match (self.below(100), picked) {
            (0..20, _) => {
                self.names += 1;
                let mut name = [0; 16];
                name[4..8].copy_from_slice(&self.names.to_be_bytes());
                name[..4].copy_from_slice(&(self.names.wrapping_mul(2_654_435_761)).to_be_bytes());
                let term = self.below(3) as u32;
                self.sessions.insert(name, (spot, term));
                let token = Token { at: spot, epoch: 0, slot: 0, generation: 0, name };
                self.shards.get_mut(&spot).expect("booted").replicas.insert(token, term);
            }
            (20..30, Some(name)) => {
                self.shards.get_mut(&spot).expect("booted").replicas.changed(&name);
            }
            (30..45, Some(name)) => {
                let links = &mut self.links;
                let replicas = &mut self.shards.get_mut(&spot).expect("booted").replicas;
                replicas.appended(&name, |to, term, rev| {
                    Self::post(links, spot, to, Letter::Event { name, term, rev, seq: rev })
                });
            }
            (45..52, Some(name)) => {
                self.sessions.remove(&name);
                self.shards.get_mut(&spot).expect("booted").replicas.remove(&name);
            }
            (52..75, _) => self.speak(spot),
            (75..88, _) => drop((0..5).all(|_| self.deliver(from, node))),
            (88..91, _) => self.lose(from, node),
            (91..97, _) => self.raise(from, node),
            (97, _) => self.links.get_mut(&(from, node)).expect("made").is_full = true,
            (98, _) if self.alive.len() > 2 => self.kill(spot.node),
            (99, _) => {
                let dead = self.sizes.keys().copied().find(|node| !self.alive.contains(node));
                if let Some(node) = dead {
                    self.boot(node);
                    self.show_view();
                }
            }
            _ => {}
        }
    }

    /// Everything comes up, and everything is said. With `anew` all links are made anew, so that everything is said
    /// again.
    fn settle(&mut self, anew: bool) {
        let links: Vec<(Spot, u16)> = self.links.keys().copied().collect();
        let links: Vec<(Spot, u16)> =
            links.into_iter().filter(|(from, _)| self.shards.contains_key(from)).collect();
        for (from, node) in &links {
            if anew {
                self.lose(*from, *node);
            }
            self.raise(*from, *node);
            let link = self.links.get_mut(&(*from, *node)).expect("made at boot");
            link.is_full = false;
            self.shards.get_mut(from).expect("booted").replicas.handle_drained(*node);
        }
        let mut looks = 0;
        self.refused = 0;
        for _ in 0..3000 {
            let spots: Vec<Spot> = self.shards.keys().copied().collect();
            spots.into_iter().for_each(|spot| self.speak(spot));
            let mut moved = false;
            for (from, node) in &links {
                while self.deliver(*from, *node) {
                    moved = true;
                }
            }
            // What was refused is said again after the second look.
            if !moved && self.shards.values().all(|shard| !shard.replicas.is_walking()) {
                looks += 1;
                for shard in self.shards.values_mut() {
                    shard.replicas.handle_timeout();
                }
            }
            if 3 < looks {
                self.refused = 2;
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check(&mut self, seed: u64) {
        let mut expected: BTreeMap<Spot, BTreeSet<SessionName>> = BTreeMap::new();
        for (name, (at, term)) in &self.sessions {
            let view = self.view(at.node);
            let replicas = &self.shards[at].replicas;
            let rev = replicas.rev(name).expect("known to its owner");
            let standing = replicas.standing(name, rev);
            assert_eq!(standing, Standing::Safe, "seed {seed}: {name:?}");
            let successors = view.successors(name, at.node);
            let keepers = replicas.keepers(name);
            assert_eq!(keepers.len(), self.replicas.min(successors.len()), "seed {seed}");
            for keeper in keepers {
                let keeper = view.member(keeper).expect("a member");
                let spot = Spot { node: keeper.node, shard: keeper.shard_of(name) };
                let copy = self.shards[&spot].copies.get(name);
                let copy = copy.unwrap_or_else(|| panic!("seed {seed}: no copy at {spot:?}"));
                let record = copy.record().expect("readable");
                assert_eq!((record.token.name, copy.term()), (*name, *term), "seed {seed}");
                expected.entry(spot).or_default().insert(*name);
            }
            for member in view.peers() {
                let spot = Spot { node: member.node, shard: member.shard_of(name) };
                let whose = self.shards[&spot].directory.whose(name);
                let whose = whose.map(|known| (known.owner, known.term));
                let told = (0 < *term).then_some((*at, *term));
                assert_eq!(whose, told, "seed {seed}: directory of {spot:?}");
            }
        }
        for (spot, shard) in &self.shards {
            let count = expected.get(spot).map_or(0, BTreeSet::len);
            assert_eq!(shard.copies.len(), count, "seed {seed}: stale copies at {spot:?}");
            assert_eq!(shard.copies.bytes() == 0, count == 0, "seed {seed}");
            assert_eq!(shard.replicas.waiting(), 0, "seed {seed}");
        }
        for (spot, shard) in &mut self.shards {
            assert_eq!(shard.replicas.behind_since(), None, "seed {seed}: {spot:?} lags behind");
        }
        let entries: usize = self.shards.values().map(|shard| shard.directory.len()).sum();
        let moved = self.sessions.values().filter(|(_, term)| 0 < *term).count();
        assert_eq!(entries, moved * (self.alive.len() - 1), "seed {seed}: stale entries");
    }
}

/// What the id of a session says in this world.
fn token(at: Spot, say: &Say) -> Token {
    let Say::Copy { name, .. } = say else { unreachable!("asked of copies only") };
    Token { at, epoch: 0, slot: 0, generation: 0, name: *name }
}

#[test]
fn when_all_is_well_again_every_session_has_its_copies_and_nothing_else_is_kept() {
    for seed in 1..=600 {
        let (nodes, replicas) = (2 + (seed % 4) as u16, (seed % 3) as usize);
        let mut world = World::new(seed, nodes, replicas);
        for round in 0..4 {
            for step in 0..150 {
                world.step();
                if step % 5 == 0 {
                    world.promise(seed);
                }
            }
            if round % 2 == 1 {
                world.settle(seed % 4 == 0);
                world.check(seed);
            }
        }
    }
}

#[test]
fn the_oldest_change_that_is_not_kept_says_how_long() {
    let member = |node| {
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], node))];
        Member { node, epoch: 0, incarnation: 0, state: State::Alive, addresses }
    };
    let view = Arc::new(View { me: 1, version: 1, members: vec![member(1), member(2)] });
    let mut replicas = Replicas::new(1, view);
    let names = [[1; 16], [2; 16]];
    for (name, at) in names.iter().zip([10, 20]) {
        replicas.handle_time(at);
        let home = Spot { node: 1, shard: 0 };
        replicas.insert(Token { at: home, epoch: 0, slot: 0, generation: 0, name: *name }, 0);
    }
    replicas.handle_time(30);
    replicas.handle_up(2);
    assert_eq!(replicas.behind_since(), Some(10));
    assert!(!replicas.visit());
    while replicas.poll().is_some() {}
    assert_eq!(replicas.behind_since(), Some(10));
    replicas.handle_time(40);
    replicas.changed(&names[0]);
    assert_eq!(replicas.behind_since(), Some(10), "it has been behind since");
    while replicas.poll().is_some() {}
    replicas.handle_kept(2, &names[0], 1);
    assert_eq!(replicas.behind_since(), Some(10), "not the last revision");
    replicas.handle_kept(2, &names[0], 2);
    assert_eq!(replicas.behind_since(), Some(20));
    // Said, and not kept at the first look: it may be on its way. At the second it is said again.
    let look = |replicas: &mut Replicas| {
        replicas.handle_timeout();
        assert!(!replicas.visit());
        replicas.is_doubtful()
    };
    assert!(look(&mut replicas) && replicas.poll().is_none());
    assert!(look(&mut replicas));
    assert!(matches!(replicas.poll(), Some(Say::Copy { name, rev: 1, .. }) if name == names[1]));
    assert_eq!(replicas.repeats(), 1);
    replicas.handle_kept(2, &names[1], 1);
    assert_eq!(replicas.behind_since(), None);
    assert!(!look(&mut replicas) && replicas.poll().is_none());
    // Whatever changes how often, the list stays short.
    for round in 3..10_000 {
        replicas.handle_time(round);
        replicas.changed(&names[0]);
        while replicas.poll().is_some() {}
        replicas.handle_kept(2, &names[0], round as u32);
    }
    assert_eq!(replicas.behind_since(), None);
}
