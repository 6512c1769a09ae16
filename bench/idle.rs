//! What an idle client costs: the server's memory as clients of one kind arrive and stay, and the slope of it.
//!
//! A fresh server for each kind. Before the first reading some clients have already come, so that what is
//! needed once is there. Private and anonymous memory are the server's own; what the kernel keeps for sockets
//! is told beside it, for both ends of each connection.

use std::time::Duration;

use serde::Serialize;

use crate::child::Server;
use crate::cli::IdleArgs;
use crate::client::{Client, Openers};
use crate::facts::Facts;
use crate::numbers::slope;
use crate::process::{Memory, Sockets, memory, sockets};
use crate::results::Results;

/// Clients that come before the first reading.
const CLIENTS_BEFORE: u32 = 64;
/// Readings after the first.
const STEPS: u32 = 4;
/// How long all clients of a step may take to settle.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rest before a reading: buffers come home, closed things are freed.
const REST: Duration = Duration::from_millis(300);

/// A kind of idle client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Made one call, keeps its connection.
    Http,
    /// Upgraded, made one call.
    WebSocket,
    /// Listens to `subscriptions/listen`.
    Listen,
    /// A legacy session: said `initialize`, holds no connection.
    Session,
    /// A legacy session that holds its GET stream.
    SessionStream,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] =
        [Kind::Http, Kind::WebSocket, Kind::Listen, Kind::Session, Kind::SessionStream];

    /// As the command line names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::WebSocket => "websocket",
            Kind::Listen => "listen",
            Kind::Session => "session",
            Kind::SessionStream => "session-stream",
        }
    }

    /// Bytes that one may cost.
    const fn goal_bytes(self) -> u64 {
        match self {
            Kind::Http => 1024,
            _ => 2048,
        }
    }

    fn parse(name: &str) -> Result<Self, String> {
        let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
        known.ok_or_else(|| format!("there is no kind of client called {name:?}"))
    }
}

/// One reading.
#[derive(Debug, Clone, Copy, Serialize)]
struct Reading {
    clients: u32,
    memory: Memory,
    sockets: Sockets,
}

/// All readings of one kind.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    readings: Vec<Reading>,
    /// Slopes, bytes per client.
    private_bytes: f64,
    anonymous_bytes: f64,
    rss_bytes: f64,
    goal_bytes: u64,
    /// The kernel's, both ends.
    socket_buffer_bytes: f64,
    kernel_slab_bytes: f64,
}

/// `erlmcp-bench idle`.
pub fn run(args: &IdleArgs) -> Result<(), String> {
    let facts = Facts::gather(Some(&args.binary));
    let results = Results::create(&args.results, "idle")?;
    println!("bytes per idle client: the slope over {} of them, {} shards", args.count, shards());
    println!(
        "kind            private  anonymous      rss   goal           kernel, both ends: buffers   \
         slabs"
    );
    let mut rows = Vec::new();
    for kind in &args.kinds.0 {
        let row = measure(args, Kind::parse(kind)?)?;
        show(&row);
        rows.push(row);
    }
    results.finish(&facts, &rows)
}

fn measure(args: &IdleArgs, kind: Kind) -> Result<Row, String> {
    let server = Server::ours(&args.binary, cores())?;
    let told = |err: std::io::Error| format!("{}: {err}", kind.as_str());
    let mut client = Client::new(server.http, Openers::new(kind, server.http)).map_err(told)?;
    let mut readings = Vec::new();
    for step in 0..=STEPS {
        let clients = args.count * step / STEPS;
        let settled = CLIENTS_BEFORE + clients;
        let connections = if kind == Kind::Session { CLIENTS_BEFORE } else { settled };
        client.conversation().want_sessions(settled);
        client.open(connections).map_err(told)?;
        client.nudge();
        let is_settled = |openers: &mut Openers| openers.settled() == settled;
        client.turn_until(PATIENCE, is_settled).map_err(told)?;
        std::thread::sleep(REST);
        if client.faults().count != 0 {
            return Err(format!("{}: {:?}", kind.as_str(), client.faults()));
        }
        let memory = memory(server.pid()).map_err(told)?;
        readings.push(Reading { clients, memory, sockets: sockets().map_err(told)? });
    }
    let per_client = |of: fn(&Reading) -> u64| {
        let points: Vec<(f64, f64)> =
            readings.iter().map(|one| (f64::from(one.clients), of(one) as f64)).collect();
        slope(&points).ok_or_else(|| "too few clients for a slope".to_owned())
    };
    Ok(Row {
        kind: kind.as_str(),
        private_bytes: per_client(|one| one.memory.private)?,
        anonymous_bytes: per_client(|one| one.memory.anonymous)?,
        rss_bytes: per_client(|one| one.memory.rss)?,
        goal_bytes: kind.goal_bytes(),
        socket_buffer_bytes: per_client(|one| one.sockets.buffer_bytes)?,
        kernel_slab_bytes: per_client(|one| one.sockets.slab_bytes)?,
        readings,
    })
}

/// Two shards where there are two cores.
fn cores() -> &'static str {
    if shards() == 2 { "0-1" } else { "0" }
}

fn shards() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len().clamp(1, 2))
}

fn show(row: &Row) {
    let verdict = if row.private_bytes <= row.goal_bytes as f64 { "ok" } else { "MISSED" };
    println!(
        "{:14} {:8.0} {:10.0} {:8.0} {:6} {verdict:6} {:28.0} {:7.0}",
        row.kind,
        row.private_bytes,
        row.anonymous_bytes,
        row.rss_bytes,
        row.goal_bytes,
        row.socket_buffer_bytes,
        row.kernel_slab_bytes,
    );
    let mut steps = row.readings.windows(2).map(|pair| {
        let grown = pair[1].memory.private as f64 - pair[0].memory.private as f64;
        format!("{:.0}", grown / f64::from((pair[1].clients - pair[0].clients).max(1)))
    });
    let first = steps.next().unwrap_or_default();
    println!("               step by step: {}", steps.fold(first, |all, one| all + ", " + &one));
}
