//! Letters arrive in order, once, and no link takes more than its room.

use std::collections::BTreeMap;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Urgency;
use erlmcp_shards::io::sim::{ChunkLen, Faults};
use erlmcp_shards::net::LinkEvent;

use super::world::{Dice, Plan, World, seeds, spot};

/// A letter with its number, who it is for, and filling.
fn numbered(number: u32, to: Spot, bytes: usize) -> Vec<u8> {
    let mut letter = number.to_be_bytes().to_vec();
    letter.extend(to.node.to_be_bytes());
    letter.extend(to.shard.to_be_bytes());
    letter.resize(letter.len().max(bytes), number as u8);
    letter
}

/// What was heard, by who said it to whom; checks that each letter is whole and where it belongs.
#[track_caller]
fn heard(world: &World) -> BTreeMap<(Spot, Spot), Vec<u32>> {
    let mut heard: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for node in &world.nodes {
        for (shard, desk) in node.desks.iter().enumerate() {
            let here = spot(node.plan.node, shard as u16);
            for (from, letter) in desk.heard.borrow().iter() {
                let number = u32::from_be_bytes(*letter.first_chunk().expect("a number"));
                assert_eq!(*letter, numbered(number, here, letter.len()), "from {from:?}");
                heard.entry((*from, here)).or_default().push(number);
            }
        }
    }
    heard
}

/// Every shard posts so many letters of all sizes to every shard of every other node.
fn post_to_all(world: &World, dice: &mut Dice, letters: u32, bytes_max: usize) -> usize {
    let spots: Vec<Spot> = world
        .nodes
        .iter()
        .flat_map(|node| (0..node.plan.shards).map(|shard| spot(node.plan.node, shard)))
        .collect();
    let mut count = 0;
    for from in &spots {
        for number in 0..letters {
            for to in spots.iter().filter(|to| to.node != from.node) {
                let urgency = [Urgency::Sync, Urgency::Request, Urgency::Reply][dice.below(3)];
                let letter = numbered(number, *to, dice.below(bytes_max));
                world.desk(from.node, from.shard).post(*to, urgency, &letter);
                count += 1;
            }
        }
    }
    count
}

#[track_caller]
fn check_exactly_once(seed: u64, faults: Faults, shards: &[u16], bytes_max: usize) {
    const LETTERS: u32 = 20;
    let mut world = World::new(seed, faults);
    for (node, shards) in (1..).zip(shards) {
        world.boot(Plan { queue_bytes_max: 64 << 20, ..Plan::new(node, *shards) });
    }
    world.until_formed();
    let mut dice = Dice(seed);
    let count = post_to_all(&world, &mut dice, LETTERS, bytes_max);
    world.until(60_000, "the last letter", |world| {
        let heard =
            world.nodes.iter().flat_map(|node| &node.desks).map(|desk| desk.heard.borrow().len());
        count <= heard.sum()
    });
    world.run(50);
    let expect: Vec<u32> = (0..LETTERS).collect();
    for ((from, to), numbers) in heard(&world) {
        assert_eq!(numbers, expect, "seed {seed}: from {from:?} to {to:?}");
    }
    let pairs = count / LETTERS as usize;
    assert_eq!(heard(&world).len(), pairs, "seed {seed}");
    let lost: u64 = (1..=shards.len() as u16)
        .flat_map(|node| (0..shards[usize::from(node) - 1]).map(move |shard| (node, shard)))
        .map(|(node, shard)| world.stats(node, shard).links_lost)
        .sum();
    assert_eq!(lost, 0, "seed {seed}");
}

#[test]
fn every_shard_reaches_every_other_in_order_and_once() {
    check_exactly_once(1, Faults::none(), &[1, 1], 300);
    check_exactly_once(2, Faults::none(), &[2, 2, 2], 300);
    check_exactly_once(3, Faults::none(), &[1, 2, 3], 300);
    check_exactly_once(4, Faults::none(), &[3, 1, 2, 1, 3], 300);
    check_exactly_once(5, Faults { chunk: ChunkLen::Fixed(1), ..Faults::none() }, &[2, 1], 60);
    check_exactly_once(6, Faults::none(), &[2, 2], 200_000);
}

#[test]
fn what_a_correct_shard_hides_costs_no_letter() {
    for seed in seeds(25) {
        let mut dice = Dice(seed);
        let shards: Vec<u16> = (0..2 + dice.below(3)).map(|_| 1 + dice.below(3) as u16).collect();
        check_exactly_once(seed, Faults::rough(), &shards, 3_000);
    }
}

#[test]
fn a_letter_of_the_limit_passes_and_a_larger_one_is_not_taken() {
    let mut world = World::formed(1, Faults::none(), 2, 1);
    // What a frame may have, less what the letter itself needs: found by trying, pinned from both sides.
    let limit = 256 * 1024 + 64 * 1024;
    let to = spot(2, 0);
    let taken = |world: &mut World, bytes: usize| {
        let before = world.desk(1, 0).posted(Urgency::Sync).0;
        world.desk(1, 0).post(to, Urgency::Sync, &numbered(1, to, bytes));
        world.run(300);
        world.desk(1, 0).posted(Urgency::Sync).0 != before
    };
    let fits = (limit - 40..limit).rev().find(|bytes| taken(&mut world, *bytes)).expect("fits");
    assert!(limit - 30 < fits, "{fits} of {limit}");
    assert!(!taken(&mut world, fits + 1));
    assert_eq!(heard(&world)[&(spot(1, 0), to)].len(), 1);
    assert!(0 < world.stats(1, 0).dropped["too_large"]);
    assert_eq!(world.stats(1, 0).links_lost, 0);
}

#[test]
fn a_letter_for_a_shard_that_is_not_there_is_dropped_and_counted() {
    let mut world = World::formed(1, Faults::none(), 2, 2);
    world.desk(1, 0).post(spot(2, 2), Urgency::Reply, b"nobody");
    world.desk(1, 0).post(spot(3, 0), Urgency::Reply, b"nobody");
    world.desk(1, 0).post(spot(1, 1), Urgency::Reply, b"my own node");
    world.run(20);
    assert_eq!(world.stats(2, 0).dropped.get("nowhere"), Some(&1));
    assert_eq!(world.stats(1, 0).dropped.get("no_link"), Some(&2));
    assert_eq!(world.desk(1, 0).posted(Urgency::Reply), (1, 2));
}

#[test]
fn a_link_short_of_room_refuses_by_urgency_and_says_when_it_has_room_again() {
    const ROOM: usize = 1024 * 1024;
    const LETTER: usize = 10_000;
    // What the sockets of the simulated kernel hold.
    const UNDER_WAY: usize = 256 * 1024;
    let mut world = World::formed(7, Faults::none(), 2, 1);
    world.stop(2, true);
    let to = spot(2, 0);
    let fill = |world: &mut World, urgency, number| {
        for _ in 0..(ROOM + UNDER_WAY) / LETTER + 20 {
            world.desk(1, 0).post(to, urgency, &numbered(number, to, LETTER));
        }
        world.run(20);
        world.desk(1, 0).posted(urgency)
    };
    let queued = |world: &mut World| world.stats(1, 0).queue_bytes as usize;
    let (_, refused) = fill(&mut world, Urgency::Sync, 1);
    assert!(0 < refused);
    // A send under way counts until it is complete, what the kernel took of it included.
    assert!((ROOM / 4..ROOM / 4 + 2 * LETTER).contains(&queued(&mut world)));
    let (_, refused) = fill(&mut world, Urgency::Request, 2);
    assert!(0 < refused);
    assert!((ROOM / 2..ROOM / 2 + 2 * LETTER).contains(&queued(&mut world)));
    assert_eq!(world.stats(1, 0).links_lost, 0);
    assert_eq!(world.desk(1, 0).links(2, LinkEvent::Drained), 0);

    world.stop(2, false);
    world.until(2_000, "room", |world| world.desk(1, 0).links(2, LinkEvent::Drained) == 1);
    let taken =
        world.desk(1, 0).posted(Urgency::Sync).0 + world.desk(1, 0).posted(Urgency::Request).0;
    world
        .until(2_000, "all letters", |world| world.desk(2, 0).heard.borrow().len() as u64 == taken);
    assert_eq!(world.desk(1, 0).links(2, LinkEvent::Drained), 1);
    assert_eq!(world.desk(1, 0).links(2, LinkEvent::Lost), 0);
}

#[test]
fn a_reply_without_room_cuts_the_link_and_everybody_is_told() {
    let mut world = World::formed(7, Faults::none(), 3, 2);
    world.stop(2, true);
    let to = spot(2, 1);
    for _ in 0..150 {
        world.desk(1, 1).post(to, Urgency::Reply, &numbered(1, to, 10_000));
    }
    world.run(30);
    let (taken, refused) = world.desk(1, 1).posted(Urgency::Reply);
    // One finds no room; those after it wait for the link that comes next.
    assert_eq!((taken, refused), (149, 1));
    assert_eq!(world.stats(1, 1).dropped["reply"], 1);
    for shard in 0..2 {
        assert_eq!(world.desk(1, shard).links(2, LinkEvent::Lost), 1, "shard {shard}");
        assert_eq!(world.desk(3, shard).links(2, LinkEvent::Lost), 0, "shard {shard}");
    }
    world.stop(2, false);
    world.until_formed();
    world.run(100);
    let heard = world.desk(2, 1).heard.borrow().len();
    let waited = 150 - 1024 * 1024 / 10_000;
    assert!((waited - 3..=waited).contains(&heard), "{heard} came");
}

#[test]
fn a_shard_that_is_slow_holds_up_its_letters_and_loses_none() {
    const LETTERS: u32 = 20_000;
    let mut world = World::new(3, Faults::none());
    for node in 1..=2 {
        world.boot(Plan { queue_bytes_max: 64 << 20, ..Plan::new(node, 2) });
    }
    world.until_formed();
    let (slow, quick) = (spot(2, 1), spot(2, 0));
    world.node(2).stopped[1] = true;
    for number in 0..LETTERS {
        world.desk(1, 0).post(slow, Urgency::Sync, &numbered(number, slow, 100));
    }
    world.desk(1, 0).post(quick, Urgency::Sync, &numbered(0, quick, 100));
    world.run(1_000);
    assert!(world.desk(2, 0).heard.borrow().is_empty(), "it is behind the others");
    assert!(world.stats(2, 0).letters_relayed < 2_000, "they wait where the sender feels it");
    world.node(2).stopped[1] = false;
    world.until(5_000, "all letters", |world| {
        world.desk(2, 1).heard.borrow().len() == LETTERS as usize
    });
    world.until(1_000, "the last one", |world| !world.desk(2, 0).heard.borrow().is_empty());
    let expect: Vec<u32> = (0..LETTERS).collect();
    assert_eq!(heard(&world)[&(spot(1, 0), slow)], expect);
    assert_eq!(world.desk(1, 0).links(2, LinkEvent::Lost), 0);
}

#[test]
fn a_shard_that_was_late_knows_who_writes_to_it() {
    for seed in seeds(30) {
        let mut world = World::new(seed, Faults::none());
        let boot = |world: &mut World, plan: Plan| {
            let (host, epoch) = (plan.host, plan.epoch);
            world.boot(plan);
            for desk in &world.node(host).desks {
                desk.greets.set(Some(epoch));
            }
        };
        boot(&mut world, Plan::new(1, 4));
        boot(&mut world, Plan::new(2, 2));
        world.until_formed();
        for epoch in [300, 301] {
            // Greetings of the third node wait where one shard of the first does not look, with the word of who
            // that node is.
            world.node(1).stopped[usize::from(1 + seed as u16 % 3)] = true;
            boot(&mut world, Plan { epoch, ..Plan::new(3, 2) });
            world.run(500 + seed);
            world.node(1).stopped.fill(false);
            world.until_formed();
            world.run(20);
            world.kill(3);
            world.run(500);
        }
        let desks = world.nodes.iter().flat_map(|node| &node.desks);
        let strangers: u64 = desks.map(|desk| desk.strangers.get()).sum();
        assert_eq!(strangers, 0, "seed {seed}");
    }
}
