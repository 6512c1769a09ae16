//! Plain values that a shard reads; parsed and checked once, at boot.

use erlmcp_cluster::replicas::VISIT_UNITS_PER_MS;
use erlmcp_protocol::http;

/// Limits of one shard. Every one has a unit, a default and a test that reaches it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message (HTTP body, line, WebSocket message), bytes.
    pub message_bytes_max: usize,
    /// Largest HTTP head, bytes.
    pub head_bytes_max: usize,
    /// Connections this shard accepts; more are answered 503. 0 = what the ring can hold.
    pub connections_max: u32,
    /// Legacy sessions of this shard; at the cap the least recently used idle one is dropped, or the new one refused.
    pub sessions_max: u32,
    /// A legacy session without any activity is dropped after this, milliseconds.
    pub session_idle_ms: u64,
    /// At the cap only a session unused for this long makes room for a new one, milliseconds.
    pub session_evict_after_ms: u64,
    /// Calls in flight on this shard.
    pub calls_max: u32,
    /// Calls in flight of one session or pipe.
    pub calls_per_client_max: u32,
    /// `subscriptions/listen` streams on this shard.
    pub listens_max: u32,
    /// `subscriptions/listen` streams per connection (pipes) and URIs per subscription.
    pub subscriptions_max: u32,
    /// Bytes queued to a client above which nothing more is read from it.
    pub outbox_pause_bytes: usize,
    /// Bytes queued to a client above which it is closed.
    pub outbox_bytes_max: usize,
    /// A send without progress for this long closes the connection, milliseconds.
    pub send_stall_ms: u64,
    /// A request head must be complete within this, milliseconds.
    pub head_timeout_ms: u64,
    /// A started body must progress within this, milliseconds.
    pub body_timeout_ms: u64,
    /// An idle keep-alive HTTP connection is closed after this, milliseconds.
    pub idle_timeout_ms: u64,
    /// Silence on a stream after which a keep-alive comment is sent, milliseconds.
    pub stream_keepalive_ms: u64,
    /// WebSocket ping interval, milliseconds.
    pub ws_ping_ms: u64,
    /// How long a legacy client may take to answer a server's request, milliseconds.
    pub client_request_timeout_ms: u64,
    /// How long a sealed request state is accepted, milliseconds.
    pub request_state_ttl_ms: u64,
    /// How long a task is kept from its creation on, unless its tool says less, milliseconds.
    pub task_ttl_ms: u64,
    /// Tasks kept on this shard, running or ended.
    pub tasks_max: u32,
    /// Bytes kept for all tasks of this shard: arguments, answers, questions, results.
    pub tasks_bytes_max: usize,
    /// Events kept per legacy stream for `Last-Event-ID`, messages.
    pub replay_events_max: usize,
    /// Bytes kept per legacy session for `Last-Event-ID`.
    pub replay_bytes_max: usize,
    /// A finished stream stays resumable this long, milliseconds.
    pub replay_ttl_ms: u64,
    /// Items per list page.
    pub page_size: u32,
    /// `ttlMs` hint on modern list results, milliseconds.
    pub list_ttl_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: http::MESSAGE_BYTES_MAX,
            head_bytes_max: http::HEAD_BYTES_MAX,
            connections_max: 0,
            sessions_max: 100_000,
            session_idle_ms: 30 * 60 * 1000,
            session_evict_after_ms: 10_000,
            calls_max: 65_536,
            calls_per_client_max: 1024,
            listens_max: 1_000_000,
            subscriptions_max: 1024,
            outbox_pause_bytes: 64 * 1024,
            outbox_bytes_max: 1024 * 1024,
            send_stall_ms: 10_000,
            head_timeout_ms: 5_000,
            body_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            stream_keepalive_ms: 15_000,
            ws_ping_ms: 30_000,
            client_request_timeout_ms: 60_000,
            request_state_ttl_ms: 10 * 60 * 1000,
            task_ttl_ms: 60 * 60 * 1000,
            tasks_max: 10_000,
            tasks_bytes_max: 64 * 1024 * 1024,
            replay_events_max: 64,
            replay_bytes_max: 64 * 1024,
            replay_ttl_ms: 60_000,
            page_size: 1000,
            list_ttl_ms: 60_000,
        }
    }
}

/// When the copies of a session learn of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Within [`LAZY_FLUSH_MS`], many changes at once. What was not said yet dies with the node.
    Lazy,
    /// In the same turn; what changes a session is acknowledged to its client when its copies are.
    Eager,
}

/// A lazy change waits at most this long until it is said, milliseconds.
pub const LAZY_FLUSH_MS: u64 = 500;

/// What a shard does for sessions to survive their nodes.
#[derive(Debug, Clone)]
pub struct ClusterLimits {
    /// When copies learn of changes.
    pub sync: Sync,
    /// Copies of each session, on as many other nodes.
    pub replicas: usize,
    /// Sessions of other nodes this shard keeps copies of.
    pub copies_max: usize,
    /// Bytes of all these copies.
    pub copies_bytes_max: usize,
    /// Sessions this shard knows to have left the node that made them.
    pub directory_max: usize,
    /// Sessions of a lost node this shard takes over in one turn; the rest follows in the next ones.
    pub adoptions_per_turn: usize,
    /// What visiting this shard's sessions after a change of the cluster may cost in a millisecond
    /// ([`erlmcp_cluster::replicas::VISIT_UNITS_PER_MS`]).
    pub visit_units_per_ms: usize,
    /// Eager: how long an answer waits for the copies to be acknowledged, milliseconds.
    pub eager_wait_ms: u64,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self {
            sync: Sync::Lazy,
            replicas: 1,
            copies_max: 200_000,
            copies_bytes_max: 1024 * 1024 * 1024,
            directory_max: 1_000_000,
            adoptions_per_turn: 256,
            visit_units_per_ms: VISIT_UNITS_PER_MS,
            eager_wait_ms: 1000,
        }
    }
}
