//! Members under seeded faults: what must be true of their views, and how fast.
//!
//! A seed that fails is printed; `SEED=n cargo test -p erlmcp-cluster --test membership` runs it alone, and `SEEDS=n`
//! runs so many instead of the default.

use std::cell::RefCell;
use std::rc::Rc;

use erlmcp_cluster::Millis;
use erlmcp_cluster::view::{State, View};
use erlmcp_cluster::world::{self, Guest, Power, World, script};

/// After the last fault: a dial that hangs in its handshake, the longest pause before the next, and then notes are
/// compared. See `cluster/README.md`.
const CONVERGED_MS: Millis = 9_000;

/// Runs `scenario` under seeds from 0 on and says which one failed.
fn under_seeds(count: u64, scenario: impl Fn(u64)) {
    struct Running(u64);
    impl Drop for Running {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {0}: reproduce with SEED={0}", self.0);
            }
        }
    }
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SEEDS").unwrap_or(count)),
    };
    for seed in first..first + count {
        let _running = Running(seed);
        scenario(seed);
    }
}

#[test]
fn views_converge_after_the_last_fault() {
    let longest = std::cell::Cell::new(0);
    under_seeds(2_000, |seed| {
        let mut world = World::new(seed, 0);
        let count = 3 + world.dice.index(1 + seed as usize % 14);
        world = World::new(seed, count);
        world.boot_all();
        script::torment(&mut world, 6_000);
        let on = script::calm(&mut world);
        let took = converge(&mut world, &on);
        longest.set(took.max(longest.get()));
    });
    println!("longest: {} ms", longest.get());
}

/// How long it takes until these agree and go on agreeing; within the bound.
#[track_caller]
fn converge(world: &mut World, slots: &[usize]) -> Millis {
    let start = world.now;
    loop {
        let left = CONVERGED_MS.saturating_sub(world.now - start);
        if world.run_until(left, |world| world.agree(slots)).is_none() {
            world.expect_agreement(slots, "not converged");
        }
        let took = world.now - start;
        // What was done to a node a moment ago may only show a little later.
        if (0..15).all(|_| {
            world.run_for(100);
            world.agree(slots)
        }) {
            return took;
        }
    }
}

#[test]
fn a_dead_process_is_known_within_a_fifth_of_a_second() {
    check_detection(Power::ProcessGone, 200);
}

#[test]
fn a_silent_host_is_known_within_two_seconds() {
    check_detection(Power::HostGone, 2_000);
}

#[track_caller]
fn check_detection(how: Power, within: Millis) {
    under_seeds(150, |seed| {
        let count = 2 + seed as usize % 15;
        let mut world = World::new(seed, count);
        world.boot_all();
        let all = world.running();
        let formed = world.run_until(5_000, |world| world.agree(&all));
        assert!(formed.is_some(), "{:?}", world.disagreement(0, &all));
        let pause = 300 + world.dice.below(1_000);
        world.run_for(pause);
        let slot = world.dice.index(count);
        world.power_off(slot, how);
        let rest = world.running();
        let took = world.run_until(within, |world| world.agree(&rest));
        if took.is_none() {
            world.expect_agreement(&rest, "not known in time");
        }
    });
}

#[test]
fn nobody_is_given_up_while_every_call_is_late() {
    // As on a host whose cores are all busy: each turn of each loop comes up to 450 ms after its time, for a minute.
    under_seeds(28, |seed| {
        let count = 3 + seed as usize % 14;
        let mut world = World::new(seed, count);
        world.nodes.iter_mut().for_each(|node| node.late_ms = 450);
        world.boot_all();
        let all = world.running();
        assert!(world.run_until(10_000, |world| world.agree(&all)).is_some());
        world.run_for(60_000);
        assert_eq!(world.deaths_seen, Default::default(), "nobody died");
    });
}

#[test]
fn a_stop_short_of_the_timeout_is_forgiven_and_a_longer_one_healed() {
    under_seeds(60, |seed| {
        for (ms, is_given_up) in [(1_200, false), (5_000, true)] {
            let mut world = World::new(seed, 4);
            world.boot_all();
            world.run_for(3_000);
            let slot = world.dice.index(4);
            world.stop(slot, ms);
            world.run_for(ms);
            assert_eq!(!world.deaths_seen.is_empty(), is_given_up, "stopped for {ms} ms");
            let epoch = world.nodes[slot].epoch;
            let took = converge(&mut world, &[0, 1, 2, 3]);
            assert!(took < 1_000, "back after {took} ms");
            assert_eq!(world.nodes[slot].epoch, epoch, "the same run");
            let by_others = |(viewer, _, _): &(usize, u16, u32)| *viewer != slot;
            let seen = world.deaths_seen.keys().filter(|death| by_others(death)).count();
            assert_eq!(seen, if is_given_up { 3 } else { 0 });
            assert_eq!(world.deaths_seen.len(), seen, "who was stopped gives nobody up");
        }
    });
}

#[test]
fn clocks_that_jump_give_nobody_up() {
    under_seeds(100, |seed| {
        let mut world = World::new(seed, 4);
        world.boot_all();
        world.run_for(3_000);
        for _ in 0..20 {
            let slot = world.dice.index(4);
            let jump = world.dice.below(10_000_000);
            let node = &mut world.nodes[slot];
            let back = node.clock_start.saturating_sub(jump);
            node.clock_start = if jump.is_multiple_of(2) { node.clock_start + jump } else { back };
            world.run_for(500);
        }
        world.expect_agreement(&[0, 1, 2, 3], "after the jumps");
        assert_eq!(world.deaths_seen, Default::default());
    });
}

#[test]
fn each_side_of_a_partition_agrees_and_so_do_all_when_it_heals() {
    under_seeds(100, |seed| {
        let count = 4 + seed as usize % 6;
        let mut world = World::new(seed, count);
        world.boot_all();
        world.run_for(4_000);
        let all = world.running();
        let (left, right) = all.split_at(1 + world.dice.index(count - 1));
        world.partition(left);
        for side in [left, right] {
            let took = converge(&mut world, side);
            assert!(took < 2_000, "{side:?} took {took} ms");
        }
        let pause = world.dice.below(20_000);
        world.run_for(pause);
        world.heal();
        converge(&mut world, &all);
    });
}

#[test]
fn who_is_heard_by_some_is_dead_to_nobody() {
    // A wire is cut between two nodes that others reach both.
    under_seeds(60, |seed| {
        let count = 3 + seed as usize % 8;
        let mut world = World::new(seed, count);
        world.boot_all();
        world.run_for(4_000);
        let (a, b) = (0, 1 + world.dice.index(count - 1));
        world.cut_wire(a, b);
        world.run_for(20_000);
        assert_eq!(world.deaths_seen, Default::default());
        let all = world.running();
        world.expect_agreement(&all, "all the same");
    });
}

#[test]
fn boot_order_does_not_matter_and_one_peer_suffices() {
    under_seeds(100, |seed| {
        let count = 3 + seed as usize % 10;
        let mut world = World::new(seed, count);
        // A line: each knows one other, whoever boots first. The first knows itself, as does who copied the list.
        for slot in 0..count {
            let peer = world.dice.index(slot);
            world.nodes[slot].seeds = vec![world::address(peer)];
        }
        let mut order: Vec<usize> = (0..count).collect();
        while !order.is_empty() {
            let slot = order.swap_remove(world.dice.index(order.len()));
            world.boot(slot);
            let pause = world.dice.below(3_000);
            world.run_for(pause);
        }
        let all = world.running();
        let took = converge(&mut world, &all);
        assert!(took < 4_000, "formed {took} ms after the last boot");
    });
}

#[test]
fn who_leaves_is_seen_leaving_then_dead_and_comes_back_in_a_new_run() {
    under_seeds(60, |seed| {
        let mut world = World::new(seed, 4);
        world.boot_all();
        world.run_for(3_000);
        let slot = world.dice.index(4);
        let others: Vec<usize> = (0..4).filter(|other| *other != slot).collect();
        let number = world.nodes[slot].number;
        let all_see = |world: &World, state: State| {
            let sees = |other: &usize| {
                world.view(*other).and_then(|view| view.member(number)).map(|it| it.state)
            };
            others.iter().all(|other| sees(other) == Some(state))
        };
        world.command(slot, |machine, clock| machine.leave(clock));
        assert!(world.run_until(100, |world| all_see(world, State::Leaving)).is_some());
        world.run_for(5_000);
        assert!(all_see(&world, State::Leaving), "for as long as it takes");
        world.command(slot, |machine, clock| machine.goodbye(clock));
        assert!(world.run_until(100, |world| all_see(world, State::Dead)).is_some());
        world.power_off(slot, Power::ProcessGone);
        world.run_for(3_000);
        assert!(all_see(&world, State::Dead));
        world.boot(slot);
        let took = converge(&mut world, &[0, 1, 2, 3]);
        assert!(took < 3_000, "back after {took} ms");
    });
}

#[test]
fn a_second_node_with_a_number_stays_outside_while_the_first_lives() {
    under_seeds(100, |seed| {
        let mut world = World::new(seed, 5);
        (0..4).for_each(|slot| world.boot(slot));
        world.run_for(3_000);
        let twin = world.dice.index(4);
        world.nodes[4].number = world.nodes[twin].number;
        world.boot(4);
        world.run_for(20_000);
        world.expect_agreement(&[0, 1, 2, 3], "undisturbed");
        assert_eq!(world.deaths_seen, Default::default());
        assert_eq!(world.view(4).map(|view| view.members.len()), Some(1), "alone");
        // The first one dies: now the number is free.
        world.power_off(twin, Power::ProcessGone);
        let others: Vec<usize> = (0..5).filter(|slot| *slot != twin).collect();
        world.run_for(20_000);
        world.expect_agreement(&others, "the second one is in");
    });
}

#[test]
fn of_two_that_meet_with_one_number_one_keeps_quiet() {
    // Booted at once: nobody is there yet to refuse the second.
    under_seeds(200, |seed| {
        let mut world = World::new(seed, 5);
        world.nodes[4].number = world.nodes[3].number;
        world.nodes[4].seeds.reverse();
        world.boot_all();
        world.run_for(15_000);
        let rest = [[0, 1, 2, 3], [0, 1, 2, 4]];
        assert!(rest.iter().any(|slots| world.agree(slots)), "one of them is a member");
    });
}

/// Says one thing to each node that it gets a link to, and keeps what it is told.
struct Greeter {
    heard: Rc<RefCell<Vec<(u16, u16)>>>,
    me: u16,
    outbox: Vec<(u16, Vec<u8>)>,
}

impl Guest for Greeter {
    fn handle_view(&mut self, _: Millis, view: &View) {
        assert_eq!(view.me, self.me);
    }

    fn handle_link(&mut self, _: Millis, node: u16, is_up: bool) {
        if is_up {
            self.outbox.push((node, b"hello".to_vec()));
        }
    }

    fn handle_letter(&mut self, _: Millis, from: u16, bytes: &[u8]) {
        assert_eq!(bytes, b"hello");
        self.heard.borrow_mut().push((from, self.me));
    }

    fn handle_turn(&mut self, _: Millis) {}

    fn poll(&mut self) -> Option<(u16, Vec<u8>)> {
        self.outbox.pop()
    }
}

#[test]
fn guests_hear_each_letter_once_while_nothing_goes_wrong() {
    under_seeds(20, |seed| {
        let mut world = World::new(seed, 5);
        let heard = Rc::new(RefCell::new(Vec::new()));
        let ledger = heard.clone();
        world.guests = Some(Box::new(move |who| {
            let (heard, me) = (ledger.clone(), who.node);
            Box::new(Greeter { heard, me, outbox: Vec::new() })
        }));
        world.boot_all();
        world.run_for(5_000);
        let mut heard = heard.take();
        heard.sort_unstable();
        let all = (1..=5).flat_map(|from| (1..=5).map(move |to| (from, to)));
        let expect: Vec<_> = all.filter(|(from, to)| from != to).collect();
        assert_eq!(heard, expect);
    });
}
