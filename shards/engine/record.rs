//! A session as its copies hold it ([`Record`]), and back. Lives: with the session's owner, and with whoever
//! takes it over.

use erlmcp_cluster::letter::route::Token;
use erlmcp_cluster::letter::session::Record;
use erlmcp_protocol::mcp::{ClientCapabilities, LogLevel, Version};

use super::Engine;
use super::sessions::{Channel, Session};
use super::slots::Key;
use super::streams::{ReplayBounds, Streams};
use crate::io::Millis;

/// Numbers of streams and events that an owner is thought to give out at most between two letters about a session.
/// Whoever takes it over from a copy goes on behind them: no id means two things.
pub const LEAP: u32 = 1 << 20;

/// Each owner numbers its requests to the client in a range of its own.
const REQUEST_RANGE_BITS: u32 = 32;

impl Engine {
    /// A session of this shard as others are told of it.
    pub(super) fn record(
        &self,
        key: Key,
        token: Token,
        term: u32,
        rev: u32,
        now: Millis,
    ) -> Option<Record<'_>> {
        let session = self.sessions.get(key)?;
        let awaited = |call: Key| self.calls.get(call).map(|call| call.id());
        let streams = session.streams.as_ref();
        Some(Record {
            token,
            term,
            rev,
            version: session.version.as_str(),
            capabilities: bits(&session.client),
            log_level: session.log_level.as_str(),
            next_request: session.next_request,
            idle_ms: now.saturating_sub(session.last_active),
            subscriptions: session.subscriptions.iter().map(|uri| &**uri).collect(),
            last_stream: streams.map_or(0, |streams| streams.last_number()),
            streams: streams.map(|streams| streams.records(now, awaited)).unwrap_or_default(),
        })
    }
}

/// The session of a record under its next owner; `None` if it speaks a revision this build does not know.
/// Its idle time begins anew: what its clients did since the record was made, nobody knows.
pub fn revive(
    record: &Record<'_>,
    term: u32,
    leap: u32,
    now: Millis,
    bounds: &ReplayBounds,
) -> Option<Session> {
    let mut session = Session::new(Channel::Streamable, record.token.name, now);
    session.version = Version::parse(record.version)?;
    session.log_level = LogLevel::parse(record.log_level)?;
    session.client = capabilities(record.capabilities);
    session.negotiated = true;
    session.subscriptions = record.subscriptions.iter().map(|uri| Box::from(*uri)).collect();
    session.next_request = record.next_request.max(u64::from(term) << REQUEST_RANGE_BITS);
    // Its last owner may have opened streams that the record does not know of.
    if 0 < leap || 0 < record.last_stream || !record.streams.is_empty() {
        let (last, streams) = (record.last_stream, &record.streams);
        session.streams = Some(Box::new(Streams::restore(last, streams, leap, now, bounds)));
    }
    Some(session)
}

/// One bit each, in an order that only ever grows: nodes of two versions may meet.
fn bits(client: &ClientCapabilities) -> u16 {
    let ClientCapabilities {
        roots,
        sampling,
        sampling_tools,
        sampling_context,
        elicitation_form,
        elicitation_url,
        tasks,
    } = *client;
    let flags = [
        roots,
        sampling,
        sampling_tools,
        sampling_context,
        elicitation_form,
        elicitation_url,
        tasks,
    ];
    (0..).zip(flags).fold(0, |bits, (bit, flag)| bits | (u16::from(flag) << bit))
}

fn capabilities(bits: u16) -> ClientCapabilities {
    let has = |bit: u32| bits & (1 << bit) != 0;
    ClientCapabilities {
        roots: has(0),
        sampling: has(1),
        sampling_tools: has(2),
        sampling_context: has(3),
        elicitation_form: has(4),
        elicitation_url: has(5),
        tasks: has(6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_survives() {
        for each in 0..1 << 7 {
            assert_eq!(bits(&capabilities(each)), each);
        }
    }
}
