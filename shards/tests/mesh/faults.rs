//! Links break, networks part, nodes stop and die: whoever waits is told, and in the end all is as it was.

use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::view::State;
use erlmcp_shards::io::sim::Faults;
use erlmcp_shards::net::LinkEvent;

use super::world::{Dice, HEARTBEAT_MS, NODE_TIMEOUT_MS, Plan, World, seeds, spot};

fn lost(world: &World, host: u16, shard: u16, node: u16) -> usize {
    world.desk(host, shard).links(node, LinkEvent::Lost)
}

#[test]
fn a_link_that_breaks_is_told_to_all_shards_of_both_nodes_and_to_nobody_else() {
    for seed in seeds(10) {
        let mut world = World::formed(seed, Faults::none(), 3, 3);
        assert!(0 < world.net.reset_between(1, 2));
        world.run(5);
        for shard in 0..3 {
            assert!(0 < lost(&world, 1, shard, 2), "seed {seed}: shard {shard} of 1");
            assert!(0 < lost(&world, 2, shard, 1), "seed {seed}: shard {shard} of 2");
            let others = lost(&world, 3, shard, 1) + lost(&world, 3, shard, 2);
            assert_eq!(others, 0, "seed {seed}: shard {shard} of 3");
        }
        world.until_formed();
        assert_eq!(world.state(3, 2), Some(State::Alive), "seed {seed}");
    }
}

#[test]
fn a_process_that_dies_is_dead_in_a_fifth_of_a_second_and_comes_back_as_another_run() {
    for seed in seeds(10) {
        let mut world = World::formed(seed, Faults::none(), 4, 2);
        world.run(300 + seed * 37);
        world.kill(3);
        let took = world.until(1_000, "death", |world| {
            [1, 2, 4].iter().all(|host| world.state(*host, 3) == Some(State::Dead))
        });
        assert!(took < 200, "seed {seed}: {took} ms");
        for shard in 0..2 {
            assert!(0 < lost(&world, 1, shard, 3), "seed {seed}");
        }
        world.run(1_000);
        world.boot(Plan { epoch: 333, ..Plan::new(3, 1) });
        let took = world.until_formed();
        assert!(took < 4_000, "seed {seed}: {took} ms");
    }
}

#[test]
fn a_silent_network_is_noticed_in_two_seconds_and_heals() {
    for seed in seeds(6) {
        let mut world = World::formed(seed, Faults::rough(), 4, 2);
        world.net.partition(&[1, 2], &[3, 4]);
        let took = world.until(5_000, "both halves", |world| {
            let sees = |host, of| world.state(host, of);
            [1, 2].iter().all(|one| {
                [3, 4].iter().all(|other| {
                    sees(*one, *other) == Some(State::Dead)
                        && sees(*other, *one) == Some(State::Dead)
                })
            })
        });
        assert!(took <= 2_000, "seed {seed}: {took} ms");
        for host in 1..=4_u16 {
            for shard in 0..2 {
                let far = if host <= 2 { 3 } else { 1 };
                let near = [2, 1, 4, 3][usize::from(host) - 1];
                assert!(0 < lost(&world, host, shard, far), "seed {seed}");
                assert_eq!(lost(&world, host, shard, near), 0, "seed {seed}");
            }
        }
        world.run(5_000 + seed * 700);
        world.net.heal();
        let took = world.until_formed();
        assert!(took < 5_000, "seed {seed}: {took} ms");
    }
}

#[test]
fn who_is_heard_and_cannot_hear_is_seen_by_all_in_the_same_way() {
    let mut world = World::formed(3, Faults::none(), 3, 2);
    world.net.node(1).mute(2);
    world.run(8_000);
    // Whatever they agree on, they must agree, and come back when it is over.
    world.net.heal();
    world.until_formed();
}

#[test]
fn a_node_that_was_stopped_comes_back_as_itself() {
    for seed in seeds(6) {
        let mut world = World::formed(seed, Faults::none(), 3, 2);
        world.stop(2, true);
        world.run(NODE_TIMEOUT_MS / 2);
        world.stop(2, false);
        world.run(500);
        assert_eq!(world.state(1, 2), Some(State::Alive), "seed {seed}: a short stop is none");
        assert_eq!(lost(&world, 1, 0, 2), 0);

        world.stop(2, true);
        let took = world.until(4_000, "death", |world| {
            [1, 3].iter().all(|host| world.state(*host, 2) == Some(State::Dead))
        });
        assert!(took <= NODE_TIMEOUT_MS + 2 * HEARTBEAT_MS, "seed {seed}: {took} ms");
        world.run(5_000 - took);
        let before = world.desk(2, 0).links(1, LinkEvent::Lost);
        world.stop(2, false);
        let took = world.until_formed();
        assert!(took < 3_000, "seed {seed}: {took} ms");
        for shard in 0..2 {
            assert!(
                before < lost(&world, 2, shard, 1),
                "seed {seed}: it must learn what it missed"
            );
        }
    }
}

#[test]
fn nobody_dies_of_being_busy() {
    // Every turn of every shard takes long, for a minute; now and then one takes very long.
    for turn_ms in [20, 90, 250] {
        let mut world = World::formed(turn_ms, Faults::none(), 4, 2);
        let mut passed = 0;
        while passed < 60_000 {
            let ms = if world.dice.below(50) == 0 { 3 * turn_ms } else { turn_ms };
            world.step(ms);
            passed += ms;
        }
        for host in 1..=4 {
            for shard in 0..2 {
                let stats = world.stats(host, shard);
                assert_eq!((stats.links_lost, stats.links_out), (0, 3), "turns of {turn_ms} ms");
            }
        }
    }
}

/// Nodes come, go and come again, links break, and all the while every shard asks every other: each request that
/// was taken is answered, or its sender hears that a link was lost. Answers may be made before the link they go by.
#[test]
fn nobody_waits_for_an_answer_that_does_not_come() {
    let (mut answered, mut refused) = (0, 0);
    for seed in seeds(30) {
        let mut dice = Dice(seed);
        let mut world = World::new(seed, Faults::rough());
        let (nodes, shards) = (3, 1 + dice.below(3) as u16);
        let plan = |node: u16, epoch| Plan { epoch, ..Plan::new(node, shards) };
        let (mut number, mut epoch) = (0_u32, 1_000);
        (1..=nodes).for_each(|node| world.boot(plan(node, u32::from(node))));
        for _ in 0..1_500 {
            for node in &world.nodes {
                for (shard, desk) in node.desks.iter().enumerate() {
                    desk.answers.set(true);
                    let to = 1 + dice.below(nodes.into()) as u16;
                    if to == node.plan.node {
                        continue;
                    }
                    number += 1;
                    let to = spot(to, (shard + dice.below(2)) as u16 % shards);
                    desk.post(to, Urgency::Request, &number.to_be_bytes());
                }
            }
            match dice.below(400) {
                0 => {
                    let victim = 1 + dice.below(nodes.into()) as u16;
                    world.kill(victim);
                    world.run(dice.below(300) as u64);
                    epoch += 1;
                    world.boot(plan(victim, epoch));
                }
                1..=3 => _ = world.net.reset_between(1, 2 + dice.below(2) as u16),
                _ => {}
            }
            world.step(2);
        }
        world.until_formed();
        world.run(3_000);
        for node in &world.nodes {
            for desk in &node.desks {
                let waiting = desk.waiting.borrow();
                assert!(
                    waiting.is_empty(),
                    "seed {seed}: {} waits for {waiting:?}",
                    node.plan.node
                );
                answered += desk.answered.get();
                refused += desk.posted(Urgency::Request).1;
            }
        }
    }
    let is_enough = 10_000 < answered && 1_000 < refused;
    assert!(is_enough || seeds(30) != (0..30), "too kind: {answered} answered, {refused} refused");
}

/// Letters of each pair arrive in order and at most once, whatever breaks; afterwards all is well.
#[test]
fn in_a_wild_world_letters_arrive_at_most_once_and_the_cluster_recovers() {
    let mut resets = 0;
    let mut letters = 0;
    for seed in seeds(40) {
        let mut dice = Dice(seed);
        let nodes = 3 + dice.below(3) as u16;
        let faults = Faults { reset_permille: 1, short_send: 1, ..Faults::wild() };
        let mut world = World::new(seed, Faults::rough());
        for node in 1..=nodes {
            world.boot(Plan::new(node, 1 + dice.below(3) as u16));
        }
        world.until_formed();
        world.net.set_faults(faults);
        let mut number = 0_u32;
        let mut epoch = 10_000;
        for _ in 0..40 {
            for _ in 0..dice.below(30) {
                let (from, to) = (dice.below(world.nodes.len()), dice.below(world.nodes.len()));
                let (from, to) = (&world.nodes[from].plan, &world.nodes[to].plan);
                let at = (from.host, dice.below(from.shards.into()) as u16);
                let to = spot(to.node, dice.below(to.shards.into()) as u16);
                number += 1;
                let mut letter = number.to_be_bytes().to_vec();
                letter.resize(4 + dice.below(2_000), 0);
                let urgency = [Urgency::Sync, Urgency::Request, Urgency::Reply][dice.below(3)];
                world.desk(at.0, at.1).post(to, urgency, &letter);
            }
            let victim = 1 + dice.below(nodes.into()) as u16;
            match dice.below(40) {
                0 => {
                    let plan = world.node(victim).plan.clone();
                    world.kill(victim);
                    world.run(dice.below(400) as u64);
                    epoch += 1;
                    world.boot(Plan { epoch, ..plan });
                }
                1 => world.stop(victim, true),
                2 => (1..=nodes).for_each(|node| world.stop(node, false)),
                3 => {
                    let rest: Vec<u16> = (1..=nodes).filter(|node| *node != victim).collect();
                    world.net.partition(&[victim], &rest);
                }
                4 => world.net.heal(),
                5 => _ = world.net.reset_between(victim, 1 + victim % nodes),
                _ => {}
            }
            world.run(dice.below(120) as u64);
        }
        world.net.heal();
        world.net.set_faults(Faults::rough());
        (1..=nodes).for_each(|node| world.stop(node, false));
        let took = world.until_formed();
        assert!(took < 15_000, "seed {seed}: {took} ms");
        for node in &world.nodes {
            for desk in &node.desks {
                let mut last = std::collections::BTreeMap::new();
                for (from, letter) in desk.heard.borrow().iter() {
                    letters += 1;
                    let number = u32::from_be_bytes(*letter.first_chunk().expect("a number"));
                    let before = last.insert(*from, number).unwrap_or(0);
                    assert!(before < number, "seed {seed}: {number} after {before} from {from:?}");
                }
            }
        }
        resets += world.net.tally().resets;
        // And nothing is left of what broke.
        world.run(7_000);
        for host in 1..=nodes {
            for shard in 0..world.node(host).plan.shards {
                let queue_bytes = world.stats(host, shard).queue_bytes;
                assert!(queue_bytes < 1_000, "seed {seed}: {queue_bytes} bytes wait");
            }
        }
    }
    let is_enough = 100 < resets && 5_000 < letters;
    assert!(is_enough || seeds(40) != (0..40), "too kind: {resets} resets, {letters} letters");
}
