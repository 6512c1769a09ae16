//! What all clients of a thread share: what is said to one target, how its answers are checked, the ids.

use memchr::memmem::Finder;

use super::check::{Checker, Verdict};
use super::http::HeadReader;
use super::kind::Kind;
use super::say::Say;
use crate::request::ID_FIRST;

/// Of a refusal.
const SHOWN_BYTES_MAX: usize = 300;

/// See the module.
pub struct Voice {
    /// What is said.
    pub say: Say,
    /// Whether clients that have no handshake make a call when they arrive, so that a connection that counts
    /// is one that the server has seen.
    pub greets: bool,
    /// Heads of responses.
    pub heads: HeadReader,
    calls: Vec<Checker>,
    any: Checker,
    update: Finder<'static>,
    uri: Finder<'static>,
    next_id: u64,
}

impl Voice {
    /// `first_id` keeps the ids of several threads apart.
    pub fn new(say: Say, greets: bool, first_id: u64) -> Self {
        Self {
            greets,
            heads: HeadReader::default(),
            calls: Kind::ALL.iter().map(|_| Checker::new(&say.shape)).collect(),
            any: Checker::of_any_result(),
            update: Finder::new("\"notifications/resources/updated\"").into_owned(),
            uri: Finder::new(say.uri.as_bytes()).into_owned(),
            next_id: ID_FIRST + first_id,
            say,
        }
    }

    /// The next request's.
    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// What a message says to the request with this id: a call by this kind of client, or anything else.
    pub fn check(&mut self, call: Option<Kind>, id: u64, message: &[u8]) -> Verdict {
        match call {
            Some(kind) => self.calls[kind as usize].check(message, id),
            None => self.any.check(message, id),
        }
    }

    /// The same of a whole response.
    pub fn judge(&mut self, call: Option<Kind>, id: u64, status: u16, body: &[u8]) -> Verdict {
        if status != 200 {
            let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
            return Verdict::Wrong(format!("{status}: {shown}"));
        }
        self.check(call, id, body)
    }

    /// Whether this may be the first message of a listen stream.
    pub fn acknowledged(&self, event: &[u8]) -> Result<(), String> {
        let word = b"notifications/subscriptions/acknowledged";
        let is_it = memchr::memmem::find(event, word).is_some();
        match is_it && self.uri.find(event).is_some() {
            true => Ok(()),
            false => Err(format!("no acknowledgement: {}", String::from_utf8_lossy(event))),
        }
    }

    /// How many updates a message on a stream is.
    pub fn updates_in(&self, event: &[u8]) -> Result<u32, String> {
        if self.update.find(event).is_some() {
            return Ok(u32::from(self.uri.find(event).is_some()));
        }
        match memchr::memmem::find(event, b"\"result\":{").is_some() {
            true => Err(format!("the server ended it: {}", String::from_utf8_lossy(event))),
            false => Ok(0),
        }
    }
}
