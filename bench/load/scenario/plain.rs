//! The scenarios that need nothing but the crew: ramp, hold, rate, saturate.

use std::time::Duration;

use serde_json::json;

use super::super::blocking::Blocking;
use super::super::kind::Kind;
use super::super::measured::{Measured, latency};
use super::super::options::{HoldArgs, Options, RampArgs, RateArgs, SaturateArgs};
use super::super::outcome::{Judge, limits_of_generator};
use super::super::plan::Work;
use super::super::run::{Opened, Run};
use super::super::say::{CallShape, LEGACY, Say};
use super::super::units::Span;
use super::{MIXED, calls_per_s, defaults, defaults_of_calls, told};

/// `ramp`: how fast connections arrive.
pub fn ramp(args: &RampArgs) -> Result<bool, String> {
    ramp_with(&args.options())
}

/// `hold`: connections that stay.
pub fn hold(args: &HoldArgs) -> Result<bool, String> {
    hold_with(&args.options(), args.every.map_or(EVERY, |every| every.0))
}

/// `rate`: calls at a fixed rate.
pub fn rate(args: &RateArgs) -> Result<bool, String> {
    rate_with(&args.options(), warmup(args.warmup))
}

/// `saturate`: as many calls as the server answers.
pub fn saturate(args: &SaturateArgs) -> Result<bool, String> {
    saturate_with(&args.options(), warmup(args.warmup))
}

/// Each held connection is called this often: twice in the minute it may not be unused.
const EVERY: Duration = Duration::from_secs(30);
/// Between two updates to the listeners of a hold.
const PUBLISH_EVERY_S: f64 = 20.0;
/// A held connection that nobody heard from for this long counts as unused, seconds.
const UNUSED_S_MAX: f64 = 60.0;
/// So many connections come before the first are used again.
const UNUSED_AT_ONCE_MAX: u32 = 100_000;
/// How long an update may take to reach all listeners of a hold, seconds.
const UPDATE_PATIENCE_S: f64 = 10.0;

fn warmup(given: Option<Span>) -> Duration {
    given.map_or(Duration::from_secs(2), |span| span.0)
}

pub(super) fn ramp_with(options: &Options) -> Result<bool, String> {
    let mut run = Run::start("ramp", options, &defaults(10_000, "http"))?;
    run.phase("ramp");
    run.begin()?;
    let opened = run.open(run.connections)?;
    let measured = run.end()?;
    let connects = measured.window.connects.as_deref();
    let p99_ms = connects.and_then(|all| super::super::record::quantile_ms(all, 0.99));
    let memory = run.memory(opened.ready);
    run.step(&opened, None)?;
    println!(
        "{} of {} connections in {:.2} s: {}, {} failed; until ready p50 {} p99 {}",
        opened.ready,
        opened.asked,
        opened.seconds,
        told(opened.per_s, "/s"),
        opened.failed,
        told(connects.and_then(|all| super::super::record::quantile_ms(all, 0.5)), " ms"),
        told(p99_ms, " ms"),
    );
    let judge = Judge {
        p99_ms,
        generator_limits: limits_of_generator(measured.thread_percent, None),
        ..Judge::default()
    };
    let results = json!({
        "opened": opened,
        "until_ready_ms": latency(connects),
        "server_cpu_percent": measured.server_percent,
        "generator_busiest_thread_percent": measured.thread_percent,
        "memory": memory,
    });
    run.finish(judge, results)
}

pub(super) fn hold_with(options: &Options, every: Duration) -> Result<bool, String> {
    let mut run = Run::start("hold", options, &defaults(1000, MIXED))?;
    run.phase("open");
    let opened = open_and_use(&mut run, every)?;
    let memory = run.memory(opened.ready);
    let census = run.crew.census().ok_or("the threads of the load do not answer")?;
    let count = |is: fn(Kind) -> bool| -> u64 {
        Kind::ALL.into_iter().filter(|kind| is(*kind)).map(|kind| census.ready[kind as usize]).sum()
    };
    let (callers, listeners) = (count(Kind::is_caller), count(|kind| !kind.is_caller()));
    let per_s = options.rate.map_or(callers as f64 / every.as_secs_f64(), |rate| rate.0 as f64);
    run.phase("hold");
    if 0 < callers {
        run.call_at(per_s.max(0.01));
    }
    run.begin()?;
    let time = options.duration.map_or(Duration::from_secs(60), |span| span.0);
    let updates = hold_for(&mut run, time, listeners)?;
    let measured = run.end()?;
    let census = run.crew.census().ok_or("the threads of the load do not answer")?;
    let held: u64 = census.ready.iter().sum();
    let unused_s = census.unused_us_max.max(run.crew.unused_us_max()) as f64 / 1e6;
    run.step(&opened, Some(&measured))?;
    println!(
        "{held} of {} connections held for {}, {} lost; {} calls at {}, p99 {}; longest unused {unused_s:.1} s",
        opened.asked,
        Span(time),
        measured.totals.1.lost,
        measured.totals.1.right - measured.totals.0.right,
        told(measured.calls_per_s(), "/s"),
        told(measured.quantile_ms(0.99), " ms"),
    );
    let mut failures = updates.failures;
    if held < opened.asked {
        failures.push(format!("{} connections were not held", opened.asked - held));
    }
    if UNUSED_S_MAX < unused_s {
        failures.push(format!("a connection was unused for {unused_s:.0} s"));
    }
    let judge = judge(&measured, failures.clone());
    let results = json!({
        "opened": opened,
        "held": held,
        "held_s": time.as_secs_f64(),
        "longest_unused_while_held_s": unused_s,
        "updates": { "published": updates.published, "received": updates.received, "not_measured_because": updates.refused },
        "failures": failures,
        "measured": measured.told(),
        "memory": memory,
        "memory_at_end": run.memory(held),
    });
    run.finish(judge, results)
}

/// Opens all connections; those that are there are used meanwhile, because a million take longer to come than
/// any of them may be unused.
fn open_and_use(run: &mut Run, every: Duration) -> Result<Opened, String> {
    let all = run.connections;
    let mut opened = run.open(all.min(UNUSED_AT_ONCE_MAX))?;
    let mut so_far = all.min(UNUSED_AT_ONCE_MAX);
    while so_far < all {
        run.call_at(opened.ready as f64 / every.as_secs_f64());
        so_far = all.min(so_far.saturating_add(UNUSED_AT_ONCE_MAX));
        opened = opened.then(run.open(so_far)?);
    }
    Ok(opened)
}

/// Updates that listeners got while they were held.
struct Updates {
    published: u64,
    received: u64,
    failures: Vec<String>,
    /// Why none were published.
    refused: Option<String>,
}

/// Lets the time pass; tells the listeners now and then that their resource changed.
fn hold_for(run: &mut Run, time: Duration, listeners: u64) -> Result<Updates, String> {
    let mut updates = Updates { published: 0, received: 0, failures: Vec::new(), refused: None };
    let until = run.us() + time.as_micros() as u64;
    let mut publisher = None;
    if 0 < listeners {
        match self::publisher(run) {
            Ok(client) => publisher = Some(client),
            Err(why) => updates.refused = Some(why),
        }
    }
    while run.us() < until {
        if let Some(client) = &mut publisher {
            let before = run.crew.totals();
            if let Err(why) = client.call() {
                // A server without such a tool is held all the same.
                let what = format!("publish: {why}");
                match updates.published {
                    0 => updates.refused = Some(what),
                    _ => updates.failures.push(what),
                }
                publisher = None;
                continue;
            }
            updates.published += 1;
            // Those that are lost meanwhile are counted as lost, not as listeners that heard nothing.
            let all = run.tick_until(UPDATE_PATIENCE_S, |run| {
                let now = run.crew.totals();
                before.updates + listeners.saturating_sub(now.lost) <= now.updates
            })?;
            let came = run.crew.totals().updates - before.updates;
            updates.received += came;
            if !all {
                updates.failures.push(format!("an update reached {came} of {listeners} listeners"));
            }
        }
        let left_s = until.saturating_sub(run.us()) as f64 / 1e6;
        run.pass(Duration::from_secs_f64(left_s.min(PUBLISH_EVERY_S)))?;
    }
    Ok(updates)
}

/// A client that publishes the run's resource with each call.
pub(super) fn publisher(run: &Run) -> Result<Blocking, String> {
    let shape = CallShape::publish(&run.say.uri);
    let target = &run.servers.targets[0];
    let say = Say::new(target, shape, true, LEGACY, &run.say.uri);
    Blocking::open(target, Kind::Http, say)
}

pub(super) fn rate_with(options: &Options, warmup: Duration) -> Result<bool, String> {
    let mut run = Run::start("rate", options, &defaults_of_calls(1000, "http"))?;
    run.phase("open");
    let opened = run.open(run.connections)?;
    let per_s = calls_per_s(options.rate, run.connections);
    run.phase("warm up");
    run.call_at(per_s);
    run.pass(warmup)?;
    run.phase("rate");
    let time = options.duration.map_or(Duration::from_secs(10), |span| span.0);
    let measured = run.measure(time)?;
    run.crew.work(Work::Rest);
    run.step(&opened, Some(&measured))?;
    show_calls(&opened.ready, &measured);
    let judge = judge(&measured, Vec::new());
    let results = json!({
        "opened": opened,
        "intended_calls_per_s": per_s,
        "measured": measured.told(),
        "memory": run.memory(opened.ready),
    });
    run.finish(judge, results)
}

pub(super) fn saturate_with(options: &Options, warmup: Duration) -> Result<bool, String> {
    let mut run = Run::start("saturate", options, &defaults_of_calls(64, "http"))?;
    run.phase("open");
    let opened = run.open(run.connections)?;
    run.phase("warm up");
    run.crew.work(Work::Closed);
    run.pass(warmup)?;
    run.phase("saturate");
    let time = options.duration.map_or(Duration::from_secs(10), |span| span.0);
    let measured = run.measure(time)?;
    run.crew.work(Work::Rest);
    run.step(&opened, Some(&measured))?;
    show_calls(&opened.ready, &measured);
    let judge = judge(&measured, Vec::new());
    let fairness = measured.quantile_ms(0.99).zip(measured.quantile_ms(0.5));
    let results = json!({
        "opened": opened,
        "measured": measured.told(),
        "p99_by_p50": fairness.filter(|(_, p50)| 0.0 < *p50).map(|(p99, p50)| p99 / p50),
        "memory": run.memory(opened.ready),
    });
    run.finish(judge, results)
}

pub(super) fn judge(measured: &Measured, failures: Vec<String>) -> Judge {
    Judge {
        p99_ms: measured.quantile_ms(0.99),
        failures,
        generator_limits: measured.generator_limits(),
        ..Judge::default()
    }
}

fn show_calls(connections: &u64, measured: &Measured) {
    println!(
        "{connections} connections: {}, p50 {} p99 {} p99.9 {}; CPU of the server {} per call, {} of a core; {} wrong, {} lost",
        told(measured.calls_per_s(), " calls/s"),
        told(measured.quantile_ms(0.5), " ms"),
        told(measured.quantile_ms(0.99), " ms"),
        told(measured.quantile_ms(0.999), " ms"),
        told(measured.server_us_per_call(), " us"),
        told(measured.server_percent, " %"),
        measured.totals.1.wrong - measured.totals.0.wrong,
        measured.totals.1.lost,
    );
}
