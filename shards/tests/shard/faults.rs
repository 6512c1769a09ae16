//! The same conversations under thousands of seeds: pieces of any size, receives that end, completions that
//! stall or come late, sends cut short, connections that die. Whatever happens, answers are right and in
//! order, and nothing is left behind.

use crate::common::wire::{frame, get, parse_response, post, text, upgrade};
use crate::common::{World, echo};
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::{Faults, SimClient};
use erlmcp_shards::message::Mail;

/// Seeds per test.
const SEEDS: u64 = 1_000;

/// A test's own dice: the world's belong to the world.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below as u64) as usize
    }
}

/// One client: what it says, and everything it must hear.
struct Talk {
    client: SimClient,
    said: Vec<u8>,
    /// Bytes of `said` that were sent.
    sent: usize,
    expect: Vec<u8>,
    heard: Vec<u8>,
    is_http: bool,
}

impl Talk {
    fn new(world: &World, dice: &mut Dice) -> Self {
        let kind = dice.below(3);
        let client = if kind == 1 { world.lines() } else { world.http() };
        let mut talk = Self {
            client,
            said: Vec::new(),
            sent: 0,
            expect: Vec::new(),
            heard: Vec::new(),
            is_http: kind == 0,
        };
        if kind == 2 {
            talk.said = upgrade();
        }
        for number in 0..1 + dice.below(6) {
            match kind {
                0 => talk.add_request(dice),
                1 => talk.add_line(dice),
                _ => talk.add_frame(dice, number),
            }
        }
        talk
    }

    /// HTTP is compared by (status, body), written down one after the other.
    fn add_request(&mut self, dice: &mut Dice) {
        let size = [0, 3, 100, 3_000][dice.below(4)];
        let body = echo::big(dice.below(size + 1));
        let (said, body) = match dice.below(6) {
            0 => (post("/later", &body), body),
            1 => (get(&format!("/big?{}", body.len())), body),
            2 => (get("/nowhere"), b"nothing here".to_vec()),
            3 => {
                let events = dice.below(4) as u32;
                let mut text: Vec<u8> = (1..=events).rev().flat_map(echo::event).collect();
                text.extend_from_slice(b"data: end\n\n");
                (get(&format!("/stream?{events}")), text)
            }
            _ => (post("/echo", &body), body),
        };
        self.said.extend(said);
        self.expect.extend(body);
        self.expect.push(b'|');
    }

    fn add_line(&mut self, dice: &mut Dice) {
        let line = match dice.below(4) {
            0 => {
                let bytes = dice.below(4_000);
                self.expect.extend(echo::big(bytes));
                format!("big {bytes}")
            }
            1 => {
                self.expect.extend_from_slice(b"too long");
                "x".repeat(5_001 + dice.below(3_000))
            }
            _ => {
                let line = "y".repeat(1 + dice.below(5_000));
                self.expect.extend_from_slice(line.as_bytes());
                line
            }
        };
        self.said.extend_from_slice(line.as_bytes());
        self.said.push(b'\n');
        self.expect.push(b'\n');
    }

    fn add_frame(&mut self, dice: &mut Dice, number: usize) {
        let payload = echo::big(dice.below(2_000) + usize::from(number == 0));
        match dice.below(3) {
            0 => {
                let (one, two) = payload.split_at(dice.below(payload.len() + 1));
                self.said.extend(frame(1, false, one));
                self.said.extend(frame(9, true, b""));
                self.said.extend(frame(0, true, two));
                self.expect.extend_from_slice(&[0x8a, 0]);
            }
            _ => self.said.extend(text(&payload)),
        }
        let length = payload.len();
        self.expect.push(0x81);
        if length <= 125 {
            self.expect.push(length as u8);
        } else {
            self.expect.push(126);
            self.expect.extend_from_slice(&(length as u16).to_be_bytes());
        }
        self.expect.extend(payload);
    }

    /// Says a little more; hears what there is.
    fn go_on(&mut self, dice: &mut Dice) {
        let more = dice.below(3_000).min(self.said.len() - self.sent);
        self.client.send(&self.said[self.sent..self.sent + more]);
        self.sent += more;
        self.heard.extend(self.client.received());
    }

    /// What was heard, in the terms of `expect`; whole responses only.
    fn understood(&self) -> Vec<u8> {
        let mut bytes = self.heard.clone();
        if self.is_http {
            let mut bodies = Vec::new();
            while let Some((response, used)) = parse_response(&bytes) {
                bodies.extend(response.body);
                bodies.push(b'|');
                bytes.drain(..used);
            }
            return bodies;
        }
        match parse_response(&bytes) {
            Some((response, used)) if response.status == 101 => bytes.split_off(used),
            _ if self.said.starts_with(b"GET /ws") => Vec::new(),
            _ => bytes,
        }
    }
}

fn limits() -> Limits {
    Limits { message_bytes_max: 5_000, outbox_pause_bytes: 4_000, ..Limits::default() }
}

/// Nothing that a correct shard hides from its clients may be seen by them.
#[test]
fn in_a_rough_world_every_answer_is_right_and_in_order() {
    for seed in 0..SEEDS {
        let mut world = World::with(seed, Faults::rough(), limits(), 16);
        let mut dice = Dice(seed);
        let mut talks: Vec<Talk> = (0..5).map(|_| Talk::new(&world, &mut dice)).collect();
        world.until("the last answer", |_| {
            talks.iter_mut().for_each(|talk| talk.go_on(&mut dice));
            talks.iter().all(|talk| {
                talk.expect.len() <= talk.heard.len()
                    && talk.expect.len() <= talk.understood().len()
            })
        });
        for talk in &talks {
            let (found, expect) = (talk.understood(), &talk.expect);
            assert!(found == *expect, "seed {seed}: {}", talk.heard.escape_ascii());
            assert_eq!(talk.client.end(), None, "seed {seed}");
        }
        talks.iter().for_each(|talk| talk.client.close());
        world.until("the end of all connections", |world| world.shard.summary().cut == 0);
        world.assert_clean();
    }
}

/// Connections die, clients leave and stop reading; what was heard until then is right, and nothing leaks.
#[test]
fn in_a_wild_world_nothing_is_left_behind() {
    let mut resets = 0;
    let mut lates = 0;
    for seed in 0..SEEDS {
        let limits = Limits { connections_max: if seed % 3 == 0 { 4 } else { 0 }, ..limits() };
        let mut world = World::with(seed, Faults::wild(), limits, 12);
        let mut dice = Dice(seed);
        let mut talks: Vec<Talk> = Vec::new();
        for round in 0..60 {
            if round < 30 && dice.below(3) == 0 {
                talks.push(Talk::new(&world, &mut dice));
            }
            for talk in &mut talks {
                talk.go_on(&mut dice);
                match dice.below(60) {
                    0 => talk.client.reset(),
                    1 => talk.client.close(),
                    // Only when all is said: the end of input would end a line in the middle.
                    2 if talk.sent == talk.said.len() => talk.client.finish(),
                    3 => talk.client.stop_reading(),
                    4 => talk.client.read_only(100),
                    5..10 => talk.client.resume_reading(),
                    _ => {}
                }
            }
            world.turns(1 + dice.below(4));
        }
        for talk in &mut talks {
            talk.client.resume_reading();
            talk.heard.extend(talk.client.received());
            let found = talk.understood();
            let was_refused =
                talk.heard.starts_with(b"HTTP/1.1 503") || talk.heard.starts_with(b"{");
            let common = found.len().min(talk.expect.len());
            assert!(
                was_refused || found[..common] == talk.expect[..common],
                "seed {seed}: {}",
                talk.heard.escape_ascii()
            );
            talk.client.close();
        }
        assert!(world.post.send(Mail::Drain { deadline_ms: 60_000 }).is_ok());
        world.until("the end", |world| {
            world.net.advance(20);
            world.shard.is_over()
        });
        world.assert_clean();
        resets += world.net.tally().resets;
        lates += world.net.tally().late;
    }
    assert!(500 < resets && 100 < lates, "the world was too kind: {resets} resets, {lates} late");
}
