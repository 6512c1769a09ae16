//! `fanout`: one update of a resource to many listeners. `slow`: the same while some of them do not read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::super::blocking::Blocking;
use super::super::kind::{Kind, Mix};
use super::super::measured::{Measured, latency};
use super::super::options::{FanoutArgs, Options, SlowArgs};
use super::super::outcome::{Judge, limits_of_generator};
use super::super::plan::Work;
use super::super::record::{Step, quantile_ms};
use super::super::run::Run;
use super::plain::publisher;
use super::{calls_per_s, defaults, told};
use crate::numbers::Spread;

/// How long one update may take to reach everyone, seconds.
const UPDATE_PATIENCE_S: f64 = 30.0;
/// Between two updates: what the last one left behind shall not be in the way.
const REST: Duration = Duration::from_millis(600);
/// Long names make long updates, and those fill the buffers of one who does not read.
const SLOW_URI_BYTES: usize = 4096;
/// Most updates a second to all listeners together, and most publications.
const UPDATES_PER_S_MAX: f64 = 20_000.0;
const PUBLISHES_PER_S_MAX: f64 = 50.0;
/// How long those who did not read get to notice that they were closed.
const HEAR_AGAIN: Duration = Duration::from_secs(2);

/// `fanout`.
pub fn fanout(args: &FanoutArgs) -> Result<bool, String> {
    fanout_with(&args.options(), args.rounds.unwrap_or(5))
}

/// One update.
#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    received: u64,
    /// Milliseconds since it was published.
    first_ms: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    last_ms: Option<f64>,
    /// Until the answer to `publish` came.
    answered_ms: f64,
}

pub(super) fn fanout_with(options: &Options, rounds: u32) -> Result<bool, String> {
    let mut run = Run::start("fanout", options, &defaults(1000, "listen"))?;
    run.phase("open");
    let opened = run.open(run.connections)?;
    let listeners = listeners(&mut run)?;
    let mut publisher = publisher(&run)?;
    if let Some(rate) = options.rate {
        run.call_at(rate.0 as f64);
    }
    run.phase("fanout");
    let (mut told_rounds, mut failures, mut limits) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=rounds {
        let round = publish_once(&mut run, &mut publisher, listeners)?;
        if round.0.received < listeners {
            failures.push(format!("update {number} reached {} of {listeners}", round.0.received));
        }
        println!(
            "update {number}: {} of {listeners}, first {} p50 {} last {}",
            round.0.received,
            told(round.0.first_ms, " ms"),
            told(round.0.p50_ms, " ms"),
            told(round.0.last_ms, " ms"),
        );
        limits = limits_of_generator(round.1.thread_percent, None);
        run.recorder.step(&Step {
            connections: listeners,
            seconds: round.1.seconds,
            per_s: None,
            p99_ms: round.0.p99_ms,
            ..Step::default()
        })?;
        told_rounds.push(round.0);
    }
    let spread = |of: fn(&Round) -> Option<f64>| Spread::of(told_rounds.iter().filter_map(of));
    let last = spread(|round| round.last_ms);
    // What is judged is the slowest update's last listener.
    let p99_ms = last.map(|last| last.max);
    let judge = Judge { p99_ms, failures, generator_limits: limits, ..Judge::default() };
    let results = json!({
        "opened": opened,
        "listeners": listeners,
        "first_ms": spread(|round| round.first_ms),
        "last_ms": last,
        "rounds": told_rounds,
        "memory": run.memory(opened.ready),
    });
    run.finish(judge, results)
}

fn publish_once(
    run: &mut Run,
    publisher: &mut Blocking,
    listeners: u64,
) -> Result<(Round, Measured), String> {
    run.pass(REST)?;
    run.begin()?;
    let before = run.crew.totals();
    let published_us = run.us();
    run.crew.plan().published_us.store(published_us, Ordering::Relaxed);
    publisher.call().map_err(|why| format!("publish: {why}"))?;
    let answered_ms = (run.us() - published_us) as f64 / 1e3;
    run.tick_until(UPDATE_PATIENCE_S, |run| {
        before.updates + listeners <= run.crew.totals().updates
    })?;
    let received = run.crew.totals().updates - before.updates;
    let last_us = run.crew.update_last_us().saturating_sub(published_us);
    let measured = run.end()?;
    let updates = measured.window.updates.as_deref();
    let round = Round {
        received,
        first_ms: updates.map(|all| all.min() as f64 / 1e3),
        p50_ms: updates.and_then(|all| quantile_ms(all, 0.5)),
        p99_ms: updates.and_then(|all| quantile_ms(all, 0.99)),
        last_ms: (0 < received).then_some(last_us as f64 / 1e3),
        answered_ms,
    };
    Ok((round, measured))
}

/// Clients that listen and are there.
fn listeners(run: &mut Run) -> Result<u64, String> {
    let census = run.crew.census().ok_or("the threads of the load do not answer")?;
    let listeners = census.ready[Kind::Listen as usize] + census.ready[Kind::Stream as usize];
    match listeners {
        0 => Err("nobody listens: --mix listen, or a mix with it".to_owned()),
        listeners => Ok(listeners),
    }
}

/// `slow`.
pub fn slow(args: &SlowArgs) -> Result<bool, String> {
    let deaf = args.deaf.map_or(50.0, |deaf| deaf.0) / 100.0;
    slow_with(&args.options(), deaf, args.publishes.map(|count| count.0 as f64))
}

pub(super) fn slow_with(
    options: &Options,
    deaf: f64,
    publishes: Option<f64>,
) -> Result<bool, String> {
    let mut options = options.clone();
    options.mix = options.mix.or("http=80,listen=20".parse::<Mix>().ok());
    options.uri = options.uri.or(Some(format!("demo://echo/{}", "u".repeat(SLOW_URI_BYTES))));
    let mut run = Run::start("slow", &options, &defaults(1000, "listen"))?;
    run.phase("open");
    let opened = run.open(run.connections)?;
    let listeners = listeners(&mut run)?;
    let half = options.duration.map_or(Duration::from_secs(20), |span| span.0) / 2;
    run.call_at(calls_per_s(options.rate, run.connections));
    let publishes = publishes.unwrap_or_else(|| publishes_per_s(listeners));
    let publishing = Publishing::start(publisher(&run)?, publishes)?;
    run.pass(REST)?;
    run.phase("all read");
    let healthy = run.measure(half)?;
    let healthy_published = publishing.count();
    let count = (listeners as f64 * deaf).round() as u32;
    run.phase("some deaf");
    run.crew.deafen(count);
    run.pass(REST)?;
    let (from_updates, from_published) = (run.crew.totals().updates, publishing.count());
    let slow = run.measure(half)?;
    let updates = run.crew.totals().updates - from_updates;
    let published = publishing.count() - from_published;
    let lost_hearing = run.crew.totals().lost;
    publishing.stop()?;
    // Those who did not read learn now whether the server gave them up; that is its right.
    run.phase("read again");
    run.crew.hear();
    run.pass(HEAR_AGAIN)?;
    let given_up = run.crew.totals().lost - lost_hearing;
    run.crew.work(Work::Rest);
    run.step(&opened, Some(&healthy))?;
    run.step(&opened, Some(&slow))?;
    let (before, after) = (healthy.quantile_ms(0.99), slow.quantile_ms(0.99));
    let ratio = before.zip(after).filter(|(before, _)| 0.0 < *before).map(|(b, a)| a / b);
    let expected = published.saturating_sub(1) * (listeners - u64::from(count));
    println!(
        "{count} of {listeners} listeners did not read: p99 of calls {} before, {} while ({}); {updates} updates to the others; {given_up} were given up by the server",
        told(before, " ms"),
        told(after, " ms"),
        told(ratio, " x"),
    );
    let mut failures = Vec::new();
    if 0 < lost_hearing {
        failures.push(format!("{lost_hearing} clients that read were lost"));
    }
    if updates < expected {
        failures.push(format!("{updates} updates came to those who read, of at least {expected}"));
    }
    let generator_limits = slow.generator_limits();
    let judge = Judge { p99_ms: after, failures, generator_limits, ..Judge::default() };
    let results = json!({
        "opened": opened,
        "listeners": listeners,
        "deaf": count,
        "published": { "while_all_read": healthy_published, "while_some_were_deaf": published },
        "updates_while_some_were_deaf": updates,
        "given_up_by_the_server": given_up,
        "all_read": healthy.told(),
        "some_deaf": slow.told(),
        "update_ms": {
            "all_read": latency(healthy.window.updates.as_deref()),
            "some_deaf": latency(slow.window.updates.as_deref()),
        },
        "p99_ratio": ratio,
        "memory": run.memory(opened.ready),
    });
    run.finish(judge, results)
}

/// How often to publish where nothing is said: what comes of it must be far from all that the host can send, or everybody's
/// calls are slow before anybody is deaf.
pub(super) fn publishes_per_s(listeners: u64) -> f64 {
    (UPDATES_PER_S_MAX / listeners.max(1) as f64).clamp(1.0, PUBLISHES_PER_S_MAX)
}

/// A thread that publishes at a fixed pace until it is stopped.
struct Publishing {
    is_over: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<()>,
}

impl Publishing {
    fn start(mut client: Blocking, per_s: f64) -> Result<Self, String> {
        let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let fault = Arc::new(Mutex::new(None));
        let (stop, counter, told) = (is_over.clone(), count.clone(), fault.clone());
        let run = move || {
            let began = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if let Err(why) = client.call() {
                    if let Ok(mut told) = told.lock() {
                        *told = Some(format!("publish: {why}"));
                    }
                    return;
                }
                let done = counter.fetch_add(1, Ordering::Relaxed) + 1;
                let due = began + Duration::from_secs_f64(done as f64 / per_s.max(0.1));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        };
        let thread = std::thread::Builder::new().name("publish".into()).spawn(run);
        let thread = thread.map_err(|err| err.to_string())?;
        Ok(Self { is_over, count, fault, thread })
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<(), String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the publishing thread died".to_owned())?;
        match self.fault.lock().ok().and_then(|mut fault| fault.take()) {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }
}
