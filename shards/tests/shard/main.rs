//! The loop of a shard, held to what it promises: over a simulated kernel, and over the real one.

mod common;
mod faults;
mod fleet;
mod http;
mod limits;
mod pipes;
