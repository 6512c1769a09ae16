//! A shard's own counters. Plain integers: nobody else reads them; snapshots travel over a channel.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::mesh::MeshStats;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// HTTP/1.1, any path.
    Http,
    /// WebSocket.
    WebSocket,
    /// Newline-delimited TCP.
    Tcp,
    /// stdin/stdout.
    Stdio,
}

impl Transport {
    /// All of them; `self as usize` indexes.
    pub const ALL: [Transport; 4] =
        [Transport::Http, Transport::WebSocket, Transport::Tcp, Transport::Stdio];

    /// Metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Http => "http",
            Transport::WebSocket => "websocket",
            Transport::Tcp => "tcp",
            Transport::Stdio => "stdio",
        }
    }
}

/// How a request ended, for `erlmcp_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// A result.
    Ok,
    /// A tool result with `isError`.
    ToolError,
    /// A JSON-RPC error.
    RpcError,
    /// Cancelled, or the caller left.
    Cancelled,
    /// `input_required`.
    InputRequired,
    /// The call became a task.
    Task,
}

impl OutcomeKind {
    /// How many.
    pub const COUNT: usize = 6;
    /// All of them.
    pub const ALL: [OutcomeKind; Self::COUNT] = [
        OutcomeKind::Ok,
        OutcomeKind::ToolError,
        OutcomeKind::RpcError,
        OutcomeKind::Cancelled,
        OutcomeKind::InputRequired,
        OutcomeKind::Task,
    ];

    /// Metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            OutcomeKind::Ok => "ok",
            OutcomeKind::ToolError => "tool_error",
            OutcomeKind::RpcError => "rpc_error",
            OutcomeKind::Cancelled => "cancelled",
            OutcomeKind::InputRequired => "input_required",
            OutcomeKind::Task => "task",
        }
    }
}

/// The counters of one shard.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Open connections by transport.
    pub connections_active: [u64; 4],
    /// Connections ever accepted, by transport.
    pub connections_total: [u64; 4],
    /// JSON-RPC messages received.
    pub messages_in: u64,
    /// JSON-RPC messages sent.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Requests by method name (static) and outcome.
    pub requests: BTreeMap<&'static str, [u64; OutcomeKind::COUNT]>,
    /// Errors and refusals by reason (static, snake_case).
    pub errors: BTreeMap<&'static str, u64>,
    /// Legacy sessions alive.
    pub sessions_active: u64,
    /// Legacy sessions ever opened.
    pub sessions_total: u64,
    /// For how long the oldest change of a session has waited to be acknowledged by the nodes that keep its copies,
    /// milliseconds; set when a snapshot is taken.
    pub sync_lag_ms: u64,
    /// Sessions taken over from other nodes.
    pub sessions_adopted: u64,
    /// Sessions given up because another node owns them.
    pub sessions_yielded: u64,
    /// Copies kept of sessions of other nodes.
    pub copies_active: u64,
    /// Bytes of these.
    pub copies_bytes: u64,
    /// Sessions known to have left the node that made them.
    pub directory_entries: u64,
    /// Letters about own sessions that wait to be said.
    pub sync_waiting: u64,
    /// Own sessions by how many copies there are of them: as many as configured, fewer, none
    /// ([`erlmcp_cluster::replicas::Copied`]).
    pub sessions_copied: [u64; 3],
    /// How often another node was told everything about own sessions.
    pub sync_resyncs: u64,
    /// How often a session was said again because its keeper had not acknowledged it.
    pub sync_repeats: u64,
    /// Answers that wait for copies to be acknowledged.
    pub answers_withheld: u64,
    /// Open SSE streams (listen, GET, /sse, streaming answers).
    pub streams_active: u64,
    /// Calls in flight that were not answered inline.
    pub calls_active: u64,
    /// Tasks kept, running or ended.
    pub tasks_active: u64,
    /// Notifications fanned out to subscribers.
    pub notifications_out: u64,
    /// Requests sent to the shard that owns the session.
    pub forwards_out: u64,
    /// Time from a request's arrival to its answer, microseconds, by method.
    pub latency_us: BTreeMap<&'static str, Histogram<u64>>,
    /// The same for `tools/call`, by tool name (only names of the catalog).
    pub tool_latency_us: BTreeMap<String, Histogram<u64>>,
}

impl Counters {
    /// Counts one error or refusal.
    pub fn error(&mut self, reason: &'static str) {
        *self.errors.entry(reason).or_default() += 1;
    }

    /// Records how long a request took, microseconds.
    pub fn latency(&mut self, method: &'static str, micros: u64) {
        self.latency_us.entry(method).or_insert_with(new_histogram).saturating_record(micros);
    }

    /// Records how long a tool took, microseconds. `tool` must be a name of the catalog: labels are bounded.
    pub fn tool_latency(&mut self, tool: &str, micros: u64) {
        if let Some(histogram) = self.tool_latency_us.get_mut(tool) {
            return histogram.saturating_record(micros);
        }
        let mut histogram = new_histogram();
        histogram.saturating_record(micros);
        self.tool_latency_us.insert(tool.to_owned(), histogram);
    }

    /// Counts one finished request.
    pub fn request(&mut self, method: &'static str, outcome: OutcomeKind) {
        self.requests.entry(method).or_default()[outcome as usize] += 1;
    }
}

/// Longest duration told apart, microseconds; longer ones count as this.
pub const LATENCY_MICROS_MAX: u64 = 3_600_000_000;

/// Two significant digits from 1 µs to an hour: a few kilobytes each.
fn new_histogram() -> Histogram<u64> {
    // The bounds are constants that hdrhistogram accepts; the fallback only resizes itself.
    Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 2)
        .unwrap_or_else(|_| Histogram::new(2).expect("two digits are valid"))
}

/// What a shard reports when asked.
#[derive(Debug, Clone)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: u16,
    /// Its core, when pinned.
    pub core: Option<usize>,
    /// Connections it can hold.
    pub capacity: u32,
    /// Its counters.
    pub counters: Counters,
    /// Its links to other nodes, when it has a mesh.
    pub mesh: Option<MeshStats>,
    /// Ring health: (name, value), e.g. `enters`, `enobufs`, `late`, `cq_overflow`, `parked`.
    pub ring: Vec<(&'static str, u64)>,
}
