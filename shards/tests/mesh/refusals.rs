//! Who does not belong here is refused, counted, and costs nobody anything.

use erlmcp_cluster::frame::{Frame, HELLO_BYTES_MAX};
use erlmcp_cluster::link::{HANDSHAKE_MS_MAX, Handshake, Identity, VERSION};
use erlmcp_cluster::view::{State, View};
use erlmcp_shards::io::sim::{Faults, SimClient};
use erlmcp_shards::message::Mail;
use std::sync::Arc;

use super::world::{Plan, World, address, secrets, spot};

/// A stranger says this to a node in a cluster of two; the refusal has this name, and the cluster does not care.
#[track_caller]
fn check_refused(reason: &str, wait_ms: u64, say: impl Fn(&mut World, &SimClient)) {
    for (seed, faults) in [(1, Faults::none()), (2, Faults::rough())] {
        let mut world = World::formed(seed, faults, 2, 2);
        for shard in 0..2 {
            let stranger = world.stranger(1, shard);
            say(&mut world, &stranger);
            world.run(wait_ms);
            world.until(4_000, "the end", |_| stranger.end().is_some());
        }
        assert_eq!(world.refused(1, reason), 2, "seed {seed}");
        assert!(world.is_formed(), "seed {seed}");
        for shard in 0..2 {
            assert_eq!(world.stats(1, shard).links_lost, 0, "seed {seed}");
        }
    }
}

fn bytes(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    bytes
}

#[test]
fn what_is_no_handshake_is_refused() {
    check_refused("malformed", 100, |_, stranger| stranger.send(b"\0\0\0\x02\xff\xff"));
    check_refused("malformed", 100, |_, stranger| {
        stranger.send(&bytes(&Frame::Letter { to: 0, from: spot(2, 0), bytes: b"let me in" }));
    });
    check_refused("malformed", 100, |_, stranger| stranger.send(&bytes(&Frame::Member(b"me"))));
    check_refused("oversize", 100, |_, stranger| {
        stranger.send(&(HELLO_BYTES_MAX as u32 + 1).to_be_bytes());
    });
    // HTTP's first four bytes are a length beyond all bounds.
    check_refused("oversize", 100, |_, stranger| stranger.send(b"GET / HTTP/1.1\r\n\r\n"));
    let (version, nonce) = (VERSION + 1, [7; 32]);
    check_refused("version", 100, |_, stranger| {
        stranger.send(&bytes(&Frame::Hello { version, nonce }));
    });
}

#[test]
fn who_says_nothing_is_refused_in_time() {
    check_refused("late", HANDSHAKE_MS_MAX, |_, _| {});
    check_refused("late", HANDSHAKE_MS_MAX, |_, stranger| {
        stranger.send(&bytes(&Frame::Hello { version: VERSION, nonce: [1; 32] })[..20]);
    });
}

/// A handshake of somebody with this secret.
fn greet(world: &mut World, stranger: &SimClient, secret: &str, node: u16) -> Option<Identity> {
    let me = Identity { node, epoch: 9, shard: 0, addresses: vec![address(node, 0)] };
    let view = View::alone(node, 9, 1);
    let now = world.net.now();
    let mut greeting = Handshake::dial(now, Arc::new(me), secrets(secret), [3; 32]);
    let mut came = Vec::new();
    for _ in 0..300 {
        let mut out = Vec::new();
        greeting.poll_transmit(&mut out);
        stranger.send(&out);
        world.run(1);
        came.extend(stranger.received());
        let used = greeting.handle_bytes(&came, &view).ok()?;
        came.drain(..used);
        if let Some(peer) = greeting.peer() {
            return Some(peer.clone());
        }
    }
    None
}

#[test]
fn another_secret_is_refused() {
    check_refused("secret", 0, |world, stranger| {
        let peer = greet(world, stranger, "not the one the others have", 3);
        assert_eq!(peer, None);
    });
}

#[test]
fn a_second_node_with_the_number_of_a_living_one_is_refused() {
    check_refused("same_number", 0, |world, stranger| {
        assert_eq!(greet(world, stranger, Plan::new(1, 1).secret, 2), None);
        assert_eq!(world.state(1, 2), Some(State::Alive));
    });
}

#[test]
fn who_knows_the_secret_and_breaks_the_rules_is_cut() {
    let secret = Plan::new(1, 1).secret;
    let large = (256 * 1024 + 64 * 1024 + 1_u32).to_be_bytes().to_vec();
    let letter = Frame::Letter { to: 0, from: spot(2, 0), bytes: b"in another's name" };
    for (reason, said) in [
        ("frame_oversize", large),
        ("frame_malformed", b"\0\0\0\x01\xff".to_vec()),
        ("forged", bytes(&letter)),
        ("forged", bytes(&Frame::Open)),
        ("member_malformed", bytes(&Frame::Member(b"\xff\xff\xff"))),
    ] {
        check_refused(reason, 0, |world, stranger| {
            // A follower gets no members' frames at all.
            let peer = greet(world, stranger, secret, 3).expect("it knows the secret");
            if peer.shard != 0 && reason == "member_malformed" {
                stranger.send(&[0, 0, 0, 1, 0xff]);
                world.run(100);
                assert_eq!(world.refused(1, "frame_malformed"), 1);
                let again = world.stranger(1, 0);
                greet(world, &again, secret, 3).expect("it knows the secret");
                again.send(&said);
            } else {
                stranger.send(&said);
            }
            world.run(100);
        });
    }
}

#[test]
fn a_node_with_another_secret_stays_outside_and_does_not_hammer() {
    let mut world = World::formed(4, Faults::none(), 2, 1);
    world.boot(Plan { secret: "not the one the others have", ..Plan::new(3, 1) });
    world.run(60_000);
    let refused = world.refused(1, "secret");
    assert!((5..30).contains(&refused), "{refused} in a minute");
    assert_eq!(world.stats(3, 0).refused_by_peers, refused);
    for node in 1..=2 {
        assert_eq!(world.state(node, 3), None);
        assert_eq!(world.stats(node, 0).links_lost, 0);
    }
    assert_eq!(world.state(1, 2), Some(State::Alive));
}

#[test]
fn secrets_are_replaced_node_by_node_while_all_goes_on() {
    let mut world = World::formed(5, Faults::none(), 3, 2);
    let (old, new) = (Plan::new(1, 1).secret, "what they will share from now on");
    for text in [format!("{old}\n{new}"), format!("{new}\n{old}"), new.to_owned()] {
        for node in 1..=3 {
            for post in &world.node(node).posts {
                assert!(post.send(Mail::Secrets(secrets(&text))).is_ok());
            }
            world.run(50);
            // Every link has to prove itself anew.
            world.net.reset_between(1, 2);
            world.net.reset_between(1, 3);
            world.net.reset_between(2, 3);
            world.until_formed();
        }
    }
    for node in 1..=3 {
        assert_eq!(world.refused(node, "secret"), 0);
    }
    let epoch = 301;
    world.kill(3);
    world.boot(Plan { epoch, ..Plan::new(3, 2) });
    world.run(2_000);
    assert!(0 < world.refused(1, "secret"), "the old one is no longer accepted");
    assert!(!world.is_formed());
}

#[test]
fn a_list_of_peers_may_name_its_reader() {
    let mut world = World::new(6, Faults::none());
    for node in 1..=3 {
        world.boot(Plan::new(node, 2).seeds(&[1, 2, 3]));
    }
    world.until_formed();
    world.run(10_000);
    for node in 1..=3 {
        assert_eq!(world.refused(node, "itself"), 0, "who knows its address does not dial it");
    }
    assert_eq!(world.stats(1, 0).dials, 2);
}

#[test]
fn a_node_that_is_told_to_dial_itself_by_another_name_notices() {
    let mut world = World::new(6, Faults::none());
    let mut plan = Plan::new(1, 1);
    plan.seeds = vec![address(99, 0), address(2, 0)];
    world.boot(plan);
    world.net.node(1).listen(0, super::world::MESH, address(99, 0));
    world.boot(Plan::new(2, 1));
    world.until_formed();
    world.run(30_000);
    let refused = world.refused(1, "itself");
    assert!((1..20).contains(&refused), "{refused} in half a minute");
}

#[test]
fn a_seed_that_is_not_a_first_shard_is_told_and_others_are_tried() {
    let mut world = World::new(6, Faults::none());
    world.boot(Plan::new(1, 2));
    let mut plan = Plan::new(2, 1);
    plan.seeds = vec![address(1, 1)];
    world.boot(plan);
    world.run(3_000);
    assert!(0 < world.refused(2, "wrong_peer"));
    assert_eq!(world.state(1, 2), None);
}

#[test]
fn two_nodes_with_one_number_are_told_and_the_cluster_goes_on() {
    let mut world = World::formed(8, Faults::none(), 3, 1);
    let twin = Plan { host: 9, epoch: 777, ..Plan::new(2, 1) };
    world.boot(twin.seeds(&[1, 3]));
    world.run(20_000);
    assert!(0 < world.refused(1, "same_number") + world.refused(3, "same_number"));
    let refused = world.refused(1, "same_number");
    assert!(refused < 60, "{refused} in 20 s");
    assert_eq!(world.state(1, 2), Some(State::Alive));
    assert_eq!(world.state(3, 2), Some(State::Alive));
    assert_eq!(world.stats(1, 0).links_lost, 0);
}

#[test]
fn strangers_fill_their_listener_and_nothing_else() {
    let mut world = World::formed(9, Faults::none(), 2, 1);
    let strangers: Vec<SimClient> = (0..300).map(|_| world.stranger(1, 0)).collect();
    world.run(50);
    let open = strangers.iter().filter(|stranger| stranger.is_open()).count();
    assert_eq!(open, 255, "one link is accepted already");
    assert_eq!(world.refused(1, "full"), 45);
    let client = world.client(1, 0);
    world.run(20);
    assert!(client.is_open(), "clients have their own room");
    world.run(HANDSHAKE_MS_MAX + 3_000);
    assert!(strangers.iter().all(|stranger| stranger.end().is_some()));
    world.boot(Plan::new(3, 1));
    world.until_formed();
}
