//! WebSocket, server side (RFC 6455): handshake, frames in, messages out. Lives: one [`Decoder`] per
//! connection that was upgraded. View: shard. No extension is ever negotiated.
//!
//! Invariants: an idle connection costs `size_of::<Decoder>()` and nothing on the heap; a message that
//! came in one frame is unmasked where it lies and borrowed from there; no byte of payload is unmasked
//! or UTF-8 checked twice on arrival, however small the pieces are; a text message that can no longer
//! become valid UTF-8 is refused with the byte that proves it.
//!
//! Refused (2026-11-20): tungstenite's protocol layer, because it reads from a `Read` and keeps two
//! buffers per connection; frame-only codecs, because what remains (assembly, UTF-8, close rules) is
//! most of the work. permessage-deflate, because its window is memory per connection.

mod decoder;
mod frame;
mod fuzz;
mod handshake;
mod utf8;
mod write;

pub use decoder::{Decoder, Event};
#[doc(hidden)]
pub use fuzz::{fuzz_handshake, fuzz_read, fuzz_utf8};
pub use handshake::{
    AcceptKey, HandshakeError, SUBPROTOCOL, VERSION, accept_key, check_handshake,
    select_subprotocol,
};
pub use write::{write_binary, write_close, write_ping, write_pong, write_text};

use std::fmt;

/// Payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Close codes the server sends (RFC 6455 §7.4.1).
pub mod close {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// This end goes away: shutdown or drain.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the framing rules.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of message this endpoint does not take; MCP takes text only.
    pub const UNSUPPORTED: u16 = 1003;
    /// Never sent: stands for a close frame without a code.
    pub const NO_STATUS: u16 = 1005;
    /// A text message or a close reason was not UTF-8.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// A rule of ours forbids this message.
    pub const POLICY: u16 = 1008;
    /// The message is larger than the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server failed in a way it did not expect.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// Come back later (IANA registry).
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Why a client's bytes were refused. The connection is to be failed: send
/// `write_close(out, err.close_code(), …)`, then close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WsError {
    /// An RSV bit is set and no extension gave it a meaning.
    ReservedBits,
    /// Opcode 3-7 or 11-15.
    ReservedOpcode,
    /// A client's frame must be masked.
    Unmasked,
    /// The length was not written in the fewest bytes.
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length is set.
    LengthTooLong,
    /// A control frame with more than [`CONTROL_BYTES_MAX`] bytes.
    ControlTooLong,
    /// A control frame without FIN.
    ControlFragmented,
    /// A continuation frame, but no message has begun.
    UnexpectedContinuation,
    /// A new message began before the fragmented one ended.
    MessageInterrupted,
    /// A close frame with one byte of payload.
    ClosePayload,
    /// A close code that must not be sent.
    CloseCode,
    /// The reason of a close frame is not UTF-8.
    CloseReason,
    /// A text message is not UTF-8.
    InvalidUtf8,
    /// The message is larger than the caller's limit.
    MessageTooLarge,
}

impl WsError {
    /// The code to close with: 1002, 1007 or 1009.
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 | Self::CloseReason => close::INVALID_PAYLOAD,
            Self::MessageTooLarge => close::TOO_BIG,
            _ => close::PROTOCOL_ERROR,
        }
    }

    /// A stable name for counters, in snake_case.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ReservedBits => "ws_reserved_bits",
            Self::ReservedOpcode => "ws_reserved_opcode",
            Self::Unmasked => "ws_unmasked",
            Self::LengthNotMinimal => "ws_length_not_minimal",
            Self::LengthTooLong => "ws_length_too_long",
            Self::ControlTooLong => "ws_control_too_long",
            Self::ControlFragmented => "ws_control_fragmented",
            Self::UnexpectedContinuation => "ws_unexpected_continuation",
            Self::MessageInterrupted => "ws_message_interrupted",
            Self::ClosePayload => "ws_close_payload",
            Self::CloseCode => "ws_close_code",
            Self::CloseReason => "ws_close_reason",
            Self::InvalidUtf8 => "ws_invalid_utf8",
            Self::MessageTooLarge => "ws_message_too_large",
        }
    }
}

/// One sentence; short enough to be a close reason.
impl fmt::Display for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "a reserved bit is set, but no extension was negotiated",
            Self::ReservedOpcode => "reserved opcode",
            Self::Unmasked => "a frame from a client must be masked",
            Self::LengthNotMinimal => "the frame length is not written in the fewest bytes",
            Self::LengthTooLong => "the frame length does not fit 63 bits",
            Self::ControlTooLong => "a control frame may carry at most 125 bytes",
            Self::ControlFragmented => "a control frame may not be fragmented",
            Self::UnexpectedContinuation => "continuation frame without a message",
            Self::MessageInterrupted => "a new message began before the last one ended",
            Self::ClosePayload => "a close frame carries no payload, or at least a 2-byte code",
            Self::CloseCode => "this close code may not be sent",
            Self::CloseReason => "the close reason is not valid UTF-8",
            Self::InvalidUtf8 => "the text message is not valid UTF-8",
            Self::MessageTooLarge => "the message is larger than the limit",
        })
    }
}

impl std::error::Error for WsError {}
