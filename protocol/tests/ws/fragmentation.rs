//! Autobahn chapter 5 (fragmentation) and case 10.1.1.

use crate::client::*;
use erlmcp_protocol::ws::WsError;

fn first(payload: &str) -> Vec<u8> {
    frame(TEXT, payload)
}

fn middle(payload: &str) -> Vec<u8> {
    frame(CONTINUATION, payload)
}

fn last(payload: &str) -> Vec<u8> {
    frame(FIN | CONTINUATION, payload)
}

// Autobahn sends most of these in one chop, per frame and per byte, as cases of their own; `check`
// does that to each.

#[test]
fn case_5_1_and_5_2_control_frames_may_not_be_fragmented() {
    let refused = WsError::ControlFragmented;
    for (case, opcode) in [("5.1", PING), ("5.2", PONG), ("and close", CLOSE)] {
        let frames = [frame(opcode, "fragment1"), last("fragment2")];
        check_fails(case, &frames, &[], refused);
        check_fails_at(case, &frames, 0, refused);
    }
}

#[test]
fn case_5_3_to_5_8_a_message_in_two_fragments() {
    check("5.3, 5.4, 5.5", &[first("fragment1"), last("fragment2")], &[text("fragment1fragment2")]);
    check(
        "5.6, 5.7, 5.8",
        &[first("fragment1"), frame(FIN | PING, "ping payload"), last("fragment2")],
        &[ping("ping payload"), text("fragment1fragment2")],
    );
}

#[test]
fn case_5_9_to_5_17_a_continuation_needs_a_message() {
    let refused = WsError::UnexpectedContinuation;
    let hello = || frame(FIN | TEXT, "Hello, world!");
    check_fails("5.9, 5.10, 5.11", &[last("nothing to continue"), hello()], &[], refused);
    check_fails("5.12, 5.13, 5.14", &[middle("nothing to continue"), hello()], &[], refused);
    check_fails(
        "5.15",
        &[first("fragment1"), last("fragment2"), middle("fragment3"), hello()],
        &[text("fragment1fragment2")],
        refused,
    );
    let twice = |stray: &dyn Fn(&str) -> Vec<u8>| {
        let once = [stray("fragment1"), first("fragment2"), last("fragment3")];
        [once.clone(), once].concat()
    };
    check_fails("5.16", &twice(&middle), &[], refused);
    check_fails("5.17", &twice(&last), &[], refused);
}

#[test]
fn case_5_18_a_message_may_not_interrupt_another() {
    let refused = WsError::MessageInterrupted;
    check_fails("5.18", &[first("fragment1"), frame(FIN | TEXT, "fragment2")], &[], refused);
    check_fails("binary", &[first("fragment1"), frame(FIN | BINARY, "")], &[], refused);
    check_fails("empty", &[first(""), first("")], &[], refused);
}

#[test]
fn case_5_19_and_5_20_pings_between_five_fragments() {
    check(
        "5.19, 5.20",
        &[
            first("fragment1"),
            middle("fragment2"),
            frame(FIN | PING, "pongme 1!"),
            middle("fragment3"),
            middle("fragment4"),
            frame(FIN | PING, "pongme 2!"),
            last("fragment5"),
        ],
        &[
            ping("pongme 1!"),
            ping("pongme 2!"),
            text("fragment1fragment2fragment3fragment4fragment5"),
        ],
    );
}

#[test]
fn case_10_1_1_a_message_of_65536_bytes_in_fragments_of_1300() {
    let payload = "*".repeat(65536);
    let pieces: Vec<&[u8]> = payload.as_bytes().chunks(1300).collect();
    let frames: Vec<Vec<u8>> = pieces
        .iter()
        .enumerate()
        .map(|(at, piece)| {
            let fin = if at + 1 == pieces.len() { FIN } else { 0 };
            frame(fin | if at == 0 { TEXT } else { CONTINUATION }, piece)
        })
        .collect();
    check("10.1.1", &frames, &[text(&payload)]);
}

#[test]
fn binary_fragments_are_not_held_to_utf8() {
    check(
        "binary in fragments",
        &[frame(BINARY, b"\xff\xfe"), frame(FIN | CONTINUATION, b"\xf0\x80")],
        &[binary(b"\xff\xfe\xf0\x80")],
    );
}

#[test]
fn messages_follow_one_another() {
    check(
        "mixed",
        &[
            first("a"),
            last("b"),
            frame(FIN | TEXT, "c"),
            frame(BINARY, b"\xd0"),
            last("d"),
            first("\u{e9}"),
            last(""),
        ],
        &[text("ab"), text("c"), binary(b"\xd0d"), text("\u{e9}")],
    );
}
