//! One frame's head, and the mask (RFC 6455 §5.2, §5.3).

use super::{CONTROL_BYTES_MAX, WsError};
use crate::Parsed;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn parse(nibble: u8) -> Option<Opcode> {
        Some(match nibble {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The head of a frame from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    pub(super) payload_bytes: u64,
}

/// Reads a head of 6, 8 or 14 bytes. What is wrong is reported by the byte that shows it.
pub(super) fn parse_head(input: &[u8]) -> Result<Parsed<FrameHead>, WsError> {
    let Some(&first) = input.first() else { return Ok(Parsed::Partial) };
    // RFC 6455 §5.2: RSV1-3 MUST be 0 unless an extension is negotiated that defines meanings for
    // non-zero values.
    if first & 0x70 != 0 {
        return Err(WsError::ReservedBits);
    }
    let opcode = Opcode::parse(first & 0x0f).ok_or(WsError::ReservedOpcode)?;
    let fin = first & 0x80 != 0;
    // RFC 6455 §5.5: all control frames MUST have a payload length of 125 bytes or less and MUST NOT
    // be fragmented.
    if opcode.is_control() && !fin {
        return Err(WsError::ControlFragmented);
    }
    let Some(&second) = input.get(1) else { return Ok(Parsed::Partial) };
    // RFC 6455 §5.1: the server MUST close the connection upon receiving a frame that is not masked.
    if second & 0x80 == 0 {
        return Err(WsError::Unmasked);
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(WsError::ControlTooLong);
    }
    let rest = &input[2..];
    let (payload_bytes, rest) = match short {
        126 => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(Parsed::Partial);
            };
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(Parsed::Partial);
            };
            (u64::from_be_bytes(*length), rest)
        }
        _ => (u64::from(short), rest),
    };
    // RFC 6455 §5.2: the most significant bit MUST be 0; the minimal number of bytes MUST be used.
    if payload_bytes >> 63 != 0 {
        return Err(WsError::LengthTooLong);
    }
    if (short == 126 && payload_bytes < 126) || (short == 127 && payload_bytes <= 0xffff) {
        return Err(WsError::LengthNotMinimal);
    }
    let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(Parsed::Partial) };
    let head = FrameHead { fin, opcode, mask: *mask, payload_bytes };
    Ok(Parsed::Complete(head, input.len() - rest.len()))
}

/// Unmasks `bytes`, which begin `offset` bytes into the payload. Eight bytes at a time, so that the
/// compiler makes vectors of it; the few at the end one by one.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    // Turn the key so that its first byte belongs to the first of `bytes`.
    let mut key = mask;
    key.rotate_left(offset % 4);
    let wide = u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001;
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}
