//! The standalone GET streams of legacy sessions: opened, resumed, and written to (digest b.10).

use erlmcp_protocol::mcp::{Refusal, errors};
use erlmcp_protocol::sse;

use super::out::{self, Answer, Place};
use super::sessions::Channel;
use super::slots::Key;
use super::streams::{Resume, STANDALONE, event_id};
use super::{Engine, Waiter};
use crate::net::Net;

impl Engine {
    pub(super) fn session_get<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        key: Key,
        last_event_id: Option<&str>,
    ) {
        let now = net.now();
        self.sessions.touch(key, now);
        let bounds = self.bounds;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(id) = last_event_id {
            match session.streams().resume(id, place, now, &bounds) {
                Resume::Replay { events, number, finished, replaced } => {
                    // A client that comes back has left, even if we have not heard of it yet.
                    if let Some(old) = replaced {
                        self.waiters.remove(&old);
                        out::end(net, self.me(), old, b"");
                    }
                    if !events.is_empty() {
                        self.session_changed(net, key);
                    }
                    return self.replay(net, key, place, number, &events, finished);
                }
                // What was missed on the standalone stream is gone; what comes is still worth having.
                Resume::Unknown if id.starts_with("0-") => {}
                Resume::Unknown => {
                    net.counters().error("resume_unknown");
                    let error =
                        errors::invalid_request("Last-Event-ID is unknown or too old to resume");
                    return self.refuse(net, place, None, &Refusal::bad_request(error));
                }
            }
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !session.streams().attach_get(place) {
            net.counters().error("session_gets_full");
            let error = errors::invalid_request("This session has too many GET streams");
            return self.refuse(net, place, None, &Refusal::new(409, error));
        }
        let missed = session.streams().take_undelivered();
        if !missed.is_empty() {
            self.session_changed(net, key);
        }
        self.waiters.insert(place, Waiter::Stream(key));
        let mut first = b": open\n\n".to_vec();
        write_events(&mut first, STANDALONE, &missed);
        out::open(net, self.me(), place, &first);
    }

    pub(super) fn replay<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        place: Place,
        number: u32,
        events: &[(u32, std::rc::Rc<[u8]>)],
        finished: bool,
    ) {
        let me = self.me();
        if finished && events.is_empty() {
            // 204 tells an EventSource to stop; a 200 that ends at once would bring it back for ever.
            return out::respond(net, me, place, Answer { status: 204, ..Answer::default() });
        }
        let mut text = b": resumed\n\n".to_vec();
        write_events(&mut text, number, events);
        out::open(net, me, place, &text);
        if finished {
            return out::end(net, me, place, b"");
        }
        let call = self.sessions.get(key).and_then(|session| {
            session.streams.as_ref().and_then(|streams| streams.get(number)).and_then(|s| s.call)
        });
        match call {
            Some(call) => self.reattach_call(call, place),
            None => {
                self.waiters.insert(place, Waiter::Stream(key));
            }
        }
    }

    /// A stream of a session has gone with its client; the session lives on.
    pub(super) fn stream_gone<N: Net>(&mut self, net: &mut N, key: Key, place: Place) {
        let now = net.now();
        if let Some(session) = self.sessions.get_mut(key) {
            session.streams().handle_gone(place);
            self.sessions.touch(key, now);
        }
    }

    /// Sends a message that belongs to no request.
    pub(super) fn send_to_session<N: Net>(
        &mut self,
        net: &mut N,
        key: Option<Key>,
        message: &[u8],
    ) {
        let Some(channel) = key.and_then(|key| self.sessions.get(key)).map(|s| s.channel) else {
            return;
        };
        match channel {
            Channel::Streamable => self.push_event(net, key, STANDALONE, message),
            Channel::Sse(place) => {
                out::write(net, self.me(), place, &out::legacy_event(message));
            }
            Channel::Pipe(conn) => out::pipe(net, conn, message),
        }
    }
}

fn write_events(text: &mut Vec<u8>, number: u32, events: &[(u32, std::rc::Rc<[u8]>)]) {
    for (seq, message) in events {
        sse::write_event(text, None, Some(&event_id(number, *seq)), message);
    }
}
