//! Sessions without all their copies: keepers without room, sessions too large for a letter, and members that change while
//! answers wait.

use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::view::State;
use serde_json::json;

use super::ask::Legacy;
use super::keep::{name, owners, setup};
use super::world::World;
use crate::config::Sync;
use crate::engine::visits::UNKEPT_LOOK_MS;

/// A world whose nodes keep so many copies a shard.
fn narrow(nodes: u16, copies_max: usize) -> World {
    let mut setup = setup(nodes, Sync::Eager);
    setup.cluster.as_mut().expect("a cluster").copies_max = copies_max;
    World::with(setup)
}

/// Sessions of node 0 by their copies: all, some, none.
fn copied(world: &mut World) -> [u64; 3] {
    let mut sum = [0; 3];
    for wire in &world.wires[..2] {
        let each = wire.counters.sessions_copied;
        sum.iter_mut().zip(each).for_each(|(sum, count)| *sum += count);
    }
    sum
}

/// Who has a copy of a session, by index.
fn keepers(world: &World, session: &Legacy) -> Vec<u16> {
    let name = name(session);
    let keeps = world.engines.iter().filter(|engine| {
        let keeping = engine.keeping.as_ref();
        keeping.is_some_and(|keeping| keeping.copies.get(&name).is_some())
    });
    keeps.map(|engine| engine.me().node - super::world::NODE).collect()
}

#[test]
fn a_session_that_its_first_successor_has_no_room_for_is_kept_by_the_next() {
    // Two others of two shards, one copy each: four sessions are kept wherever their names lead them, as long as
    // both shards of a number are asked.
    let mut world = narrow(3, 1);
    let sessions: Vec<Legacy> =
        (0..12).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    let kept: Vec<&Legacy> =
        sessions.iter().filter(|session| !keepers(&world, session).is_empty()).collect();
    assert_eq!(kept.len(), 4, "all room is used");
    assert_eq!(copied(&mut world), [4, 0, 8]);
    assert_eq!(world.errors("eager_unacknowledged"), 8, "only who has no copy");
    assert!(world.errors("copy_refused") > 8, "some were refused twice");
    let kept: Vec<Legacy> = kept.into_iter().cloned().collect();
    world.lose_node(0);
    world.advance(1000);
    for session in &kept {
        let heard = session.ask(&mut world, 1, "ping", json!({})).on(2).reply();
        assert_eq!(heard.status, 200, "{heard:?}");
        assert_eq!(owners(&world, session).len(), 1);
    }
}

#[test]
fn nobody_waits_for_a_copy_that_nobody_takes() {
    let mut world = narrow(3, 0);
    let session = world.initialize(0, "2025-11-25", json!({}));
    assert_eq!(world.errors("copy_refused"), 2, "both were asked");
    assert_eq!(world.errors("eager_unacknowledged"), 1);
    for level in ["debug", "error"] {
        let set = session.ask(&mut world, 1, "logging/setLevel", json!({ "level": level }));
        assert_eq!(set.reply().status, 200);
    }
    assert_eq!(world.errors("copy_refused"), 2, "nobody is asked again for a while");
    assert_eq!(world.errors("eager_unacknowledged"), 3);
    assert_eq!(copied(&mut world), [0, 0, 1]);
    world.advance(2 * UNKEPT_LOOK_MS);
    assert_eq!(world.errors("copy_refused"), 4);
    session.delete(&mut world).send();
    assert_eq!(copied(&mut world), [0, 0, 0]);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// Of 100 bytes.
fn uri(number: usize) -> String {
    format!("crane://{number:03}{}/log", "x".repeat(85))
}

/// Subscribes to so many URIs; returns how often the answer left without a copy.
fn subscribed(message_bytes_max: usize, uris: usize) -> (World, Legacy, u64) {
    let mut setup = setup(2, Sync::Eager);
    setup.limits.message_bytes_max = message_bytes_max;
    let mut world = World::with(setup);
    let session = world.initialize(0, "2025-11-25", json!({}));
    for number in 0..uris {
        let uri = json!({ "uri": uri(number) });
        let sent = session.ask(&mut world, 1, "resources/subscribe", uri).send();
        assert_eq!(world.heard(sent).status, 200, "at once");
    }
    let unkept = world.errors("eager_unacknowledged");
    (world, session, unkept)
}

#[test]
fn a_session_too_large_for_a_letter_is_counted_as_not_copied_and_nobody_waits_for_it() {
    // 104 bytes each, as they are weighed: ten fit, the eleventh does not.
    let (mut world, session, unkept) = subscribed(1040, 10);
    assert_eq!((unkept, copied(&mut world)), (0, [1, 0, 0]));
    assert_eq!(keepers(&world, &session), [1]);
    let (mut world, session, unkept) = subscribed(1040, 11);
    assert_eq!((unkept, copied(&mut world)), (1, [0, 0, 1]));
    assert_eq!((world.errors("copy_oversize"), keepers(&world, &session)), (1, vec![]));
    // It becomes smaller, and is kept again.
    let uri = json!({ "uri": uri(3) });
    let less = session.ask(&mut world, 1, "resources/unsubscribe", uri).reply();
    assert_eq!(less.status, 200);
    assert_eq!((world.errors("eager_unacknowledged"), copied(&mut world)), (1, [1, 0, 0]));
    assert_eq!(keepers(&world, &session), [1]);
}

#[test]
fn an_answer_that_waits_for_a_keeper_that_dies_is_kept_by_the_next_before_all_others() {
    let mut setup = setup(3, Sync::Eager);
    // One visit a millisecond.
    setup.cluster.as_mut().expect("a cluster").visit_units_per_ms = 1;
    let mut world = World::with(setup);
    let sessions: Vec<Legacy> =
        (0..40).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    let last = sessions.iter().rfind(|session| keepers(&world, session) == [2]).expect("some");
    // What is said to its keeper does not arrive.
    world.narrow(0, 2, Urgency::Request);
    let set = last.ask(&mut world, 1, "logging/setLevel", json!({ "level": "error" })).send();
    assert_eq!(world.heard(set).status, 0);
    world.lose_node(2);
    world.advance(1);
    assert_eq!(world.heard(set).status, 200);
    assert_eq!(keepers(&world, last), [1]);
    assert_eq!(world.errors("eager_unacknowledged"), 0);
    let waiting = sessions.iter().filter(|session| keepers(&world, session).is_empty()).count();
    assert!(waiting > 5, "the others have their turns yet: {waiting}");
    // Who is used before its turn is promised what it is answered.
    let used = sessions.iter().find(|session| keepers(&world, session).is_empty()).expect("some");
    let set = used.ask(&mut world, 1, "logging/setLevel", json!({ "level": "error" })).reply();
    assert_eq!((set.status, keepers(&world, used)), (200, vec![1]));
    world.advance(100);
    assert!(sessions.iter().all(|session| keepers(&world, session) == [1]));
}

#[test]
fn of_two_copies_the_later_one_is_taken_over_whoever_offers_the_other() {
    let mut world = World::with(setup(3, Sync::Eager));
    let session = loop {
        let session = world.initialize(0, "2025-11-25", json!({}));
        if keepers(&world, &session) == [2] {
            break session;
        }
        session.delete(&mut world).send();
    };
    // Node 1 keeps it while node 2 is away, and is not told that it need not any more.
    world.lose_node(2);
    world.narrow(0, 1, Urgency::Request);
    world.join(2);
    let set = session.ask(&mut world, 1, "logging/setLevel", json!({ "level": "error" })).reply();
    assert_eq!((set.status, keepers(&world, &session)), (200, vec![1, 2]));
    world.kill(0);
    for node in [1, 2] {
        world.see(node, |other| if other == 0 { State::Dead } else { State::Alive });
    }
    assert_eq!(owners(&world, &session), [2]);
    let sessions = world.engines[4..].iter().flat_map(|engine| engine.sessions.iter());
    let levels: Vec<&str> = sessions.map(|(_, session)| session.log_level.as_str()).collect();
    assert_eq!(levels, ["error"]);
}
