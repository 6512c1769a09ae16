//! HTTP responses as any MCP server may send them: with a length, in chunks, or until the connection ends;
//! JSON or server-sent events. Bounded, and distrustful enough that a broken server is found out.

use erlmcp_protocol::Parsed;
use memchr::memmem;

/// Longest head that is waited for, bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body or event that is waited for, bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest line with a chunk's size, bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;

/// How a response's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// What matters of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the body is `text/event-stream`.
    pub is_events: bool,
    /// `Mcp-Session-Id`.
    pub session: Option<Box<str>>,
    /// `Retry-After`, if it is a number of seconds.
    pub retry_after_s: Option<u32>,
    /// The server will close the connection after this response.
    pub is_last: bool,
}

/// Remembers the last head: a server under load says the same one over and over.
#[derive(Debug, Default)]
pub struct HeadReader {
    bytes: Vec<u8>,
    head: Option<Head>,
}

impl HeadReader {
    /// Reads the head at the start of `input`.
    pub fn read(&mut self, input: &[u8]) -> Result<Parsed<&Head>, String> {
        let is_known = !self.bytes.is_empty() && input.starts_with(&self.bytes);
        if !is_known {
            let Some(end) = memmem::find(input, b"\r\n\r\n") else {
                return match HEAD_BYTES_MAX < input.len() {
                    true => Err("the head of an answer does not end".to_owned()),
                    false => Ok(Parsed::Partial),
                };
            };
            let bytes = &input[..end + 4];
            self.head = Some(parse(bytes)?);
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
        match &self.head {
            Some(head) => Ok(Parsed::Complete(head, self.bytes.len())),
            None => Ok(Parsed::Partial),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Head, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the head of an answer is not text")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    let status = status.ok_or_else(|| format!("this is no status line: {first:?}"))?;
    let (mut length, mut is_chunked, mut is_events, mut session) = (None, false, false, None);
    let mut retry_after_s = None;
    let mut is_last = first.starts_with("HTTP/1.0");
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match () {
            () if name.eq_ignore_ascii_case("content-length") => {
                let number = value.parse::<usize>().ok().filter(|length| *length <= BODY_BYTES_MAX);
                length = Some(number.ok_or_else(|| format!("an answer of length {value:?}"))?);
            }
            () if name.eq_ignore_ascii_case("transfer-encoding") => {
                is_chunked = value.eq_ignore_ascii_case("chunked");
            }
            () if name.eq_ignore_ascii_case("content-type") => {
                let essence = value.split(';').next().unwrap_or_default().trim();
                is_events = essence.eq_ignore_ascii_case("text/event-stream");
            }
            () if name.eq_ignore_ascii_case("mcp-session-id") => session = Some(value.into()),
            () if name.eq_ignore_ascii_case("retry-after") => retry_after_s = value.parse().ok(),
            () if name.eq_ignore_ascii_case("connection") => {
                is_last |= value.eq_ignore_ascii_case("close");
            }
            () => {}
        }
    }
    // RFC 9112 §6.3: these never have a body; chunks go before a length.
    let framing = match (status, is_chunked, length) {
        (100..=199 | 204 | 304, _, _) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::UntilClose,
    };
    Ok(Head { status, framing, is_events, session, retry_after_s, is_last })
}

/// Where in a chunked body the next byte belongs (RFC 9112 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chunks {
    /// A line with a size.
    #[default]
    Size,
    /// So many bytes of data.
    Data(usize),
    /// The line break behind data.
    Break,
    /// Trailer fields, and the empty line that ends the body.
    Trailer,
}

/// A piece of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'b> {
    /// Nothing but framing.
    Framing,
    /// Data.
    Data(&'b [u8]),
    /// The end.
    End,
}

impl Chunks {
    /// Reads one piece.
    pub fn read<'b>(&mut self, input: &'b [u8]) -> Result<Parsed<Piece<'b>>, String> {
        match *self {
            Chunks::Size => {
                let Parsed::Complete(line, used) = line(input)? else { return Ok(Parsed::Partial) };
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let digits = std::str::from_utf8(digits).unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).ok();
                let size = size.filter(|size| *size <= BODY_BYTES_MAX);
                let size = size.ok_or_else(|| format!("this is no size of a chunk: {digits:?}"))?;
                *self = if size == 0 { Chunks::Trailer } else { Chunks::Data(size) };
                Ok(Parsed::Complete(Piece::Framing, used))
            }
            Chunks::Data(_) if input.is_empty() => Ok(Parsed::Partial),
            Chunks::Data(left) => {
                let data = &input[..left.min(input.len())];
                let left = left - data.len();
                *self = if left == 0 { Chunks::Break } else { Chunks::Data(left) };
                Ok(Parsed::Complete(Piece::Data(data), data.len()))
            }
            Chunks::Break => match input {
                [] | [b'\r'] => Ok(Parsed::Partial),
                [b'\r', b'\n', ..] => {
                    *self = Chunks::Size;
                    Ok(Parsed::Complete(Piece::Framing, 2))
                }
                _ => Err("a chunk does not end where it said".to_owned()),
            },
            Chunks::Trailer => {
                let Parsed::Complete(line, used) = line(input)? else { return Ok(Parsed::Partial) };
                let piece = if line.is_empty() { Piece::End } else { Piece::Framing };
                Ok(Parsed::Complete(piece, used))
            }
        }
    }
}

/// A line of framing, without its end.
fn line(input: &[u8]) -> Result<Parsed<&[u8]>, String> {
    match memmem::find(&input[..input.len().min(CHUNK_LINE_BYTES_MAX)], b"\r\n") {
        Some(end) => Ok(Parsed::Complete(&input[..end], end + 2)),
        None if CHUNK_LINE_BYTES_MAX <= input.len() => Err("a chunk's line is too long".to_owned()),
        None => Ok(Parsed::Partial),
    }
}

/// Splits server-sent events out of the pieces of a body; calls `take` with the data of each.
/// `kept` holds what began and did not end.
pub fn split_events(
    kept: &mut Vec<u8>,
    piece: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let whole;
    let mut rest = piece;
    if !kept.is_empty() {
        kept.extend_from_slice(piece);
        whole = std::mem::take(kept);
        rest = &whole;
    }
    while let Some((event, used)) = first_event(rest) {
        rest = &rest[used..];
        give_data(event, &mut take)?;
    }
    if BODY_BYTES_MAX < rest.len() {
        return Err("an event does not end".to_owned());
    }
    kept.extend_from_slice(rest);
    if kept.is_empty() {
        // Streams are many and mostly silent.
        *kept = Vec::new();
    }
    Ok(())
}

/// An event up to its blank line, in either kind of line end, and how much it takes.
fn first_event(text: &[u8]) -> Option<(&[u8], usize)> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &text[from..]) {
        let next = from + at + 1;
        match &text[next..] {
            [b'\n', ..] => return Some((&text[..next], next + 1)),
            [b'\r', b'\n', ..] => return Some((&text[..next], next + 2)),
            _ => from = next,
        }
    }
    // A keep-alive may leave nothing but a blank line.
    match text {
        [b'\n', ..] => Some((&[], 1)),
        [b'\r', b'\n', ..] => Some((&[], 2)),
        _ => None,
    }
}

fn give_data(
    event: &[u8],
    take: &mut impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut lines = event.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let data = line.strip_prefix(b"data:")?;
        Some(data.strip_prefix(b" ").unwrap_or(data))
    });
    let Some(first) = lines.next() else { return Ok(()) };
    match lines.next() {
        None if first.is_empty() => Ok(()),
        None => take(first),
        Some(second) => {
            let mut joined = first.to_vec();
            for line in std::iter::once(second).chain(lines) {
                joined.push(b'\n');
                joined.extend_from_slice(line);
            }
            take(&joined)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_head(head: &str, expect: Option<(u16, Framing, bool, Option<&str>)>) {
        for cut in 0..head.len() {
            let read = HeadReader::default().read(&head.as_bytes()[..cut]).map(|_| ());
            assert_eq!(read, Ok(()), "cut at {cut}");
        }
        let mut reader = HeadReader::default();
        for _ in 0..2 {
            let followed = format!("{head}body");
            match (reader.read(followed.as_bytes()), &expect) {
                (Ok(Parsed::Complete(read, used)), Some((status, framing, is_events, session))) => {
                    assert_eq!((read.status, read.framing, used), (*status, *framing, head.len()));
                    assert_eq!((read.is_events, read.session.as_deref()), (*is_events, *session));
                }
                (Err(_), None) => {}
                (read, _) => panic!("{head:?}: {read:?}"),
            }
        }
    }

    #[test]
    fn heads_say_how_the_body_ends() {
        check_head(
            "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nMcp-Session-Id:  s1 \r\n\r\n",
            Some((200, Framing::Length(5), false, Some("s1"))),
        );
        check_head(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n",
            Some((200, Framing::Chunked, true, None)),
        );
        check_head("HTTP/1.1 101 Switching\r\n\r\n", Some((101, Framing::Length(0), false, None)));
        check_head("HTTP/1.0 200 OK\r\n\r\n", Some((200, Framing::UntilClose, false, None)));
        check_head("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", None);
        check_head("SSH-2.0-x\r\n\r\n", None);
    }

    #[test]
    fn a_head_without_an_end_is_refused_at_its_limit() {
        let mut reader = HeadReader::default();
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(reader.read(endless.as_bytes()).is_err());
        assert!(reader.read(&endless.as_bytes()[..HEAD_BYTES_MAX]).is_ok());
    }

    /// Feeds `input` in two parts, at every cut; collects data until the end.
    #[track_caller]
    fn check_chunks(input: &str, expect: &str) {
        for cut in 0..=input.len() {
            let (mut chunks, mut data, mut kept) = (Chunks::default(), Vec::new(), Vec::new());
            let mut ended = false;
            for part in [&input[..cut], &input[cut..]] {
                kept.extend_from_slice(part.as_bytes());
                let mut used_all = 0;
                while let Parsed::Complete(piece, used) = chunks.read(&kept[used_all..]).unwrap() {
                    used_all += used;
                    match piece {
                        Piece::Framing => {}
                        Piece::Data(piece) => data.extend_from_slice(piece),
                        Piece::End => ended = true,
                    }
                }
                kept.drain(..used_all);
            }
            assert!(ended, "cut at {cut}");
            assert_eq!(String::from_utf8_lossy(&data), expect, "cut at {cut}");
        }
    }

    #[test]
    fn chunks_come_together_however_they_are_cut() {
        check_chunks("5\r\nhello\r\n0\r\n\r\n", "hello");
        check_chunks("3;x=y\r\nhel\r\nA\r\nlo, world!\r\n0\r\nX: y\r\n\r\n", "hello, world!");
    }

    #[test]
    fn broken_chunks_are_errors() {
        for input in ["x\r\n", "-1\r\n", "ffffffffff\r\n", &"0".repeat(CHUNK_LINE_BYTES_MAX)] {
            assert!(Chunks::default().read(input.as_bytes()).is_err(), "{input:.20}");
        }
        assert!(Chunks::Break.read(b"xx").is_err());
    }

    #[track_caller]
    fn check_events(text: &str, expect: &[&str]) {
        for cut in 0..=text.len() {
            let (mut kept, mut got) = (Vec::new(), Vec::new());
            for part in [&text[..cut], &text[cut..]] {
                split_events(&mut kept, part.as_bytes(), |data| {
                    got.push(String::from_utf8_lossy(data).into_owned());
                    Ok(())
                })
                .unwrap();
            }
            assert_eq!(got, expect, "cut at {cut}");
        }
    }

    #[test]
    fn events_are_their_data_in_either_line_end() {
        check_events("data: {}\n\n", &["{}"]);
        check_events(
            ":\n\ndata: a\n\n: still here\n\nevent: message\nid: 7\ndata:b\n\n",
            &["a", "b"],
        );
        check_events("event: message\r\ndata: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check_events("data: a\ndata: b\n\ndata: half", &["a\nb"]);
        check_events("id: 1\ndata: \n\n", &[]);
    }
}
