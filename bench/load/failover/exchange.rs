//! One request over HTTP and its answer: bytes in, an answer out. No socket, no clock.

use erlmcp_protocol::Parsed;
use serde_json::Value;

use crate::load::http::{BODY_BYTES_MAX, Chunks, Framing, HeadReader, Piece, split_events};

/// Reads the answer to one request after the other.
#[derive(Debug, Default)]
pub struct Exchange {
    body: Option<Body>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Mcp-Session-Id`.
    pub session: Option<Box<str>>,
    /// `Retry-After`, seconds.
    pub retry_after_s: Option<u32>,
    /// The server will close the connection.
    pub is_last: bool,
    /// The body; of a stream the last event.
    pub message: Vec<u8>,
}

#[derive(Debug)]
struct Body {
    answer: Answer,
    /// `None`: until the connection ends.
    chunks: Option<Chunks>,
    is_events: bool,
    kept: Vec<u8>,
}

impl Exchange {
    /// Reads what it understands of the input: how many bytes it took, and the answer if it is whole. 0: more is
    /// needed. An error is the end of the connection.
    pub fn read(
        &mut self,
        heads: &mut HeadReader,
        input: &[u8],
    ) -> Result<(usize, Option<Answer>), String> {
        match self.body.take() {
            None => self.read_head(heads, input),
            Some(body) => self.read_body(body, input),
        }
    }

    fn read_head(
        &mut self,
        heads: &mut HeadReader,
        input: &[u8],
    ) -> Result<(usize, Option<Answer>), String> {
        let Parsed::Complete(head, used) = heads.read(input)? else { return Ok((0, None)) };
        let mut answer = Answer {
            status: head.status,
            session: head.session.clone(),
            retry_after_s: head.retry_after_s,
            is_last: head.is_last,
            message: Vec::new(),
        };
        let chunks = match head.framing {
            Framing::Length(length) => {
                let Some(body) = input.get(used..used + length) else { return Ok((0, None)) };
                match head.is_events {
                    false => answer.message = body.to_vec(),
                    true => take_last(&mut Vec::new(), body, &mut answer.message)?,
                }
                return Ok((used + length, Some(answer)));
            }
            Framing::Chunked => Some(Chunks::default()),
            Framing::UntilClose => None,
        };
        let is_events = head.is_events;
        self.body = Some(Body { answer, chunks, is_events, kept: Vec::new() });
        Ok((used, None))
    }

    fn read_body(
        &mut self,
        mut body: Body,
        input: &[u8],
    ) -> Result<(usize, Option<Answer>), String> {
        let (piece, used) = match &mut body.chunks {
            None => (Piece::Data(input), input.len()),
            Some(chunks) => match chunks.read(input)? {
                Parsed::Complete(piece, used) => (piece, used),
                Parsed::Partial => {
                    self.body = Some(body);
                    return Ok((0, None));
                }
            },
        };
        match piece {
            Piece::Framing => {}
            Piece::End => return Ok((used, Some(body.answer))),
            Piece::Data(data) if body.is_events => {
                take_last(&mut body.kept, data, &mut body.answer.message)?;
            }
            Piece::Data(data) => {
                if BODY_BYTES_MAX < body.answer.message.len() + data.len() {
                    return Err("an answer does not end".to_owned());
                }
                body.answer.message.extend_from_slice(data);
            }
        }
        self.body = Some(body);
        Ok((used, None))
    }
}

/// The last event is the answer: what comes before it are notifications.
fn take_last(kept: &mut Vec<u8>, piece: &[u8], last: &mut Vec<u8>) -> Result<(), String> {
    split_events(kept, piece, |data| {
        last.clear();
        last.extend_from_slice(data);
        Ok(())
    })
}

impl Answer {
    /// Whether the same request may be sent again: the server says so, or it is too busy.
    pub fn is_retryable(&self) -> bool {
        let message: Value = serde_json::from_slice(&self.message).unwrap_or_default();
        matches!(self.status, 429 | 503) || message["error"]["data"]["retryable"] == true
    }

    /// What it says went wrong: the status and the error's message.
    pub fn complaint(&self) -> String {
        let message: Value = serde_json::from_slice(&self.message).unwrap_or_default();
        match message["error"]["message"].as_str() {
            Some(text) => format!("{}: {text}", self.status),
            None => {
                let shown = &self.message[..self.message.len().min(SHOWN_BYTES_MAX)];
                format!("{}: {}", self.status, String::from_utf8_lossy(shown))
            }
        }
    }
}

/// Of an answer that is not understood.
const SHOWN_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in two parts, at every cut.
    #[track_caller]
    fn check(input: &str, status: u16, message: &str) -> Answer {
        let mut whole = None;
        for cut in 0..=input.len() {
            let (mut exchange, mut heads) = (Exchange::default(), HeadReader::default());
            let (mut kept, mut got) = (Vec::new(), None);
            for part in [&input[..cut], &input[cut..]] {
                kept.extend_from_slice(part.as_bytes());
                loop {
                    let (used, answer) = exchange.read(&mut heads, &kept).unwrap();
                    kept.drain(..used);
                    got = got.or(answer);
                    if used == 0 || got.is_some() {
                        break;
                    }
                }
            }
            let answer = got.unwrap_or_else(|| panic!("no answer, cut at {cut}"));
            assert_eq!(answer.status, status, "cut at {cut}");
            assert_eq!(String::from_utf8_lossy(&answer.message), message, "cut at {cut}");
            whole = Some(answer);
        }
        whole.expect("a text has cuts")
    }

    #[test]
    fn answers_come_whole_or_in_chunks_and_as_events() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}");
        check("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, "");
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            200,
            "{}",
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n",
            200,
            "b",
        );
    }

    #[test]
    fn a_refusal_says_whether_and_when_to_come_again() {
        let body = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"moving","data":{"retryable":true}}}"#;
        let head = format!(
            "HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = check(&head, 503, body);
        assert!(answer.is_retryable());
        assert_eq!((answer.retry_after_s, answer.complaint().as_str()), (Some(2), "503: moving"));
        let gone = check("HTTP/1.1 404 Gone\r\nContent-Length: 4\r\n\r\ngone", 404, "gone");
        assert!(!gone.is_retryable());
        assert_eq!(gone.complaint(), "404: gone");
    }
}
