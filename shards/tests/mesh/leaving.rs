//! Nodes that go tell the others, and take nothing with them that somebody waits for.

use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::view::State;
use erlmcp_shards::io::sim::Faults;
use erlmcp_shards::net::LinkEvent;

use super::world::{World, seeds, spot};

#[test]
fn a_node_that_drains_is_leaving_for_all_until_its_last_shard_is_done() {
    for (seed, faults) in [(1, Faults::none()), (2, Faults::rough()), (3, Faults::rough())] {
        let mut world = World::formed(seed, faults, 3, 3);
        world.desk(2, 1).is_busy.set(true);
        world.drain(2, 60_000);
        world.until(1_000, "the news", |world| {
            [1, 2, 3].iter().all(|host| world.state(*host, 2) == Some(State::Leaving))
        });
        world.run(5_000);
        assert!((0..3).all(|shard| world.desk(2, shard).is_draining.get()));
        assert!(world.node(2).shards.iter().all(Option::is_some), "seed {seed}: one has work");
        // Idle shards still pass letters on, in both directions.
        world.desk(1, 0).post(spot(2, 2), Urgency::Request, b"12345678");
        world.desk(2, 0).post(spot(3, 1), Urgency::Reply, b"87654321");
        world.until(200, "letters", |world| {
            world.desk(2, 2).heard.borrow().len() + world.desk(3, 1).heard.borrow().len() == 2
        });
        assert_eq!(world.desk(1, 0).links(2, LinkEvent::Lost), 0, "seed {seed}");

        world.desk(2, 1).is_busy.set(false);
        let took =
            world.until(3_000, "the end", |world| world.node(2).shards.iter().all(Option::is_none));
        assert!(took < 1_000, "seed {seed}: {took} ms");
        world.until(500, "goodbye", |world| {
            [1, 3].iter().all(|host| world.state(*host, 2) == Some(State::Dead))
        });
        world.kill(2);
        world.until_formed();
    }
}

#[test]
fn the_deadline_ends_a_drain_whatever_is_in_flight() {
    let mut world = World::formed(4, Faults::none(), 2, 2);
    world.desk(2, 1).is_busy.set(true);
    world.drain(2, 2_000);
    world.run(1_990);
    assert!(world.node(2).shards.iter().any(Option::is_some));
    world.run(30);
    assert!(world.node(2).shards.iter().all(Option::is_none));
    world.kill(2);
    world.until(500, "death", |world| world.state(1, 2) == Some(State::Dead));
}

#[test]
fn clients_hold_up_a_drain_and_links_do_not() {
    let mut world = World::formed(5, Faults::none(), 2, 2);
    let client = world.client(2, 0);
    world.run(10);
    assert!(client.is_open());
    world.drain(2, 60_000);
    world.run(50);
    client.close();
    world.until(3_000, "the end", |world| world.node(2).shards.iter().all(Option::is_none));
}

#[test]
fn a_node_without_peers_drains_too() {
    let mut world = World::formed(6, Faults::none(), 1, 3);
    world.drain(1, 60_000);
    world.until(1_000, "the end", |world| world.node(1).shards.iter().all(Option::is_none));
}

#[test]
fn all_nodes_may_leave_at_once() {
    for seed in seeds(10) {
        let mut world = World::formed(seed, Faults::rough(), 4, 2);
        (1..=4).for_each(|host| world.drain(host, 60_000));
        world.until(8_000, "the end", |world| {
            world.nodes.iter().all(|node| node.shards.iter().all(Option::is_none))
        });
    }
}
