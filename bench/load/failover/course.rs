//! How it went: the raw files, a row each half second, while the clients work.

use std::path::Path;

use super::clients::Clients;
use crate::load::pulse::{Clock, WINDOW_US, Window};
use crate::load::record::{Recorder, Row, Step, quantile_ms};
use crate::load::sample::Sample;
use crate::load::show::{Glance, Show};

/// The files being written, and what they need to remember.
pub struct Course {
    /// The files.
    pub recorder: Recorder,
    /// Server processes.
    pub pids: Vec<u32>,
    clock: Clock,
    show: Show,
    phase: &'static str,
    next_window: u64,
    right_before: u64,
    connected_before: u64,
    last: Sample,
    /// Latencies of the phase.
    latencies: Window,
    phase_from_us: u64,
    failures_before: u64,
}

impl Course {
    /// Makes the folder and the files.
    pub fn create(folder: &Path, clock: Clock, pids: Vec<u32>) -> Result<Self, String> {
        Ok(Self {
            recorder: Recorder::create(folder, clock, pids.len())?,
            last: Sample::read(&pids, clock.us() as f64 / 1e6),
            pids,
            clock,
            show: Show::new(),
            phase: "start",
            next_window: clock.us() / WINDOW_US,
            right_before: 0,
            connected_before: 0,
            latencies: Window::default(),
            phase_from_us: clock.us(),
            failures_before: 0,
        })
    }

    /// Turns the clients until it is done or so many seconds are over; `false` if they are.
    pub fn until(
        &mut self,
        clients: &mut Clients,
        patience_s: f64,
        mut is_done: impl FnMut(&mut Clients) -> bool,
    ) -> Result<bool, String> {
        let deadline = self.clock.us().saturating_add((patience_s * 1e6) as u64);
        loop {
            if is_done(clients) {
                return Ok(true);
            }
            if deadline <= self.clock.us() {
                return Ok(false);
            }
            clients.turn();
            if self.next_window < self.clock.us() / WINDOW_US {
                self.close_window(clients)?;
            }
        }
    }

    /// Something else begins; what was before is a step of `detailed.csv`, told as (calls, p50, p99) in milliseconds.
    pub fn phase(&mut self, clients: &mut Clients, next: &'static str) -> Result<Step, String> {
        let now = self.clock.us();
        let latencies = std::mem::take(&mut self.latencies).all_calls();
        let at = |quantile: f64| latencies.as_ref().and_then(|all| quantile_ms(all, quantile));
        let seconds = now.saturating_sub(self.phase_from_us) as f64 / 1e6;
        let calls = latencies.as_ref().map_or(0, |all| all.len());
        let failures = clients.book.failures();
        let step = Step {
            connections: clients.connected,
            seconds,
            per_s: None,
            p99_ms: at(0.99),
            calls,
            calls_per_s: (0.0 < seconds && 0 < calls).then(|| calls as f64 / seconds),
            p50_ms: at(0.5),
            p999_ms: at(0.999),
            errors: failures - self.failures_before,
            server_rss: self.last.server_rss(),
        };
        self.recorder.step(&step)?;
        (self.phase, self.phase_from_us, self.failures_before) = (next, now, failures);
        Ok(step)
    }

    /// The progress line stays as it is.
    pub fn finish(&mut self) -> Result<(), String> {
        self.show.finish();
        self.recorder.flush()
    }

    fn close_window(&mut self, clients: &mut Clients) -> Result<(), String> {
        let index = self.next_window;
        // Windows in which this thread did nothing else are told as one.
        self.next_window = self.clock.us() / WINDOW_US;
        let seconds = WINDOW_US as f64 / 1e6;
        let covered = (self.next_window - index) as f64 * seconds;
        let window = std::mem::take(&mut clients.window);
        let calls = window.all_calls();
        let book = &clients.book;
        let right = book.right - self.right_before;
        let row = Row {
            elapsed_s: self.next_window as f64 * seconds,
            target: clients.wanted(),
            actual: clients.connected,
            per_s: clients.connected.saturating_sub(self.connected_before) as f64 / covered,
            errors: book.failures() + book.missed + book.given_up,
        };
        self.recorder.row(&row, calls.as_ref())?;
        let sample = Sample::read(&self.pids, self.clock.us() as f64 / 1e6);
        self.recorder.sample(&sample, &self.last)?;
        self.recorder.latencies(&window, index as f64 * seconds, covered)?;
        self.latencies.merge(window);
        self.show.show(&Glance {
            phase: self.phase.to_owned(),
            elapsed_s: row.elapsed_s,
            connections: (row.actual, row.target),
            connects_per_s: row.per_s,
            calls_per_s: right as f64 / covered,
            p50_ms: calls.as_ref().and_then(|calls| quantile_ms(calls, 0.5)),
            p99_ms: calls.as_ref().and_then(|calls| quantile_ms(calls, 0.99)),
            errors: row.errors,
        });
        (self.right_before, self.connected_before) = (clients.book.right, clients.connected);
        self.last = sample;
        Ok(())
    }
}
