//! Chunked bodies (RFC 9112 §7.1), decoded in place: data moves to the front, framing is
//! overwritten.
//!
//! Invariants: `written <= read <= input length`; every byte is looked at once, whatever the pieces
//! in which it arrives. Extensions and trailers are checked, bounded and forgotten.

use super::error::HttpError;
use super::field::is_token_byte;
use super::head::hex_digit;
use super::limits::{CHUNK_DIGITS_MAX, CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};

/// Where in the framing the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// A digit of the size; none seen yet.
    #[default]
    SizeStart,
    /// A further digit, or what ends the size.
    Size,
    /// Whitespace after the size: only an extension may follow.
    BeforeExtension,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// First byte of a trailer field, or the CR of the blank line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
}

/// Positions count from the first byte after the head.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChunkDecoder {
    read: u32,
    written: u32,
    /// Bytes of the current chunk still to come; while the size is read, its value so far.
    remaining: u32,
    /// Extension bytes so far, then trailer bytes so far.
    ignored: u16,
    digits: u8,
    at: At,
}

/// The whole body was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Bytes of body, now at the front of the input.
    pub body: usize,
    /// Bytes of input it took.
    pub consumed: usize,
}

impl ChunkDecoder {
    /// Decodes what is new in `input`. `None`: more is needed.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        body_bytes_max: usize,
    ) -> Result<Option<Decoded>, HttpError> {
        while (self.read as usize) < input.len() {
            if self.at == At::Data {
                self.copy_data(input)?;
                continue;
            }
            let byte = input[self.read as usize];
            self.read = self.read.checked_add(1).ok_or(HttpError::BodyTooLarge)?;
            match self.at {
                At::Data => {}
                At::SizeStart | At::Size => self.size(byte, body_bytes_max)?,
                At::BeforeExtension => match byte {
                    b' ' | b'\t' => self.ignore(CHUNK_EXTENSION_BYTES_MAX)?,
                    b';' => self.at = At::Extension,
                    _ => return Err(HttpError::Chunk),
                },
                At::Extension => match byte {
                    b'\r' => self.at = At::SizeLineFeed,
                    b'\t' | b' '..=b'~' | 0x80.. => self.ignore(CHUNK_EXTENSION_BYTES_MAX)?,
                    _ => return Err(HttpError::Chunk),
                },
                At::SizeLineFeed => {
                    let next = if self.remaining == 0 { At::TrailerStart } else { At::Data };
                    self.expect(byte, b'\n', next)?;
                    if next == At::TrailerStart {
                        self.ignored = 0;
                    }
                }
                At::DataReturn => self.expect(byte, b'\r', At::DataLineFeed)?,
                At::DataLineFeed => {
                    self.expect(byte, b'\n', At::SizeStart)?;
                    self.digits = 0;
                }
                At::TrailerStart | At::TrailerName | At::TrailerValue => self.trailer(byte)?,
                At::TrailerLineFeed => {
                    self.expect(byte, b'\n', At::TrailerStart).map_err(|_| HttpError::Trailer)?;
                }
                At::LastLineFeed => {
                    self.expect(byte, b'\n', At::SizeStart)?;
                    let (body, consumed) = (self.written as usize, self.read as usize);
                    return Ok(Some(Decoded { body, consumed }));
                }
            }
        }
        Ok(None)
    }

    /// Bytes of body decoded so far.
    pub fn written(&self) -> usize {
        self.written as usize
    }

    /// The caller is about to drop everything behind the decoded bytes.
    pub fn forget_framing(&mut self) {
        self.read = self.written;
    }

    fn copy_data(&mut self, input: &mut [u8]) -> Result<(), HttpError> {
        let (read, written) = (self.read as usize, self.written as usize);
        let count = (self.remaining as usize).min(input.len() - read);
        if read != written {
            input.copy_within(read..read + count, written);
        }
        let moved = count as u32; // At most `remaining`, which is a u32.
        self.read = self.read.checked_add(moved).ok_or(HttpError::BodyTooLarge)?;
        self.written += moved;
        self.remaining -= moved;
        if self.remaining == 0 {
            self.at = At::DataReturn;
        }
        Ok(())
    }

    fn size(&mut self, byte: u8, body_bytes_max: usize) -> Result<(), HttpError> {
        if let Some(digit) = hex_digit(byte) {
            self.digits += 1;
            if CHUNK_DIGITS_MAX < self.digits {
                return Err(HttpError::Chunk);
            }
            // RFC 9112 §7.1: "recipients MUST anticipate potentially large hexadecimal numerals".
            let size = (u64::from(self.remaining) << 4) | u64::from(digit);
            if (body_bytes_max as u64).saturating_sub(u64::from(self.written)) < size {
                return Err(HttpError::BodyTooLarge);
            }
            self.remaining = u32::try_from(size).map_err(|_| HttpError::BodyTooLarge)?;
            self.at = At::Size;
            return Ok(());
        }
        self.at = match byte {
            _ if self.at == At::SizeStart => return Err(HttpError::Chunk),
            b'\r' => At::SizeLineFeed,
            b';' => At::Extension,
            b' ' | b'\t' => At::BeforeExtension,
            _ => return Err(HttpError::Chunk),
        };
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<(), HttpError> {
        self.at = match (self.at, byte) {
            (At::TrailerStart, b'\r') => At::LastLineFeed,
            (At::TrailerValue, b'\r') => At::TrailerLineFeed,
            (At::TrailerName, b':') => At::TrailerValue,
            (At::TrailerStart | At::TrailerName, _) if is_token_byte(byte) => At::TrailerName,
            (At::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => At::TrailerValue,
            _ => return Err(HttpError::Trailer),
        };
        if self.at == At::LastLineFeed { Ok(()) } else { self.ignore(TRAILER_BYTES_MAX) }
    }

    /// Counts one byte that means nothing to us.
    fn ignore(&mut self, most: usize) -> Result<(), HttpError> {
        self.ignored += 1;
        if usize::from(self.ignored) <= most {
            return Ok(());
        }
        Err(match self.at {
            At::BeforeExtension | At::Extension => HttpError::ChunkExtensionsTooLarge,
            _ => HttpError::TrailersTooLarge,
        })
    }

    fn expect(&mut self, byte: u8, wanted: u8, next: At) -> Result<(), HttpError> {
        if byte != wanted {
            return Err(HttpError::Chunk);
        }
        self.at = next;
        Ok(())
    }
}

const _: () = assert!(CHUNK_EXTENSION_BYTES_MAX < u16::MAX as usize);
const _: () = assert!(TRAILER_BYTES_MAX < u16::MAX as usize);
