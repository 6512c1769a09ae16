//! Heap allocations of a shard per call. The only scenario that runs the server in this process: the counting
//! allocator must be in the same program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_catalog::ThreadRunner;
use erlmcp_protocol::http::Access;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::{Engine, EngineConfig, Seat};
use erlmcp_shards::fleet::{self, Fleet, FleetConfig, ShardPlace};
use erlmcp_shards::io::listen::ListenOptions;
use erlmcp_shards::io::uring::UringConfig;
use serde::Serialize;
use serde_json::Value;

use crate::allocator::{Allocated, allocated, count_this_thread};
use crate::cli::AllocationsArgs;
use crate::client::{Load, probe_call};
use crate::request::{CALLS, Call, call_post};

/// Slots of the shard's ring.
const CAPACITY: u32 = 16_384;
/// How long all calls of one tool may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Times arguments are read when that alone is counted.
const PARSES: u64 = 1000;

/// Of one tool.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The tool.
    pub tool: &'static str,
    /// Calls that were counted.
    pub calls: u64,
    /// New blocks per call.
    pub blocks_per_call: f64,
    /// Resized blocks per call.
    pub resized_per_call: f64,
    /// Bytes per call.
    pub bytes_per_call: f64,
    /// Blocks that reading the arguments as JSON values takes on its own.
    pub blocks_for_arguments: f64,
}

/// `erlmcp-bench allocations`.
pub fn run(args: &AllocationsArgs) -> Result<(), String> {
    let rows = measure(args.calls, args.connections, args.server_core, args.client_core)?;
    print(&rows);
    Ok(())
}

/// Shows them.
pub fn print(rows: &[Row]) {
    println!("\nallocations per call      blocks  resized    bytes   arguments alone: blocks");
    for row in rows {
        println!(
            "{:24} {:7.2} {:8.2} {:8.1} {:16.2}",
            row.tool,
            row.blocks_per_call,
            row.resized_per_call,
            row.bytes_per_call,
            row.blocks_for_arguments
        );
    }
}

/// Counts so many calls of each tool.
pub fn measure(
    calls: u64,
    connections: u32,
    server_core: usize,
    client_core: usize,
) -> Result<Vec<Row>, String> {
    let fleet = start(server_core)?;
    let target = fleet.addresses().http.ok_or("the fleet has no HTTP listener")?;
    let mut rows = Vec::new();
    for call in &CALLS {
        let request = call_post(target, call);
        let (expectation, _) = probe_call(target, &request, call)?;
        let load = Load::start(target, connections, client_core, request, expectation)?;
        load.wait_warm();
        let (first, before) = (load.calls(), allocated());
        let deadline = Instant::now() + PATIENCE;
        while load.calls() < first + calls && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (last, after) = (load.calls(), allocated());
        load.finish()?;
        let counted = last.saturating_sub(first);
        if counted == 0 {
            return Err(format!("no call of {} was answered in time", call.tool));
        }
        rows.push(row(call, counted, before, after));
    }
    fleet.abort();
    fleet.join().map_err(|panicked| panicked.to_string())?;
    Ok(rows)
}

fn row(call: &Call, calls: u64, before: Allocated, after: Allocated) -> Row {
    let per_call = |from: u64, to: u64| (to - from) as f64 / calls as f64;
    Row {
        tool: call.tool,
        calls,
        blocks_per_call: per_call(before.blocks, after.blocks),
        resized_per_call: per_call(before.resized, after.resized),
        bytes_per_call: per_call(before.bytes, after.bytes),
        blocks_for_arguments: blocks_for(call.arguments),
    }
}

/// What a JSON value of these arguments takes: nobody who hands values to a handler can do with less.
fn blocks_for(arguments: &str) -> f64 {
    let before = allocated();
    count_this_thread(true);
    for _ in 0..PARSES {
        let value: Result<Value, _> = serde_json::from_str(arguments);
        drop(std::hint::black_box(value));
    }
    count_this_thread(false);
    (allocated().blocks - before.blocks) as f64 / PARSES as f64
}

/// One shard with the demo catalog, its thread counted.
fn start(core: usize) -> Result<Fleet, String> {
    let catalog = erlmcp_catalog::demo().map_err(|err| err.to_string())?.into_handle();
    let runner = Arc::new(ThreadRunner::new(1).map_err(|err| err.to_string())?);
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|err| err.to_string())?;
    let engine = Arc::new(EngineConfig {
        limits: Limits::default(),
        access: Arc::new(Access::new(&[], &[])?),
        keys: Arc::new(Keyring::new(&secret)),
        epoch: 1,
        lookout: None,
        cluster: None,
    });
    let fleet = FleetConfig {
        node: 0,
        shards: vec![ShardPlace { core: Some(core) }],
        http: Some(([127, 0, 0, 1], 0).into()),
        tcp: None,
        mesh: None,
        limits: Limits::default(),
        listen: ListenOptions::default(),
        ring: UringConfig { capacity: CAPACITY, ..UringConfig::default() },
    };
    let make = move |seat: fleet::ShardSeat| {
        // Made on the shard's own thread.
        count_this_thread(true);
        let place = Seat { at: seat.at, shards: seat.count };
        // Nothing here answers later, so nobody need be woken.
        Engine::new(place, engine.clone(), catalog.clone(), runner.clone(), Arc::new(|| {}))
    };
    fleet::start(fleet, make).map_err(|err| err.to_string())
}
