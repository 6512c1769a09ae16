//! Autobahn chapters 1 (framing), 2 (pings and pongs), 3 (reserved bits), 4 (opcodes), and what RFC
//! 6455 §5.1 and §5.2 ask beyond them.

use crate::client::*;
use erlmcp_protocol::ws::WsError;

const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65535, 65536];

#[test]
fn case_1_1_text_messages_of_every_length_form() {
    for (at, length) in LENGTHS.into_iter().enumerate() {
        let payload = "*".repeat(length);
        check(&format!("1.1.{}", at + 1), &[frame(FIN | TEXT, &payload)], &[text(&payload)]);
    }
    // 1.1.8 is 1.1.7 in chops of 997 bytes, which `check` does to every case.
}

#[test]
fn case_1_2_binary_messages_of_every_length_form() {
    for (at, length) in LENGTHS.into_iter().enumerate() {
        let payload = vec![0xfe; length];
        check(&format!("1.2.{}", at + 1), &[frame(FIN | BINARY, &payload)], &[binary(&payload)]);
    }
}

#[test]
fn case_2_pings_and_pongs_carry_their_payload() {
    let not_text = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    check("2.1", &[frame(FIN | PING, "")], &[ping("")]);
    check("2.2", &[frame(FIN | PING, "Hello, world!")], &[ping("Hello, world!")]);
    check("2.3", &[frame(FIN | PING, not_text)], &[ping(not_text)]);
    check("2.4, 2.6", &[frame(FIN | PING, [0xfe; 125])], &[ping([0xfe; 125])]);
    check_fails("2.5", &[frame(FIN | PING, [0xfe; 126])], &[], WsError::ControlTooLong);
    check("2.7", &[frame(FIN | PONG, "")], &[pong("")]);
    check("2.8", &[frame(FIN | PONG, "unsolicited")], &[pong("unsolicited")]);
    check(
        "2.9",
        &[frame(FIN | PONG, "unsolicited"), frame(FIN | PING, "ping")],
        &[pong("unsolicited"), ping("ping")],
    );
    let payloads: Vec<String> = (0..10).map(|at| format!("payload-{at}")).collect();
    check(
        "2.10, 2.11",
        &payloads.iter().map(|payload| frame(FIN | PING, payload)).collect::<Vec<_>>(),
        &payloads.iter().map(ping).collect::<Vec<_>>(),
    );
}

#[test]
fn case_3_reserved_bits_are_refused() {
    let hello = || frame(FIN | TEXT, "Hello, world!");
    let refused = WsError::ReservedBits;
    let with_bits = |rsv: u8, opcode: u8, payload: &str| frame(FIN | rsv << 4 | opcode, payload);
    check_fails("3.1", &[with_bits(1, TEXT, "Hello, world!")], &[], refused);
    for rsv in [2, 3, 4] {
        check_fails(
            &format!("3.{rsv}"),
            &[hello(), with_bits(rsv, TEXT, "Hello, world!"), frame(FIN | PING, "")],
            &[text("Hello, world!")],
            refused,
        );
    }
    check_fails("3.5", &[with_bits(5, BINARY, "\0\u{7f}\0")], &[], refused);
    check_fails("3.6", &[with_bits(6, PING, "Hello, world!")], &[], refused);
    check_fails("3.7", &[with_bits(7, CLOSE, "")], &[], refused);
    // The bits are in the first byte, so it alone is enough.
    check_fails_at("3.1", &[with_bits(1, TEXT, "Hello, world!")], 0, refused);
}

#[test]
fn case_4_reserved_opcodes_are_refused() {
    let refused = WsError::ReservedOpcode;
    for (chapter, first) in [("4.1", 3), ("4.2", 11)] {
        check_fails(&format!("{chapter}.1"), &[frame(FIN | first, "")], &[], refused);
        let with_payload = frame(FIN | (first + 1), "reserved opcode payload");
        check_fails(&format!("{chapter}.2"), &[with_payload], &[], refused);
        for (case, payload) in [(3, ""), (4, "Hello, world!"), (5, "Hello, world!")] {
            check_fails(
                &format!("{chapter}.{case}"),
                &[
                    frame(FIN | TEXT, "Hello, world!"),
                    frame(FIN | (first + case - 1), payload),
                    frame(FIN | PING, ""),
                ],
                &[text("Hello, world!")],
                refused,
            );
        }
    }
}

#[test]
fn frames_of_a_client_must_be_masked() {
    for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
        let unmasked = vec![FIN | opcode, 0];
        check_fails("unmasked", std::slice::from_ref(&unmasked), &[], WsError::Unmasked);
        check_fails_at("unmasked", &[unmasked], 1, WsError::Unmasked);
    }
}

#[test]
fn any_mask_will_do() {
    for mask in [[0; 4], [0xff; 4], [1, 2, 3, 4], [0, 0, 0, 0x80]] {
        for length in 0..40 {
            let payload = "0123456789".repeat(4)[..length].to_owned();
            let bytes = frame_with_mask(FIN | TEXT, payload.as_bytes(), mask);
            check(&format!("mask {mask:?}, {length} bytes"), &[bytes], &[text(&payload)]);
        }
    }
}

/// RFC 6455 §5.2: the minimal number of bytes MUST be used to encode the length.
#[test]
fn a_length_must_be_written_in_the_fewest_bytes() {
    let in_16_bits = |length: u16| [&[0x82, 0x80 | 126][..], &length.to_be_bytes()].concat();
    let in_64_bits = |length: u64| [&[0x82, 0x80 | 127][..], &length.to_be_bytes()].concat();
    let refused = WsError::LengthNotMinimal;
    check_fails("125 in 16 bits", &[in_16_bits(125)], &[], refused);
    check_fails("0 in 64 bits", &[in_64_bits(0)], &[], refused);
    check_fails("65535 in 64 bits", &[in_64_bits(65535)], &[], refused);
    check_fails("2^63 bytes", &[in_64_bits(1 << 63)], &[], WsError::LengthTooLong);
    // The other side of both boundaries is in cases 1.2.3 and 1.2.7.
}
