//! Members under seeded faults: what must be true of their views, and how fast.
//!
//! A seed that fails is printed; `SEED=n cargo test -p erlmcp-cluster --test membership` runs it alone, and `SEEDS=n`
//! runs so many instead of the default.

mod world;

use erlmcp_cluster::Millis;
use world::{Power, World, script};

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
    under_seeds(1_000, |seed| {
        let mut world = World::new(seed, 0);
        let count = 3 + world.dice.index(1 + seed as usize % 14);
        world = World::new(seed, count);
        world.boot_all();
        script::torment(&mut world, 6_000);
        let on = script::calm(&mut world);
        let took = world.run_until(CONVERGED_MS, |world| world.agree(&on));
        if took.is_none() {
            world.expect_agreement(&on, "not converged");
        }
        longest.set(took.unwrap_or_default().max(longest.get()));
        // And it stays so.
        world.run_for(1_000);
        world.expect_agreement(&on, "converged, but not for long");
    });
    println!("longest: {} ms", longest.get());
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
        let pause = world.dice.below(1_000);
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
