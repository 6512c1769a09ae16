use super::*;
use crate::mail::Mailroom;
use std::sync::mpsc;
use std::thread;

#[test]
fn a_turn_waits_no_longer_than_told() {
    let Some(mut io) = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")) else {
        return;
    };
    let mut out = Vec::new();
    io.turn(None, &mut out);
    let before = io.now();
    io.turn(Some(30), &mut out);
    assert_eq!(out, []);
    assert!(30 <= io.now() - before + 1, "{} ms", io.now() - before);
    assert!(1_700_000_000_000 < io.unix_ms());
}

#[test]
fn a_turn_that_does_not_wait_still_runs_deferred_work() {
    let Some((io, addr)) = listening(config()) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    echo.turn(None);
    let mut client = connect(addr);
    client.write_all(b"ping").expect("room");
    let mut got = Vec::new();
    for _ in 0..1_000_000 {
        echo.turn(None);
        read_some(&mut client, &mut got);
        if got == b"ping" {
            return;
        }
    }
    panic!("{:?}", echo.io.stats());
}

#[test]
fn any_thread_can_wake_a_ring_that_sleeps() {
    let bells = Bells::new(1).expect("an eventfd");
    let Some(mut io) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    for _ in 0..20 {
        let bells = bells.clone();
        let ringer = thread::spawn(move || bells.ring(0));
        let out = completions_until(&mut io, |done| *done == Completion::Bell);
        assert_eq!(out, [Completion::Bell]);
        ringer.join().expect("ringer");
    }
}

#[test]
fn a_bell_rung_before_the_ring_stands_is_heard() {
    let bells = Bells::new(2).expect("an eventfd");
    let Some(mut early) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    early.ring_bell(1);
    bells.ring(1);
    early.ring_bell(9); // nobody there
    early.turn(None, &mut Vec::new());
    let Some(mut late) = ring(config(), Vec::new(), 1, bells) else { return };
    let out = completions_until(&mut late, |done| *done == Completion::Bell);
    assert_eq!(out, [Completion::Bell]);
    assert_eq!(early.stats().bells_failed, 2);
}

#[test]
fn a_bell_rung_in_the_last_turn_is_heard() {
    let bells = Bells::new(2).expect("an eventfd");
    let Some(mut staying) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    let leaving = thread::spawn(move || {
        if let Some(mut leaving) = ring(config(), Vec::new(), 1, bells) {
            leaving.ring_bell(0);
        }
    });
    let out = completions_until(&mut staying, |done| *done == Completion::Bell);
    assert_eq!(out, [Completion::Bell]);
    leaving.join().expect("shard 1");
}

#[test]
fn a_bell_for_a_shard_that_ended_does_no_harm() {
    let bells = Bells::new(2).expect("an eventfd");
    let Some(mut io) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    thread::spawn(move || drop(ring(config(), Vec::new(), 1, bells))).join().expect("shard 1");
    io.ring_bell(1);
    let mut out = Vec::new();
    io.turn(Some(10), &mut out);
    assert_eq!(out, []);
}

#[test]
fn one_shard_number_has_one_ring() {
    let bells = Bells::new(1).expect("an eventfd");
    let Some(_first) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    assert!(Uring::new(&config(), Vec::new(), 0, bells.clone()).is_err());
    assert!(Uring::new(&config(), Vec::new(), 1, bells).is_err());
}

/// Two shards throw a letter to and fro, each asleep until rung; a foreign thread joins in. If a wake-up were
/// lost, a turn would time out and the count come up short.
#[test]
fn two_rings_in_two_threads_wake_each_other() {
    const ROUNDS: u32 = 2_000;
    const FOREIGN: u32 = 500;
    let bells = Bells::new(2).expect("an eventfd");
    if ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")).is_none() {
        return;
    }
    let foreign_bells = bells.clone();
    let mut room: Mailroom<Option<u32>> = Mailroom::new(2, move |shard| foreign_bells.ring(shard));
    let foreign = room.foreign(1).expect("shard 1");
    let (ready, wait) = mpsc::channel();
    let shards: Vec<_> = (0..2u16)
        .map(|shard| {
            let (mut post, mut inbox) = room.take(shard).expect("ends");
            let (bells, ready) = (bells.clone(), ready.clone());
            thread::spawn(move || {
                let mut io = ring(config(), Vec::new(), shard, bells).expect("a ring");
                ready.send(()).expect("main waits");
                let (mut balls, mut others) = (0, 0);
                if shard == 0 {
                    assert!(post.send(1, Some(0)).is_ok());
                    io.ring_bell(1);
                }
                let other = 1 - shard;
                let mut out = Vec::new();
                while balls < ROUNDS || (shard == 1 && others < FOREIGN) {
                    let wait = inbox.park().then_some(20_000);
                    let before = io.now();
                    io.turn(wait, &mut out);
                    inbox.unpark();
                    let slept = io.now() - before;
                    assert!(slept < 15_000, "shard {shard} overslept at {balls}/{others}");
                    out.clear();
                    inbox.drain(100, |letter| match letter {
                        Some(number) => {
                            balls += 1;
                            let last = number == 2 * ROUNDS - 1;
                            if !last && post.send(other, Some(number + 1)).expect("room") {
                                io.ring_bell(other);
                            }
                        }
                        None => others += 1,
                    });
                }
                io.turn(None, &mut out); // the last bell leaves with a turn
                io.stats()
            })
        })
        .collect();
    (0..2).for_each(|_| wait.recv().expect("both stand"));
    for _ in 0..FOREIGN {
        while foreign.send(None).is_err() {
            assert!(!shards[1].is_finished(), "shard 1 is gone");
            thread::yield_now();
        }
        thread::yield_now();
    }
    for shard in shards {
        let stats = shard.join().expect("shard");
        println!("{stats:?}");
    }
}
