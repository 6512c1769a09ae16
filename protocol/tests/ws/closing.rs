//! Autobahn chapter 7 (close handling).

use crate::client::*;
use erlmcp_protocol::ws::{WsError, close};

fn closed(code: u16, reason: &str) -> Seen {
    Seen::Close(Some(code), reason.to_owned())
}

#[test]
fn case_7_1_whatever_follows_a_close_is_discarded() {
    let close = || close_frame(close::NORMAL, "");
    let normal = || closed(close::NORMAL, "");
    check(
        "7.1.1",
        &[frame(FIN | TEXT, "Hello World!"), close()],
        &[text("Hello World!"), normal()],
    );
    check("7.1.2", &[close(), frame(FIN | CLOSE, "")], &[normal()]);
    check("7.1.3", &[close(), frame(FIN | PING, "")], &[normal()]);
    check("7.1.4", &[close(), frame(FIN | TEXT, "Hello World!")], &[normal()]);
    check(
        "7.1.5",
        &[frame(TEXT, "fragment1"), close(), frame(FIN | CONTINUATION, "fragment2")],
        &[normal()],
    );
    let large = "BAsd7&jh23".repeat(26215)[..256 * 1024].to_owned();
    check(
        "7.1.6",
        &[
            frame(FIN | TEXT, &large),
            frame(FIN | TEXT, "Hello World!"),
            close(),
            frame(FIN | PING, ""),
        ],
        &[text(&large), text("Hello World!"), normal()],
    );
    check("garbage", &[close(), vec![0xff; 40]], &[normal()]);
}

#[test]
fn case_7_3_payload_of_a_close_frame() {
    check("7.3.1", &[frame(FIN | CLOSE, "")], &[Seen::Close(None, String::new())]);
    check_fails("7.3.2", &[frame(FIN | CLOSE, "a")], &[], WsError::ClosePayload);
    check("7.3.3", &[close_frame(1000, "")], &[closed(1000, "")]);
    check("7.3.4", &[close_frame(1000, "Hello World!")], &[closed(1000, "Hello World!")]);
    let longest = "*".repeat(123);
    check("7.3.5", &[close_frame(1000, &longest)], &[closed(1000, &longest)]);
    let too_long = "*".repeat(124);
    check_fails("7.3.6", &[close_frame(1000, too_long)], &[], WsError::ControlTooLong);
}

#[test]
fn case_7_5_1_the_reason_must_be_utf8() {
    let reason = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    check_fails("7.5.1", &[close_frame(1000, reason)], &[], WsError::CloseReason);
    check_fails("cut off", &[close_frame(1000, b"\xce")], &[], WsError::CloseReason);
    assert_eq!(WsError::CloseReason.close_code(), close::INVALID_PAYLOAD);
}

#[test]
fn case_7_7_codes_that_may_be_sent() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    for (at, code) in codes.into_iter().enumerate() {
        check(&format!("7.7.{}", at + 1), &[close_frame(code, "")], &[closed(code, "")]);
    }
    // Registered with IANA since; Autobahn leaves them out on both sides.
    for code in [1012, 1013, 1014] {
        check(&format!("code {code}"), &[close_frame(code, "")], &[closed(code, "")]);
    }
}

#[test]
fn case_7_9_and_7_13_codes_that_may_not_be_sent() {
    let codes = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    for (at, code) in codes.into_iter().enumerate() {
        check_fails(&format!("7.9.{}", at + 1), &[close_frame(code, "")], &[], WsError::CloseCode);
    }
    check_fails("7.13.1", &[close_frame(5000, "")], &[], WsError::CloseCode);
    check_fails("7.13.2", &[close_frame(65535, "")], &[], WsError::CloseCode);
    check_fails("TLS failure", &[close_frame(1015, "")], &[], WsError::CloseCode);
    assert_eq!(WsError::CloseCode.close_code(), close::PROTOCOL_ERROR);
}

#[test]
fn whatever_follows_an_error_is_discarded() {
    let mut connection = Connection::new();
    connection.feed(&[frame(FIN | 3, ""), frame(FIN | TEXT, "late")].concat());
    assert_eq!(connection.error.take(), Some(WsError::ReservedOpcode));
    connection.feed(&frame(FIN | PING, "later"));
    assert_eq!((connection.seen, connection.error), (vec![], None));
    assert!(connection.unread.is_empty());
}
