//! Lines and WebSockets over a simulated ring.

use crate::common::wire::{frame, get, parse_response, take_frames, text, upgrade};
use crate::common::{World, echo};
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::{ChunkLen, End, Faults};
use erlmcp_shards::net::PipeKind;

const PIECES: [ChunkLen; 4] =
    [ChunkLen::Whole, ChunkLen::Fixed(1), ChunkLen::Fixed(7), ChunkLen::Random(90)];

fn small() -> Limits {
    Limits { message_bytes_max: 300, ..Limits::default() }
}

/// Says `input` on a line connection, in pieces of every kind; checks all that comes back.
#[track_caller]
fn check_lines(input: &[u8], expect: &[u8], closes: bool) {
    for (seed, chunk) in PIECES.into_iter().enumerate() {
        let faults = Faults { chunk, ..Faults::none() };
        let mut world = World::with(seed as u64, faults, small(), 64);
        let client = world.lines();
        client.send(input);
        world.turns(input.len() + 100);
        let found = client.received();
        assert_eq!(
            found.escape_ascii().to_string(),
            expect.escape_ascii().to_string(),
            "{chunk:?}"
        );
        assert_eq!(client.end(), closes.then_some(End::Fin), "{chunk:?}");
        client.finish();
        world.turns(20);
        assert_eq!(client.end(), Some(End::Fin), "{chunk:?}");
        world.assert_clean();
    }
}

#[test]
fn each_line_is_one_message() {
    check_lines(b"one\ntwo\r\n\n  \nthree\n", b"one\ntwo\nthree\n", false);
    check_lines(b"later one\ntwo\n", b"two\none\n", false);
}

#[test]
fn a_line_of_the_limit_passes_and_one_byte_more_is_dropped() {
    let fits = [echo::big(300), b"\n".to_vec()].concat();
    check_lines(&fits, &fits, false);
    let mut input = [echo::big(301), b"\nnext\n".to_vec()].concat();
    check_lines(&input, b"too long\nnext\n", false);
    input.splice(0..0, echo::big(5_000));
    check_lines(&input, b"too long\nnext\n", false);
}

#[test]
fn the_server_closes_after_what_is_queued() {
    check_lines(b"big 250\nbye\nignored\n", &[echo::big(250), b"\n".to_vec()].concat(), true);
}

#[test]
fn the_end_of_input_ends_the_last_line_too() {
    for chunk in PIECES {
        let mut world = World::new(1, Faults { chunk, ..Faults::none() });
        let client = world.lines();
        client.send(b"one\ntwo");
        client.finish();
        world.turns(60);
        assert_eq!(client.received(), b"one\ntwo\n", "{chunk:?}");
        assert_eq!(client.end(), Some(End::Fin));
        assert_eq!((world.seen.messages.get(), world.seen.eofs.get()), (2, 1));
        world.assert_clean();
    }
}

#[test]
fn every_line_before_the_end_of_input_is_served_however_many() {
    let mut world = World::new(1, Faults::none());
    let client = world.lines();
    for number in 0..500 {
        client.send(format!("{number}\n").as_bytes());
    }
    client.finish();
    world.turns(200);
    assert_eq!(client.received().iter().filter(|&&byte| byte == b'\n').count(), 500);
    assert_eq!(world.seen.eofs.get(), 1);
    world.assert_clean();
}

#[test]
fn a_pipe_that_is_reset_is_closed_without_an_end_of_input() {
    let mut world = World::new(1, Faults::none());
    let client = world.lines();
    client.send(b"hello\n");
    world.settle();
    client.reset();
    world.settle();
    assert_eq!(world.seen.eofs.get(), 0);
    world.assert_clean();
}

#[test]
fn lines_have_no_idle_timeout() {
    let mut world = World::new(1, Faults::none());
    let client = world.lines();
    world.pass(1_000_000);
    client.send(b"still here\n");
    world.pass(100);
    assert_eq!(client.received(), b"still here\n");
}

/// Upgrades and says `input`; checks the frames that come back after the 101.
#[track_caller]
fn check_ws(input: &[u8], expect: &[(u8, &[u8])]) {
    for (seed, chunk) in PIECES.into_iter().enumerate() {
        for apart in [false, true] {
            let faults = Faults { chunk, ..Faults::none() };
            let mut world = World::with(seed as u64, faults, small(), 64);
            let client = world.http();
            client.send(&upgrade());
            if apart {
                world.turns(300);
            }
            client.send(input);
            world.turns(input.len() + 300);
            let mut bytes = client.received();
            let (response, used) = parse_response(&bytes).expect("an answer");
            assert_eq!(response.status, 101);
            assert!(
                response.head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
            );
            assert!(response.head.contains("Sec-WebSocket-Protocol: mcp\r\n"));
            bytes.drain(..used);
            let frames = take_frames(&mut bytes);
            let frames: Vec<_> =
                frames.iter().map(|(opcode, payload)| (*opcode, payload.as_slice())).collect();
            assert_eq!(frames, expect, "{chunk:?}");
            assert_eq!(bytes, b"");
            let closes = expect.last().is_some_and(|(opcode, _)| *opcode == 8);
            assert_eq!(client.end(), closes.then_some(End::Fin), "{chunk:?}");
            assert_eq!(*world.seen.kinds.borrow(), [PipeKind::WebSocket]);
            client.close();
            world.turns(20);
            world.assert_clean();
        }
    }
}

fn closing(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

#[test]
fn text_frames_are_messages_and_pings_get_pongs() {
    let input = [text(b"one"), frame(9, true, b"abc"), text(b"two"), frame(10, true, b"")].concat();
    check_ws(&input, &[(1, b"one"), (10, b"abc"), (1, b"two")]);
    let input = [frame(1, false, b"in "), frame(9, true, b""), frame(0, true, b"parts")].concat();
    check_ws(&input, &[(10, b""), (1, b"in parts")]);
    check_ws(&text(&echo::big(300)), &[(1, &echo::big(300))]);
}

#[test]
fn a_close_is_answered_with_its_code_and_ends_the_pipe() {
    let input = [text(b"one"), frame(8, true, &closing(1001, "gone")), text(b"late")].concat();
    check_ws(&input, &[(1, b"one"), (8, &closing(1001, ""))]);
    check_ws(&frame(8, true, b""), &[(8, b"")]);
    check_ws(&text(b"bye"), &[(8, &closing(1000, ""))]);
}

#[test]
fn what_breaks_the_rules_is_closed_with_its_code() {
    check_ws(&frame(2, true, b"x"), &[(8, &closing(1003, "text messages only"))]);
    let long = closing(1009, "the message is larger than the limit");
    check_ws(&text(&echo::big(301)), &[(8, &long)]);
    let broken = closing(1007, "the text message is not valid UTF-8");
    check_ws(&text(b"\xff\xfe"), &[(8, &broken)]);
    let unmasked = closing(1002, "a frame from a client must be masked");
    check_ws(b"\x81\x02hi", &[(8, &unmasked)]);
}

#[test]
fn a_websocket_that_answers_no_ping_is_cut_and_one_that_speaks_is_not() {
    let mut world = World::new(1, Faults::none());
    let (mute, alive) = (world.http(), world.http());
    for client in [&mute, &alive] {
        client.send(&upgrade());
    }
    world.turns(10);
    assert_eq!(world.active(), [0, 2, 0, 0]);
    for client in [&mute, &alive] {
        client.received();
    }
    for round in 0..3 {
        world.pass(20_000);
        alive.send(&frame(10, true, b""));
        world.pass(11_000);
        assert_eq!(mute.is_open(), round < 2, "round {round}");
    }
    assert_eq!(take_frames(&mut mute.received()), [(9, vec![]), (9, vec![])]);
    assert!(alive.is_open());
    assert_eq!(world.errors("ws_ping_timeout"), 1);
    assert_eq!(world.active(), [0, 1, 0, 0]);
}

#[test]
fn a_refused_upgrade_leaves_http_as_it_was() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(&get("/ws"));
    world.settle();
    assert_eq!(parse_response(&client.received()).expect("an answer").0.status, 400);
    client.send(&get("/nowhere"));
    world.settle();
    assert_eq!(parse_response(&client.received()).expect("an answer").0.status, 404);
}
