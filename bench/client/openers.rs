//! Clients that arrive, say what makes them a client of their kind, and then stay and say nothing.

use std::net::SocketAddr;

use erlmcp_protocol::Parsed;

use super::Conversation;
use crate::answer::{Answer, read_answer};
use crate::idle::Kind;
use crate::request::{self, CALLS, ID_FIRST};

/// Longest frame a server may send us here, bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Opens idle clients of one kind.
pub struct Openers {
    kind: Kind,
    host: SocketAddr,
    /// By connection.
    stages: Vec<Stage>,
    settled: u32,
    /// Sessions to be opened in all; only for [`Kind::Session`], where a few connections open many.
    wanted: u32,
    asked: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the answer to the first thing said.
    Greeted,
    /// Waits for the answer to the second.
    Called,
    /// A session that said it is initialized, and waits to be told so.
    Initialized,
    /// Waits for a stream's first event.
    Streaming,
    /// Idle.
    Settled,
}

impl Openers {
    /// Clients of this kind, of this server.
    pub fn new(kind: Kind, host: SocketAddr) -> Self {
        Self { kind, host, stages: Vec::new(), settled: 0, wanted: 0, asked: 0 }
    }

    /// Clients that are idle.
    pub fn settled(&self) -> u32 {
        self.settled
    }

    /// How many sessions shall be there in all; connections that rest must be nudged.
    pub fn want_sessions(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    fn settle(&mut self, conn: u32) {
        self.settled += 1;
        self.stages[conn as usize] = Stage::Settled;
    }

    /// One session more, if more are wanted; or this connection rests.
    fn ask_session(&mut self, conn: u32, out: &mut Vec<u8>) {
        let is_wanted = self.asked < self.wanted;
        self.stages[conn as usize] = if is_wanted { Stage::Greeted } else { Stage::Settled };
        if is_wanted {
            self.asked += 1;
            out.extend(request::initialize_post(self.host));
        }
    }

    fn handle_http(
        &mut self,
        conn: u32,
        answer: &Answer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let stage = self.stages[conn as usize];
        match (self.kind, stage, answer.status) {
            (Kind::Http, Stage::Greeted, 200) => {
                self.settle(conn);
                expect(answer.body, "\"result\"")
            }
            (Kind::WebSocket, Stage::Greeted, 101) => {
                self.stages[conn as usize] = Stage::Called;
                let message = request::call_message(&CALLS[0]);
                out.extend(request::text_frame(message.as_bytes()));
                Ok(())
            }
            (Kind::Listen, Stage::Greeted, 200) if answer.is_stream => {
                self.stages[conn as usize] = Stage::Streaming;
                Ok(())
            }
            (Kind::Session, Stage::Greeted, 200) => {
                session(answer)?;
                self.settled += 1;
                self.ask_session(conn, out);
                Ok(())
            }
            (Kind::SessionStream, Stage::Greeted, 200) => {
                let session = session(answer)?;
                self.stages[conn as usize] = Stage::Initialized;
                out.extend(request::initialized_post(self.host, session));
                // Pipelined: the stream is asked for before the notification's 202 has come.
                out.extend(request::stream_get(self.host, session));
                Ok(())
            }
            (Kind::SessionStream, Stage::Initialized, 202) => Ok(()),
            (Kind::SessionStream, Stage::Initialized, 200) if answer.is_stream => {
                self.settle(conn);
                Ok(())
            }
            _ => {
                let body = String::from_utf8_lossy(answer.body);
                Err(format!("{} at {stage:?}: {} {body}", self.kind.as_str(), answer.status))
            }
        }
    }

    /// One frame of a WebSocket (RFC 6455 §5.2); a server's are not masked.
    fn handle_frame(
        &mut self,
        conn: u32,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, String> {
        let [first, second, rest @ ..] = input else { return Ok(0) };
        let (head, length) = match (usize::from(*second), rest) {
            (length @ 0..=125, _) => (2, length),
            (126, [high, low, ..]) => (4, usize::from(*high) << 8 | usize::from(*low)),
            (126, _) => return Ok(0),
            (length, _) => return Err(format!("a frame of a length we do not read: {length}")),
        };
        if FRAME_BYTES_MAX < length {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(payload) = input.get(head..head + length) else { return Ok(0) };
        match first {
            0x81 if self.stages[conn as usize] == Stage::Called => {
                self.settle(conn);
                expect(payload, &format!("\"id\":{ID_FIRST},\"result\""))?;
            }
            0x81 => {}
            0x89 => {
                out.extend_from_slice(&[0x8a, 0x80 | length.min(125) as u8, 0, 0, 0, 0]);
                out.extend_from_slice(payload);
            }
            other => return Err(format!("a frame of kind {other:#x}")),
        }
        Ok(head + length)
    }
}

impl Conversation for Openers {
    fn begin(&mut self, conn: u32, out: &mut Vec<u8>) {
        self.stages.resize(conn as usize + 1, Stage::Greeted);
        match self.kind {
            Kind::Http => request::call_post(self.host, &CALLS[0]).write(ID_FIRST, out),
            Kind::WebSocket => out.extend(request::upgrade_get(self.host)),
            Kind::Listen => out.extend(request::listen_post(self.host)),
            Kind::Session => self.ask_session(conn, out),
            Kind::SessionStream => out.extend(request::initialize_post(self.host)),
        }
    }

    fn nudge(&mut self, conn: u32, out: &mut Vec<u8>) {
        if self.kind == Kind::Session && self.stages[conn as usize] == Stage::Settled {
            self.ask_session(conn, out);
        }
    }

    fn handle(&mut self, conn: u32, input: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        match (self.kind, self.stages[conn as usize]) {
            (Kind::WebSocket, Stage::Called | Stage::Settled) => {
                self.handle_frame(conn, input, out)
            }
            (Kind::Listen, Stage::Streaming) => {
                // One chunk holds the whole acknowledgement.
                expect(input, "notifications/subscriptions/acknowledged")?;
                self.settle(conn);
                Ok(input.len())
            }
            // Keep-alives.
            (Kind::Listen | Kind::SessionStream, Stage::Settled) => Ok(input.len()),
            _ => match read_answer(input)? {
                Parsed::Partial => Ok(0),
                Parsed::Complete(answer, used) => {
                    self.handle_http(conn, &answer, out)?;
                    Ok(used)
                }
            },
        }
    }
}

fn expect(text: &[u8], part: &str) -> Result<(), String> {
    match memchr::memmem::find(text, part.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(format!("{part} is not in {}", String::from_utf8_lossy(text))),
    }
}

fn session<'a>(answer: &Answer<'a>) -> Result<&'a str, String> {
    expect(answer.body, "\"result\"")?;
    answer.field("mcp-session-id").ok_or_else(|| "no Mcp-Session-Id".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` whole to a fresh client; returns what it says to it and whether it is idle then.
    #[track_caller]
    fn check(kind: Kind, inputs: &[&str], settled: u32) -> String {
        let mut openers = Openers::new(kind, "127.0.0.1:1".parse().unwrap());
        openers.want_sessions(2);
        let mut out = Vec::new();
        openers.begin(0, &mut out);
        out.clear();
        for input in inputs {
            let mut rest = input.as_bytes();
            while !rest.is_empty() {
                match openers.handle(0, rest, &mut out) {
                    Ok(0) => panic!("{kind:?} wants more than {rest:?}"),
                    Ok(used) => rest = &rest[used..],
                    Err(what) => panic!("{kind:?}: {what}"),
                }
            }
        }
        assert_eq!(openers.settled(), settled, "{kind:?}");
        String::from_utf8_lossy(&out).into_owned()
    }

    const INITIALIZED: &str =
        "HTTP/1.1 200 OK\r\nMcp-Session-Id: s1\r\nContent-Length: 13\r\n\r\n{\"result\":{}}";
    const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn each_kind_settles_after_its_own_greeting() {
        let result = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":{}}";
        assert_eq!(check(Kind::Http, &[result], 1), "");
        let ack = "39\r\ndata: {\"method\":\"notifications/subscriptions/acknowledged\"}\n\n\r\n";
        assert_eq!(check(Kind::Listen, &[STREAM, ack, "3\r\n:\n\n\r\n"], 1), "");
        check(Kind::Listen, &[STREAM], 0);
        let said = check(Kind::SessionStream, &[INITIALIZED], 0);
        assert!(said.contains("notifications/initialized") && said.contains("GET /mcp"), "{said}");
        let accepted = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
        check(Kind::SessionStream, &[INITIALIZED, accepted, STREAM, ":\n\n"], 1);
    }

    #[test]
    fn one_connection_opens_as_many_sessions_as_are_wanted() {
        let said = check(Kind::Session, &[INITIALIZED], 1);
        assert!(said.contains("\"initialize\""), "{said}");
        let said = check(Kind::Session, &[INITIALIZED, INITIALIZED], 2);
        assert_eq!(said.matches("\"initialize\"").count(), 1);
    }

    #[test]
    fn a_resting_connection_goes_on_when_more_sessions_are_wanted() {
        let mut openers = Openers::new(Kind::Session, "127.0.0.1:1".parse().unwrap());
        let mut out = Vec::new();
        openers.begin(0, &mut out);
        openers.nudge(0, &mut out);
        assert_eq!(out, b"");
        openers.want_sessions(1);
        openers.nudge(0, &mut out);
        openers.nudge(0, &mut out);
        assert_eq!(String::from_utf8_lossy(&out).matches("\"initialize\"").count(), 1);
    }

    #[test]
    fn a_websocket_settles_with_its_first_result_and_answers_pings() {
        let upgraded = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let message = format!("{{\"id\":{ID_FIRST},\"result\":{{}}}}");
        let frame = format!("\u{1}{}{message}", message.len() as u8 as char);
        // Text cannot hold the first byte of a frame: put it there by hand.
        let mut openers = Openers::new(Kind::WebSocket, "127.0.0.1:1".parse().unwrap());
        let mut out = Vec::new();
        openers.begin(0, &mut out);
        assert_eq!(openers.handle(0, upgraded.as_bytes(), &mut out), Ok(upgraded.len()));
        let mut frame = frame.into_bytes();
        frame[0] = 0x81;
        for cut in 0..frame.len() {
            assert_eq!(openers.handle(0, &frame[..cut], &mut out), Ok(0), "cut at {cut}");
        }
        assert_eq!(openers.handle(0, &frame, &mut out), Ok(frame.len()));
        assert_eq!(openers.settled(), 1);
        out.clear();
        assert_eq!(openers.handle(0, &[0x89, 2, b'h', b'i'], &mut out), Ok(4));
        assert_eq!(out, [0x8a, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        for kind in Kind::ALL {
            let mut openers = Openers::new(kind, "127.0.0.1:1".parse().unwrap());
            let mut out = Vec::new();
            openers.begin(0, &mut out);
            let refused = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
            assert!(openers.handle(0, refused, &mut out).is_err(), "{kind:?}");
        }
    }
}
