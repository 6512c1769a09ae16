use std::collections::BTreeSet;

use super::*;

const LATER: Millis = LATE_MS + 1;

/// One shard that wants, and the relays of one peer; letters between them can be lost.
struct Pair {
    wanted: Wanted,
    relays: Vec<Relay>,
    now: Millis,
    /// Every how many letters one vanishes, and which; 0: none.
    lose: usize,
    letters: usize,
    /// The link takes this many letters more.
    room: usize,
    /// What reached the peer's peer, by URI.
    told: Vec<String>,
}

const ME: Spot = Spot { node: 1, shard: 0 };
const RELAYS: u16 = 3;

impl Pair {
    fn new() -> Self {
        let relays = (0..RELAYS).map(|_| Relay::default()).collect();
        let mut wanted = Wanted::default();
        wanted.handle_peer(2, RELAYS);
        let (told, room) = (Vec::new(), usize::MAX);
        Self { wanted, relays, now: 0, lose: 0, letters: 0, room, told }
    }

    fn subscribe(&mut self, uri: &str) {
        self.wanted.want(topic(uri));
        self.flush();
    }

    fn unsubscribe(&mut self, uri: &str) {
        self.wanted.forget(topic(uri));
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(say) = self.wanted.poll() {
            self.letters += 1;
            if self.room == 0 {
                self.wanted.handle_refused(say.to);
                continue;
            }
            self.room -= 1;
            if self.lose > 0 && self.letters.is_multiple_of(self.lose) {
                continue;
            }
            let told = &mut self.told;
            let post = |_: u16, change: Change<'_>| note(told, uri(change));
            let relay = &mut self.relays[usize::from(say.to.shard)];
            if let Some(heard) = relay.handle_wants(self.now, ME, say.wants(), post) {
                self.wanted.handle_heard(say.to, heard);
            }
        }
    }

    /// Seconds pass.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.now += CONFIRM_MS;
            self.wanted.handle_timeout();
            self.flush();
        }
    }

    fn publish(&mut self, name: &str) {
        let change = Change::Resource(name);
        let told = &mut self.told;
        let relay = &mut self.relays[usize::from(relay_of(change, RELAYS))];
        relay.publish(self.now, change, [1].into_iter(), |node, change| {
            assert_eq!(node, 1);
            told.push(uri(change));
            true
        });
    }

    fn known(&self) -> usize {
        self.relays.iter().map(Relay::wants).sum()
    }
}

/// Writes down what was taken.
fn note<T>(list: &mut Vec<T>, item: T) -> bool {
    list.push(item);
    true
}

fn uri(change: Change<'_>) -> String {
    match change {
        Change::Resource(uri) => uri.to_owned(),
        list => format!("{list:?}"),
    }
}

#[test]
fn only_who_wants_it_is_told() {
    let mut pair = Pair::new();
    pair.subscribe("a://x");
    pair.publish("a://x");
    pair.publish("a://y");
    assert_eq!(pair.told, ["a://x"]);
    pair.unsubscribe("a://x");
    pair.now += LATER;
    pair.publish("a://x");
    assert_eq!(pair.told.len(), 1);
    assert_eq!(pair.known(), 0);
}

#[test]
fn everybody_is_told_of_lists() {
    let mut relay = Relay::default();
    let mut told = Vec::new();
    relay.publish(0, Change::Tools, [1, 2].into_iter(), |node, _| note(&mut told, node));
    assert_eq!(told, [1, 2]);
}

#[test]
fn a_subscription_on_its_way_misses_nothing_and_hears_nothing_twice() {
    let mut pair = Pair::new();
    pair.wanted.want(topic("a://x"));
    pair.publish("a://x");
    assert!(pair.told.is_empty());
    pair.now += LATE_MS;
    pair.flush();
    assert_eq!(pair.told, ["a://x"]);
    // Said again from the beginning, it is no news.
    pair.wanted.handle_peer(2, RELAYS);
    pair.flush();
    assert_eq!(pair.told.len(), 1);
}

#[test]
fn what_is_long_past_is_no_news() {
    let mut pair = Pair::new();
    pair.publish("a://x");
    pair.now += LATER;
    pair.subscribe("a://x");
    assert!(pair.told.is_empty());
}

#[test]
fn what_found_no_room_is_sent_when_there_is_some() {
    let mut relay = Relay::default();
    let peers = || [1, 2].into_iter();
    relay.publish(0, Change::Tools, peers(), |node, _| node == 1);
    relay.publish(1, Change::Prompts, peers(), |node, _| node == 1);
    let mut told = Vec::new();
    relay.handle_room(REFUSED_MS, 1, |node, change| note(&mut told, (node, uri(change))));
    assert!(told.is_empty(), "nothing twice");
    relay.handle_room(REFUSED_MS, 2, |node, change| note(&mut told, (node, uri(change))));
    assert_eq!(told, [(2, "Tools".to_owned()), (2, "Prompts".to_owned())]);
    relay.handle_room(REFUSED_MS, 2, |_, _| panic!("nothing twice"));
    assert_eq!(relay.take_lost(), 0);
}

#[test]
fn what_waits_too_long_for_room_is_lost_and_counted() {
    let mut relay = Relay::default();
    relay.publish(0, Change::Tools, [1, 2].into_iter(), |_, _| false);
    relay.handle_room(REFUSED_MS + 1, 1, |_, _| panic!("it is too late"));
    assert_eq!((relay.take_lost(), relay.take_lost()), (2, 0));
    for _ in 0..REMEMBERED_MAX + 1 {
        relay.publish(0, Change::Tools, [1].into_iter(), |_, _| false);
    }
    assert_eq!((relay.remembered(), relay.take_lost()), (REMEMBERED_MAX, 1));
}

#[test]
fn lost_letters_are_noticed_and_all_is_said_again() {
    for lose in 2..7 {
        let mut pair = Pair::new();
        pair.flush();
        pair.lose = lose;
        for number in 0..200 {
            pair.subscribe(&format!("a://{number}"));
        }
        for number in 0..100 {
            pair.unsubscribe(&format!("a://{number}"));
        }
        pair.lose = 0;
        pair.settle();
        assert!(pair.wanted.is_confirmed(), "every {lose}th is lost");
        assert_eq!(pair.known(), 100, "every {lose}th is lost");
        let letters = pair.letters;
        pair.settle();
        assert!(pair.wanted.is_confirmed() && pair.letters <= letters + 60, "it comes to rest");
    }
}

#[test]
fn a_letter_without_room_is_made_up_for() {
    let mut pair = Pair::new();
    pair.flush();
    pair.room = 3;
    for number in 0..50 {
        pair.subscribe(&format!("a://{number}"));
    }
    assert!(pair.known() < 50 && !pair.wanted.is_confirmed());
    pair.room = usize::MAX;
    pair.settle();
    assert!(pair.wanted.is_confirmed());
    assert_eq!(pair.known(), 50);
}

#[test]
fn a_relay_that_has_forgotten_is_told_everything() {
    let mut pair = Pair::new();
    for number in 0..50 {
        pair.subscribe(&format!("a://{number}"));
    }
    pair.settle();
    pair.relays.iter_mut().for_each(|relay| *relay = Relay::default());
    // It learns of its ignorance from the next letter.
    for number in 50..60 {
        pair.subscribe(&format!("a://{number}"));
    }
    pair.settle();
    assert_eq!(pair.known(), 60);
}

#[test]
fn many_topics_go_in_many_letters_and_too_many_go_unnamed() {
    let mut pair = Pair::new();
    let count = LETTER_TOPICS_MAX * usize::from(RELAYS) * 2;
    let mut other = Wanted::default();
    let uris: Vec<String> = (0..=TOPICS_MAX).map(|number| format!("a://{number}")).collect();
    for uri in &uris[..count] {
        pair.wanted.want(topic(uri));
        other.want(topic(uri));
    }
    pair.flush();
    assert_eq!(pair.known(), count);
    for uri in &uris[count..TOPICS_MAX] {
        pair.wanted.want(topic(uri));
    }
    pair.flush();
    assert_eq!(pair.known(), TOPICS_MAX);
    pair.publish("b://of no interest");
    assert!(pair.told.is_empty());
    pair.now += LATER;
    pair.subscribe(&uris[TOPICS_MAX]);
    assert_eq!(pair.known(), 0);
    pair.publish("b://of no interest");
    pair.publish(&uris[TOPICS_MAX]);
    assert_eq!(pair.told.len(), 2, "who wants so much gets everything");
    // Named again only at the half, so that nobody can make us say it all again and again.
    for uri in &uris[TOPICS_MAX / 2 + 1..] {
        pair.unsubscribe(uri);
        assert_eq!(pair.known(), 0);
    }
    pair.unsubscribe(&uris[0]);
    assert_eq!(pair.known(), TOPICS_MAX / 2);
}

#[test]
fn a_shard_that_names_more_than_it_should_costs_no_more() {
    let mut relay = Relay::default();
    fn wants(number: u32, begins: bool, more: &[u8]) -> Wants<'_> {
        Wants { number, begins, ends: begins, everything: false, more, less: &[] }
    }
    relay.handle_wants(0, ME, wants(1, true, &[]), |_, _| true);
    for number in 0..=TOPICS_MAX as u64 {
        let bytes = number.to_le_bytes();
        relay.handle_wants(0, ME, wants(2 + number as u32, false, &bytes), |_, _| true);
    }
    assert_eq!(relay.wants(), TOPICS_MAX);
    assert!(relay.cares(ME.node, u64::MAX), "what was not kept is everything");
    relay.handle_wants(0, ME, wants(0, true, &[]), |_, _| true);
    assert_eq!(relay.wants(), 0);
    assert!(!relay.cares(ME.node, u64::MAX));
}

#[test]
fn nothing_is_left_of_a_dead_node() {
    let mut pair = Pair::new();
    for number in 0..50 {
        pair.subscribe(&format!("a://{number}"));
    }
    for relay in &mut pair.relays {
        relay.handle_dead(ME.node);
        assert_eq!((relay.wants(), relay.sources.len()), (0, 0));
    }
    pair.wanted.handle_dead(2);
    assert!(pair.wanted.is_confirmed());
    pair.subscribe("a://x");
    assert_eq!(pair.wanted.poll(), None);
}

#[test]
fn half_a_topic_in_a_letter_is_no_topic() {
    let mut relay = Relay::default();
    let more = [7; 12];
    let wants =
        Wants { number: 1, begins: true, ends: true, everything: false, more: &more, less: &[1] };
    relay.handle_wants(0, ME, wants, |_, _| true);
    assert_eq!(relay.wants(), 1);
}

/// Whatever is subscribed, lost and refused in between: in the end the relays know exactly what is wanted.
#[test]
fn any_history_ends_in_agreement() {
    for seed in 1..=50_u64 {
        let mut random = seed;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut pair, mut oracle) = (Pair::new(), BTreeSet::new());
        for _ in 0..500 {
            let name = format!("a://{}", draw(40));
            match draw(10) {
                0..=3 if oracle.insert(name.clone()) => pair.subscribe(&name),
                4..=6 if oracle.remove(&name) => pair.unsubscribe(&name),
                7 => pair.lose = draw(5) as usize,
                8 => pair.room = if draw(2) == 0 { usize::MAX } else { draw(4) as usize },
                9 if draw(5) == 0 => pair.settle(),
                _ => pair.wanted.handle_peer(2, RELAYS),
            }
        }
        (pair.lose, pair.room) = (0, usize::MAX);
        pair.settle();
        assert!(pair.wanted.is_confirmed(), "seed {seed}");
        assert_eq!(pair.known(), oracle.len(), "seed {seed}");
        let cares = |uri: &String| pair.relays.iter().any(|relay| relay.cares(1, topic(uri)));
        assert!(oracle.iter().all(cares), "seed {seed}");
    }
}
