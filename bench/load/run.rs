//! One run of a scenario: the crew at work, what it costs, and the raw data of both, row by row.

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use serde_json::{Value, json};

use super::blocking::learn;
use super::crew::{Crew, Totals};
use super::kind::Kind;
use super::measured::Measured;
use super::options::Options;
use super::outcome::{Judge, deviation_max_percent};
use super::plan::{Plan, Roamed, Work};
use super::pulse::{Clock, WINDOW_US, Window};
use super::record::{Recorder, Row, Step, quantile_ms};
use super::roam::Place;
use super::sample::{Sample, percent};
use super::say::{Say, URI};
use super::setup::{Servers, folder, rings, shape};
use super::show::{Glance, Show};
use super::target::Sources;
use crate::facts::Facts;

/// What a scenario does unless it is told otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Connections.
    pub connections: u32,
    /// Kinds of clients.
    pub mix: &'static str,
    /// Whether there is nothing to measure without callers.
    pub needs_callers: bool,
}

/// A run.
pub struct Run {
    scenario: &'static str,
    /// As told.
    pub options: Options,
    /// Who works.
    pub crew: Crew,
    /// What is being written.
    pub recorder: Recorder,
    /// What is said to the first server.
    pub say: Say,
    /// Who they are.
    pub servers: Servers,
    /// Connections asked for in all.
    pub connections: u32,
    clock: Clock,
    show: Show,
    phase: &'static str,
    facts: Facts,
    /// Connections that there should be now.
    asked: u32,
    /// The first window whose row is not written.
    next_window: u64,
    before: Totals,
    first: Sample,
    last: Sample,
    measuring: Option<Measuring>,
    rss_max: Option<u64>,
}

/// What is being measured.
struct Measuring {
    from_window: u64,
    window: Window,
    p99s_ms: Vec<f64>,
    totals: Totals,
    sample: Sample,
    cpu_ns: Vec<u64>,
}

/// How clients came.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Opened {
    /// Asked for, those that were there before included.
    pub asked: u64,
    /// Ready at the end.
    pub ready: u64,
    /// Came meanwhile.
    pub arrived: u64,
    /// Did not come about.
    pub failed: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// How many came per second.
    pub per_s: Option<f64>,
}

impl Opened {
    /// The two as one, when one came right after the other.
    pub fn then(self, later: Opened) -> Opened {
        let (arrived, seconds) = (self.arrived + later.arrived, self.seconds + later.seconds);
        let per_s = (0.0 < seconds && 0 < arrived).then(|| arrived as f64 / seconds);
        let failed = self.failed + later.failed;
        Opened { arrived, failed, seconds, per_s, ..later }
    }
}

/// Without any new arrival or failure for so long opening is given up.
const OPEN_PATIENCE_S: f64 = 15.0;
/// A measurement that ends so shortly after a window has ended with it.
const WINDOW_GRACE_US: u64 = 80_000;
/// How long a thread may take to tell of a window.
const WINDOW_PATIENCE_US: u64 = 3_000_000;
/// How long a turn of the directing thread waits.
const TICK: Duration = Duration::from_millis(10);
/// The first call of a rate is this far away, so that no thread begins late.
const RATE_DELAY_US: u64 = 50_000;
/// How long calls under way may take to be answered.
const SETTLE_PATIENCE_US: u64 = 10_000_000;
/// How long closing may take, seconds.
const CLOSE_PATIENCE_S: f64 = 20.0;

impl Run {
    /// Starts the server if asked to, learns how to talk to it, and starts the threads.
    pub fn start(
        scenario: &'static str,
        options: &Options,
        defaults: &Defaults,
    ) -> Result<Self, String> {
        let servers = Servers::find(options)?;
        let mix = match options.mix {
            Some(mix) => mix,
            None => defaults.mix.parse()?,
        };
        let uri = options.uri.as_deref().unwrap_or(URI);
        if defaults.needs_callers && !mix.kinds().any(Kind::is_caller) {
            return Err(format!("nobody calls in the mix {mix}: add http, session, ws or tcp"));
        }
        let shape = shape(options)?;
        let learn = |target| learn(target, &mix, &shape, uri);
        let says: Vec<Say> = servers.targets.iter().map(learn).collect::<Result<_, _>>()?;
        let say = says[0].clone();
        let connections = match options.connections {
            Some(count) => {
                u32::try_from(count.0).map_err(|_| "that many connections are too many")?
            }
            None => defaults.connections,
        };
        let cores = core_affinity::get_core_ids().map_or(1, |cores| cores.len());
        let threads = options.threads.unwrap_or((cores / 2).max(1)).clamp(1, 64);
        let (rings, ring_capacity) = rings(connections, threads, options.rings)?;
        let clock = Clock::start();
        let plan = Plan {
            clock,
            targets: servers.targets.clone(),
            sources: Sources::new(options.sources.clone()),
            says,
            mix,
            greets: !options.bare,
            cores: options.cores.clone(),
            rings,
            ring_capacity,
            dials: AtomicU32::new(0),
            published_us: AtomicU64::new(0),
        };
        let folder = options.output.clone().unwrap_or_else(|| folder(scenario));
        let facts = Facts::gather(None);
        let recorder = Recorder::create(&folder, clock, servers.pids.len())?;
        let crew = Crew::start(plan, threads)?;
        let first = Sample::read(&servers.pids, clock.us() as f64 / 1e6);
        Ok(Self {
            scenario,
            options: options.clone(),
            crew,
            recorder,
            say,
            servers,
            connections,
            clock,
            show: Show::new(),
            phase: "start",
            facts,
            asked: 0,
            next_window: clock.us() / WINDOW_US,
            before: Totals::default(),
            rss_max: first.server_rss(),
            last: first.clone(),
            first,
            measuring: None,
        })
    }

    /// Microseconds since it began.
    pub fn us(&self) -> u64 {
        self.clock.us()
    }

    /// What the progress line says.
    pub fn phase(&mut self, phase: &'static str) {
        self.phase = phase;
    }

    /// Takes in what the threads told, and writes the rows that are due.
    pub fn tick(&mut self) -> Result<(), String> {
        let told = self.crew.open_window();
        self.crew.listen(TICK);
        // A thread that is too busy to tell is not waited for forever.
        let overdue = (self.us().saturating_sub(WINDOW_PATIENCE_US)) / WINDOW_US;
        while self.next_window < told.max(overdue) && self.next_window < self.us() / WINDOW_US {
            self.close_window()?;
        }
        if !self.crew.is_alive() {
            return Err(format!("a thread of the load died; {:?}", self.crew.faults()));
        }
        Ok(())
    }

    /// Ticks until it is done or so many seconds are over; `false` if they are.
    pub fn tick_until(
        &mut self,
        patience_s: f64,
        mut is_done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, String> {
        let deadline = self.us().saturating_add((patience_s * 1e6) as u64);
        loop {
            if is_done(self) {
                return Ok(true);
            }
            if deadline <= self.us() {
                return Ok(false);
            }
            self.tick()?;
        }
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: Duration) -> Result<(), String> {
        self.tick_until(time.as_secs_f64(), |_| false).map(drop)
    }

    /// Opens connections until there are `count`; gives up when nothing comes any more.
    pub fn open(&mut self, count: u32) -> Result<Opened, String> {
        let (before, from) = (self.crew.totals(), self.us());
        // Clients whose connection ended do not come back.
        let wanted = u64::from(count);
        self.asked = count;
        let per_s = self.options.connect_rate.map(|rate| rate.0 as f64);
        self.crew.open(count, per_s);
        let (mut latest, mut done, mut ready) = (from, 0, before.ready);
        self.tick_until(f64::INFINITY, |run| {
            let totals = run.crew.totals();
            let settled = totals.arrived + totals.failed;
            if settled != done {
                (done, latest, ready) = (settled, run.us(), totals.ready);
            }
            let idle_s = (run.us() - latest) as f64 / 1e6;
            wanted <= settled || OPEN_PATIENCE_S < idle_s
        })?;
        if let Some(place) = self.options.roam {
            self.roam(place)?;
        }
        let after = self.crew.totals();
        let seconds = latest.saturating_sub(from) as f64 / 1e6;
        let arrived = after.arrived - before.arrived;
        Ok(Opened {
            asked: wanted,
            ready: ready.max(after.ready),
            arrived,
            failed: after.failed - before.failed,
            seconds,
            per_s: (0.0 < seconds && 0 < arrived).then(|| arrived as f64 / seconds),
        })
    }

    /// Sessions are used from such a place from now on.
    pub fn roam(&mut self, place: Place) -> Result<(), String> {
        self.crew.work(Work::Rest);
        let deadline = self.us() + SETTLE_PATIENCE_US;
        let mut roamed = self.crew.roam(place).ok_or("the threads of the load do not answer")?;
        // Who waits for an answer cannot change its session.
        while 0 < roamed.busy && self.us() < deadline {
            self.tick()?;
            roamed = self.crew.roam(place).ok_or("the threads of the load do not answer")?;
        }
        match roamed {
            Roamed { busy: 1.., .. } => Err("calls are not answered".to_owned()),
            Roamed { placed: 0, .. } => Err(format!(
                "no session can be used from place {place}: are there sessions (--mix session), of our server, \
                 on enough shards and nodes?"
            )),
            Roamed { left: 0, .. } => Ok(()),
            Roamed { placed, left, .. } => Err(format!(
                "only {placed} of {} connections found a session at place {place}: open more of them",
                placed + left
            )),
        }
    }

    /// Calls at a fixed rate from now on.
    pub fn call_at(&self, per_s: f64) {
        self.crew.work(Work::Rate { from_us: self.us() + RATE_DELAY_US, per_s });
    }

    /// Begins to measure, with the next half second.
    pub fn begin(&mut self) -> Result<(), String> {
        let from_window = self.us() / WINDOW_US + 1;
        self.tick_until(1.0, |run| from_window * WINDOW_US <= run.us())?;
        self.measuring = Some(Measuring {
            from_window,
            window: Window::default(),
            p99s_ms: Vec::new(),
            totals: self.crew.totals(),
            sample: self.sample(),
            cpu_ns: self.crew.cpu_ns(),
        });
        Ok(())
    }

    /// Ends it, with the current half second; with the one before if that has only just ended.
    pub fn end(&mut self) -> Result<Measured, String> {
        let from = self.measuring.as_ref().map_or(0, |measuring| measuring.from_window);
        let next = ((self.us() + WINDOW_US - WINDOW_GRACE_US) / WINDOW_US).max(from + 1);
        self.tick_until(1.0, |run| next * WINDOW_US <= run.us())?;
        let (sample, totals) = (self.sample(), self.crew.totals());
        self.tick_until(5.0, |run| next <= run.next_window)?;
        // What it came to is told below the progress line, not behind it.
        self.show.finish();
        let cpu_ns = self.crew.cpu_ns();
        let Some(was) = self.measuring.take() else { return Err("nothing was measured".into()) };
        let seconds = sample.elapsed_s - was.sample.elapsed_s;
        let spent = cpu_ns
            .iter()
            .zip(&was.cpu_ns)
            .map(|(after, before)| after.saturating_sub(*before))
            .max();
        // Threads tell their CPU time at the end of a window, so it is that of whole windows.
        let whole_s = next.saturating_sub(was.from_window) as f64 * WINDOW_US as f64 / 1e6;
        Ok(Measured {
            seconds,
            whole_s,
            server_percent: sample.server_percent(&was.sample),
            server_cpu_ns: sample.server_ns(&was.sample),
            thread_percent: spent.and_then(|spent| percent(spent, whole_s)),
            server_rss: sample.server_rss(),
            window: was.window,
            p99s_ms: was.p99s_ms,
            totals: (was.totals, totals),
        })
    }

    /// Measures for so long.
    pub fn measure(&mut self, time: Duration) -> Result<Measured, String> {
        self.begin()?;
        self.pass(time)?;
        self.end()
    }

    fn sample(&self) -> Sample {
        Sample::read(&self.servers.pids, self.us() as f64 / 1e6)
    }

    fn close_window(&mut self) -> Result<(), String> {
        let index = self.next_window;
        self.next_window += 1;
        let window = self.crew.take_windows(index);
        let (totals, sample) = (self.crew.totals(), self.sample());
        let seconds = WINDOW_US as f64 / 1e6;
        let calls = window.all_calls();
        // Where nobody calls, what takes time is to arrive, or to be told.
        let shown = calls.as_ref().or(window.connects.as_deref()).or(window.updates.as_deref());
        let row = Row {
            elapsed_s: self.next_window as f64 * seconds,
            target: u64::from(self.asked),
            actual: totals.ready,
            per_s: (totals.arrived - self.before.arrived) as f64 / seconds,
            errors: totals.errors(),
        };
        self.recorder.row(&row, shown)?;
        self.recorder.sample(&sample, &self.last)?;
        self.show.show(&Glance {
            phase: self.phase.to_owned(),
            elapsed_s: row.elapsed_s,
            connections: (row.actual, row.target),
            connects_per_s: row.per_s,
            calls_per_s: (totals.right - self.before.right) as f64 / seconds,
            p50_ms: shown.and_then(|shown| quantile_ms(shown, 0.5)),
            p99_ms: shown.and_then(|shown| quantile_ms(shown, 0.99)),
            errors: row.errors,
        });
        self.rss_max = self.rss_max.max(sample.server_rss());
        (self.before, self.last) = (totals, sample);
        if let Some(measuring) = &mut self.measuring
            && measuring.from_window <= index
        {
            self.recorder.latencies(&window, index as f64 * seconds, seconds)?;
            measuring.p99s_ms.extend(shown.and_then(|shown| quantile_ms(shown, 0.99)));
            measuring.window.merge(window);
        }
        Ok(())
    }

    /// What the connections cost: memory of the server and of the kernel since the run began, by connection.
    pub fn memory(&self, connections: u64) -> Value {
        let now = self.sample();
        let each = |now: Option<u64>, first: Option<u64>| {
            let grown = now?.saturating_sub(first?);
            (0 < connections).then(|| grown as f64 / connections as f64)
        };
        json!({
            "server_rss_first_bytes": self.first.server_rss(),
            "server_rss_bytes": now.server_rss(),
            "server_rss_max_bytes": self.rss_max,
            "user_bytes_per_connection": each(now.server_rss(), self.first.server_rss()),
            "kernel_bytes_per_connection_both_ends": each(now.kernel_bytes(), self.first.kernel_bytes()),
        })
    }

    /// How evenly the connections lie on the targets now; null where there is but one.
    fn distribution(&mut self) -> Value {
        if self.servers.targets.len() < 2 {
            return Value::Null;
        }
        let Some(census) = self.crew.census() else { return Value::Null };
        let pairs = self.servers.targets.iter().zip(&census.targets);
        let each = pairs
            .map(|(one, count)| json!({ "target": one.http.to_string(), "connections": count }));
        let each: Vec<Value> = each.collect();
        json!({ "targets": each, "deviation_max_percent": deviation_max_percent(&census.targets) })
    }

    /// A row of `detailed.csv`, of this opening and what was measured then.
    pub fn step(&mut self, opened: &Opened, measured: Option<&Measured>) -> Result<Step, String> {
        let calls = measured.and_then(|measured| measured.window.all_calls());
        let at = |quantile: f64| calls.as_ref().and_then(|calls| quantile_ms(calls, quantile));
        let errors = measured.map_or(0, |one| one.totals.1.errors() - one.totals.0.errors());
        let step = Step {
            connections: opened.ready,
            seconds: opened.seconds + measured.map_or(0.0, |measured| measured.seconds),
            per_s: opened.per_s,
            p99_ms: at(0.99),
            calls: calls.as_ref().map_or(0, |calls| calls.len()),
            calls_per_s: measured.and_then(Measured::calls_per_s),
            p50_ms: at(0.5),
            p999_ms: at(0.999),
            errors: opened.failed + errors,
            server_rss: self.sample().server_rss(),
        };
        self.recorder.step(&step)?;
        Ok(step)
    }

    /// Closes everything, writes the summary and the report; whether all thresholds held.
    pub fn finish(mut self, judge: Judge, results: Value) -> Result<bool, String> {
        self.phase = "close";
        let distribution = self.distribution();
        let totals = self.crew.totals();
        let success = totals.success_percent();
        let thresholds = judge.thresholds(&self.options, success);
        let passed = thresholds.iter().all(|one| one.passed);
        let limits = judge.generator_limits.clone();
        let mut results = results;
        results["distribution"] = distribution;
        results["totals"] = json!(totals);
        results["success_percent"] = json!(success);
        results["faults"] = json!(self.crew.faults());
        results["longest_unused_s"] = json!(self.crew.unused_us_max() as f64 / 1e6);
        results["generator"] = json!({
            "limited_because": limits,
            "threads": self.crew.cpu_ns().len(),
            "rings_per_thread": self.crew.plan().rings,
            "ring_capacity": self.crew.plan().ring_capacity,
        });
        self.asked = 0;
        self.crew.close();
        self.tick_until(CLOSE_PATIENCE_S, |run| run.crew.totals().ready == 0)?;
        self.pass(Duration::from_micros(WINDOW_US + WINDOW_GRACE_US))?;
        self.show.finish();
        self.recorder.flush()?;
        let document = json!({
            "scenario": self.scenario,
            "command": std::env::args().collect::<Vec<_>>().join(" "),
            "generator_limited": !limits.is_empty(),
            "thresholds": thresholds,
            "host": self.facts,
            "options": self.told(),
            "results": results,
        });
        let text = serde_json::to_string_pretty(&document).map_err(|err| err.to_string())?;
        self.recorder.keep("summary.json", &format!("{text}\n"))?;
        crate::report::write(self.recorder.folder())?;
        for one in &thresholds {
            println!("{one}");
        }
        for why in &limits {
            println!("The generator was the limit: {why}");
        }
        for failure in &judge.failures {
            println!("failure: {failure}");
        }
        for fault in self.crew.faults() {
            println!("fault: {fault}");
        }
        println!("{}", self.recorder.folder().display());
        Ok(passed)
    }

    /// The options with what was decided for them.
    fn told(&self) -> Value {
        let (options, targets) = (&self.options, &self.servers.targets);
        json!({
            "targets": targets.iter().map(|target| target.http.to_string()).collect::<Vec<_>>(),
            "path": targets[0].path,
            "tcp": targets.iter().filter_map(|one| one.tcp).map(|tcp| tcp.to_string()).collect::<Vec<_>>(),
            "server_pids": self.servers.pids,
            "start": options.start,
            "connections": self.connections,
            "duration_s": options.duration.map(|span| span.0.as_secs_f64()),
            "rate_per_s": options.rate.map(|rate| rate.0),
            "connect_rate_per_s": options.connect_rate.map(|rate| rate.0),
            "mix": self.crew.plan().mix.to_string(),
            "roam": options.roam.map(|place| place.as_str()),
            "era": if self.say.is_modern { "modern" } else { "legacy" },
            "tool": self.say.shape.tool,
            "uri": self.say.uri,
            "payload_bytes": options.payload.map(|bytes| bytes.0),
            "greets": !options.bare,
            "cores": options.cores,
        })
    }
}
