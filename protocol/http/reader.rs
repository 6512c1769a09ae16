//! When is a request whole? Remembers how far it looked, so that a large request in small pieces is
//! linear work.
//!
//! Per connection it costs 32 bytes; the bytes themselves stay with the caller, who calls
//! [`RequestReader::read`] with all it has from the first byte of the request, again and again
//! until the answer is not `Partial`. The head is parsed when it is whole and, if the body was not
//! there yet, once more when the body is.

use memchr::memchr_iter;

use super::chunked::ChunkDecoder;
use super::error::HttpError;
use super::field::is_token_byte;
use super::head::Head;
use super::limits::{Limits, POSITION_MAX};
use super::parse::{Framing, ParsedHead, parse_head};
use crate::Parsed;

/// A whole request, borrowed from the caller's buffer.
#[derive(Debug, Clone)]
pub struct Request<'b> {
    /// Request line and fields.
    pub head: Head<'b>,
    /// The decoded body; empty when there is none.
    pub body: &'b [u8],
}

/// Which part of a request is awaited; each has its own patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No byte of a request was seen (a stray CRLF does not count).
    Idle,
    /// A head has begun.
    Head,
    /// The head is whole and valid, the body is not.
    Body,
}

/// Reads one request after another from a connection.
///
/// Call [`read`](Self::read); on `Partial` send `100 Continue` if
/// [`take_continue`](Self::take_continue) says so, drop what [`reclaim`](Self::reclaim) frees,
/// append more bytes and call again. After an error close.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestReader {
    stage: Stage,
    continue_due: bool,
}

const _: () = assert!(size_of::<RequestReader>() <= 32, "one per connection");

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// No blank line within `scanned`; the line in progress begins at `line`.
    Head {
        scanned: u32,
        line: u32,
    },
    /// The request ends at `end`.
    Length {
        head_end: u32,
        end: u32,
    },
    Chunked {
        head_end: u32,
        chunks: ChunkDecoder,
    },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Head { scanned: 0, line: 0 }
    }
}

impl RequestReader {
    /// Reads a request from the front of `input`: all unread bytes since its first one.
    ///
    /// `Complete` says how many bytes it took; the reader is then ready for the next request. On
    /// `Partial` call again with the same bytes (chunked bodies are compacted inside `input`) and
    /// more behind them.
    pub fn read<'b>(
        &mut self,
        input: &'b mut [u8],
        limits: &Limits,
    ) -> Result<Parsed<Request<'b>>, HttpError> {
        match self.stage {
            Stage::Head { scanned, line } => {
                match find_head_end(input, scanned, line, limits.head_bytes_max)? {
                    Scan::Partial { scanned, line } => {
                        self.stage = Stage::Head { scanned, line };
                        Ok(Parsed::Partial)
                    }
                    Scan::End(head_end) => self.start_body(input, head_end, limits),
                }
            }
            Stage::Length { head_end, end } => {
                let (head_end, end) = (head_end as usize, end as usize);
                if input.len() < end {
                    return Ok(Parsed::Partial);
                }
                *self = Self::default();
                let input: &'b [u8] = input;
                let head = parse_head(head_bytes(&input[..head_end]))?.head;
                Ok(Parsed::Complete(Request { head, body: &input[head_end..end] }, end))
            }
            Stage::Chunked { head_end, mut chunks } => {
                let Some((head, rest)) = input.split_at_mut_checked(head_end as usize) else {
                    return Ok(Parsed::Partial);
                };
                let Some(decoded) = chunks.decode(rest, body_bytes_max(limits))? else {
                    self.stage = Stage::Chunked { head_end, chunks };
                    return Ok(Parsed::Partial);
                };
                *self = Self::default();
                let consumed = head.len() + decoded.consumed;
                let head = parse_head(head_bytes(head))?.head;
                Ok(Parsed::Complete(Request { head, body: &rest[..decoded.body] }, consumed))
            }
        }
    }

    /// True exactly once, after `Partial`, when the client waits for `100 Continue` before it sends
    /// its body.
    pub fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.continue_due)
    }

    /// Which part of a request is awaited.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Head { scanned: 0, .. } => Phase::Idle,
            Stage::Head { .. } => Phase::Head,
            Stage::Length { .. } | Stage::Chunked { .. } => Phase::Body,
        }
    }

    /// After `Partial`: if `Some`, truncate the buffer to this length before appending more; what
    /// is dropped is chunk framing that was already read. Who does so never holds more than a head
    /// and a body of the largest allowed size; who never calls this holds the framing too.
    pub fn reclaim(&mut self) -> Option<usize> {
        match &mut self.stage {
            Stage::Chunked { head_end, chunks } => {
                chunks.forget_framing();
                Some(*head_end as usize + chunks.written())
            }
            Stage::Head { .. } | Stage::Length { .. } => None,
        }
    }

    /// The head is whole. The body may be here too: the common case, and nothing is remembered.
    fn start_body<'b>(
        &mut self,
        input: &'b mut [u8],
        head_end: usize,
        limits: &Limits,
    ) -> Result<Parsed<Request<'b>>, HttpError> {
        let (head, rest) = input.split_at_mut(head_end);
        let ParsedHead { head, framing, expects_continue } = parse_head(head_bytes(head))?;
        let body_began = !rest.is_empty();
        let head_end_u32 = head_end as u32; // At most POSITION_MAX and a CRLF.
        let stage = match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).map_err(|_| HttpError::BodyTooLarge)?;
                if body_bytes_max(limits) < length {
                    return Err(HttpError::BodyTooLarge);
                }
                if length <= rest.len() {
                    *self = Self::default();
                    let request = Request { head, body: &rest[..length] };
                    return Ok(Parsed::Complete(request, head_end + length));
                }
                Stage::Length { head_end: head_end_u32, end: (head_end + length) as u32 }
            }
            Framing::Chunked => {
                let mut chunks = ChunkDecoder::default();
                if let Some(decoded) = chunks.decode(rest, body_bytes_max(limits))? {
                    *self = Self::default();
                    let request = Request { head, body: &rest[..decoded.body] };
                    return Ok(Parsed::Complete(request, head_end + decoded.consumed));
                }
                Stage::Chunked { head_end: head_end_u32, chunks }
            }
        };
        // RFC 9110 §10.1.1: 100 may be omitted once content has arrived.
        *self = Self { stage, continue_due: expects_continue && !body_began };
        Ok(Parsed::Partial)
    }
}

const _: () = assert!(2 * POSITION_MAX + 2 <= u32::MAX as usize);

fn body_bytes_max(limits: &Limits) -> usize {
    limits.body_bytes_max.min(POSITION_MAX)
}

/// The head proper: RFC 9112 §2.2, one empty line before the request line is ignored.
fn head_bytes(before_body: &[u8]) -> &[u8] {
    before_body.strip_prefix(b"\r\n").unwrap_or(before_body)
}

enum Scan {
    Partial { scanned: u32, line: u32 },
    End(usize),
}

/// Looks for the blank line from `scanned` on, refusing bare line feeds and folded fields as they
/// come.
fn find_head_end(input: &[u8], scanned: u32, line: u32, max: usize) -> Result<Scan, HttpError> {
    let start = match input {
        [b'\r'] => 1, // Perhaps the stray CRLF of RFC 9112 §2.2.
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let Some(&first) = input.get(start) else {
        return Ok(Scan::Partial { scanned: 0, line: 0 });
    };
    // A TLS hello or other garbage need not wait for a line end.
    if !is_token_byte(first) {
        return Err(HttpError::RequestLine);
    }
    let limit = start + max.min(POSITION_MAX);
    let window = &input[..input.len().min(limit)];
    let from = (scanned as usize).clamp(start, window.len());
    let mut line = (line as usize).max(start);
    for line_feed in memchr_iter(b'\n', &window[from..]).map(|at| from + at) {
        if input[line_feed - 1] != b'\r' {
            return Err(HttpError::BareNewline);
        }
        if line_feed == line + 1 {
            return Ok(Scan::End(line_feed + 1));
        }
        // RFC 9112 §5.2: a server must refuse obs-fold or unfold it; we refuse.
        if line != start && matches!(input[line], b' ' | b'\t') {
            return Err(HttpError::ObsoleteFold);
        }
        line = line_feed + 1;
    }
    if window.len() == limit {
        return Err(if line == start { HttpError::TargetTooLong } else { HttpError::HeadTooLarge });
    }
    Ok(Scan::Partial { scanned: window.len() as u32, line: line as u32 })
}
