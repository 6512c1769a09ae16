//! Exchanges of this shard, and requests of its pipes, that another shard answers, here or on another node.
//!
//! Invariants: an exchange is in here from the moment its request was sent until its last reply came, its client
//! left, or the shard it was sent to was lost; each names the one shard that its answer depends on. What comes
//! from any other, or for an exchange that is not in here, is late, and ignored. Bounded by the exchanges of
//! the connections, and for pipes by `calls_per_client_max` each.

use erlmcp_cluster::{Spot, Table};
use erlmcp_protocol::mcp::{RpcError, codes};
use serde_json::json;

use crate::net::Exchange;

/// What a client sees while its answer is away, and so how it can be told that there will be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing yet.
    Nothing,
    /// A stream, which is open.
    Stream,
    /// It is a request of a pipe.
    Pipe,
}

/// One request that is answered elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// By whom.
    pub at: Spot,
    /// Its raw id, if it is a request.
    pub id: Option<Box<str>>,
    /// What its client sees.
    pub shown: Shown,
    /// It is a standalone GET: its stream only waits.
    pub is_get: bool,
}

/// All of a shard.
pub type Aways = Table<Exchange, Away>;

/// Why a request failed although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// The shard of this node takes no more mail.
    ShardBusy,
    /// No link to the node, or one without room. The request was not run.
    NodeUnreachable(u16),
    /// The link broke while the answer was awaited: the request may have been run or not.
    NodeLost(u16),
    /// Its session moves about faster than the request follows. It was not run.
    Moving,
}

impl Setback {
    /// What it is counted as.
    pub fn reason(self) -> &'static str {
        match self {
            Setback::ShardBusy => "forward_refused",
            Setback::NodeUnreachable(_) => "node_unreachable",
            Setback::NodeLost(_) => "node_lost",
            Setback::Moving => "session_moving",
        }
    }

    /// What its client is told: come again, and whether that may do something twice.
    pub fn error(self) -> RpcError {
        let why = match self {
            Setback::ShardBusy => "The shard it lives on is overloaded; retry in a moment",
            Setback::NodeUnreachable(_) => {
                "The node it lives on cannot be reached now; retry in a moment"
            }
            Setback::NodeLost(_) => {
                "The node that served this was lost; it may have been done or not; retry in a moment"
            }
            Setback::Moving => "Its session is moving to another node; retry in a moment",
        };
        let mut data = json!({ "retryable": true, "reason": self.reason() });
        if let Setback::NodeUnreachable(node) | Setback::NodeLost(node) = self {
            data["node"] = node.into();
        }
        RpcError::new(codes::INTERNAL_ERROR, why).with_data(data)
    }
}
