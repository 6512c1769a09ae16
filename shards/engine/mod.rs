//! The MCP engine of one shard: sessions, calls, streams, subscriptions. No socket, no clock: it is fed
//! requests and messages, and speaks through [`crate::net::Net`].

/// What engines say to each other.
pub enum EngineMail {}
