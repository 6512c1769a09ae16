//! Random faults, eager copies: nodes that die and come back, links that break, sessions that are used all the
//! while. At rest each session has one owner and is served everywhere, none is lost, and nothing is left over.

use serde_json::json;

use erlmcp_cluster::view::State;

use super::ask::{Legacy, hello, request};
use super::keep::{name, owners, setup};
use super::world::{Setup, World};
use crate::config::Sync;

/// Everything that changes a session leaves once it is safe; one failure at a time must lose nothing of it.
fn run(seed: u64) {
    let nodes = 3 + (seed % 2) as u16;
    let mut setup = Setup { seed, ..setup(nodes, Sync::Eager) };
    // So few sessions are visited in one turn, or over many; then the next failure comes after the last visit.
    let is_slow = seed % 3 == 0;
    if is_slow {
        setup.cluster.as_mut().expect("a cluster").visit_units_per_ms = 1;
    }
    let mut world = World::with(setup);
    let mut sessions: Vec<(Legacy, &'static str)> = Vec::new();
    for step in 0..60 {
        let context = format!("seed {seed}, step {step}");
        let shard = world.draw(usize::from(nodes) * 2) as u16;
        match world.draw(10) {
            0..=2 => sessions.push((world.initialize(shard, "2025-11-25", json!({})), "info")),
            3..=5 if !sessions.is_empty() => {
                let pick = world.draw(sessions.len());
                let level = ["debug", "warning", "error"][world.draw(3)];
                let session = sessions[pick].0.clone();
                let set =
                    session.ask(&mut world, step, "logging/setLevel", json!({ "level": level }));
                assert_eq!(set.on(shard).reply().status, 200, "{context}");
                sessions[pick].1 = level;
            }
            6 if !sessions.is_empty() => {
                let pick = world.draw(sessions.len());
                let (session, _) = sessions.swap_remove(pick);
                assert_eq!(session.delete(&mut world).on(shard).reply().status, 204, "{context}");
            }
            7 => {
                world.lose_node(shard / 2);
                check(&mut world, &sessions, Some(shard / 2), &context);
                world.join(shard / 2);
                if is_slow {
                    // The newcomer has not been told of all yet.
                    check(&mut world, &sessions, Some(shard / 2), &context);
                    world.advance(100);
                }
            }
            8 => {
                let other = world.draw(usize::from(nodes)) as u16;
                if other != shard / 2 {
                    world.lose_link(shard / 2, other);
                    world.link(shard / 2, other);
                }
            }
            _ => world.advance(300),
        }
        check(&mut world, &sessions, None, &context);
    }
    for (session, _) in sessions {
        session.delete(&mut world).send();
    }
    world.advance(70_000);
    assert_eq!(world.loose_ends(), Vec::<String>::new(), "seed {seed}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "seed {seed}");
}

#[track_caller]
fn check(world: &mut World, sessions: &[(Legacy, &str)], gone: Option<u16>, context: &str) {
    let shards = world.engines.len();
    for (session, level) in sessions {
        assert_eq!(owners(world, session).len(), 1, "{context}");
        let mut shard = world.draw(shards) as u16;
        if Some(shard / 2) == gone {
            shard = (shard + 2) % shards as u16;
        }
        let heard = session.ask(world, 1, "ping", json!({})).on(shard).reply();
        assert_eq!(heard.status, 200, "{context}: {heard:?}");
        let known = world.engines.iter().flat_map(|engine| engine.sessions.iter());
        let levels = known.map(|(_, session)| session.log_level.as_str());
        assert!(levels.into_iter().any(|known| known == *level), "{context}");
    }
}

#[test]
fn one_failure_at_a_time_loses_nothing_that_was_promised() {
    for seed in 1..=40 {
        run(seed);
    }
}

/// Sessions of any age, used anywhere, whatever comes of it.
fn use_some(world: &mut World, sessions: &mut Vec<Legacy>, step: u64) {
    let shard = world.draw(world.engines.len()) as u16;
    let pick = world.draw(sessions.len() + 1);
    let Some(session) = sessions.get(pick).cloned() else {
        let hello = request(0, "initialize", hello("2025-11-25", json!({})));
        let sent = world.post("/mcp").on(shard).json(hello).send();
        world.advance(1000);
        let heard = world.heard(sent);
        assert_eq!(heard.status, 200);
        let id = heard.header("mcp-session-id").expect("a session id").to_owned();
        return sessions.push(Legacy { id, version: "2025-11-25" });
    };
    match world.draw(4) {
        0 => {
            session.delete(world).on(shard).send();
        }
        1 => {
            session.get(world).on(shard).send();
        }
        2 => {
            let noisy = session.call(world, step, "noisy", json!({ "key": step.to_string() }));
            noisy.meta("progressToken", json!("p")).on(shard).send();
        }
        _ => {
            let level = json!({ "level": "debug" });
            session.ask(world, step, "logging/setLevel", level).on(shard).send();
        }
    }
}

/// Nodes that do not see each other, nodes that die meanwhile, and all of it healed: what is left of each session
/// is one, and the same is said of it everywhere.
fn part_and_heal(seed: u64, sync: Sync) {
    let (nodes, mut sessions) = (4, Vec::new());
    let mut setup = Setup { seed, ..setup(nodes, sync) };
    setup.cluster.as_mut().expect("a cluster").replicas = 1 + (seed % 2) as usize;
    setup.limits.session_idle_ms = 300_000;
    if seed % 4 < 2 {
        setup.cluster.as_mut().expect("a cluster").visit_units_per_ms = 1;
    }
    let mut world = World::with(setup);
    for round in 0..4 {
        for step in 0..12 {
            use_some(&mut world, &mut sessions, round * 100 + step);
        }
        let side: Vec<bool> = (0..nodes).map(|_| world.draw(2) == 0).collect();
        let together = |one: u16, other: u16| side[usize::from(one)] == side[usize::from(other)];
        for (one, other) in (0..nodes * nodes).map(|pair| (pair / nodes, pair % nodes)) {
            if one < other && !together(one, other) {
                world.lose_link(one, other);
            }
        }
        world.see_all(|one, other| if together(one, other) { State::Alive } else { State::Dead });
        for step in 0..12 {
            use_some(&mut world, &mut sessions, round * 100 + 20 + step);
        }
        let dead = world.draw(usize::from(nodes)) as u16;
        world.kill(dead);
        world.see_all(|one, other| match other != dead && together(one, other) {
            true => State::Alive,
            false => State::Dead,
        });
        for step in 0..6 {
            use_some(&mut world, &mut sessions, round * 100 + 40 + step);
        }
        world.see_all(|_, _| State::Alive);
        world.relink();
        world.advance(2000);
        for session in &sessions {
            let context = format!("seed {seed}, {sync:?}, round {round}, {:?}", session.id);
            let owners = owners(&world, session);
            assert!(owners.len() <= 1, "{context}: {owners:?}");
            let expected = if owners.is_empty() { 404 } else { 200 };
            // Who is said to own it, and does not, says so when it is asked.
            session.ask(&mut world, "look", "ping", json!({})).send();
            for shard in 0..nodes * 2 {
                let heard = session.ask(&mut world, "look", "ping", json!({})).on(shard).reply();
                let known = what_is_known(&world, session);
                assert_eq!(heard.status, expected, "{context}, shard {shard}: {heard:?}\n{known}");
            }
        }
        assert_eq!(world.loose_ends(), Vec::<String>::new(), "seed {seed}");
    }
}

/// What each shard knows of a session, one line each.
fn what_is_known(world: &World, session: &Legacy) -> String {
    let name = name(session);
    let mut text = String::new();
    for engine in &world.engines {
        let Some(keeping) = &engine.keeping else { continue };
        let copy = keeping.copies.get(&name).map(|copy| (copy.owner(), copy.term()));
        let (moved, own) = (keeping.directory.whose(&name), keeping.replicas.term(&name));
        if copy.is_some() || moved.is_some() || own.is_some() {
            text += &format!("{:?}: copy {copy:?}, moved {moved:?}, own {own:?}\n", engine.me());
        }
    }
    text
}

#[test]
fn partitions_heal_to_one_owner_of_each_session() {
    for seed in 1..=20 {
        part_and_heal(seed, Sync::Eager);
        part_and_heal(seed, Sync::Lazy);
    }
}
