//! How much of a request we are willing to hold, in bytes and in fields.

/// Longest head: request line, fields and the blank line, in bytes. A leading CRLF is not counted.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most fields in a head.
pub const FIELDS_MAX: usize = 100;
/// Longest decoded body, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// All chunk extensions of one request together, in bytes. They mean nothing to us.
pub(super) const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// All trailer fields of one request together, in bytes. They mean nothing to us.
pub(super) const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Digits of a chunk size; leading zeros count.
pub(super) const CHUNK_DIGITS_MAX: u8 = 16;
/// Configured limits are clamped to this, so that a position in a request fits 32 bits.
pub(super) const POSITION_MAX: usize = 1 << 30;

const _: () = assert!(HEAD_BYTES_MAX + MESSAGE_BYTES_MAX <= POSITION_MAX, "positions are 32 bits");

/// The limits of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`HEAD_BYTES_MAX`]; at most 1 GiB counts.
    pub head_bytes_max: usize,
    /// See [`MESSAGE_BYTES_MAX`]; at most 1 GiB counts.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes_max: HEAD_BYTES_MAX, body_bytes_max: MESSAGE_BYTES_MAX }
    }
}
