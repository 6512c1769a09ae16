//! Whole nodes in one process: the real loop, mesh, members, engine and sessions of three to five nodes on a simulated
//! kernel, and clients that speak MCP to any of their shards. Nodes are killed, stopped, cut off, drained and started
//! again, one at a time; whatever happens, a session that was promised is served everywhere once the cluster has
//! come to rest, by one owner, with what was promised of it, and of those that are over nothing is left.
//!
//! `SEED=n` runs that seed alone, `SEEDS=n` so many of each test.

mod client;
#[path = "../mcp/jobs.rs"]
mod jobs;
mod survival;
mod world;
