//! One run of a scenario: the crew at work, what it costs, and the raw data of both, row by row.
//!
//! Order of use: [`Run::start`]; then [`Run::open`], [`Run::measure`], [`Run::step`] and whatever else the scenario
//! does; [`Run::finish`] closes, judges and reports.

mod finish;
mod opening;

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use super::blocking::learn;
use super::crew::{Crew, Totals};
use super::kind::Kind;
use super::measured::{Measured, Measuring};
use super::options::Options;
use super::plan::{Plan, Work};
use super::pulse::{Clock, WINDOW_US};
use super::record::{Recorder, Row, quantile_ms};
use super::sample::Sample;
use super::say::{Say, URI};
use super::setup::{Servers, folder, rings, shape};
use super::show::{Glance, Show};
use super::target::Sources;
use crate::facts::Facts;

pub use opening::Opened;

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

/// A measurement that ends so shortly after a window has ended with it.
const WINDOW_GRACE_US: u64 = 80_000;
/// How long a thread may take to tell of a window.
const WINDOW_PATIENCE_US: u64 = 3_000_000;
/// How long a turn of the directing thread waits.
const TICK: Duration = Duration::from_millis(10);
/// The first call of a rate is this far away, so that no thread begins late.
const RATE_DELAY_US: u64 = 50_000;
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

    /// Calls at a fixed rate from now on.
    pub fn call_at(&self, per_s: f64) {
        self.crew.work(Work::Rate { from_us: self.us() + RATE_DELAY_US, per_s });
    }

    /// Begins to measure, with the next half second.
    pub fn begin(&mut self) -> Result<(), String> {
        let from_window = self.us() / WINDOW_US + 1;
        self.tick_until(1.0, |run| from_window * WINDOW_US <= run.us())?;
        let (totals, sample) = (self.crew.totals(), self.sample());
        self.measuring = Some(Measuring::new(from_window, totals, sample, self.crew.cpu_ns()));
        Ok(())
    }

    /// Ends it, with the current half second; with the one before if that has only just ended.
    pub fn end(&mut self) -> Result<Measured, String> {
        let from = self.measuring.as_ref().map_or(0, Measuring::first_window);
        let next = ((self.us() + WINDOW_US - WINDOW_GRACE_US) / WINDOW_US).max(from + 1);
        self.tick_until(1.0, |run| next * WINDOW_US <= run.us())?;
        let (sample, totals) = (self.sample(), self.crew.totals());
        self.tick_until(5.0, |run| next <= run.next_window)?;
        // What it came to is told below the progress line, not behind it.
        self.show.finish();
        let cpu_ns = self.crew.cpu_ns();
        let Some(was) = self.measuring.take() else { return Err("nothing was measured".into()) };
        Ok(was.end(next, totals, &sample, &cpu_ns))
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
            && measuring.first_window() <= index
        {
            self.recorder.latencies(&window, index as f64 * seconds, seconds)?;
            let p99_ms = shown.and_then(|shown| quantile_ms(shown, 0.99));
            measuring.take(p99_ms, window);
        }
        Ok(())
    }
}
