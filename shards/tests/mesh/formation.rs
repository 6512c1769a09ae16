//! Who finds whom, however they boot.

use erlmcp_shards::io::sim::Faults;

use super::world::{Dice, Plan, World, address, seeds};

/// Nodes boot in any order, some time apart, each knowing one or more of the others, so that all hang together.
#[test]
fn nodes_find_each_other_in_any_boot_order() {
    for seed in seeds(40) {
        let mut dice = Dice(seed);
        let faults = if seed % 2 == 0 { Faults::none() } else { Faults::rough() };
        let mut world = World::new(seed, faults);
        let count = 2 + dice.below(4) as u16;
        let mut plans: Vec<Plan> = (1..=count)
            .map(|node| {
                let before = 1 + dice.below(usize::from(node).max(2) - 1) as u16;
                let known = if node == 1 { 1 + dice.below(count.into()) as u16 } else { before };
                Plan::new(node, 1 + dice.below(3) as u16).seeds(&[known])
            })
            .collect();
        while !plans.is_empty() {
            let plan = plans.swap_remove(dice.below(plans.len()));
            world.boot(plan);
            world.run(dice.below(1_500) as u64);
        }
        let took = world.until_formed();
        assert!(took < 6_000, "seed {seed}: {took} ms");
    }
}

#[test]
fn a_seed_that_is_not_there_yet_is_asked_for_ever_and_never_hot() {
    let mut world = World::new(1, Faults::none());
    world.boot(Plan::new(2, 2));
    world.run(120_000);
    let dials = world.stats(2, 0).dials;
    assert!((40..200).contains(&dials), "{dials} in two minutes");
    assert_eq!(world.stats(2, 1).dials, 0, "who is no lead dials members only");
    world.boot(Plan::new(1, 2));
    let took = world.until_formed();
    assert!(took < 4_000, "{took} ms");
}

#[test]
fn nodes_of_one_shard_and_of_many_link_each_with_each() {
    let mut world = World::new(1, Faults::none());
    for (node, shards) in [(1, 1), (2, 5), (3, 2)] {
        world.boot(Plan::new(node, shards));
    }
    world.until_formed();
    // Shard i dials i mod n: the only shard of node 1 is called by all seven others.
    assert_eq!(world.stats(1, 0).links_in, 7);
    let of_three: Vec<u64> = (0..2).map(|shard| world.stats(3, shard).links_in).collect();
    assert_eq!(of_three, [1 + 3, 2]);
}

#[test]
fn a_node_that_knows_nobody_is_a_cluster_of_one_until_it_is_called() {
    let mut world = World::new(1, Faults::none());
    let mut plan = Plan::new(1, 2);
    plan.seeds = Vec::new();
    world.boot(plan);
    world.run(1_000);
    assert!(world.is_formed());
    world.boot(Plan::new(2, 2));
    world.until_formed();
    assert_eq!(world.node(2).plan.seeds, [address(1, 0)]);
}
