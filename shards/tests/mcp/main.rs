//! MCP conversations over the real loop and the real engine, two shards of them, on a simulated kernel: the
//! same conversations under thousands of seeds. Pieces of any size, receives that end, completions that
//! stall or come late, sends cut short, connections that die, shards that drain. Whatever happens: a request
//! that got through whole is answered once, with its own id; what is heard is right and heard once; and when
//! all clients have gone nothing is left of them.
//!
//! `SEED=n` runs that seed alone, `SEEDS=n` so many of each test.

mod http;
mod jobs;
mod ledger;
mod listen;
mod modern;
mod pipe;
mod say;
mod session;
mod sse;
mod streams;
mod talk;
mod world;

use std::ops::Range;

use erlmcp_shards::io::sim::{ChunkLen, Faults};

use listen::Listener;
use modern::Modern;
use pipe::{Kind, Pipe};
use session::Session;
use sse::Sse;
use talk::Talk;
use world::{Dice, World};

fn seeds(count: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count_given) => 0..count_given.unwrap_or(count),
    }
}

/// A client of any kind.
fn any(world: &World, number: usize, dice: &mut Dice) -> Box<dyn Talk> {
    of_kind(dice.below(KINDS), world, number, dice)
}

/// Kinds of clients; sessions count twice.
const KINDS: usize = 7;

fn of_kind(kind: usize, world: &World, number: usize, dice: &mut Dice) -> Box<dyn Talk> {
    match kind {
        0 => Box::new(Modern::new(dice)),
        1 | 2 => Box::new(Session::new(number, dice)),
        3 => Box::new(Pipe::new(Kind::Lines, world, number, dice)),
        4 => Box::new(Pipe::new(Kind::WebSocket, world, number, dice)),
        5 => Box::new(Listener::new(world, number, dice)),
        _ => Box::new(Sse::new(world, dice)),
    }
}

/// Goes on with everybody.
fn go_on(talks: &mut [Box<dyn Talk>], world: &World, dice: &mut Dice) {
    talks.iter_mut().for_each(|talk| talk.go_on(world, dice));
}

/// Until everybody has heard what they must.
#[track_caller]
fn finish(talks: &mut [Box<dyn Talk>], world: &mut World, dice: &mut Dice) {
    for _ in 0..10_000 {
        go_on(talks, world, dice);
        if talks.iter().all(|talk| talk.is_over()) {
            return;
        }
        world.turn();
    }
    let waiting = talks.iter().filter(|talk| !talk.is_over());
    let missing: Vec<_> = waiting.map(|talk| talk.ledger().missing()).collect();
    panic!("somebody waits for ever: {missing:#?}, {:#?}", world.held());
}

/// Everybody leaves; nothing is left of them.
#[track_caller]
fn depart(mut talks: Vec<Box<dyn Talk>>, world: &mut World, dice: &mut Dice) {
    talks.iter_mut().for_each(|talk| talk.leave(dice));
    world.assert_clean();
}

/// Nothing that a correct server hides from its clients may be seen by them.
#[test]
fn in_a_rough_world_everything_is_answered_and_heard_exactly_once() {
    for seed in seeds(700) {
        let faults = if seed % 4 == 0 { Faults::none() } else { Faults::rough() };
        let mut world = World::new(seed, faults);
        let mut dice = Dice::new(seed);
        let mut talks: Vec<_> =
            (0..1 + dice.below(4)).map(|number| any(&world, number, &mut dice)).collect();
        finish(&mut talks, &mut world, &mut dice);
        world.turns(30);
        go_on(&mut talks, &world, &mut dice);
        for talk in &talks {
            assert!(
                talk.is_complete(),
                "{:#?} {:?}",
                talk.ledger().missing(),
                talk.ledger().notices
            );
        }
        depart(talks, &mut world, &mut dice);
    }
}

/// A client of every kind, in a world where everything comes a byte at a time.
#[test]
fn byte_by_byte_everything_is_answered_just_as_well() {
    for seed in seeds(7) {
        let mut world = World::new(seed, Faults { chunk: ChunkLen::Fixed(1), ..Faults::none() });
        let mut dice = Dice::new(seed);
        let mut talks = vec![of_kind(seed as usize % KINDS, &world, 0, &mut dice)];
        finish(&mut talks, &mut world, &mut dice);
        assert!(talks[0].is_complete(), "{:#?}", talks[0].ledger().missing());
        depart(talks, &mut world, &mut dice);
    }
}

/// Connections die and clients leave in the middle; who is still there is served as if nothing happened.
#[test]
fn in_a_wild_world_whoever_lives_is_served_and_nothing_is_left_of_the_others() {
    let mut resets = 0;
    for seed in seeds(700) {
        let mut world = World::new(seed, Faults::wild());
        let mut dice = Dice::new(seed);
        let mut talks: Vec<Box<dyn Talk>> = Vec::new();
        for round in 0..120 {
            if round < 60 && dice.below(12) == 0 {
                talks.push(any(&world, round, &mut dice));
            }
            go_on(&mut talks, &world, &mut dice);
            if !talks.is_empty() && dice.below(60) == 0 {
                let index = dice.below(talks.len());
                let mut gone = talks.swap_remove(index);
                gone.leave(&mut dice);
            }
            world.turns(1 + dice.below(3));
        }
        world.net.set_faults(Faults::rough());
        finish(&mut talks, &mut world, &mut dice);
        resets += world.net.tally().resets;
        depart(talks, &mut world, &mut dice);
    }
    assert!(resets != 0 || std::env::var("SEED").is_ok(), "the world was too kind");
}

/// The shards drain while everybody talks, one after the other: what runs is answered, everything ends long
/// before the deadline, and nothing is left.
#[test]
fn in_the_middle_of_a_drain_what_runs_is_answered_and_all_is_over_before_the_deadline() {
    for seed in seeds(700) {
        let faults = if seed % 4 == 0 { Faults::none() } else { Faults::rough() };
        let mut world = World::new(seed, faults);
        let mut dice = Dice::new(seed);
        let mut talks: Vec<_> =
            (0..1 + dice.below(4)).map(|number| any(&world, number, &mut dice)).collect();
        for _ in 0..dice.below(150) {
            go_on(&mut talks, &world, &mut dice);
            world.turn();
        }
        let running: Vec<Vec<String>> = talks.iter().map(|talk| talk.running()).collect();
        talks.iter_mut().for_each(|talk| talk.wind_down());
        let first = dice.shard();
        world.drain(first, DRAIN_MS);
        for _ in 0..dice.below(40) {
            go_on(&mut talks, &world, &mut dice);
            world.turn();
        }
        world.drain(1 - first, DRAIN_MS);
        let until = world.net.now() + DRAIN_MS - 1_000;
        while !world.is_over() {
            go_on(&mut talks, &world, &mut dice);
            world.turn();
            assert!(
                world.net.now() < until,
                "{} connections, {:?}",
                world.occupied(),
                world.held()
            );
        }
        go_on(&mut talks, &world, &mut dice);
        for (talk, running) in talks.iter().zip(running) {
            for id in running {
                let ledger = talk.ledger();
                let is_answered = ledger.is_answered(&id) || ledger.is_excused(&id);
                assert!(is_answered, "{id} ran and was not answered");
            }
        }
    }
}

/// What a drain may take at most, milliseconds.
const DRAIN_MS: u64 = 30_000;
