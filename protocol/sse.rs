//! Server-sent events, as MCP uses them.
