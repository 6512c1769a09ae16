//! What a call costs: our server and the floor in turns, one shard on one core, the load on another.
//!
//! CPU time is that of the whole server process, its control plane included, over the measured seconds.
//! The ratio is taken within each pair of rounds, because a host drifts. What is measured is a closed loop:
//! calls per second are bounded by the slower of server and load, CPU per call is the server's alone.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::allocations;
use crate::child::Server;
use crate::cli::HotpathArgs;
use crate::client::{Expectation, Load, probe_call};
use crate::facts::Facts;
use crate::numbers::Spread;
use crate::process::{cpu_ns, user_and_system_ticks};
use crate::request::{self, Call, Request, call_post};
use crate::results::Results;

/// A load runs so long before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Ratio that is aimed at with up to [`RATIO_GOAL_CONNECTIONS`] connections.
const RATIO_GOAL: f64 = 1.5;
/// See [`RATIO_GOAL`].
const RATIO_GOAL_CONNECTIONS: u32 = 1000;
/// System calls per call that are aimed at, where turns have enough to do.
const SYSCALLS_GOAL: f64 = 0.2;
/// Calls over which allocations are counted.
const ALLOCATION_CALLS: u64 = 100_000;
/// Connections they come over.
const ALLOCATION_CONNECTIONS: u32 = 64;

/// One measured round of one server.
#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    calls_per_s: f64,
    cpu_us_per_call: f64,
    /// Share of the CPU time spent outside the kernel; from ticks of 10 ms.
    user_share: f64,
    /// How much of its core the server used.
    core_share: f64,
    enters_per_call: f64,
    p50_us: u64,
    p99_us: u64,
}

/// All rounds with one tool and one number of connections.
#[derive(Debug, Serialize)]
struct Row {
    tool: &'static str,
    connections: u32,
    ours: Vec<Round>,
    floor: Vec<Round>,
    /// Ours over floor, of CPU per call.
    ratio: Option<Spread>,
    ratio_goal: Option<f64>,
    /// `perf stat -e raw_syscalls:sys_enter` over all threads of our server, when that can be had.
    syscalls_per_call: Option<f64>,
    syscalls_goal: f64,
}

#[derive(Debug, Serialize)]
struct Summary {
    seconds: u32,
    rounds: u32,
    server_core: usize,
    client_core: usize,
    cpu_resolution: &'static str,
    rows: Vec<Row>,
    allocations: Vec<allocations::Row>,
}

/// `erlmcp-bench hotpath`.
pub fn run(args: &HotpathArgs) -> Result<(), String> {
    let facts = Facts::gather(Some(&args.binary));
    let results = Results::create(&args.results, "hotpath")?;
    println!("ours/floor: CPU of the whole server process, µs per call (median of rounds)");
    println!(
        "tool  conns     ours/s    floor/s   ours µs  floor µs   ratio [min–max]      enters  \
         syscalls  p50 µs  p99 µs"
    );
    let mut rows = Vec::new();
    for tool in &args.tools.0 {
        let call = request::call(tool)?;
        for &connections in &args.connections.0 {
            let row = measure(args, &results, call, connections)?;
            show(&row);
            rows.push(row);
        }
    }
    let (server, client) = (args.server_core, args.client_core);
    let counted = allocations::measure(ALLOCATION_CALLS, ALLOCATION_CONNECTIONS, server, client)?;
    allocations::print(&counted);
    let summary = Summary {
        seconds: args.seconds,
        rounds: args.rounds,
        server_core: args.server_core,
        client_core: args.client_core,
        cpu_resolution: "/proc/PID/task/*/schedstat: ns, late by at most one scheduler tick",
        rows,
        allocations: counted,
    };
    results.finish(&facts, &summary)
}

fn measure(
    args: &HotpathArgs,
    results: &Results,
    call: Call,
    connections: u32,
) -> Result<Row, String> {
    let mut ours = Server::ours(&args.binary, &args.server_core.to_string())?;
    let request = call_post(ours.http, &call);
    let (expectation, answer) = probe_call(ours.http, &request, &call)?;
    let answer = results.keep(&format!("answer-{}.http", call.tool), &answer)?;
    let mut floor = Server::floor(args.server_core, &answer)?;
    let of_floor = expectation.of_floor();
    let mut row = Row {
        tool: call.tool,
        connections,
        ours: Vec::new(),
        floor: Vec::new(),
        ratio: None,
        ratio_goal: (connections <= RATIO_GOAL_CONNECTIONS).then_some(RATIO_GOAL),
        syscalls_per_call: None,
        syscalls_goal: SYSCALLS_GOAL,
    };
    for round in 0..args.rounds {
        let is_last = round + 1 == args.rounds;
        // Who goes first changes, so that neither always profits from what the other leaves behind.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let count = is_last.then_some(&mut row.syscalls_per_call);
                let round = round_of(args, &mut ours, connections, &request, &expectation, count)?;
                row.ours.push(round);
            } else {
                let round = round_of(args, &mut floor, connections, &request, &of_floor, None)?;
                row.floor.push(round);
            }
        }
    }
    let pairs = row.ours.iter().zip(&row.floor);
    row.ratio = Spread::of(pairs.map(|(ours, floor)| ours.cpu_us_per_call / floor.cpu_us_per_call));
    Ok(row)
}

fn round_of(
    args: &HotpathArgs,
    server: &mut Server,
    connections: u32,
    request: &Request,
    expectation: &Expectation,
    count_syscalls: Option<&mut Option<f64>>,
) -> Result<Round, String> {
    let told = |err: std::io::Error| err.to_string();
    let pid = server.pid();
    let load = Load::start(
        server.http,
        connections,
        args.client_core,
        request.clone(),
        expectation.clone(),
    )?;
    load.wait_warm();
    std::thread::sleep(WARM_UP);

    let enters = server.enters()?;
    load.pulse.is_measured.store(true, std::sync::atomic::Ordering::Relaxed);
    let (user, system) = user_and_system_ticks(pid).map_err(told)?;
    let (began, calls, cpu) = (Instant::now(), load.calls(), cpu_ns(pid).map_err(told)?);
    std::thread::sleep(Duration::from_secs(u64::from(args.seconds)));
    let (took, calls, cpu) =
        (began.elapsed(), load.calls() - calls, cpu_ns(pid).map_err(told)? - cpu);
    let (user_now, system_now) = user_and_system_ticks(pid).map_err(told)?;
    load.pulse.is_measured.store(false, std::sync::atomic::Ordering::Relaxed);
    let enters = server.enters()? - enters;

    if let Some(found) = count_syscalls {
        *found = syscalls_per_call(pid, &load);
    }
    let latency_us = load.finish()?;
    if calls == 0 {
        return Err("no call was answered".to_owned());
    }
    let per_call = |what: f64| what / calls as f64;
    let ticks = (user_now - user) + (system_now - system);
    Ok(Round {
        calls_per_s: calls as f64 / took.as_secs_f64(),
        cpu_us_per_call: per_call(cpu as f64 / 1000.0),
        user_share: (user_now - user) as f64 / ticks.max(1) as f64,
        core_share: cpu as f64 / took.as_nanos() as f64,
        enters_per_call: per_call(enters as f64),
        p50_us: latency_us.value_at_quantile(0.5),
        p99_us: latency_us.value_at_quantile(0.99),
    })
}

/// A second opinion from the kernel's own tracepoint. It slows the server down, so nothing else is measured
/// meanwhile; without perf, or without the right to use it, there is none.
fn syscalls_per_call(pid: u32, load: &Load) -> Option<f64> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
    let (began, calls) = (Instant::now(), load.calls());
    let output = perf.args(["--", "sleep", "1"]).stdin(Stdio::null()).output().ok()?;
    // Rates, because perf takes its time to begin and to end: it counts only while the one second lasts.
    let calls_per_s = (load.calls() - calls) as f64 / began.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let count = text.lines().find(|line| line.contains("raw_syscalls"))?;
    let syscalls_per_s: u64 = count.split(',').next()?.parse().ok()?;
    (0.0 < calls_per_s).then(|| syscalls_per_s as f64 / calls_per_s)
}

fn show(row: &Row) {
    let median = |rounds: &[Round], of: fn(&Round) -> f64| {
        Spread::of(rounds.iter().map(of)).map_or(f64::NAN, |spread| spread.median)
    };
    let ratio = row.ratio.map_or_else(String::new, |ratio| {
        let verdict = match row.ratio_goal {
            Some(goal) if ratio.median <= goal => " ok",
            Some(_) => " MISSED",
            None => "",
        };
        format!("{:.2} [{:.2}–{:.2}]{verdict}", ratio.median, ratio.min, ratio.max)
    });
    let syscalls =
        row.syscalls_per_call.map_or_else(|| "-".to_owned(), |count| format!("{count:.3}"));
    println!(
        "{:5} {:5} {:10.0} {:10.0} {:9.2} {:9.2}   {ratio:20} {:6.3} {syscalls:>9} {:7.0} {:7.0}",
        row.tool,
        row.connections,
        median(&row.ours, |round| round.calls_per_s),
        median(&row.floor, |round| round.calls_per_s),
        median(&row.ours, |round| round.cpu_us_per_call),
        median(&row.floor, |round| round.cpu_us_per_call),
        median(&row.ours, |round| round.enters_per_call),
        median(&row.ours, |round| round.p50_us as f64),
        median(&row.ours, |round| round.p99_us as f64),
    );
    let _ = std::io::stdout().flush();
}
