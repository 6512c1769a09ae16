//! Walks within their budget, keepers that refuse, and what is known of sessions meanwhile.

use std::net::SocketAddr;

use super::*;
use crate::view::{Member, State};

const HOME: Spot = Spot { node: 1, shard: 0 };

/// Nodes 1 to `nodes`; this is node 1. Those in `gone` are dead.
fn view(nodes: u16, gone: &[u16]) -> Arc<View> {
    let member = |node| Member {
        node,
        epoch: 1,
        incarnation: 0,
        state: if gone.contains(&node) { State::Dead } else { State::Alive },
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], node))],
    };
    Arc::new(View { me: 1, version: 1, members: (1..=nodes).map(member).collect() })
}

fn name(number: u32) -> SessionName {
    let mut name = [0; 16];
    name[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    name[4..8].copy_from_slice(&number.to_be_bytes());
    name
}

fn open(replicas: &mut Replicas, number: u32) {
    let token = Token { at: HOME, epoch: 1, slot: 0, generation: 0, name: name(number) };
    replicas.insert(token, 0);
}

/// Everything said is kept. Returns how many copies were said.
fn settle(replicas: &mut Replicas) -> usize {
    let mut copies = 0;
    while let Some(say) = replicas.poll() {
        if let Say::Copy { to, name, rev, .. } = say {
            replicas.handle_kept(to.node, &name, rev);
            copies += 1;
        }
    }
    copies
}

/// Node 1 of so many with so many sessions, all of them kept.
fn settled(nodes: u16, sessions: u32, copies: usize, units_per_ms: usize) -> Replicas {
    let mut replicas = Replicas::new(copies, view(nodes, &[])).paced(units_per_ms);
    replicas.handle_time(1);
    (2..=nodes).for_each(|node| replicas.handle_up(node));
    (0..sessions).for_each(|number| open(&mut replicas, number));
    walk(&mut replicas, 1);
    settle(&mut replicas);
    assert_eq!(replicas.behind_since(), None);
    replicas
}

/// Walks to the end; returns how many milliseconds it took.
fn walk(replicas: &mut Replicas, from: Millis) -> Millis {
    for ms in 1.. {
        replicas.handle_time(from + ms);
        if !replicas.visit() {
            return ms;
        }
    }
    unreachable!("a walk ends");
}

fn kept_by(replicas: &Replicas, sessions: u32, node: u16) -> usize {
    (0..sessions).filter(|number| replicas.keepers(&name(*number)).contains(&node)).count()
}

/// The successors of a session, best first.
fn successors(nodes: u16, gone: &[u16], number: u32) -> Vec<u16> {
    let view = view(nodes, gone);
    view.successors(&name(number), 1).iter().map(|member| member.node).collect()
}

#[track_caller]
fn standing(replicas: &Replicas, number: u32) -> Standing {
    let rev = replicas.rev(&name(number)).expect("it is ours");
    replicas.standing(&name(number), rev)
}

/// Who is asked next to keep this session; and it refuses.
fn refuse(replicas: &mut Replicas, number: u32) -> Option<u16> {
    while let Some(say) = replicas.poll() {
        if let Say::Copy { to, name: said, rev, .. } = say
            && said == name(number)
        {
            replicas.handle_not_kept(to.node, &said, rev);
            return Some(to.node);
        }
    }
    None
}

fn look(replicas: &mut Replicas, now: Millis) -> bool {
    replicas.handle_timeout();
    walk(replicas, now);
    replicas.is_doubtful()
}

#[test]
fn a_walk_takes_as_many_milliseconds_as_its_budget_says() {
    // Somebody came: a visit (3) and three others to weigh, for each session.
    for (sessions, ms) in [(100, 1), (101, 2), (200, 2), (1000, 10)] {
        let mut replicas = settled(3, sessions, 1, 600);
        replicas.handle_view(&view(4, &[]));
        assert_eq!(walk(&mut replicas, 5_000), ms, "{sessions} sessions");
        for number in 0..sessions {
            assert_eq!(replicas.keepers(&name(number)), successors(4, &[], number)[..1]);
        }
    }
}

#[test]
fn who_goes_costs_only_those_sessions_that_it_kept() {
    let sessions = 1000;
    let mut replicas = settled(4, sessions, 1, 400);
    let kept = kept_by(&replicas, sessions, 3);
    replicas.handle_view(&view(4, &[3]));
    let units = 3 * sessions as usize + 2 * kept;
    let ms = walk(&mut replicas, 5_000) as usize;
    assert!((units / 405..=units / 400 + 1).contains(&ms), "{ms} ms for {units}");
    assert_eq!(settle(&mut replicas), kept);
    assert_eq!(kept_by(&replicas, sessions, 3), 0);
}

#[test]
fn nothing_more_is_visited_in_the_same_millisecond() {
    let mut replicas = settled(4, 1000, 1, 100);
    replicas.handle_view(&view(4, &[3]));
    replicas.handle_time(5_000);
    assert!(replicas.visit());
    let left = kept_by(&replicas, 1000, 3);
    replicas.handle_view(&view(4, &[]));
    replicas.handle_view(&view(4, &[3]));
    replicas.handle_time(5_000);
    assert!(replicas.visit());
    assert_eq!(kept_by(&replicas, 1000, 3), left);
    replicas.handle_time(5_001);
    assert!(replicas.visit());
    assert!(kept_by(&replicas, 1000, 3) < left);
}

#[test]
fn a_session_that_changes_before_its_turn_is_said_to_its_new_keeper_and_awaited_from_it() {
    let mut replicas = settled(4, 300, 1, 1);
    replicas.handle_view(&view(4, &[3]));
    let number = (0..300).find(|number| successors(4, &[], *number)[0] == 3).expect("some");
    let other = successors(4, &[3], number)[0];
    assert_eq!(standing(&replicas, number), Standing::Awaited, "nobody knows yet");
    replicas.changed(&name(number));
    assert_eq!(standing(&replicas, number), Standing::Awaited);
    let Some(Say::Copy { to, name: said, rev: 2, .. }) = replicas.poll() else {
        panic!("it is said at once")
    };
    assert_eq!((to.node, said), (other, name(number)));
    replicas.handle_kept(other, &said, 2);
    assert_eq!(standing(&replicas, number), Standing::Safe);
    assert!(replicas.is_walking());
}

#[test]
fn a_session_that_was_not_visited_is_not_thought_safe_whoever_has_it() {
    let mut replicas = settled(3, 300, 1, 1);
    replicas.handle_view(&view(4, &[]));
    for number in 0..300 {
        assert_eq!(standing(&replicas, number), Standing::Awaited);
    }
    // Somebody waits for it: if its keeper is still the one, it is safe.
    let number = (0..300).find(|number| successors(4, &[], *number)[0] != 4).expect("some");
    replicas.hurry(&name(number));
    assert_eq!(standing(&replicas, number), Standing::Safe);
}

#[test]
fn a_second_change_during_the_walk_goes_on_where_it_is_and_all_are_visited() {
    for at in [1, 50, 199] {
        let mut replicas = settled(5, 200, 2, 3);
        replicas.handle_view(&view(5, &[3]));
        (0..at).for_each(|ms| {
            replicas.handle_time(5_000 + ms);
            replicas.visit();
        });
        replicas.handle_view(&view(5, &[3, 4]));
        walk(&mut replicas, 6_000);
        settle(&mut replicas);
        for number in 0..200 {
            let mut keepers = replicas.keepers(&name(number));
            keepers.sort_unstable();
            assert_eq!(keepers, [2, 5], "second change after {at} ms");
            assert_eq!(standing(&replicas, number), Standing::Safe);
        }
    }
}

#[test]
fn a_cluster_that_never_rests_keeps_no_session_waiting() {
    let mut replicas = settled(4, 200, 1, 8);
    // Each change comes before the walk of the last one is over.
    for round in 0..100 {
        replicas.handle_view(&view(4, if round % 2 == 0 { &[3] } else { &[] }));
        replicas.handle_time(5_000 + round);
        assert!(replicas.visit());
    }
    // Whoever was last visited while node 3 was gone has its other keeper; nobody was left out since the beginning.
    settle(&mut replicas);
    replicas.handle_view(&view(4, &[3]));
    walk(&mut replicas, 6_000);
    settle(&mut replicas);
    assert_eq!((kept_by(&replicas, 200, 3), replicas.behind_since()), (0, None));
}

#[test]
fn who_kept_a_session_is_told_to_drop_it_when_its_new_keeper_has_it() {
    let mut replicas = settled(3, 300, 1, usize::MAX);
    let number = (0..300).find(|number| successors(4, &[], *number)[0] == 4).expect("some");
    let before = successors(3, &[], number)[0];
    replicas.handle_view(&view(4, &[]));
    replicas.handle_up(4);
    walk(&mut replicas, 5_000);
    let mut said = Vec::new();
    while let Some(say) = replicas.poll() {
        assert!(!matches!(say, Say::Drop { .. }), "before anybody has kept anything: {say:?}");
        said.push(say);
    }
    assert!(said.iter().any(|say| matches!(say, Say::Copy { name: n, .. } if *n == name(number))));
    replicas.handle_kept(4, &name(number), 1);
    let to = Spot { node: before, shard: 0 };
    assert_eq!(replicas.poll(), Some(Say::Drop { to, name: name(number), term: 0 }));
    assert_eq!(replicas.poll(), None);
}

#[test]
fn the_next_successor_is_asked_until_too_many_have_refused() {
    // One less than may refuse, and all that may.
    for refusals in [REFUSALS_MAX - 1, REFUSALS_MAX] {
        let mut replicas = settled(7, 0, 1, usize::MAX);
        open(&mut replicas, 9);
        let order = successors(7, &[], 9);
        for asked in &order[..refusals] {
            assert_eq!(standing(&replicas, 9), Standing::Awaited);
            assert_eq!(refuse(&mut replicas, 9), Some(*asked));
        }
        if refusals < REFUSALS_MAX {
            assert_eq!(standing(&replicas, 9), Standing::Awaited);
            assert_eq!(settle(&mut replicas), 1);
            assert_eq!(replicas.keepers(&name(9)), order[refusals..=refusals]);
            assert_eq!(standing(&replicas, 9), Standing::Safe);
            assert_eq!((replicas.copied(), replicas.behind_since()), ([1, 0, 0], None));
            // It stays there.
            assert!(!look(&mut replicas, 5_000) && !look(&mut replicas, 10_000));
            assert_eq!(replicas.poll(), None);
        } else {
            assert_eq!((standing(&replicas, 9), replicas.poll()), (Standing::Missing, None));
            assert_eq!(replicas.copied(), [0, 0, 1]);
            assert!(replicas.behind_since().is_some());
            // Nobody is asked for what changes meanwhile.
            replicas.changed(&name(9));
            assert_eq!((standing(&replicas, 9), replicas.poll()), (Standing::Missing, None));
            assert!(look(&mut replicas, 5_000) && replicas.poll().is_none());
            assert!(look(&mut replicas, 10_000));
            assert_eq!(settle(&mut replicas), 1, "asked again");
            assert_eq!(replicas.keepers(&name(9)), order[..1]);
            assert_eq!((standing(&replicas, 9), replicas.repeats()), (Standing::Safe, 1));
        }
    }
}

#[test]
fn where_nobody_is_left_to_ask_the_session_is_short_of_a_copy() {
    let mut replicas = settled(3, 0, 2, usize::MAX);
    open(&mut replicas, 9);
    assert!(refuse(&mut replicas, 9).is_some());
    assert_eq!(standing(&replicas, 9), Standing::Awaited, "of the other");
    settle(&mut replicas);
    assert_eq!((standing(&replicas, 9), replicas.copied()), (Standing::Missing, [0, 1, 0]));
    // Somebody comes: all are asked again.
    replicas.handle_view(&view(4, &[]));
    replicas.handle_up(4);
    walk(&mut replicas, 5_000);
    settle(&mut replicas);
    assert_eq!((standing(&replicas, 9), replicas.copied()), (Standing::Safe, [1, 0, 0]));
    assert_eq!(replicas.keepers(&name(9)).len(), 2);
}

#[test]
fn an_outdated_refusal_counts_for_nothing() {
    let mut replicas = settled(3, 1, 1, usize::MAX);
    let keeper = replicas.keepers(&name(0))[0];
    replicas.changed(&name(0));
    replicas.handle_not_kept(keeper, &name(0), 1);
    assert_eq!(replicas.keepers(&name(0)), [keeper]);
    assert_eq!(settle(&mut replicas), 1);
    assert_eq!(standing(&replicas, 0), Standing::Safe);
    // Nor does that of somebody who was not asked.
    replicas.handle_not_kept(5 - keeper, &name(0), 2);
    replicas.handle_not_kept(77, &name(0), 2);
    assert_eq!((standing(&replicas, 0), replicas.poll()), (Standing::Safe, None));
}

#[test]
fn what_a_full_keeper_has_of_a_session_is_dropped_when_another_has_more() {
    let mut replicas = settled(3, 1, 1, usize::MAX);
    let (first, second) = (successors(3, &[], 0)[0], successors(3, &[], 0)[1]);
    replicas.changed(&name(0));
    assert_eq!(refuse(&mut replicas, 0), Some(first));
    assert_eq!(replicas.copied(), [1, 0, 0], "an older one");
    let said = replicas.poll();
    assert!(matches!(said, Some(Say::Copy { to, .. }) if to.node == second), "{said:?}");
    assert_eq!(replicas.poll(), None);
    replicas.handle_kept(second, &name(0), 2);
    assert!(matches!(replicas.poll(), Some(Say::Drop { to, .. }) if to.node == first));
    assert_eq!((standing(&replicas, 0), replicas.copied()), (Standing::Safe, [1, 0, 0]));
}

#[test]
fn a_session_that_no_letter_takes_has_no_copy_and_nobody_waits_for_one() {
    let mut replicas = settled(3, 1, 1, usize::MAX);
    replicas.changed(&name(0));
    let Some(Say::Copy { to, name: said, rev, .. }) = replicas.poll() else { panic!("said") };
    replicas.handle_oversize(to.node, &said, rev);
    assert_eq!((standing(&replicas, 0), replicas.copied()), (Standing::Missing, [0, 0, 1]));
    assert_eq!((replicas.behind_since(), replicas.poll()), (None, None));
    // It may have become smaller.
    replicas.appended(&said, |_, _, _| panic!("there is nothing to append to"));
    assert_eq!((standing(&replicas, 0), settle(&mut replicas)), (Standing::Awaited, 1));
    assert_eq!((standing(&replicas, 0), replicas.copied()), (Standing::Safe, [1, 0, 0]));
}

#[test]
fn sessions_are_counted_by_their_copies() {
    let mut replicas = settled(4, 30, 2, usize::MAX);
    assert_eq!(replicas.copied(), [30, 0, 0]);
    replicas.changed(&name(0));
    assert_eq!(replicas.copied(), [30, 0, 0], "an older copy is one");
    replicas.handle_view(&view(4, &[2, 3]));
    walk(&mut replicas, 5_000);
    let kept = 30 - kept_by(&replicas, 30, 4);
    assert_eq!(kept, 0);
    settle(&mut replicas);
    assert_eq!(replicas.copied(), [0, 30, 0], "one other is left");
    replicas.handle_view(&view(4, &[2, 3, 4]));
    walk(&mut replicas, 6_000);
    assert_eq!(replicas.copied(), [0, 0, 30]);
    assert_eq!((standing(&replicas, 0), replicas.behind_since()), (Standing::Safe, None));
    replicas.remove(&name(0));
    replicas.release(&name(1));
    open(&mut replicas, 2);
    assert_eq!(replicas.copied(), [0, 0, 28]);
}
