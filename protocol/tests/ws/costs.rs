//! What a connection costs: no copy of a whole message, a bound on an assembled one, nothing kept.

use crate::client::*;
use erlmcp_protocol::Parsed;
use erlmcp_protocol::ws::{Decoder, Event, WsError, close};

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 32, "{} bytes", size_of::<Decoder>());
}

#[test]
fn a_message_in_one_frame_is_borrowed_from_the_input() {
    let mut input = frame(FIN | TEXT, "where I lie");
    let payload_at = input.as_ptr() as usize + 6;
    let mut decoder = Decoder::default();
    match decoder.read(&mut input, MESSAGE_BYTES_MAX) {
        Ok(Parsed::Complete(Event::Text(payload), 17)) => {
            assert_eq!(payload, "where I lie");
            assert_eq!(payload.as_ptr() as usize, payload_at);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(decoder.assembled_bytes(), 0);
}

#[test]
fn only_the_first_frame_is_consumed() {
    let mut input = [frame(FIN | PING, "a"), frame(FIN | TEXT, "b")].concat();
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.read(&mut input, MESSAGE_BYTES_MAX),
        Ok(Parsed::Complete(Event::Ping(b"a"), 7)),
    );
}

/// Unmasking twice would give the masked bytes back, so the text itself shows that each byte was
/// unmasked once however the frame was cut.
#[test]
fn a_frame_of_16_mib_may_come_in_pieces_of_2_kib() {
    let payload = "0123456789abcde\u{e9}".repeat(MESSAGE_BYTES_MAX / 17);
    let bytes = frame(FIN | TEXT, &payload);
    let mut decoder = Decoder::default();
    let mut unread = Vec::with_capacity(bytes.len());
    for piece in bytes.chunks(2048) {
        unread.extend_from_slice(piece);
        if unread.len() < bytes.len() {
            assert_eq!(decoder.read(&mut unread, MESSAGE_BYTES_MAX), Ok(Parsed::Partial));
        }
    }
    match decoder.read(&mut unread, MESSAGE_BYTES_MAX) {
        Ok(Parsed::Complete(Event::Text(read), used)) => {
            assert!(read == payload && used == bytes.len());
        }
        other => panic!("{:?}", other.map(|_| "another event")),
    }
}

#[test]
fn a_message_may_be_as_large_as_the_limit_and_no_larger() {
    assert_eq!(WsError::MessageTooLarge.close_code(), close::TOO_BIG);
    let limit = 1000;
    let outcome = |frames: &[Vec<u8>]| {
        let mut connection = Connection::with_limit(limit);
        connection.feed(&frames.concat());
        (connection.seen.len(), connection.error)
    };
    let too_large = (0, Some(WsError::MessageTooLarge));
    for first in [TEXT, BINARY] {
        assert_eq!(outcome(&[frame(FIN | first, [b'a'; 1000])]), (1, None));
        assert_eq!(outcome(&[frame(FIN | first, [b'a'; 1001])]), too_large);
        let fragments = |last: usize| [frame(first, [b'a'; 600]), frame(FIN, vec![b'a'; last])];
        assert_eq!(outcome(&fragments(400)), (1, None));
        assert_eq!(outcome(&fragments(401)), too_large);
    }
    // The head alone is enough; nothing needs to be stored to refuse it.
    let head = &frame(FIN | TEXT, [b'a'; 1001])[..8];
    assert_eq!(outcome(&[head.to_vec()]), too_large);
    // The limit is on messages: a control frame may come at any time.
    let full = [frame(TEXT, [b'a'; 1000]), frame(FIN | PING, [0; 125]), frame(FIN, "")];
    assert_eq!(outcome(&full), (2, None));
}

#[test]
fn a_fragmented_message_is_held_within_the_limit_and_then_freed() {
    let limit = 10_000;
    let mut connection = Connection::with_limit(limit);
    connection.feed(&frame(TEXT, ""));
    assert!(connection.decoder.is_mid_message());
    for _ in 0..100 {
        connection.feed(&frame(CONTINUATION, [b'a'; 99]));
        assert!(connection.decoder.assembled_bytes() <= limit + 64);
    }
    assert!(9_900 <= connection.decoder.assembled_bytes());
    connection.feed(&frame(FIN, [b'a'; 100]));
    assert_eq!(connection.seen, [text(&"a".repeat(limit))]);
    assert!(!connection.decoder.is_mid_message());
    assert_eq!(connection.decoder.assembled_bytes(), 0);
}

#[test]
fn an_ended_connection_holds_nothing() {
    for ending in [
        close_frame(1000, ""),
        frame(FIN | TEXT, ""),
        frame(CONTINUATION, b"\xff"),
        frame(FIN | CONTINUATION, b"\xc3"),
    ] {
        let mut connection = Connection::new();
        connection.feed(&frame(TEXT, "begun"));
        assert!(connection.decoder.is_mid_message());
        connection.feed(&ending);
        assert!(!connection.decoder.is_mid_message());
        assert_eq!(connection.decoder.assembled_bytes(), 0);
    }
}

#[test]
fn the_limit_may_be_zero() {
    let mut connection = Connection::with_limit(0);
    connection.feed(&[frame(FIN | TEXT, ""), frame(FIN | PING, "p"), frame(TEXT, "")].concat());
    connection.feed(&frame(FIN, "a"));
    assert_eq!(connection.seen, [text(""), ping("p")]);
    assert_eq!(connection.error, Some(WsError::MessageTooLarge));
}
