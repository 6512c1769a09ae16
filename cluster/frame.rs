//! Frames: how bytes are cut on a link between nodes.
//!
//! `[u32 length, big endian][postcard of Frame]`. The length does not count itself. Handshake frames come first and
//! only then; members' frames and letters follow. A reader has three answers, and borrows from the caller's buffer.

use serde::{Deserialize, Serialize};

use crate::Spot;
use crate::link::Refused;
use crate::secret::MAC_BYTES;

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;
/// Bytes a frame may have beyond the largest client message it carries.
pub const FRAME_ROOM_BYTES: usize = 64 * 1024;
/// Bytes of a handshake frame, length not counted.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// A random number of a handshake, used once.
pub type Nonce = [u8; NONCE_BYTES];

/// The bound of a frame on an established link: what a client's message may have, and room for what is said about it.
pub const fn frame_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(FRAME_ROOM_BYTES)
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame<'b> {
    /// Handshake 1, from who dialled.
    Hello {
        /// Which protocol it speaks. First in the frame, so that every version can read it.
        version: u16,
        /// Its nonce.
        nonce: Nonce,
    },
    /// Handshake 2, from who was dialled.
    Challenge {
        /// Which protocol it speaks.
        version: u16,
        /// Its nonce.
        nonce: Nonce,
    },
    /// Handshake 3, from who dialled: who it is, and that it knows a secret.
    Proof {
        /// The nonce it was challenged with.
        nonce: Nonce,
        /// An [`crate::link::Identity`].
        #[serde(with = "serde_bytes", borrow)]
        identity: &'b [u8],
        /// One of each secret it has.
        macs: Vec<[u8; MAC_BYTES]>,
    },
    /// Handshake 4, from who was dialled: who it is, and that it knows the same secret. The link is up.
    Welcome {
        /// An [`crate::link::Identity`].
        #[serde(with = "serde_bytes", borrow)]
        identity: &'b [u8],
        /// Of the secret that both have.
        mac: [u8; MAC_BYTES],
    },
    /// There will be no link, and why. Not authenticated: good for a log, never for a decision.
    Refuse(Refused),
    /// From who was dialled, any time after the handshake: the other end is a living member here, its letters are
    /// welcome.
    Open,
    /// What nodes tell each other about members; only between the nodes' first shards.
    Member(#[serde(with = "serde_bytes", borrow)] &'b [u8]),
    /// A [`crate::letter::Letter`].
    Letter {
        /// The shard it is for.
        to: u16,
        /// Who says it.
        from: Spot,
        /// The letter's bytes.
        #[serde(with = "serde_bytes", borrow)]
        bytes: &'b [u8],
    },
}

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// A frame, and how many bytes it took.
    Complete(Frame<'b>, usize),
    /// There must be this many bytes before it is worth asking again.
    Partial(usize),
}

/// Why this is no frame. The link ends: nothing says where the next one would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Longer than it may be.
    TooLarge,
    /// Not a frame of this version.
    Malformed,
}

/// Reads the first frame of `input`, which may have up to `bytes_max` bytes, its length not counted.
pub fn read(input: &[u8], bytes_max: usize) -> Result<Parsed<'_>, FrameError> {
    let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(Parsed::Partial(LENGTH_BYTES));
    };
    let length = u32::from_be_bytes(*length) as usize;
    if bytes_max < length {
        return Err(FrameError::TooLarge);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Parsed::Partial(LENGTH_BYTES + length));
    };
    match postcard::take_from_bytes(body) {
        Ok((frame, [])) => Ok(Parsed::Complete(frame, LENGTH_BYTES + length)),
        _ => Err(FrameError::Malformed),
    }
}

impl Frame<'_> {
    /// Appends the frame's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        // Writing to memory cannot fail, and every type here has a fixed shape.
        let _ = postcard::to_io(self, &mut *out);
        seal_length(out, start);
    }
}

/// Appends a letter's frame, whose bytes `write` appends: nothing is copied. Returns how many bytes were appended.
pub fn write_letter(
    out: &mut Vec<u8>,
    to: u16,
    from: Spot,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let start = out.len();
    Frame::Letter { to, from, bytes: b"" }.write(out);
    out.pop(); // The length of no bytes. The real one is not known yet, so it gets room for the largest.
    let length_at = out.len();
    out.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0]);
    write(out);
    let mut length = out.len() - length_at - LETTER_LENGTH_BYTES;
    for byte in &mut out[length_at..length_at + LETTER_LENGTH_BYTES] {
        *byte |= (length & 0x7f) as u8;
        length >>= 7;
    }
    seal_length(out, start);
    out.len() - start
}

/// A varint of 35 bits with leading zeroes, which postcard reads like a short one.
const LETTER_LENGTH_BYTES: usize = 5;

fn seal_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}
