//! Frames to a client. A server's frames are not masked and, here, never fragmented.

use super::{CONTROL_BYTES_MAX, close};

const FIN: u8 = 0x80;

/// Appends a text message. The payload must be UTF-8; serialised JSON is.
pub fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, FIN | 0x1, payload);
}

/// Appends a binary message.
pub fn write_binary(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, FIN | 0x2, payload);
}

/// Appends a ping.
///
/// # Panics
/// If the payload is longer than [`CONTROL_BYTES_MAX`].
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a ping of {} bytes", payload.len());
    write_frame(out, FIN | 0x9, payload);
}

/// Appends a pong; the payload is that of the ping.
///
/// # Panics
/// If the payload is longer than [`CONTROL_BYTES_MAX`].
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a pong of {} bytes", payload.len());
    write_frame(out, FIN | 0xa, payload);
}

/// Appends a close frame. A reason that does not fit is cut at a character; with
/// [`close::NO_STATUS`] the frame is empty, which is how a close without a code is answered.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    if code == close::NO_STATUS {
        return write_frame(out, FIN | 0x8, &[]);
    }
    let mut reason_bytes = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(reason_bytes) {
        reason_bytes -= 1;
    }
    let reason = &reason[..reason_bytes];
    // Two bytes of code and at most 123 of reason: the short form.
    out.extend_from_slice(&[FIN | 0x8, 2 + reason.len() as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.reserve(10 + payload.len());
    out.push(first);
    // RFC 6455 §5.2: the minimal number of bytes MUST be used to encode the length.
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
