//! Who finds whom, however they boot.

use erlmcp_shards::io::sim::Faults;

use super::world::{Plan, World};

#[test]
fn nodes_find_each_other_in_any_boot_order() {
    for (seed, order) in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [2, 1, 3]].into_iter().enumerate() {
        let mut world = World::new(seed as u64, Faults::none());
        for node in order {
            world.boot(Plan::new(node, 2));
            world.run(700);
        }
        world.until_formed();
    }
}
