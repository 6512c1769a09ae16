//! `ladder`: more and more connections. `churn`: connections that do not stay.

use std::time::Duration;

use serde_json::json;

use super::super::measured::latency;
use super::super::options::{ChurnArgs, LadderArgs, Options};
use super::super::outcome::{Judge, limits_of_generator};
use super::super::plan::Work;
use super::super::record::{Step, quantile_ms};
use super::super::run::Run;
use super::{MIXED, defaults, defaults_of_calls, told};

/// Calls per second at each step of a ladder, and no more than this part of the connections.
const LADDER_RATE: f64 = 5000.0;
/// See [`LADDER_RATE`].
const LADDER_CALLS_PER_CONNECTION: f64 = 1.0;
/// Calls before a step is measured.
const WARMUP: Duration = Duration::from_secs(1);

/// `ladder`.
pub fn ladder(args: &LadderArgs) -> Result<bool, String> {
    let steps: Vec<u64> = args.steps.0.iter().map(|count| count.0).collect();
    ladder_with(&args.options(), &steps)
}

pub(super) fn ladder_with(options: &Options, steps: &[u64]) -> Result<bool, String> {
    let mut steps = steps.to_vec();
    steps.sort_unstable();
    let top = *steps.last().ok_or("a ladder without steps")?;
    let mut options = options.clone();
    options.connections = Some(super::super::units::Count(top));
    let mut run = Run::start("ladder", &options, &defaults(0, MIXED))?;
    let time = options.duration.map_or(Duration::from_secs(10), |span| span.0);
    let (mut rows, mut worst_p99, mut limits) = (Vec::new(), None::<f64>, Vec::new());
    for step in steps {
        run.phase("open");
        let opened = run.open(u32::try_from(step).map_err(|_| "that step is too high")?)?;
        let most = opened.ready as f64 * LADDER_CALLS_PER_CONNECTION;
        let per_s = options.rate.map_or(LADDER_RATE.min(most), |rate| rate.0 as f64);
        run.phase("call");
        run.call_at(per_s.max(1.0));
        run.pass(WARMUP)?;
        let measured = run.measure(time)?;
        run.crew.work(Work::Rest);
        let row = run.step(&opened, Some(&measured))?;
        println!(
            "{:7} connections: opened at {}, {} calls/s, p50 {} p99 {} p99.9 {}, {} errors",
            row.connections,
            told(row.per_s, "/s"),
            told(row.calls_per_s, ""),
            told(row.p50_ms, " ms"),
            told(row.p99_ms, " ms"),
            told(row.p999_ms, " ms"),
            row.errors,
        );
        worst_p99 = worst_p99.into_iter().chain(row.p99_ms).reduce(f64::max);
        limits.extend(measured.generator_limits().into_iter().map(|why| format!("{step}: {why}")));
        rows.push(json!({
            "opened": opened,
            "step": row,
            "measured": measured.told(),
            "memory": run.memory(opened.ready),
        }));
    }
    let judge = Judge { p99_ms: worst_p99, generator_limits: limits, ..Judge::default() };
    run.finish(judge, json!({ "steps": rows }))
}

/// `churn`.
pub fn churn(args: &ChurnArgs) -> Result<bool, String> {
    churn_with(&args.options())
}

pub(super) fn churn_with(options: &Options) -> Result<bool, String> {
    if options.bare {
        return Err(
            "a storm without calls shows what the kernel accepts, not the server".to_owned()
        );
    }
    let mut run = Run::start("churn", options, &defaults_of_calls(200, "http"))?;
    run.phase("churn");
    run.crew.work(Work::Churn);
    let from = run.crew.totals();
    // The pace of new connections is that of the storm; without one it is as fast as it goes.
    run.begin()?;
    let per_s = options.connect_rate.map(|rate| rate.0 as f64);
    run.crew.open(run.connections, per_s);
    run.pass(options.duration.map_or(Duration::from_secs(10), |span| span.0))?;
    let measured = run.end()?;
    let totals = run.crew.totals();
    run.crew.work(Work::Rest);
    let (clients, failed) = (totals.arrived - from.arrived, totals.failed - from.failed);
    let per_s = (0.0 < measured.seconds).then(|| clients as f64 / measured.seconds);
    let connects = measured.window.connects.as_deref();
    let p99_ms = connects.and_then(|all| quantile_ms(all, 0.99));
    run.recorder.step(&Step {
        connections: u64::from(run.connections),
        seconds: measured.seconds,
        per_s,
        p99_ms,
        p50_ms: connects.and_then(|all| quantile_ms(all, 0.5)),
        p999_ms: connects.and_then(|all| quantile_ms(all, 0.999)),
        errors: failed,
        server_rss: measured.server_rss,
        ..Step::default()
    })?;
    println!(
        "{clients} clients came, called and left in {:.1} s: {}; until answered p50 {} p99 {}; {failed} failed",
        measured.seconds,
        told(per_s, "/s"),
        told(connects.and_then(|all| quantile_ms(all, 0.5)), " ms"),
        told(p99_ms, " ms"),
    );
    let judge = Judge {
        p99_ms,
        generator_limits: limits_of_generator(measured.thread_percent, None),
        ..Judge::default()
    };
    let results = json!({
        "clients": clients,
        "clients_per_s": per_s,
        "failed": failed,
        "at_once": run.connections,
        "until_answered_ms": latency(connects),
        "server_cpu_percent": measured.server_percent,
        "memory": run.memory(u64::from(run.connections)),
    });
    run.finish(judge, results)
}
