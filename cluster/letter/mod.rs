//! What an engine says to an engine of another node.
//!
//! A letter travels as postcard: compact, borrowed on arrival, and what does not parse is refused whole. Its bounds
//! are those of the frame that carries it.

pub mod news;
pub mod route;
pub mod session;

use serde::{Deserialize, Serialize};

/// One letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Letter<'b> {
    /// A request for a session or task of the receiver, or what comes of one.
    #[serde(borrow)]
    Route(route::Route<'b>),
    /// Something has changed, or somebody wants to hear of changes.
    #[serde(borrow)]
    News(news::News<'b>),
    /// Sessions: their copies, and who owns them.
    #[serde(borrow)]
    Session(session::SessionLetter<'b>),
    /// How the sender's node fares, for whoever is asked for the state of the cluster.
    Status(#[serde(with = "serde_bytes")] &'b [u8]),
    /// An operator asked another node to tell the receiver.
    Order(Order),
}

/// What an operator may ask of a node through another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Hand over what you have, and go.
    Drain,
}

/// How hard the mesh tries when a link is short of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Synchronisation: refused from a quarter of the link's room on. Whoever sends it knows how to repair.
    Sync,
    /// A new request: refused from half of the room on, and its client told to come again.
    Request,
    /// The answer to a request: a link without room for it is cut, and whoever waits is told.
    Reply,
}

impl Letter<'_> {
    /// How hard the mesh tries.
    pub fn urgency(&self) -> Urgency {
        match self {
            Letter::Route(route) => route.urgency(),
            Letter::Session(session) => session.urgency(),
            Letter::News(_) | Letter::Status(_) => Urgency::Sync,
            Letter::Order(_) => Urgency::Request,
        }
    }

    /// Appends the letter's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing to memory cannot fail, and every type here has a fixed shape.
        let _ = postcard::to_io(self, out);
    }

    /// Reads a letter; `None` when it is not exactly one.
    pub fn read(bytes: &[u8]) -> Option<Letter<'_>> {
        match postcard::take_from_bytes(bytes) {
            Ok((letter, [])) => Some(letter),
            _ => None,
        }
    }
}
