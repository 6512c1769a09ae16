//! What a server answers, as far as a load client must understand it: one HTTP response at the start of the
//! input. Bounded, and distrustful enough that a broken server is found out and not waited for.

use erlmcp_protocol::Parsed;
use memchr::memmem;

/// Longest head that is waited for, bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body that is waited for, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// One response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'b> {
    /// Its status.
    pub status: u16,
    /// Its head, blank line included.
    pub head: &'b [u8],
    /// Its body; empty when the body is a stream that follows.
    pub body: &'b [u8],
    /// The body is chunked: an event stream, which follows.
    pub is_stream: bool,
}

impl<'b> Answer<'b> {
    /// The value of a field, `name` in any case.
    pub fn field(&self, name: &str) -> Option<&'b str> {
        let text = std::str::from_utf8(self.head).ok()?;
        text.split("\r\n").find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Reads the response at the start of `input`.
pub fn read_answer(input: &[u8]) -> Result<Parsed<Answer<'_>>, &'static str> {
    let Some(end) = memmem::find(input, b"\r\n\r\n") else {
        let is_long = HEAD_BYTES_MAX < input.len();
        return if is_long { Err("the head does not end") } else { Ok(Parsed::Partial) };
    };
    let (head, rest) = input.split_at(end + 4);
    let status = status(head).ok_or("the status line cannot be read")?;
    // RFC 9112 §6.3: these never have a body.
    if matches!(status, 100..=199 | 204 | 304) {
        let answer = Answer { status, head, body: b"", is_stream: false };
        return Ok(Parsed::Complete(answer, head.len()));
    }
    let answer = Answer { status, head, body: b"", is_stream: true };
    if answer.field("transfer-encoding").is_some_and(|value| value == "chunked") {
        return Ok(Parsed::Complete(answer, head.len()));
    }
    let length = answer.field("content-length").and_then(|value| value.parse::<usize>().ok());
    let length = length.ok_or("neither Content-Length nor chunks")?;
    if BODY_BYTES_MAX < length {
        return Err("the body is too long");
    }
    match rest.get(..length) {
        None => Ok(Parsed::Partial),
        Some(body) => {
            let answer = Answer { body, is_stream: false, ..answer };
            Ok(Parsed::Complete(answer, head.len() + length))
        }
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds every cut of `input`: partial up to `whole` bytes, the same answer from there on.
    #[track_caller]
    fn check(input: &str, whole: usize, status: u16, body: &str, is_stream: bool) {
        let input = input.as_bytes();
        for cut in 0..=input.len() {
            match read_answer(&input[..cut]) {
                Ok(Parsed::Partial) => assert!(cut < whole, "partial at {cut}"),
                Ok(Parsed::Complete(answer, used)) => {
                    assert!(whole <= cut, "complete at {cut}");
                    assert_eq!((answer.status, used), (status, whole));
                    assert_eq!((answer.body, answer.is_stream), (body.as_bytes(), is_stream));
                }
                Err(what) => panic!("{what} at {cut}"),
            }
        }
    }

    #[test]
    fn a_whole_answer_ends_where_its_length_says() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello";
        check(answer, answer.len(), 200, "hello", false);
        check(&format!("{answer}HTTP/1.1 200"), answer.len(), 200, "hello", false);
    }

    #[test]
    fn a_stream_and_a_status_without_body_end_with_the_head() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{head}5\r\nhello"), head.len(), 200, "", true);
        let head = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        check(&format!("{head}\u{1}"), head.len(), 101, "", false);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
        for input in ["HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", &endless, &long] {
            assert!(read_answer(input.as_bytes()).is_err(), "{input:.60}");
        }
    }

    #[test]
    fn fields_are_found_in_any_case() {
        let input = b"HTTP/1.1 202 Accepted\r\nMcp-Session-Id:  abc \r\nContent-Length: 0\r\n\r\n";
        let Ok(Parsed::Complete(answer, _)) = read_answer(input) else { panic!("an answer") };
        assert_eq!(answer.field("mcp-session-id"), Some("abc"));
        assert_eq!(answer.field("mcp-session"), None);
    }
}
