//! One client's conversation, whatever its kind: bytes in, bytes and events out. No socket and no clock.
//!
//! Order of use: [`Talk::begin`] when the connection stands; [`Talk::read`] with whatever arrived, again and
//! again until it takes nothing; [`Talk::call`] whenever the client is ready.

mod read;

use super::check::Verdict;
use super::kind::Kind;
use super::voice::Voice;
use read::Body;

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

    /// As what a call is under way; none is while hands are shaken.
    fn called(&self) -> Option<Kind> {
        matches!(self.stage, Stage::Greeting | Stage::Busy).then_some(self.kind)
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

const NO_ANSWER: &str = "the response ended without the answer";

#[cfg(test)]
mod tests;
