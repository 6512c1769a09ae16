//! Behaviour of one machine, message by message. What many make of it together is in `tests/membership.rs`.

use super::*;
use crate::view::State;

const EPOCH: u32 = 7;

/// Node 1, which has 100 and 200 ms as its tick, and what it wants done.
struct Alone {
    machine: Membership,
    now: Millis,
}

fn address(node: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node))
}

fn who(node: u16, epoch: u32) -> Identity {
    Identity { node, epoch, shard: 0, addresses: vec![address(node)] }
}

fn alive(incarnation: u32, epoch: u32) -> Claim {
    Claim { incarnation, epoch, status: Status::Alive }
}

fn record(node: u16, claim: Claim) -> Record {
    Record { node, claim, addresses: vec![address(node)] }
}

impl Alone {
    fn new(seeds: &[u16]) -> Self {
        let seeds = seeds.iter().map(|node| address(*node)).collect();
        let config =
            MembershipConfig { me: who(1, EPOCH), seeds, heartbeat_ms: 200, node_timeout_ms: 1500 };
        Self { machine: Membership::new(config, 1_000, 3), now: 1_000 }
    }

    /// Linked with these, which all live.
    fn with(nodes: &[u16]) -> Self {
        let mut alone = Self::new(nodes);
        alone.run(100);
        for node in nodes {
            assert!(alone.machine.handle_linked(alone.now, address(*node), &who(*node, EPOCH)));
        }
        alone.outputs();
        alone
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    /// Lets time pass, with every deadline met; what comes of it.
    fn run(&mut self, ms: Millis) -> Vec<Output> {
        let end = self.now + ms;
        let mut outputs = Vec::new();
        while self.machine.poll_timeout() <= end {
            self.now = self.machine.poll_timeout().max(self.now);
            self.machine.handle_timeout(self.now);
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    fn say(&mut self, from: u16, claim: Claim, body: Body) -> Vec<Output> {
        let bytes = Message { claim, body }.write();
        assert_eq!(self.machine.handle_message(self.now, from, &bytes), Ok(()));
        self.outputs()
    }

    fn beat(&mut self, from: u16) -> Vec<Output> {
        self.say(from, alive(0, EPOCH), Body::Heartbeat(0))
    }

    fn fail(&mut self, node: u16, why: DialFailed) {
        self.machine.handle_dial_failed(self.now, address(node), why);
    }

    fn state(&mut self, node: u16) -> Option<State> {
        self.outputs();
        self.machine.view().member(node).map(|member| member.state)
    }
}

fn said(outputs: &[Output]) -> Vec<(u16, Body)> {
    let said = outputs.iter().filter_map(|output| match output {
        Output::Send { to, bytes } => {
            Some((*to, Message::read(bytes).expect("what we say can be read").body))
        }
        _ => None,
    });
    said.collect()
}

fn dials(outputs: &[Output], node: u16) -> usize {
    outputs.iter().filter(|output| **output == Output::Dial(address(node))).count()
}

#[test]
fn silence_is_suspect_after_half_the_timeout_and_dead_within_a_heartbeat_of_all_of_it() {
    let mut alone = Alone::with(&[2, 3]);
    alone.beat(2);
    let heard = alone.now;
    let mut seen = Vec::new();
    while alone.now < heard + 2_000 {
        alone.run(10);
        alone.beat(3);
        let state = alone.state(2).expect("known");
        if seen.last().is_none_or(|(_, last)| *last != state) {
            seen.push((alone.now - heard, state));
        }
    }
    let [(_, State::Alive), (suspect, State::Suspect), (dead, State::Dead)] = seen[..] else {
        panic!("{seen:?}")
    };
    assert!((750..=950).contains(&suspect), "suspect after {suspect} ms");
    assert!((1_500..=1_700).contains(&dead), "dead after {dead} ms");
    assert_eq!(alone.state(3), Some(State::Alive));
}

#[test]
fn others_are_asked_and_their_word_keeps_a_node_alive() {
    let mut alone = Alone::with(&[2, 3]);
    let mut asked = 0;
    for _ in 0..100 {
        let outputs = alone.run(100);
        alone.beat(3);
        for (to, body) in said(&outputs) {
            if let Body::Ask(runs) = body {
                assert_eq!((to, &runs[..]), (3, &[(2, EPOCH)][..]));
                alone.say(3, alive(0, EPOCH), Body::Vouch(vec![(2, EPOCH, 50)]));
                asked += 1;
            }
        }
    }
    assert!((40..50).contains(&asked), "each heartbeat: {asked}");
    assert_eq!(alone.state(2), Some(State::Alive));
    // Of another run they may say what they like.
    for _ in 0..20 {
        alone.run(100);
        alone.say(3, alive(0, EPOCH), Body::Vouch(vec![(2, EPOCH + 1, 0)]));
    }
    assert_eq!(alone.state(2), Some(State::Dead));
}

#[test]
fn we_vouch_for_whom_we_hear_ourselves_only() {
    let mut alone = Alone::with(&[2, 3]);
    alone.beat(3);
    alone.run(100);
    let ask = || Body::Ask(vec![(3, EPOCH), (9, EPOCH)]);
    let said_now = said(&alone.say(2, alive(0, EPOCH), ask()));
    assert_eq!(said_now, [(2, Body::Vouch(vec![(3, EPOCH, 100)]))]);
    alone.run(700);
    alone.say(2, alive(0, EPOCH), Body::Vouch(vec![(3, EPOCH, 0)]));
    assert_eq!(said(&alone.say(2, alive(0, EPOCH), ask())), [], "hearsay is not passed on");
}

#[test]
fn a_broken_link_and_nobody_listening_is_death_and_anything_less_is_not() {
    let cases = [
        (Some(Unlinked::Broken), DialFailed::ConnectionRefused, State::Dead),
        (Some(Unlinked::Broken), DialFailed::Unreachable, State::Suspect),
        (Some(Unlinked::Broken), DialFailed::Handshake, State::Suspect),
        (Some(Unlinked::Cut), DialFailed::ConnectionRefused, State::Alive),
        (None, DialFailed::ConnectionRefused, State::Alive),
    ];
    for (unlinked, failed, expect) in cases {
        let mut alone = Alone::with(&[2, 3]);
        alone.run(2_000 - 1_300);
        alone.beat(2);
        alone.beat(3);
        alone.run(10);
        if let Some(why) = unlinked {
            alone.machine.handle_unlinked(alone.now, 2, why);
        }
        let outputs = alone.outputs();
        assert!(dials(&outputs, 2) <= 1);
        alone.fail(2, failed);
        let outputs = alone.outputs();
        assert_eq!(alone.state(2), Some(expect), "{unlinked:?}, {failed:?}");
        let cut = outputs.contains(&Output::Cut { node: 2, epoch: EPOCH });
        let told = said(&outputs).iter().any(|(to, body)| {
            *to == 3 && *body == Body::Records(vec![record(2, alive(0, EPOCH).dead())])
        });
        assert_eq!((cut, told), (expect == State::Dead, expect == State::Dead));
    }
}

#[test]
fn a_rumour_of_the_death_of_whom_we_hear_is_told_to_whom_it_is_about() {
    let mut alone = Alone::with(&[2, 3]);
    alone.beat(3);
    let rumour = || Body::Records(vec![record(3, alive(0, EPOCH).dead())]);
    let outputs = alone.say(2, alive(0, EPOCH), rumour());
    assert_eq!(said(&outputs), [(3, rumour())]);
    assert_eq!(alone.state(3), Some(State::Alive));
    // It answers, and that settles it.
    alone.say(3, alive(1, EPOCH), Body::Records(vec![record(3, alive(1, EPOCH))]));
    assert_eq!(alone.machine.view().member(3).map(|member| member.incarnation), Some(1));
    assert_eq!(said(&alone.say(2, alive(0, EPOCH), rumour())), [], "old news");
    // Whom we do not hear we do not defend.
    alone.run(800);
    let rumour = Body::Records(vec![record(3, alive(1, EPOCH).dead())]);
    alone.say(2, alive(0, EPOCH), rumour);
    assert_eq!(alone.state(3), Some(State::Dead));
}

#[test]
fn a_rumour_of_our_own_death_is_contradicted_to_all_with_the_next_incarnation() {
    let mut alone = Alone::with(&[2, 3]);
    let rumour = Body::Records(vec![record(1, alive(4, 99).dead())]);
    let outputs = alone.say(2, alive(0, EPOCH), rumour);
    let refuted = Body::Records(vec![record(1, alive(5, EPOCH))]);
    assert_eq!(said(&outputs), [(2, refuted.clone()), (3, refuted)]);
    assert_eq!(alone.machine.counters().refuted, 1);
    assert_eq!(alone.state(1), Some(State::Alive));
}

#[test]
fn who_was_dead_lives_when_it_says_so_with_a_higher_incarnation() {
    let mut alone = Alone::with(&[2]);
    alone.run(3_000);
    assert_eq!(alone.state(2), Some(State::Dead));
    alone.beat(2);
    assert_eq!(alone.state(2), Some(State::Dead), "the same word is no news");
    assert!(alone.machine.handle_linked(alone.now, address(2), &who(2, EPOCH)));
    let told = said(&alone.outputs());
    let records = vec![record(1, alive(0, EPOCH)), record(2, alive(0, EPOCH).dead())];
    assert_eq!(told[0], (2, Body::Records(records)), "it is told at once what to contradict");
    alone.say(2, alive(1, EPOCH), Body::Heartbeat(0));
    assert_eq!(alone.state(2), Some(State::Alive));
}

#[test]
fn a_new_run_at_the_old_address_ends_the_old_one() {
    let mut alone = Alone::with(&[2]);
    alone.machine.handle_unlinked(alone.now, 2, Unlinked::Broken);
    assert!(alone.machine.handle_linked(alone.now, address(2), &who(2, 1)));
    let outputs = alone.outputs();
    assert!(outputs.contains(&Output::Cut { node: 2, epoch: EPOCH }), "links with the old run");
    assert_eq!(alone.state(2), Some(State::Dead));
    // The new run's number is lower; its incarnation is not.
    alone.say(2, alive(1, 1), Body::Records(vec![record(2, alive(1, 1))]));
    assert_eq!(
        alone.machine.view().member(2).map(|it| (it.epoch, it.state)),
        Some((1, State::Alive))
    );
    assert!(!alone.outputs().contains(&Output::Cut { node: 2, epoch: 1 }));
}

#[test]
fn one_link_is_enough() {
    let mut alone = Alone::with(&[2]);
    assert!(!alone.machine.handle_linked(alone.now, address(2), &who(2, EPOCH)));
    assert!(!alone.machine.handle_linked(alone.now, address(9), &who(1, EPOCH)), "with ourselves");
    assert_eq!(alone.machine.view().members.len(), 2);
}

#[test]
fn a_seed_is_dialled_for_ever_at_a_bounded_pace_and_after_a_refusal_more_slowly() {
    for (why, longest) in
        [(DialFailed::Unreachable, REDIAL_MS_MAX), (DialFailed::Handshake, REFUSED_MS_MAX)]
    {
        let mut alone = Alone::new(&[2]);
        let mut at = Vec::new();
        while alone.now < 200_000 {
            if 0 < dials(&alone.run(10), 2) {
                at.push(alone.now);
                alone.fail(2, why);
            }
        }
        let pauses: Vec<Millis> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] <= 2 * REDIAL_MS_MIN, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= longest + 10), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| longest * 3 / 4 <= *pause), "{pauses:?}");
    }
}

#[test]
fn a_link_that_never_holds_is_not_dialled_hot() {
    let mut alone = Alone::with(&[2]);
    let mut count = 0;
    for _ in 0..1_000 {
        alone.machine.handle_unlinked(alone.now, 2, Unlinked::Broken);
        count += dials(&alone.run(10), 2);
        alone.machine.handle_linked(alone.now, address(2), &who(2, EPOCH));
        alone.beat(2);
    }
    assert!(count < 15, "{count} dials in ten seconds");
}

#[test]
fn our_own_sleep_is_nobodys_silence() {
    let mut alone = Alone::with(&[2]);
    alone.run(300);
    alone.beat(2);
    alone.now += 3_600_000;
    alone.machine.handle_timeout(alone.now);
    assert_eq!(alone.state(2), Some(State::Alive));
    alone.beat(2);
    alone.run(1_400);
    assert_ne!(alone.state(2), Some(State::Dead));
    alone.run(310);
    assert_eq!(alone.state(2), Some(State::Dead), "awake again, silence counts");
}

#[test]
fn the_dead_are_forgotten_in_time_and_at_last_to_make_room() {
    let mut alone = Alone::with(&[2, 3]);
    while alone.now < DEAD_KEPT_MS {
        alone.run(500);
        alone.beat(3);
    }
    assert_eq!(alone.state(2), Some(State::Dead));
    while alone.now < DEAD_KEPT_MS + 5_000 {
        alone.run(500);
        alone.beat(3);
    }
    assert_eq!(alone.state(2), None);
    // More than there is room for, none of whom can be reached.
    for first in (10..600).step_by(RECORDS_MAX) {
        let records = (first..first + RECORDS_MAX as u16).map(|it| record(it, alive(0, 1)));
        alone.say(3, alive(0, EPOCH), Body::Records(records.collect()));
    }
    assert_eq!(alone.machine.view().members.len(), MEMBERS_MAX);
    assert!(0 < alone.machine.counters().left_out);
    for _ in 0..20 {
        alone.run(100);
        alone.beat(3);
    }
    assert_eq!(alone.state(100), Some(State::Dead));
    alone.say(3, alive(0, EPOCH), Body::Records(vec![record(999, alive(0, 1))]));
    assert_eq!(alone.state(999), Some(State::Alive), "the dead make room for the living");
    assert_eq!(alone.machine.view().members.len(), MEMBERS_MAX);
}

#[test]
fn what_waits_to_be_polled_is_bounded() {
    let mut alone = Alone::with(&[2, 3]);
    let want = Message { claim: alive(0, EPOCH), body: Body::Want(vec![1, 2, 3]) }.write();
    for _ in 0..2 * OUTPUTS_MAX {
        assert_eq!(alone.machine.handle_message(alone.now, 2, &want), Ok(()));
    }
    assert!(alone.machine.backlog() <= OUTPUTS_MAX);
    assert!(0 < alone.machine.counters().dropped);
    alone.outputs();
    assert_eq!(alone.machine.backlog(), 0);
}

#[test]
fn what_is_no_message_is_refused_and_counted() {
    let mut alone = Alone::with(&[2]);
    let beat = Message { claim: alive(0, EPOCH), body: Body::Heartbeat(1) }.write();
    let mut long = beat.clone();
    long.push(0);
    let nowhere = Record { addresses: Vec::new(), ..record(5, alive(0, 1)) };
    let nowhere = Message { claim: alive(0, EPOCH), body: Body::Records(vec![nowhere]) }.write();
    let many = vec![1; MEMBERS_MAX + 1];
    let many = Message { claim: alive(0, EPOCH), body: Body::Want(many) }.write();
    for bytes in [&b""[..], &beat[..beat.len() - 1], &long, &nowhere, &many, b"hello"] {
        assert_eq!(alone.machine.handle_message(alone.now, 2, bytes), Err(Malformed));
    }
    assert_eq!(alone.machine.counters().malformed, 6);
}

#[test]
fn a_rival_that_answers_every_claim_sends_us_into_exile_for_a_while() {
    let mut alone = Alone::with(&[2, 3]);
    let mut incarnation = 0;
    for round in 1..=CLAIMS_MAX {
        incarnation += 1;
        let rival = Body::Records(vec![record(1, alive(incarnation, 99))]);
        let outputs = alone.say(2, alive(0, EPOCH), rival);
        incarnation += 1;
        let is_last = round == CLAIMS_MAX;
        assert_eq!(said(&outputs).is_empty(), is_last, "round {round}");
        assert_eq!(outputs.contains(&Output::Cut { node: 2, epoch: EPOCH }), is_last);
    }
    assert_eq!(alone.machine.counters().same_number, 1);
    assert_eq!(alone.machine.view().members.len(), 1);
    assert_eq!(dials(&alone.run(EXILE_MS - 1_000), 2), 0);
    assert_eq!(dials(&alone.run(2_000), 2), 1, "it tries again");
}

#[test]
fn who_says_goodbye_says_it_to_all_and_then_nothing_more() {
    let mut alone = Alone::with(&[2, 3]);
    alone.machine.leave(alone.now);
    let leaving = Claim { status: Status::Leaving, ..alive(0, EPOCH) };
    let outputs = alone.outputs();
    let records = Body::Records(vec![record(1, leaving)]);
    assert_eq!(said(&outputs), [(2, records.clone()), (3, records)]);
    assert_eq!(alone.state(1), Some(State::Leaving));
    alone.machine.goodbye(alone.now);
    assert_eq!(said(&alone.outputs()).len(), 2);
    alone.beat(2);
    assert_eq!(alone.run(10_000), []);
    assert!(!alone.machine.handle_linked(alone.now, address(2), &who(2, EPOCH)));
}
