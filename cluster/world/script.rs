//! A random bad day, and its end.

use crate::Millis;

use super::{Faults, Power, World};

/// All kinds of faults, for `ms`.
pub fn torment(world: &mut World, ms: Millis) {
    let end = world.now + ms;
    while world.now < end {
        misfortune(world);
        let pause = 20 + world.dice.below(700);
        world.run_for(pause.min(end - world.now).max(1));
    }
}

fn misfortune(world: &mut World) {
    let count = world.nodes.len();
    let slot = world.dice.index(count);
    let other = world.dice.index(count);
    match world.dice.below(14) {
        0 => world.power_off(slot, Power::ProcessGone),
        1 => world.power_off(slot, Power::HostGone),
        2 | 3 => world.boot(slot),
        4 => {
            let size = 1 + world.dice.index(count - 1);
            let side: Vec<usize> = (0..size).map(|_| world.dice.index(count)).collect();
            world.partition(&side);
        }
        5 => world.cut_wire(slot, other),
        6 | 7 => world.heal(),
        8 => world.break_some_link(),
        9 => {
            let ms = world.dice.below(6_000);
            world.stop(slot, ms);
        }
        10 => {
            let jump = world.dice.below(100_000_000);
            let node = &mut world.nodes[slot];
            let back = node.clock_start.saturating_sub(jump);
            node.clock_start = if jump.is_multiple_of(2) { node.clock_start + jump } else { back };
            node.clock_ppm = 950_000 + jump % 100_000;
        }
        11 => world.nodes[slot].late_ms = world.dice.below(500),
        12 => {
            let dice = &mut world.dice;
            world.faults = Faults {
                loss_permille: dice.below(300),
                double_permille: dice.below(300),
                delay_permille: dice.below(300),
                delay_ms: dice.below(800),
            };
        }
        _ => {
            world.command(slot, |machine, clock| machine.leave(clock));
            if world.dice.permille(500) {
                world.command(slot, |machine, clock| machine.goodbye(clock));
                world.power_off(slot, Power::ProcessGone);
            }
        }
    }
}

/// Nothing goes wrong any more. Some nodes stay off; one of the configured peers is on. Returns who is.
pub fn calm(world: &mut World) -> Vec<usize> {
    world.heal();
    world.faults = Faults::default();
    for slot in 0..world.nodes.len() {
        let node = &mut world.nodes[slot];
        node.late_ms = 0;
        let leaves = node.machine.as_ref().is_some_and(|machine| {
            let view = machine.view();
            view.member(view.me).is_some_and(|me| !me.takes())
        });
        let is_on = node.machine.is_some();
        if leaves || !is_on && (slot == 0 || world.dice.permille(500)) {
            world.boot(slot);
        }
        world.resume(slot);
    }
    world.running()
}
