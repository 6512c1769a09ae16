//! What bytes mean to an MCP client: HTTP/1.1, SSE, WebSocket, lines, JSON-RPC, and MCP of both eras.
//!
//! No socket, no clock, no thread and no unsafe code lives here: time and randomness are arguments.
#![forbid(unsafe_code)]

pub mod http;
pub mod jsonrpc;
pub mod lines;
pub mod mcp;
pub mod seal;
pub mod sse;
pub mod ws;

/// The answer of every parser in this room: complete (value and bytes consumed) or more bytes needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole item, and how many bytes of the input it consumed.
    Complete(T, usize),
    /// Feed the same bytes again with more behind them.
    Partial,
}
