//! Random traffic: what was sent is what arrives, however it was fragmented, masked and cut.

use crate::client::*;
use erlmcp_protocol::ws::CONTROL_BYTES_MAX;

#[test]
fn random_traffic_arrives_as_it_was_sent() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut expect = Vec::new();
        let mut wire = Vec::new();
        for _ in 0..=random.up_to(12) {
            message(&mut random, &mut wire, &mut expect);
        }
        let mut connection = Connection::new();
        let mut rest = &wire[..];
        let piece_bytes_max = [1, 7, 64, 2048, wire.len()][random.up_to(4)];
        while !rest.is_empty() {
            let piece;
            (piece, rest) = rest.split_at(random.up_to(piece_bytes_max).min(rest.len()));
            connection.feed(piece);
        }
        assert_eq!(connection.error, None, "seed {seed}");
        assert!(connection.seen == expect, "seed {seed}");
        assert!(connection.unread.is_empty(), "seed {seed}");
        assert_eq!(connection.decoder.assembled_bytes(), 0, "seed {seed}");
    }
}

/// One message in random fragments with control frames in between.
fn message(random: &mut Random, wire: &mut Vec<u8>, expect: &mut Vec<Seen>) {
    let length_max = [3, 130, 5000, 70_000][random.up_to(3)];
    let length = random.up_to(length_max);
    let is_text = random.up_to(3) != 0;
    let payload: Vec<u8> = if is_text {
        let alphabet = ['a', 'z', '\u{e9}', '\u{20ac}', '\u{1f600}', '\u{10ffff}', '\0'];
        (0..length / 3).map(|_| alphabet[random.up_to(6)]).collect::<String>().into_bytes()
    } else {
        (0..length).map(|_| random.next() as u8).collect()
    };
    let mut opcode = if is_text { TEXT } else { BINARY };
    let mut rest = &payload[..];
    let fragments = random.up_to(4);
    for left in (0..=fragments).rev() {
        if left < fragments && random.up_to(2) == 0 {
            control(random, wire, expect);
        }
        let size = if left == 0 { rest.len() } else { random.up_to(rest.len()) };
        let (piece, after) = rest.split_at(size);
        let fin = if left == 0 { FIN } else { 0 };
        wire.extend(frame_with_mask(fin | opcode, piece, (random.next() as u32).to_ne_bytes()));
        (rest, opcode) = (after, CONTINUATION);
    }
    expect.push(match String::from_utf8(payload) {
        Ok(payload) if is_text => Seen::Text(payload),
        Ok(payload) => Seen::Binary(payload.into_bytes()),
        Err(err) => Seen::Binary(err.into_bytes()),
    });
}

fn control(random: &mut Random, wire: &mut Vec<u8>, expect: &mut Vec<Seen>) {
    let payload: Vec<u8> =
        (0..random.up_to(CONTROL_BYTES_MAX)).map(|_| random.next() as u8).collect();
    let mask = (random.next() as u32).to_ne_bytes();
    if random.up_to(1) == 0 {
        wire.extend(frame_with_mask(FIN | PING, &payload, mask));
        expect.push(Seen::Ping(payload));
    } else {
        wire.extend(frame_with_mask(FIN | PONG, &payload, mask));
        expect.push(Seen::Pong(payload));
    }
}
