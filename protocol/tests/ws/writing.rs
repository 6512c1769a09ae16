//! What the server writes.

use crate::client::*;
use erlmcp_protocol::ws::{
    WsError, close, write_binary, write_close, write_ping, write_pong, write_text,
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    out.split_off(6)
}

#[test]
fn frames_of_the_server_are_final_and_unmasked() {
    // RFC 6455 §5.7.
    assert_eq!(written(|out| write_text(out, b"Hello")), b"\x81\x05Hello");
    assert_eq!(written(|out| write_pong(out, b"Hello")), b"\x8a\x05Hello");
    assert_eq!(written(|out| write_ping(out, b"")), b"\x89\x00");
    assert_eq!(written(|out| write_binary(out, b"\xff")), b"\x82\x01\xff");
}

#[test]
fn the_length_takes_the_fewest_bytes() {
    for (length, head) in [
        (0, &b"\x81\x00"[..]),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ] {
        let out = written(|out| write_text(out, &vec![b'a'; length]));
        assert_eq!(&out[..out.len() - length], head, "{length} bytes");
    }
}

#[test]
fn a_close_has_a_code_and_a_reason_that_fits() {
    assert_eq!(written(|out| write_close(out, 1000, "")), b"\x88\x02\x03\xe8");
    assert_eq!(written(|out| write_close(out, 1009, "big")), b"\x88\x05\x03\xf1big");
    assert_eq!(written(|out| write_close(out, close::NO_STATUS, "not sent")), b"\x88\x00");
    assert_eq!(written(|out| write_close(out, 1000, &"a".repeat(123))).len(), 2 + 125);
    assert_eq!(written(|out| write_close(out, 1000, &"a".repeat(124))).len(), 2 + 125);
    // A character is not cut in two: 61 of 2 bytes fit, the 62nd does not.
    let out = written(|out| write_close(out, 1000, &"\u{e9}".repeat(62)));
    assert_eq!(out[..4], [0x88, 2 + 122, 0x03, 0xe8]);
    assert_eq!(out[4..], *"\u{e9}".repeat(61).as_bytes());
}

#[test]
fn every_refusal_makes_a_close_frame_that_a_peer_accepts() {
    for error in [
        WsError::ReservedBits,
        WsError::ReservedOpcode,
        WsError::Unmasked,
        WsError::LengthNotMinimal,
        WsError::LengthTooLong,
        WsError::ControlTooLong,
        WsError::ControlFragmented,
        WsError::UnexpectedContinuation,
        WsError::MessageInterrupted,
        WsError::ClosePayload,
        WsError::CloseCode,
        WsError::CloseReason,
        WsError::InvalidUtf8,
        WsError::MessageTooLarge,
    ] {
        let reason = error.to_string();
        assert!(error.reason().starts_with("ws_"));
        let out = written(|out| write_close(out, error.close_code(), &reason));
        let expect = Seen::Close(Some(error.close_code()), reason);
        // Masked, it is a frame a client might send.
        check("refusal", &[frame(out[0], &out[2..])], &[expect]);
    }
}
