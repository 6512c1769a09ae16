use std::collections::BTreeMap;

use super::*;

/// A small generator, so that a failure is reproduced from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Runs the wheel beside a sorted map: the same reminders, none early, none later than one tick.
#[track_caller]
fn check_against_oracle(seed: u64, steps: usize, budget: usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut now: Millis = dice.roll(10_000_000);
    let mut wheel = Wheel::new(now);
    let mut oracle: BTreeMap<u64, Millis> = BTreeMap::new();
    let mut key = 0u64;
    for step in 0..steps {
        for _ in 0..dice.roll(6) {
            let ahead = match dice.roll(6) {
                0 => 0,
                1 => dice.roll(TICK_MS * 3),
                2 => dice.roll(1_000),
                3 => dice.roll(80_000),
                4 => dice.roll(10_000_000),
                _ => dice.roll(400),
            };
            let at = if dice.roll(10) == 0 { now.saturating_sub(ahead) } else { now + ahead };
            wheel.insert(at, key);
            oracle.insert(key, at);
            key += 1;
        }
        now += match dice.roll(8) {
            0 => dice.roll(100_000),
            1 => dice.roll(5_000),
            2 => wheel.next_deadline().map_or(0, |deadline| deadline.saturating_sub(now)),
            _ => dice.roll(20),
        };
        let mut ticks = Vec::new();
        loop {
            let fired = wheel.expire(now, budget, &mut |at, key| {
                assert_eq!(oracle.remove(&key), Some(at), "seed {seed} step {step}: unknown {key}");
                assert!(at <= now, "seed {seed} step {step}: {key} fired {} ms early", at - now);
                ticks.push(at);
            });
            assert!(fired <= budget, "seed {seed} step {step}: budget overrun");
            let overdue = wheel.next_deadline().is_some_and(|deadline| deadline <= now);
            if !overdue {
                break;
            }
        }
        assert_eq!(wheel.len(), oracle.len(), "seed {seed} step {step}");
        let earliest = oracle.values().min();
        assert!(
            earliest.is_none_or(|at| now < at.next_multiple_of(TICK_MS)),
            "seed {seed} step {step}: {earliest:?} did not fire at {now}"
        );
        match (wheel.next_deadline(), earliest) {
            (None, None) => {}
            (Some(deadline), Some(at)) => assert!(
                deadline <= at.next_multiple_of(TICK_MS),
                "seed {seed} step {step}: would sleep until {deadline}, past {at}"
            ),
            other => panic!("seed {seed} step {step}: {other:?}"),
        }
    }
}

#[test]
fn fires_what_a_sorted_map_would_fire() {
    for seed in 0..60 {
        check_against_oracle(seed, 400, usize::MAX);
    }
}

#[test]
fn a_small_budget_only_spreads_the_work_over_calls() {
    for seed in 100..160 {
        check_against_oracle(seed, 200, 1 + seed as usize % 5);
    }
}

#[track_caller]
fn check_fires_at(at: Millis) {
    let mut wheel = Wheel::new(0);
    wheel.insert(at, ());
    let mut fired: Vec<Millis> = Vec::new();
    let due = at.next_multiple_of(TICK_MS);
    if 0 < due {
        wheel.expire(due - 1, 1_000, &mut |at, ()| fired.push(at));
        assert!(fired.is_empty(), "{at} fired before its tick");
    }
    wheel.expire(due, 1_000, &mut |at, ()| fired.push(at));
    assert_eq!(fired, [at]);
    assert!(wheel.is_empty());
    assert_eq!(wheel.next_deadline(), None);
}

#[test]
fn every_level_boundary_holds_from_both_sides() {
    for level in 0..LEVELS - 1 {
        let span = TICK_MS << (level * LEVEL_BITS);
        for at in [span - 1, span, span + 1, span * 63, span * 64 - 1, span * 64] {
            check_fires_at(at);
        }
    }
}

#[test]
fn never_is_a_deadline_like_any_other() {
    let mut wheel = Wheel::new(5);
    wheel.insert(Millis::MAX, 1);
    wheel.insert(9, 2);
    let mut fired: Vec<Millis> = Vec::new();
    wheel.expire(1 << 40, 1_000, &mut |_, key| fired.push(key));
    assert_eq!(fired, [2]);
    assert_eq!(wheel.len(), 1);
}

#[test]
fn a_reminder_set_for_the_past_fires_at_the_next_call() {
    let mut wheel = Wheel::new(0);
    wheel.expire(10_000, 10, &mut |_, ()| unreachable!());
    wheel.insert(3, ());
    assert!(wheel.next_deadline().is_some_and(|deadline| deadline <= 10_000));
    assert_eq!(wheel.expire(10_000, 10, &mut |_, ()| {}), 1);
}

#[test]
fn a_steady_state_does_not_grow() {
    let mut wheel = Wheel::new(0);
    for now in 0..50_000 {
        wheel.insert(now + 75, now);
        wheel.expire(now, 100, &mut |_, _| {});
    }
    let most = wheel.nodes.capacity();
    for now in 50_000..200_000 {
        wheel.insert(now + 75, now);
        wheel.expire(now, 100, &mut |_, _| {});
    }
    assert_eq!(wheel.nodes.capacity(), most);
    assert!(wheel.len() < 100, "{}", wheel.len());
}
