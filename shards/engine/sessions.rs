//! The legacy conversations of a shard: Streamable HTTP sessions, HTTP+SSE connections, and pipes that
//! shook hands. One table, one LRU list, one cap.
//!
//! Invariants: the LRU list holds exactly the living sessions, most recently used first; a session that has
//! a call in flight or an open stream is never evicted.

use erlmcp_protocol::mcp::{ClientCapabilities, LogLevel, Version};

use super::out::Place;
use super::slots::{Key, Slots};
use super::streams::Streams;
use crate::io::{ConnId, Millis};

/// Where a session's messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Streamable HTTP: each request has its own exchange, plus GET streams.
    Streamable,
    /// HTTP+SSE of 2024-11-05: everything on this one stream.
    Sse(Place),
    /// A pipe: the connection is the session.
    Pipe(ConnId),
}

/// A request we sent to a legacy client and wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Our id on the wire is `s-` and this number.
    pub number: u64,
    /// The call that asked.
    pub call: Key,
    /// The key of the [`erlmcp_protocol::mcp::InputRequest`].
    pub key: String,
}

/// One legacy conversation.
#[derive(Debug)]
pub struct Session {
    /// The random part of its sealed id.
    pub random: [u8; 16],
    /// How it is reached.
    pub channel: Channel,
    /// Negotiated revision.
    pub version: Version,
    /// What the client declared.
    pub client: ClientCapabilities,
    /// Whether `initialize` was answered (HTTP+SSE and pipes exist before it).
    pub negotiated: bool,
    /// Minimum level of log messages.
    pub log_level: LogLevel,
    /// Subscribed URIs.
    pub subscriptions: Vec<Box<str>>,
    /// Calls in flight.
    pub calls: Vec<Key>,
    /// Requests sent to the client.
    pub pending: Vec<Pending>,
    /// Number of the next request to the client.
    pub next_request: u64,
    /// SSE streams (Streamable HTTP only); made when first needed.
    pub streams: Option<Box<Streams>>,
    /// When it was last used.
    pub last_active: Millis,
    newer: Option<Key>,
    older: Option<Key>,
}

impl Session {
    /// A fresh conversation.
    pub fn new(channel: Channel, random: [u8; 16], now: Millis) -> Self {
        Self {
            random,
            channel,
            version: Version::V2025_03_26,
            client: ClientCapabilities::default(),
            negotiated: false,
            log_level: LogLevel::Info,
            subscriptions: Vec::new(),
            calls: Vec::new(),
            pending: Vec::new(),
            next_request: 1,
            streams: None,
            last_active: now,
            newer: None,
            older: None,
        }
    }

    /// The SSE streams, made on first use.
    pub fn streams(&mut self) -> &mut Streams {
        self.streams.get_or_insert_default()
    }

    /// Whether something holds it alive.
    pub fn is_busy(&self) -> bool {
        !self.calls.is_empty()
            || !matches!(self.channel, Channel::Streamable)
            || self.streams.as_ref().is_some_and(|streams| streams.is_attached())
    }
}

/// Why a session could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// All sessions of a shard.
#[derive(Default)]
pub struct Sessions {
    slots: Slots<Session>,
    newest: Option<Key>,
    oldest: Option<Key>,
}

/// How many of the least recently used sessions are looked at to find an idle one.
const EVICTION_PROBES: usize = 16;

impl Sessions {
    /// The session, if it lives.
    pub fn get(&self, key: Key) -> Option<&Session> {
        self.slots.get(key)
    }

    /// The session, if it lives.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Session> {
        self.slots.get_mut(key)
    }

    /// How many live.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        self.slots.keys()
    }

    /// All sessions.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Session)> {
        self.slots.iter()
    }

    /// An idle session that must make room: the least recently used one that was not used for
    /// `evict_after_ms`. `Ok(None)` when there is room.
    pub fn room(
        &self,
        sessions_max: u32,
        now: Millis,
        evict_after_ms: Millis,
    ) -> Result<Option<Key>, Full> {
        if self.slots.len() < sessions_max as usize {
            return Ok(None);
        }
        let mut probe = self.oldest;
        for _ in 0..EVICTION_PROBES {
            let key = probe.ok_or(Full)?;
            let session = self.slots.get(key).ok_or(Full)?;
            if now < session.last_active + evict_after_ms {
                return Err(Full);
            }
            if !session.is_busy() {
                return Ok(Some(key));
            }
            probe = session.newer;
        }
        Err(Full)
    }

    /// Stores a session as the most recently used one.
    pub fn insert(&mut self, session: Session) -> Key {
        let key = self.slots.insert(session);
        self.link(key);
        key
    }

    /// Takes a session out.
    pub fn remove(&mut self, key: Key) -> Option<Session> {
        self.slots.get(key)?;
        self.unlink(key);
        self.slots.remove(key)
    }

    /// Marks a session as used now.
    pub fn touch(&mut self, key: Key, now: Millis) {
        let Some(session) = self.slots.get_mut(key) else { return };
        session.last_active = now;
        if self.newest != Some(key) {
            self.unlink(key);
            self.link(key);
        }
    }

    fn link(&mut self, key: Key) {
        let previous = self.newest.replace(key);
        if let Some(session) = self.slots.get_mut(key) {
            session.newer = None;
            session.older = previous;
        }
        match previous.and_then(|previous| self.slots.get_mut(previous)) {
            Some(session) => session.newer = Some(key),
            None => self.oldest = Some(key),
        }
    }

    fn unlink(&mut self, key: Key) {
        let Some(session) = self.slots.get_mut(key) else { return };
        let (newer, older) = (session.newer.take(), session.older.take());
        match newer.and_then(|newer| self.slots.get_mut(newer)) {
            Some(session) => session.older = older,
            None => self.newest = older,
        }
        match older.and_then(|older| self.slots.get_mut(older)) {
            Some(session) => session.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(now: Millis) -> Session {
        Session::new(Channel::Streamable, [0; 16], now)
    }

    #[test]
    fn the_least_recently_used_idle_session_makes_room() {
        let mut sessions = Sessions::default();
        let first = sessions.insert(session(0));
        let second = sessions.insert(session(1));
        assert_eq!(sessions.room(3, 100, 10), Ok(None));
        assert_eq!(sessions.room(2, 100, 10), Ok(Some(first)));
        sessions.touch(first, 50);
        assert_eq!(sessions.room(2, 100, 10), Ok(Some(second)));
        sessions.get_mut(second).expect("lives").calls.push(first);
        assert_eq!(sessions.room(2, 100, 10), Ok(Some(first)), "a busy session stays");
    }

    #[test]
    fn a_session_in_use_a_moment_ago_is_not_sacrificed_to_a_flood() {
        let mut sessions = Sessions::default();
        sessions.insert(session(95));
        assert_eq!(sessions.room(1, 104, 10), Err(Full));
        assert!(sessions.room(1, 105, 10).is_ok());
    }

    #[test]
    fn the_list_survives_any_order_of_operations() {
        let mut random = 0x9e37_79b9_u64;
        let mut sessions = Sessions::default();
        let mut oracle: Vec<Key> = Vec::new(); // Oldest first.
        for step in 0..5000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let pick = (random >> 33) as usize;
            match pick % 3 {
                0 => oracle.push(sessions.insert(session(step))),
                1 if !oracle.is_empty() => {
                    let key = oracle.remove(pick / 3 % oracle.len());
                    assert!(sessions.remove(key).is_some());
                }
                _ if !oracle.is_empty() => {
                    let key = oracle.remove(pick / 3 % oracle.len());
                    sessions.touch(key, step);
                    oracle.push(key);
                }
                _ => {}
            }
            let mut listed = Vec::new();
            let mut probe = sessions.oldest;
            while let Some(key) = probe {
                listed.push(key);
                probe = sessions.get(key).expect("listed sessions live").newer;
            }
            assert_eq!(listed, oracle, "step {step}");
        }
    }
}
