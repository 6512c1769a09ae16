//! Frames: how bytes are cut on a link between nodes.
//!
//! `[u32 length, big endian][postcard of Frame]`. The length does not count itself. Handshake frames come first and
//! only then; members' frames and letters follow. A reader has three answers, and borrows from the caller's buffer.

use serde::{Deserialize, Serialize};

use crate::Spot;
use crate::letter::Letter;
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

/// Reads what a fuzzer thinks a link could carry: at every cut it is the same, and a reader that waits for as many
/// bytes as it was told waits for something; what is a frame is the same when written and read again.
pub fn fuzz_frame(data: &[u8]) {
    let whole = read(data, HELLO_BYTES_MAX);
    for cut in 0..data.len().min(64) {
        match read(&data[..cut], HELLO_BYTES_MAX) {
            Ok(Parsed::Partial(needed)) => assert!(cut < needed),
            early => assert_eq!(early, whole, "cut at {cut}"),
        }
    }
    if let Ok(Parsed::Complete(frame, bytes)) = whole {
        assert!(bytes <= data.len());
        let mut again = Vec::new();
        frame.write(&mut again);
        assert_eq!(read(&again, HELLO_BYTES_MAX), Ok(Parsed::Complete(frame.clone(), again.len())));
        if let Frame::Letter { bytes, .. } = frame
            && let Some(letter) = Letter::read(bytes)
        {
            let mut again = Vec::new();
            letter.write(&mut again);
            assert_eq!(Letter::read(&again), Some(letter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame<'static>> {
        let from = Spot { node: 3, shard: 1 };
        vec![
            Frame::Hello { version: 1, nonce: [7; NONCE_BYTES] },
            Frame::Challenge { version: 300, nonce: [9; NONCE_BYTES] },
            Frame::Proof { nonce: [1; NONCE_BYTES], identity: b"who", macs: vec![[2; 32]; 4] },
            Frame::Welcome { identity: b"", mac: [3; 32] },
            Frame::Refuse(Refused::SameNumber),
            Frame::Member(b"heartbeat"),
            Frame::Letter { to: 2, from, bytes: &[0xff; 300] },
        ]
    }

    #[test]
    fn a_frame_is_read_when_its_last_byte_is_there() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            let length = bytes.len();
            bytes.extend_from_slice(b"and the next");
            for cut in 0..bytes.len() {
                let expect = match cut {
                    0..LENGTH_BYTES => Parsed::Partial(LENGTH_BYTES),
                    _ if cut < length => Parsed::Partial(length),
                    _ => Parsed::Complete(frame.clone(), length),
                };
                assert_eq!(read(&bytes[..cut], 1_000), Ok(expect), "{frame:?}, cut at {cut}");
            }
        }
    }

    #[test]
    fn the_bound_is_the_last_length_that_is_read() {
        let mut bytes = Vec::new();
        Frame::Member(&[0; 500]).write(&mut bytes);
        let body = bytes.len() - LENGTH_BYTES;
        assert!(matches!(read(&bytes, body), Ok(Parsed::Complete(..))));
        assert_eq!(read(&bytes, body - 1), Err(FrameError::TooLarge));
        assert_eq!(read(&bytes[..LENGTH_BYTES], body - 1), Err(FrameError::TooLarge), "at once");
        assert_eq!(frame_bytes_max(usize::MAX), usize::MAX);
    }

    #[test]
    fn what_is_left_over_in_a_frame_or_missing_is_malformed() {
        let mut bytes = Vec::new();
        Frame::Member(b"x").write(&mut bytes);
        for (wrong, what) in [(1_u8, "too long"), (u8::MAX, "too short")] {
            let mut bytes = bytes.clone();
            bytes[3] = bytes[3].wrapping_add(wrong);
            bytes.push(0);
            assert_eq!(read(&bytes, 1_000), Err(FrameError::Malformed), "{what}");
        }
        assert_eq!(read(&[0, 0, 0, 0], 1_000), Err(FrameError::Malformed), "nothing");
        assert_eq!(read(&[0, 0, 0, 1, 99], 1_000), Err(FrameError::Malformed), "unknown kind");
        assert_eq!(read(b"GET / HTTP/1.1\r\n", 1 << 24), Err(FrameError::TooLarge));
    }

    #[test]
    fn a_letter_written_in_place_reads_like_any_other() {
        let from = Spot { node: 65535, shard: 7 };
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let letter = vec![0xa5; length];
            let mut out = b"before".to_vec();
            let count = write_letter(&mut out, 300, from, |out| out.extend_from_slice(&letter));
            let frame = Frame::Letter { to: 300, from, bytes: &letter };
            let expect = Ok(Parsed::Complete(frame, out.len() - 6));
            assert_eq!(read(&out[6..], 4 << 20), expect, "{length} bytes");
            assert_eq!(count, out.len() - 6);
        }
    }
}
