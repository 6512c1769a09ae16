//! One client's conversation, whatever its kind: bytes in, bytes and events out. No socket and no clock.
//!
//! Order of use: [`Talk::begin`] when the connection stands; [`Talk::read`] with whatever arrived, again and
//! again until it takes nothing; [`Talk::call`] whenever the client is ready.

use erlmcp_protocol::Parsed;
use memchr::memmem::Finder;

use super::check::{Checker, Verdict};
use super::http::{BODY_BYTES_MAX, Chunks, Framing, HeadReader, Piece, split_events};
use super::kind::Kind;
use super::say::Say;
use crate::request::ID_FIRST;

/// What all clients of a thread share: what is said, how answers are checked, the ids.
pub struct Voice {
    say: Say,
    /// Whether clients that have no handshake make a call when they arrive, so that a connection that counts
    /// is one that the server has seen.
    greets: bool,
    calls: Vec<Checker>,
    any: Checker,
    heads: HeadReader,
    update: Finder<'static>,
    uri: Finder<'static>,
    next_id: u64,
}

impl Voice {
    /// `first_id` keeps the ids of several threads apart.
    pub fn new(say: Say, greets: bool, first_id: u64) -> Self {
        Self {
            greets,
            calls: Kind::ALL.iter().map(|_| Checker::new(&say.shape)).collect(),
            any: Checker::of_any_result(),
            heads: HeadReader::default(),
            update: Finder::new("\"notifications/resources/updated\"").into_owned(),
            uri: Finder::new(say.uri.as_bytes()).into_owned(),
            next_id: ID_FIRST + first_id,
            say,
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// What a piece of input meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet.
    Quiet,
    /// The client is there: it can be called upon, or listens.
    Ready,
    /// The call was answered, and rightly.
    Right,
    /// The call was answered, and wrongly; the conversation may go on.
    Wrong(String),
    /// So many updates of the resource came.
    Updates(u32),
}

/// One conversation.
#[derive(Debug)]
pub struct Talk {
    kind: Kind,
    stage: Stage,
    /// Of the request in flight.
    id: u64,
    session: Option<Box<str>>,
    /// Another's session that is used instead.
    lent: Option<Box<str>>,
    body: Option<Box<Body>>,
}

/// What is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The connection.
    Connecting,
    /// A WebSocket's 101.
    Upgrading,
    /// A session's id.
    Initializing,
    /// The 202 of `notifications/initialized`.
    Initialized,
    /// The answer to `resources/subscribe`.
    Subscribing,
    /// A stream's head.
    Opening,
    /// A listen stream's first message.
    Acknowledging,
    /// The answer to the first call.
    Greeting,
    /// Nothing: idle, or listening.
    Ready,
    /// An answer.
    Busy,
}

/// A body that arrives in pieces.
#[derive(Debug)]
struct Body {
    status: u16,
    /// `None`: until the connection ends.
    chunks: Option<Chunks>,
    is_events: bool,
    /// What has come and is not whole.
    kept: Vec<u8>,
    verdict: Option<Verdict>,
}

impl Talk {
    /// A client of this kind, not connected.
    pub fn new(kind: Kind) -> Self {
        Self { kind, stage: Stage::Connecting, id: 0, session: None, lent: None, body: None }
    }

    /// What kind of client it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id of its own session, if it has one.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Calls go to this session from now on, or to its own again.
    pub fn borrow(&mut self, session: Option<Box<str>>) {
        self.lent = session;
    }

    /// Whether a call may be made.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Ready && self.kind.is_caller()
    }

    /// Whether an answer to a call is awaited, that of the greeting not counted.
    pub fn is_busy(&self) -> bool {
        self.stage == Stage::Busy
    }

    /// Whether it has been ready once.
    pub fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Busy)
    }

    /// The connection stands: says what comes first. `true` if nothing must be awaited.
    pub fn begin(&mut self, voice: &mut Voice, out: &mut Vec<u8>) -> bool {
        self.id = voice.id();
        match self.kind {
            Kind::Http | Kind::Tcp => return self.settle(voice, out),
            Kind::Ws => {
                self.stage = Stage::Upgrading;
                out.extend_from_slice(&voice.say.upgrade);
            }
            Kind::Session | Kind::Stream => {
                self.stage = Stage::Initializing;
                voice.say.initialize.write(self.id, out);
            }
            Kind::Listen => {
                self.stage = Stage::Opening;
                voice.say.listen.write(self.id, out);
            }
        }
        false
    }

    /// Makes a call.
    pub fn call(&mut self, voice: &mut Voice, out: &mut Vec<u8>) {
        self.say_call(voice, out);
        self.stage = Stage::Busy;
    }

    /// Reads what it understands of the input: how many bytes it took, and what they meant. 0: more is needed.
    /// An error is the end of the conversation.
    pub fn read(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        match (self.kind, self.stage) {
            (_, Stage::Connecting) => Err("bytes before anything was said".to_owned()),
            (Kind::Tcp, _) => self.read_line(voice, input),
            (Kind::Ws, stage) if stage != Stage::Upgrading => self.read_frame(voice, input, out),
            _ if self.body.is_some() => self.read_body(voice, input, out),
            _ => self.read_head(voice, input, out),
        }
    }

    fn say_call(&mut self, voice: &mut Voice, out: &mut Vec<u8>) {
        self.id = voice.id();
        let say = &voice.say;
        match self.kind {
            Kind::Http => say.http_call.write(self.id, out),
            Kind::Ws => say.ws_call.write(self.id, out),
            Kind::Tcp => say.tcp_call.write(self.id, out),
            Kind::Session | Kind::Stream | Kind::Listen => {
                let session = self.lent.as_deref().or(self.session.as_deref()).unwrap_or_default();
                say.session_call.write(session, self.id, out);
            }
        }
    }

    /// The handshake is over. `true` if the client is ready at once.
    fn settle(&mut self, voice: &mut Voice, out: &mut Vec<u8>) -> bool {
        let greets = voice.greets && matches!(self.kind, Kind::Http | Kind::Tcp | Kind::Ws);
        if greets {
            self.say_call(voice, out);
        }
        self.stage = if greets { Stage::Greeting } else { Stage::Ready };
        !greets
    }

    fn read_head(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        let Parsed::Complete(head, used) = voice.heads.read(input)? else {
            return Ok((0, Event::Quiet));
        };
        let (status, is_events, is_last) = (head.status, head.is_events, head.is_last);
        let chunks = match head.framing {
            Framing::Length(length) => {
                let Some(body) = input.get(used..used + length) else {
                    return Ok((0, Event::Quiet));
                };
                if self.stage == Stage::Initializing {
                    self.session = head.session.clone();
                }
                let verdict = match is_events {
                    false => self.judge(voice, status, body),
                    true => {
                        let mut verdict = None;
                        split_events(&mut Vec::new(), body, |data| {
                            self.judge_event(voice, data, &mut verdict);
                            Ok(())
                        })?;
                        verdict
                    }
                };
                let event = self.conclude(voice, status, verdict, out)?;
                if is_last && event != Event::Ready {
                    return Err(format!("the server closes after each answer: {event:?}"));
                }
                return Ok((used + length, event));
            }
            Framing::Chunked => Some(Chunks::default()),
            Framing::UntilClose => None,
        };
        if self.stage == Stage::Initializing {
            self.session = head.session.clone();
        }
        let body = Body { status, chunks, is_events, kept: Vec::new(), verdict: None };
        self.body = Some(Box::new(body));
        if self.stage != Stage::Opening || status != 200 || !is_events {
            return Ok((used, Event::Quiet));
        }
        if self.kind == Kind::Listen {
            self.stage = Stage::Acknowledging;
            return Ok((used, Event::Quiet));
        }
        self.stage = Stage::Ready;
        Ok((used, Event::Ready))
    }

    /// One piece of a body.
    fn read_body(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        let Some(mut body) = self.body.take() else { return Ok((0, Event::Quiet)) };
        let (piece, used) = match &mut body.chunks {
            None => (Piece::Data(input), input.len()),
            Some(chunks) => match chunks.read(input)? {
                Parsed::Complete(piece, used) => (piece, used),
                Parsed::Partial => {
                    self.body = Some(body);
                    return Ok((0, Event::Quiet));
                }
            },
        };
        match piece {
            Piece::Framing => {}
            Piece::Data(data) if body.is_events => {
                let (mut kept, mut verdict) = (std::mem::take(&mut body.kept), body.verdict.take());
                let (mut updates, mut is_ready) = (0, false);
                let listens = matches!(self.kind, Kind::Listen | Kind::Stream);
                split_events(&mut kept, data, |event| {
                    match (listens, self.stage) {
                        (true, Stage::Acknowledging) => {
                            acknowledged(voice, event)?;
                            self.stage = Stage::Ready;
                            is_ready = true;
                        }
                        (true, Stage::Ready) => updates += heard(voice, event)?,
                        _ => self.judge_event(voice, event, &mut verdict),
                    }
                    Ok(())
                })?;
                (body.kept, body.verdict) = (kept, verdict);
                self.body = Some(body);
                let event = match (is_ready, updates) {
                    (true, _) => Event::Ready,
                    (false, 0) => Event::Quiet,
                    (false, updates) => Event::Updates(updates),
                };
                return Ok((used, event));
            }
            Piece::Data(data) => {
                if BODY_BYTES_MAX < body.kept.len() + data.len() {
                    return Err("an answer does not end".to_owned());
                }
                body.kept.extend_from_slice(data);
            }
            Piece::End => {
                if self.kind == Kind::Listen || self.stage == Stage::Ready {
                    return Err("the server ended the stream".to_owned());
                }
                let verdict = match body.is_events {
                    true => body.verdict.or(Some(Verdict::Wrong(NO_ANSWER.to_owned()))),
                    false => self.judge(voice, body.status, &body.kept),
                };
                let event = self.conclude(voice, body.status, verdict, out)?;
                return Ok((used, event));
            }
        }
        self.body = Some(body);
        Ok((used, Event::Quiet))
    }

    fn read_line(&mut self, voice: &mut Voice, input: &[u8]) -> Result<(usize, Event), String> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return match BODY_BYTES_MAX < input.len() {
                true => Err("a line does not end".to_owned()),
                false => Ok((0, Event::Quiet)),
            };
        };
        let event = self.take_message(voice, input[..end].trim_ascii())?;
        Ok((end + 1, event))
    }

    /// One frame (RFC 6455 §5.2); a server's are not masked.
    fn read_frame(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        let [first, second, rest @ ..] = input else { return Ok((0, Event::Quiet)) };
        let (head, length) = match (*second, rest) {
            (length @ 0..=125, _) => (2, usize::from(length)),
            (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (10, usize::try_from(length).unwrap_or(usize::MAX))
            }
            (126 | 127, _) => return Ok((0, Event::Quiet)),
            _ => return Err("a masked frame from a server".to_owned()),
        };
        if BODY_BYTES_MAX < length {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(payload) = input.get(head..head + length) else { return Ok((0, Event::Quiet)) };
        let event = match first {
            0x81 => self.take_message(voice, payload)?,
            0x89 => {
                out.extend_from_slice(&[0x8a, 0x80 | length.min(125) as u8, 0, 0, 0, 0]);
                out.extend_from_slice(payload);
                Event::Quiet
            }
            0x8a => Event::Quiet,
            0x88 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                return Err(format!("the server closed the WebSocket: {code:?}"));
            }
            other => return Err(format!("a frame that begins with {other:#x}")),
        };
        Ok((head + length, event))
    }

    /// A message on a pipe: the answer, or something the server says of itself.
    fn take_message(&mut self, voice: &mut Voice, message: &[u8]) -> Result<Event, String> {
        if !matches!(self.stage, Stage::Greeting | Stage::Busy) {
            return Ok(Event::Quiet);
        }
        match voice.calls[self.kind as usize].check(message, self.id) {
            Verdict::Other => Ok(Event::Quiet),
            verdict => self.answered(verdict),
        }
    }

    /// What a whole body says to the request in flight.
    fn judge(&self, voice: &mut Voice, status: u16, body: &[u8]) -> Option<Verdict> {
        if matches!(self.stage, Stage::Initialized | Stage::Upgrading) {
            return None;
        }
        if status != 200 {
            let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
            return Some(Verdict::Wrong(format!("{status}: {shown}")));
        }
        Some(self.checker(voice).check(body, self.id))
    }

    fn judge_event(&self, voice: &mut Voice, data: &[u8], verdict: &mut Option<Verdict>) {
        match self.checker(voice).check(data, self.id) {
            Verdict::Other => {}
            found => *verdict = Some(found),
        }
    }

    fn checker<'v>(&self, voice: &'v mut Voice) -> &'v mut Checker {
        match self.stage {
            Stage::Greeting | Stage::Busy => &mut voice.calls[self.kind as usize],
            _ => &mut voice.any,
        }
    }

    /// An exchange over HTTP is whole.
    fn conclude(
        &mut self,
        voice: &mut Voice,
        status: u16,
        verdict: Option<Verdict>,
        out: &mut Vec<u8>,
    ) -> Result<Event, String> {
        let failed = |what: &str, verdict: &Option<Verdict>| match verdict {
            Some(Verdict::Wrong(why)) => Err(format!("{what}: {why}")),
            verdict => Err(format!("{what}: {status} {verdict:?}")),
        };
        match self.stage {
            Stage::Greeting | Stage::Busy => {
                self.answered(verdict.unwrap_or_else(|| Verdict::Wrong(NO_ANSWER.to_owned())))
            }
            Stage::Upgrading if status == 101 => Ok(self.settled(voice, out)),
            Stage::Upgrading => failed("no WebSocket here", &verdict),
            Stage::Initializing if verdict == Some(Verdict::Right) => {
                let Some(session) = self.session.as_deref() else {
                    return Err("the server gave no Mcp-Session-Id".to_owned());
                };
                voice.say.initialized.write(session, 0, out);
                self.stage = Stage::Initialized;
                Ok(Event::Quiet)
            }
            Stage::Initializing => failed("initialize", &verdict),
            Stage::Initialized if (200..300).contains(&status) => match self.kind {
                Kind::Stream => {
                    self.id = voice.id();
                    let session = self.session.as_deref().unwrap_or_default();
                    voice.say.subscribe.write(session, self.id, out);
                    self.stage = Stage::Subscribing;
                    Ok(Event::Quiet)
                }
                _ => Ok(self.settled(voice, out)),
            },
            Stage::Initialized => failed("notifications/initialized", &verdict),
            // A server without subscriptions still has streams; that no update comes will show.
            Stage::Subscribing => {
                let session = self.session.as_deref().unwrap_or_default();
                voice.say.stream.write(session, 0, out);
                self.stage = Stage::Opening;
                Ok(Event::Quiet)
            }
            Stage::Opening | Stage::Acknowledging => failed("no stream here", &verdict),
            Stage::Connecting | Stage::Ready => failed("an answer to nothing", &verdict),
        }
    }

    fn settled(&mut self, voice: &mut Voice, out: &mut Vec<u8>) -> Event {
        if self.settle(voice, out) { Event::Ready } else { Event::Quiet }
    }

    /// The call in flight was answered.
    fn answered(&mut self, verdict: Verdict) -> Result<Event, String> {
        let was = std::mem::replace(&mut self.stage, Stage::Ready);
        match (was, verdict) {
            (Stage::Greeting, Verdict::Right) => Ok(Event::Ready),
            (Stage::Greeting, Verdict::Wrong(why)) => Err(why),
            (_, Verdict::Right) => Ok(Event::Right),
            (_, Verdict::Wrong(why)) => Ok(Event::Wrong(why)),
            (_, Verdict::Other) => Ok(Event::Wrong(NO_ANSWER.to_owned())),
        }
    }
}

/// The first message of a listen stream.
fn acknowledged(voice: &Voice, event: &[u8]) -> Result<(), String> {
    let is_it = memchr::memmem::find(event, b"notifications/subscriptions/acknowledged").is_some();
    match is_it && voice.uri.find(event).is_some() {
        true => Ok(()),
        false => Err(format!("no acknowledgement: {}", String::from_utf8_lossy(event))),
    }
}

/// How many updates a message on a stream is.
fn heard(voice: &Voice, event: &[u8]) -> Result<u32, String> {
    if voice.update.find(event).is_some() {
        return Ok(u32::from(voice.uri.find(event).is_some()));
    }
    match memchr::memmem::find(event, b"\"result\":{").is_some() {
        true => Err(format!("the server ended it: {}", String::from_utf8_lossy(event))),
        false => Ok(0),
    }
}

const NO_ANSWER: &str = "the response ended without the answer";
/// Of a refusal.
const SHOWN_BYTES_MAX: usize = 300;

#[cfg(test)]
#[path = "talk_tests.rs"]
mod tests;
