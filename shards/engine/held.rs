//! What an engine keeps, counted: for tests that insist that nothing outlives its client.

use super::Engine;

/// How much of everything an engine keeps. All zero once every client has gone and every session has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Calls that are not answered yet.
    pub calls: usize,
    /// Batches that are not answered yet.
    pub batches: usize,
    /// Tasks whose time is not over; they outlive their clients.
    pub tasks: usize,
    /// `subscriptions/listen` streams.
    pub listens: usize,
    /// Resources somebody subscribed to.
    pub uris: usize,
    /// Open pipes.
    pub pipes: usize,
    /// Exchanges whose leaving somebody must be told of.
    pub waiters: usize,
    /// Legacy conversations.
    pub sessions: usize,
    /// Events of deferred calls that were not looked at yet.
    pub answers: usize,
}

impl Engine {
    /// What this engine keeps now.
    pub fn held(&self) -> Held {
        Held {
            calls: self.calls.len(),
            batches: self.batches.len(),
            tasks: self.tasks.len(),
            listens: self.listens.len(),
            uris: self.listens.uris(),
            pipes: self.pipes.conns().len(),
            waiters: self.waiters.len() + self.aways.len(),
            sessions: self.sessions.len(),
            answers: self.answers.waiting(),
        }
    }
}
