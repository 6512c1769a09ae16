//! What this process knows of the cluster outside its shards: who is in it, how everybody fares, what operators
//! want. Views and the other nodes' reports come from the first shard ([`erlmcp_shards::lookout`]); our own report
//! goes there once a second.
//!
//! Invariant: everything that is shown was said by a node or its membership; what nobody said is absent.

mod board;
mod chronicle;
mod report;
mod seat;

pub use board::{Board, Nudge};
pub use report::{Report, SyncView};
pub use seat::ClusterSeat;
