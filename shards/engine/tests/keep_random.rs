//! Random faults, eager copies: nodes that die and come back, links that break, sessions that are used all the
//! while. At rest each session has one owner and is served everywhere, none is lost, and nothing is left over.

use serde_json::json;

use super::ask::Legacy;
use super::keep::{owners, setup};
use super::world::World;
use crate::config::Sync;

/// Everything that changes a session leaves once it is safe; one failure at a time must lose nothing of it.
fn run(seed: u64) {
    let nodes = 3 + (seed % 2) as u16;
    let mut world = World::with(super::world::Setup { seed, ..setup(nodes, Sync::Eager) });
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
