use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

fn quiet_room(shards: u16) -> Mailroom<(u16, u32)> {
    Mailroom::new(shards, |_| {})
}

#[test]
fn letters_of_one_sender_arrive_in_order() {
    let mut room = quiet_room(2);
    let (mut post, _keep) = room.take(0).expect("shard 0");
    let (_, mut inbox) = room.take(1).expect("shard 1");
    for number in 0..50 {
        assert_eq!(post.send(1, (0, number)), Ok(false), "nobody is parked");
    }
    let mut got = Vec::new();
    assert_eq!(inbox.drain(usize::MAX, |(_, number)| got.push(number)), 50);
    assert_eq!(got, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_full_lane_gives_the_letter_back_and_leaves_the_others_open() {
    let mut room = quiet_room(3);
    let (mut flooder, _keep) = room.take(0).expect("shard 0");
    let (_, mut inbox) = room.take(1).expect("shard 1");
    let (mut modest, _keep) = room.take(2).expect("shard 2");
    let mut sent = 0;
    while flooder.send(1, (0, sent)).is_ok() {
        sent += 1;
    }
    assert_eq!(sent as usize, LANE_LETTERS_MAX);
    assert_eq!(flooder.full(), 1);
    assert_eq!(modest.send(1, (2, 7)), Ok(false));
    let mut first = Vec::new();
    inbox.drain(2 * LANE_BATCH, |letter| first.push(letter));
    assert!(first.contains(&(2, 7)), "the flooder's lane must not come first whole");
    assert_eq!(flooder.send(1, (0, sent)), Ok(false), "room again");
}

#[test]
fn a_letter_to_nobody_comes_back() {
    let mut room = quiet_room(1);
    let (mut post, inbox) = room.take(0).expect("shard 0");
    assert_eq!(post.send(1, (0, 1)), Err((0, 1)));
    drop((inbox, room));
    assert!(!post.is_gone(0));
    assert_eq!(post.send(0, (0, 2)), Err((0, 2)), "the receiver is gone");
    assert!(post.is_gone(0) && !post.is_gone(1));
    assert_eq!(post.full(), 2);
}

#[test]
fn budget_is_kept_and_the_rest_stays() {
    let mut room = quiet_room(1);
    let (mut post, mut inbox) = room.take(0).expect("shard 0");
    for number in 0..10 {
        assert_eq!(post.send(0, (0, number)), Ok(false));
    }
    assert_eq!(inbox.drain(4, |_| {}), 4);
    assert!(!inbox.park(), "six letters wait");
    assert_eq!(inbox.drain(100, |_| {}), 6);
    assert_eq!(inbox.drain(100, |_| {}), 0);
    assert!(inbox.park());
}

#[test]
fn exactly_one_sender_rings_a_sleeper() {
    let rung = Arc::new(AtomicUsize::new(0));
    let bell = rung.clone();
    let mut room = Mailroom::new(2, move |to| {
        assert_eq!(to, 1);
        bell.fetch_add(1, Ordering::SeqCst);
    });
    let (mut post, _keep) = room.take(0).expect("shard 0");
    let (_, mut inbox) = room.take(1).expect("shard 1");
    let foreign = room.foreign(1).expect("shard 1");

    assert!(inbox.park());
    assert_eq!(post.send(1, (0, 1)), Ok(true));
    assert_eq!(post.send(1, (0, 2)), Ok(false), "already rung");
    assert_eq!(foreign.send((9, 3)), Ok(()));
    assert_eq!(rung.load(Ordering::SeqCst), 0, "already rung");

    inbox.unpark();
    assert_eq!(inbox.drain(9, |_| {}), 3);
    assert!(inbox.park());
    assert_eq!(foreign.send((9, 4)), Ok(()));
    assert_eq!(rung.load(Ordering::SeqCst), 1);
}

#[test]
fn more_shards_than_lanes_share_them() {
    let shards = 70;
    let mut room = quiet_room(shards);
    let mut ends: Vec<_> = (0..shards).filter_map(|shard| room.take(shard)).collect();
    for (from, (post, _)) in ends.iter_mut().enumerate() {
        assert_eq!(post.send(69, (from as u16, 0)), Ok(false));
    }
    let mut senders = Vec::new();
    ends[69].1.drain(usize::MAX, |(from, _)| senders.push(from));
    senders.sort_unstable();
    assert_eq!(senders, (0..shards).collect::<Vec<_>>());
}

/// What a ring is to a shard: something that sleeps until rung.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().expect("bell") = true;
        self.wake.notify_one();
    }

    /// `false` when nobody rang in time.
    fn wait(&self, limit: Duration) -> bool {
        let rung = self.rung.lock().expect("bell");
        let (mut rung, _) = self.wake.wait_timeout_while(rung, limit, |rung| !*rung).expect("bell");
        std::mem::take(&mut *rung)
    }
}

/// Shards and foreign threads write to shard 0, which sleeps whenever it may. A lost wake-up shows as a
/// sleeper with mail.
#[test]
fn no_wake_up_is_lost() {
    const PER_SENDER: u32 = 30_000;
    let bell = Arc::new(Bell::default());
    let ring = bell.clone();
    let mut room: Mailroom<(u16, u32)> = Mailroom::new(4, move |_| ring.ring());
    let (_, mut inbox) = room.take(0).expect("shard 0");
    let mut writers = Vec::new();
    for shard in 1..3 {
        let (mut post, _keep) = room.take(shard).expect("sender");
        let bell = bell.clone();
        writers.push(thread::spawn(move || {
            let mut number = 0;
            while number < PER_SENDER {
                match post.send(0, (shard, number)) {
                    Ok(ring) => {
                        number += 1;
                        if ring {
                            bell.ring();
                        }
                    }
                    Err(_) => thread::yield_now(),
                }
                if number % 64 == 0 {
                    thread::yield_now(); // let the receiver run dry: the interesting moment
                }
            }
        }));
    }
    let foreign = room.foreign(0).expect("shard 0");
    writers.push(thread::spawn(move || {
        let mut number = 0;
        while number < PER_SENDER {
            match foreign.send((3, number)) {
                Ok(()) => number += 1,
                Err(_) => thread::yield_now(),
            }
            if number % 16 == 0 {
                thread::yield_now();
            }
        }
    }));

    let mut next = [0; 4];
    let mut sleeps = 0u32;
    let deadline = Instant::now() + Duration::from_secs(60);
    while next[1..].iter().any(|&number| number < PER_SENDER) {
        assert!(Instant::now() < deadline, "too slow: {next:?}");
        let taken = inbox.drain(256, |(from, number)| {
            assert_eq!(number, next[usize::from(from)], "from {from}: order");
            next[usize::from(from)] += 1;
        });
        if taken == 0 && inbox.park() {
            sleeps += 1;
            assert!(bell.wait(Duration::from_secs(20)), "slept with mail waiting: {next:?}");
            inbox.unpark();
        }
    }
    for writer in writers {
        writer.join().expect("writer");
    }
    assert!(0 < sleeps, "the test must have slept at least once to mean anything");
}

/// Every interleaving of one sender and one receiver over the real type, step by step: the model holds what
/// must be in the inbox, the bell counts who must ring.
#[test]
fn a_model_agrees_on_any_order_of_operations() {
    for seed in 1..400u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let rung = Arc::new(AtomicUsize::new(0));
        let bell = rung.clone();
        let mut room: Mailroom<(u16, u32)> =
            Mailroom::new(2, move |_| _ = bell.fetch_add(1, Ordering::SeqCst));
        let (mut post, _keep) = room.take(1).expect("shard 1");
        let (_, mut inbox) = room.take(0).expect("shard 0");
        let foreign = room.foreign(0).expect("shard 0");
        let mut oracle: [VecDeque<u32>; 2] = Default::default();
        let mut parked = false;
        for number in 0..200 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match (dice >> 40) % 4 {
                0 => {
                    assert_eq!(post.send(0, (0, number)), Ok(parked), "seed {seed}");
                    oracle[0].push_back(number);
                    parked = false;
                }
                1 => {
                    let before = rung.load(Ordering::SeqCst);
                    assert_eq!(foreign.send((1, number)), Ok(()), "seed {seed}");
                    let after = rung.load(Ordering::SeqCst);
                    assert_eq!(after - before, usize::from(parked), "seed {seed}");
                    oracle[1].push_back(number);
                    parked = false;
                }
                2 => {
                    inbox.unpark();
                    parked = false;
                    inbox.drain((dice >> 50) as usize % 8, |(lane, number)| {
                        assert_eq!(
                            oracle[usize::from(lane)].pop_front(),
                            Some(number),
                            "seed {seed}"
                        );
                    });
                }
                _ => {
                    let empty = oracle.iter().all(VecDeque::is_empty);
                    let slept = inbox.park();
                    // Knowing a lane to be empty takes one look more: refusing once is allowed, sleeping
                    // on mail is not.
                    assert!(empty || !slept, "seed {seed}: slept on mail");
                    parked = slept;
                }
            }
        }
    }
}
