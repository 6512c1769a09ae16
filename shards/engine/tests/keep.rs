//! Sessions that outlive their node: copies, who takes over, and who gives up.
//!
//! Nodes of two shards each: the shards of node `n` have the indices `2 * n` and `2 * n + 1`. The successor of a
//! session is drawn by its name; tests ask the owner's view for it.

use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::view::State;
use erlmcp_protocol::seal::Keyring;
use serde_json::json;

use super::ask::{Heard, Legacy, hello, request};
use super::world::{NODE, SECRET, Setup, World};
use crate::config::{ClusterLimits, LAZY_FLUSH_MS, Sync};
use crate::engine::visits::UNKEPT_LOOK_MS;
use crate::service::Service as _;

const NOTHING: [String; 0] = [];
const URI: &str = "crane://7/state";

pub fn setup(nodes: u16, sync: Sync) -> Setup {
    let cluster = Some(ClusterLimits { sync, ..ClusterLimits::default() });
    Setup { nodes, shards: 2, cluster, ..Setup::default() }
}

fn world(nodes: u16, sync: Sync) -> World {
    World::with(setup(nodes, sync))
}

pub fn name(session: &Legacy) -> [u8; 16] {
    Keyring::new(SECRET).open_session(&session.id).expect("our own token").random
}

/// By index, the nodes that would succeed `owner`, as `seer` sees it.
fn successors(world: &World, seer: u16, session: &Legacy, owner: u16) -> Vec<u16> {
    let view = &world.engines[usize::from(seer * world.shards)].view;
    let successors = view.successors(&name(session), NODE + owner);
    successors.iter().map(|member| member.node - NODE).collect()
}

/// The nodes that own a session, by index.
pub fn owners(world: &World, session: &Legacy) -> Vec<u16> {
    let name = name(session);
    let owns = |engine: &&crate::engine::Engine| {
        engine.sessions.iter().any(|(_, session)| session.random == name)
    };
    world.engines.iter().filter(owns).map(|engine| engine.me().node - NODE).collect()
}

fn copies(world: &World) -> usize {
    let keeping = world.engines.iter().filter_map(|engine| engine.keeping.as_ref());
    keeping.map(|keeping| keeping.copies.len()).sum()
}

fn ids(heard: &Heard) -> Vec<String> {
    heard.events().into_iter().filter_map(|event| event.id).collect()
}

#[track_caller]
fn ping(world: &mut World, session: &Legacy, shard: u16) -> Heard {
    session.ask(world, 99, "ping", json!({})).on(shard).reply()
}

/// Every node answers for the session, and one owns it.
#[track_caller]
fn check_served(world: &mut World, session: &Legacy, nodes: &[u16], owner: u16) {
    for node in nodes {
        for shard in [node * 2, node * 2 + 1] {
            let heard = ping(world, session, shard);
            assert_eq!(heard.status, 200, "asked on shard {shard}: {heard:?}");
        }
    }
    assert_eq!(owners(world, session), [owner]);
}

#[track_caller]
fn check_nothing_left(world: &World) {
    assert_eq!(world.loose_ends(), NOTHING);
    assert_eq!(world.leftovers(), NOTHING);
}

/// Changes everything a session has, loses its node, and looks for all of it at the successor.
#[track_caller]
fn check_survives(nodes: u16, sync: Sync) {
    let mut world = world(nodes, sync);
    let client = json!({ "elicitation": {} });
    let session = world.initialize(0, "2025-11-25", client);
    session.ask(&mut world, 1, "resources/subscribe", json!({ "uri": URI })).send();
    session.ask(&mut world, 2, "logging/setLevel", json!({ "level": "debug" })).send();
    let get = session.get(&mut world).on(2).send();
    world.publish(URI);
    world.publish(URI);
    assert_eq!(ids(&world.heard(get)), ["0-1", "0-2"]);
    let noisy = session.call(&mut world, 3, "noisy", json!({ "key": "a" })).on(3);
    let call = noisy.meta("progressToken", json!("p")).send();
    assert_eq!(ids(&world.heard(call)), ["1-1"]);
    if sync == Sync::Lazy {
        world.advance(LAZY_FLUSH_MS);
    }
    let owner = successors(&world, 1, &session, 0)[0];
    world.lose_node(0);
    let rest: Vec<u16> = (1..nodes).collect();
    check_served(&mut world, &session, &rest, owner);
    // The call is gone with its node, and says so to who waits and to who comes back.
    assert_eq!(world.heard(call).last()["error"]["data"]["retryable"], true);
    let back = session.get(&mut world).on(2).header("Last-Event-ID", "1-1").reply();
    assert_eq!(back.last()["id"], 3, "{back:?}");
    assert_eq!(back.last()["error"]["data"]["reason"], "node_lost");
    assert!(!back.open);
    // What was missed, and what comes.
    let again = session.get(&mut world).on(3).header("Last-Event-ID", "0-1").send();
    assert_eq!(ids(&world.heard(again)), ["0-2"]);
    world.nodes[usize::from(owner)].handle.publish(erlmcp_catalog::Change::Resource(URI.into()));
    world.pump();
    let heard = ids(&world.heard(again));
    assert_eq!(heard.len(), 2, "subscribed still: {heard:?}");
    // It can be asked, and so declared that it can.
    let lock = session.call(&mut world, 4, "lock_crane", json!({ "crane": 7 })).on(2).reply();
    assert_eq!(lock.last()["method"], "elicitation/create");
    let engine = world.engines.iter().find(|engine| engine.sessions.len() == 1).expect("owner");
    let (_, state) = engine.sessions.iter().next().expect("it has one");
    assert_eq!((state.version.as_str(), state.log_level.as_str()), ("2025-11-25", "debug"));
    world.leave(again);
    assert_eq!(session.delete(&mut world).on(2).reply().status, 204);
    world.advance(2000);
    for shard in 2..nodes * 2 {
        assert_eq!(ping(&mut world, &session, shard).status, 404);
    }
    check_nothing_left(&world);
}

#[test]
fn a_session_outlives_its_node_with_all_it_has() {
    for sync in [Sync::Eager, Sync::Lazy] {
        check_survives(2, sync);
        check_survives(3, sync);
    }
}

#[test]
fn a_lazy_change_that_was_not_said_dies_with_its_node() {
    let mut world = world(2, Sync::Lazy);
    let early = world.initialize(0, "2025-11-25", json!({}));
    world.advance(LAZY_FLUSH_MS);
    early.ask(&mut world, 1, "logging/setLevel", json!({ "level": "error" })).send();
    let late = world.initialize(0, "2025-11-25", json!({}));
    world.lose_node(0);
    assert_eq!(ping(&mut world, &early, 2).status, 200);
    let level = world.engines[2..].iter().flat_map(|engine| engine.sessions.iter());
    let levels: Vec<&str> = level.map(|(_, session)| session.log_level.as_str()).collect();
    assert_eq!(levels, ["info"]);
    assert_eq!(ping(&mut world, &late, 2).status, 503, "it may be on its way yet");
    world.advance(1000);
    assert_eq!(ping(&mut world, &late, 2).status, 404);
}

#[test]
fn an_eager_answer_waits_until_the_copy_is_acknowledged() {
    let mut world = world(2, Sync::Eager);
    world.slow_mail = true;
    let hello = request(0, "initialize", hello("2025-11-25", json!({})));
    let sent = world.post("/mcp").json(hello).send();
    assert_eq!(world.heard(sent).status, 0, "nothing is promised yet");
    world.pump();
    assert_eq!(world.heard(sent).status, 200);
    assert_eq!(copies(&world), 1);
    assert_eq!(world.errors("eager_unacknowledged"), 0);
}

#[test]
fn an_eager_answer_waits_no_longer_than_it_may() {
    let mut world = world(2, Sync::Eager);
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.narrow(0, 1, Urgency::Request);
    let set = session.ask(&mut world, 1, "logging/setLevel", json!({ "level": "debug" })).send();
    world.advance(999);
    assert_eq!(world.heard(set).status, 0);
    world.advance(1);
    assert_eq!(world.heard(set).status, 200);
    assert_eq!(world.errors("eager_unacknowledged"), 1);
    // With room again, it is said, and the next answer leaves at once.
    world.narrow(0, 1, Urgency::Sync);
    let again = session.ask(&mut world, 2, "logging/setLevel", json!({ "level": "info" })).reply();
    assert_eq!(again.status, 200);
    // Nobody left to keep it: nobody is waited for.
    world.narrow(0, 1, Urgency::Request);
    let last = session.ask(&mut world, 3, "logging/setLevel", json!({ "level": "error" })).send();
    assert_eq!(world.heard(last).status, 0);
    world.lose_node(1);
    assert_eq!(world.heard(last).status, 200);
    session.delete(&mut world).send();
    check_nothing_left(&world);
}

#[test]
fn a_copy_follows_its_session_s_successor() {
    let mut world = world(3, Sync::Eager);
    let sessions: Vec<Legacy> =
        (0..8).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    assert_eq!(copies(&world), 8);
    world.lose_node(2);
    assert_eq!(copies(&world), 8, "those of the lost keeper are kept by the other");
    world.join(2);
    assert_eq!(copies(&world), 8, "some went back, none are kept twice");
    for session in &sessions {
        let keeper = successors(&world, 0, session, 0)[0];
        let engines = world.engines.chunks(2).nth(usize::from(keeper)).expect("a node");
        let name = name(session);
        assert!(engines.iter().any(|engine| {
            engine.keeping.as_ref().is_some_and(|keeping| keeping.copies.get(&name).is_some())
        }));
    }
    world.lose_node(0);
    for session in &sessions {
        let owner = successors(&world, 1, session, 0)[0];
        check_served(&mut world, session, &[1, 2], owner);
    }
}

#[test]
fn the_owner_dies_and_then_its_successor() {
    let mut world = world(4, Sync::Eager);
    let sessions: Vec<Legacy> =
        (0..6).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    world.lose_node(0);
    let firsts: Vec<u16> = sessions.iter().map(|session| owners(&world, session)[0]).collect();
    let second = firsts[0];
    world.kill(second);
    world.see_all(|_, other| if [0, second].contains(&other) { State::Dead } else { State::Alive });
    let rest: Vec<u16> = (1..4).filter(|node| *node != second).collect();
    for session in &sessions {
        let owner = owners(&world, session);
        assert_eq!(owner.len(), 1);
        check_served(&mut world, session, &rest, owner[0]);
        assert_eq!(session.delete(&mut world).on(rest[0] * 2).reply().status, 204);
    }
    world.advance(70_000);
    check_nothing_left(&world);
}

#[test]
fn a_copy_handed_to_a_newcomer_makes_it_the_owner() {
    // The copy is with one node; when the owner dies, another is first in line.
    let mut world = world(3, Sync::Eager);
    let session = loop {
        let session = world.initialize(0, "2025-11-25", json!({}));
        if successors(&world, 0, &session, 0)[0] == 2 {
            break session;
        }
        session.delete(&mut world).send();
    };
    // Node 0 cannot reach node 2 and knows it for dead; node 1 sees everyone.
    world.lose_link(0, 2);
    world.see(0, |other| if other == 2 { State::Dead } else { State::Alive });
    assert_eq!(copies(&world), 2, "one of them is outdated, and stays for now");
    world.lose_node(0);
    check_served(&mut world, &session, &[1, 2], 2);
    assert_eq!(copies(&world), 1);
}

#[test]
fn a_full_keeper_says_so_and_keeps_what_it_was_refused_when_it_has_room() {
    let mut setup = setup(2, Sync::Eager);
    setup.cluster.as_mut().expect("a cluster").copies_max = 1;
    let mut world = World::with(setup);
    // Each shard of the keeper takes one copy; nobody waits for the others.
    let mut sessions: Vec<Legacy> =
        (0..8).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    assert_eq!(copies(&world), 2);
    for reason in ["copy_full", "copy_refused", "eager_unacknowledged"] {
        assert_eq!(world.errors(reason), 6, "{reason}");
    }
    let is_kept = |world: &World, session: &Legacy| {
        let keepers = world.engines.iter().filter_map(|engine| engine.keeping.as_ref());
        keepers.map(|keeping| keeping.copies.get(&name(session))).any(|copy| copy.is_some())
    };
    let (kept, refused): (Vec<Legacy>, Vec<Legacy>) =
        sessions.drain(..).partition(|session| is_kept(&world, session));
    for session in &kept {
        session.delete(&mut world).send();
    }
    assert_eq!(copies(&world), 0);
    world.advance(2 * UNKEPT_LOOK_MS);
    assert_eq!(copies(&world), 2, "some of those that were refused");
    for session in &refused {
        session.delete(&mut world).send();
    }
    world.advance(2 * UNKEPT_LOOK_MS);
    check_nothing_left(&world);
}

#[test]
fn how_long_copies_lag_behind_is_known_and_over_when_they_do_not() {
    for sync in [Sync::Eager, Sync::Lazy] {
        let mut world = world(2, sync);
        let lag = |world: &World| world.engines[0].sync_lag_ms(world.now());
        let session = world.initialize(0, "2025-11-25", json!({}));
        world.advance(2 * LAZY_FLUSH_MS);
        assert_eq!(lag(&world), 0);
        world.narrow(0, 1, Urgency::Request);
        let first = world.now();
        for level in ["debug", "error"] {
            session.ask(&mut world, 1, "logging/setLevel", json!({ "level": level })).send();
            world.advance(2 * LAZY_FLUSH_MS);
        }
        assert_eq!(lag(&world), world.now() - first, "the oldest change counts");
        world.narrow(0, 1, Urgency::Sync);
        world.advance(2 * LAZY_FLUSH_MS);
        assert_eq!(lag(&world), 0);
    }
}

#[test]
fn a_stalled_home_that_comes_back_yields() {
    let mut world = world(3, Sync::Eager);
    let session = world.initialize(1, "2025-11-25", json!({}));
    let running = session.call(&mut world, 5, "later", json!({ "key": "a" })).on(1).send();
    let get = session.get(&mut world).on(0).send();
    // The others give node 0 up; it does not know.
    world.lose_link(0, 1);
    world.lose_link(0, 2);
    for node in [1, 2] {
        world.see(node, |other| if other == 0 { State::Dead } else { State::Alive });
    }
    let owner = successors(&world, 1, &session, 0)[0];
    assert_eq!(ping(&mut world, &session, 2).status, 200);
    let mut both = vec![0, owner];
    both.sort_unstable();
    assert_eq!(owners(&world, &session), both);
    // It comes back in the same run.
    world.join(0);
    check_served(&mut world, &session, &[0, 1, 2], owner);
    assert_eq!(world.heard(running).last()["error"]["data"]["retryable"], true);
    let heard = world.heard(get);
    assert!(!heard.open && heard.events().iter().any(|event| event.retry.is_some()), "{heard:?}");
    session.delete(&mut world).on(1).send();
    world.advance(70_000);
    check_nothing_left(&world);
}

#[test]
fn of_two_owners_the_higher_claim_wins_on_every_node() {
    let mut setup = setup(4, Sync::Eager);
    setup.cluster.as_mut().expect("a cluster").replicas = 2;
    let mut world = World::with(setup);
    let session = world.initialize(0, "2025-11-25", json!({}));
    let keepers = successors(&world, 0, &session, 0);
    let (one, other) = (keepers[0], keepers[1]);
    // The owner dies, and its two keepers do not see each other.
    world.lose_link(one, other);
    world.kill(0);
    world.see_all(|who, whom| match (who, whom) {
        (_, 0) => State::Dead,
        pair if pair == (one, other) || pair == (other, one) => State::Dead,
        _ => State::Alive,
    });
    assert_eq!(owners(&world, &session).len(), 2);
    world.see_all(|_, whom| if whom == 0 { State::Dead } else { State::Alive });
    world.link(one, other);
    check_served(&mut world, &session, &[1, 2, 3], one.max(other));
    session.delete(&mut world).on(2).send();
    world.advance(70_000);
    check_nothing_left(&world);
}

#[test]
fn a_session_that_is_over_is_over_everywhere() {
    for sync in [Sync::Eager, Sync::Lazy] {
        let mut setup = setup(3, sync);
        setup.limits.session_idle_ms = 60_000;
        let mut world = World::with(setup);
        let deleted = world.initialize(0, "2025-11-25", json!({}));
        let expired = world.initialize(2, "2025-11-25", json!({}));
        world.advance(LAZY_FLUSH_MS);
        assert_eq!(copies(&world), 2);
        deleted.delete(&mut world).on(4).send();
        assert_eq!(copies(&world), 1);
        world.advance(60_000);
        assert_eq!(world.errors("session_expired"), 1);
        for shard in 0..6 {
            assert_eq!(ping(&mut world, &deleted, shard).status, 404);
            assert_eq!(ping(&mut world, &expired, shard).status, 404);
        }
        check_nothing_left(&world);
    }
}

#[test]
fn many_orphans_are_taken_over_a_few_a_turn_and_asked_for_ones_at_once() {
    let mut setup = setup(2, Sync::Eager);
    setup.cluster.as_mut().expect("a cluster").adoptions_per_turn = 1;
    let mut world = World::with(setup);
    let sessions: Vec<Legacy> =
        (0..9).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    world.lose_node(0);
    let taken: usize = sessions.iter().map(|session| owners(&world, session).len()).sum();
    assert!(taken <= 4, "a few a turn: {taken}");
    let last = sessions.iter().rfind(|session| owners(&world, session).is_empty());
    let last = last.expect("some are still to be taken over").clone();
    assert_eq!(ping(&mut world, &last, 2).status, 200);
    world.advance(20);
    assert!(sessions.iter().all(|session| owners(&world, session) == [1]));
}

#[test]
fn a_cluster_of_one_promises_at_once() {
    let mut world = world(1, Sync::Eager);
    let session = world.initialize(0, "2025-11-25", json!({}));
    assert_eq!(ping(&mut world, &session, 1).status, 200);
    session.delete(&mut world).on(1).send();
    for shard in 0..2 {
        assert_eq!(ping(&mut world, &session, shard).status, 404);
    }
    check_nothing_left(&world);
}

#[test]
fn who_has_just_booted_and_met_nobody_asks_for_patience_with_sessions_it_does_not_know() {
    let mut world = world(2, Sync::Eager);
    let session = world.initialize(2, "2025-11-25", json!({}));
    world.kill(0);
    world.see(0, |other| if other == 0 { State::Alive } else { State::Dead });
    for shard in [0, 1] {
        let heard = ping(&mut world, &session, shard);
        assert_eq!(
            (heard.status, &heard.last()["error"]["data"]["retryable"]),
            (503, &true.into())
        );
    }
    world.advance(2000);
    for shard in [0, 1] {
        assert_eq!(ping(&mut world, &session, shard).status, 404, "it is alone");
    }
}

#[test]
fn a_session_taken_over_is_found_while_the_links_of_its_home_do_not_stand_again() {
    let mut world = world(3, Sync::Eager);
    let session = world.initialize(0, "2025-11-25", json!({}));
    let owner = successors(&world, 1, &session, 0)[0];
    let asked = 3 - owner;
    world.lose_link(0, 1);
    world.lose_link(0, 2);
    for (node, state) in [(1, State::Dead), (2, State::Dead), (1, State::Alive), (2, State::Alive)]
    {
        world.see(node, |other| if other == 0 { state } else { State::Alive });
    }
    for node in [asked, owner] {
        for shard in [node * 2, node * 2 + 1] {
            assert_eq!(ping(&mut world, &session, shard).status, 200, "asked on shard {shard}");
        }
    }
}
