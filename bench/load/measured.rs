//! What was measured in a stretch of a run, and how it is told.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::crew::Totals;
use super::kind::Kind;
use super::outcome::limits_of_generator;
use super::pulse::{WINDOW_US, Window};
use super::record::quantile_ms;
use super::sample::{Sample, percent};
use crate::numbers::Spread;

/// What is being measured, in whole half seconds.
pub struct Measuring {
    from_window: u64,
    window: Window,
    p99s_ms: Vec<f64>,
    totals: Totals,
    sample: Sample,
    /// Of each thread.
    cpu_ns: Vec<u64>,
}

impl Measuring {
    /// From this half second on; the rest is as it was then.
    pub fn new(from_window: u64, totals: Totals, sample: Sample, cpu_ns: Vec<u64>) -> Self {
        Self { from_window, window: Window::default(), p99s_ms: Vec::new(), totals, sample, cpu_ns }
    }

    /// The first half second that counts.
    pub fn first_window(&self) -> u64 {
        self.from_window
    }

    /// One half second, and its 99th percentile.
    pub fn take(&mut self, p99_ms: Option<f64>, window: Window) {
        self.p99s_ms.extend(p99_ms);
        self.window.merge(window);
    }

    /// What it came to, when the half second `until` begins.
    pub fn end(self, until: u64, totals: Totals, sample: &Sample, cpu_ns: &[u64]) -> Measured {
        let spent = cpu_ns
            .iter()
            .zip(&self.cpu_ns)
            .map(|(after, before)| after.saturating_sub(*before))
            .max();
        // Threads tell their CPU time at the end of a window, so it is that of whole windows.
        let whole_s = until.saturating_sub(self.from_window) as f64 * WINDOW_US as f64 / 1e6;
        Measured {
            seconds: sample.elapsed_s - self.sample.elapsed_s,
            whole_s,
            server_percent: sample.server_percent(&self.sample),
            server_cpu_ns: sample.server_ns(&self.sample),
            thread_percent: spent.and_then(|spent| percent(spent, whole_s)),
            server_rss: sample.server_rss(),
            window: self.window,
            p99s_ms: self.p99s_ms,
            totals: (self.totals, totals),
        }
    }
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// Between the readings of counters, CPU and memory.
    pub seconds: f64,
    /// The half seconds that the latencies are from, together.
    pub whole_s: f64,
    /// All latencies and lags.
    pub window: Window,
    /// The 99th percentile of each half second, milliseconds.
    pub p99s_ms: Vec<f64>,
    /// Counters before, and after.
    pub totals: (Totals, Totals),
    /// CPU of the server; 100 is one core.
    pub server_percent: Option<f64>,
    /// CPU nanoseconds of the server.
    pub server_cpu_ns: Option<u64>,
    /// CPU of our busiest thread; 100 is one core.
    pub thread_percent: Option<f64>,
    /// Resident memory of the server at the end.
    pub server_rss: Option<u64>,
}

impl Measured {
    /// Right answers per second.
    pub fn calls_per_s(&self) -> Option<f64> {
        let calls = self.window.all_calls()?.len();
        (0.0 < self.whole_s).then(|| calls as f64 / self.whole_s)
    }

    /// CPU of the server per call, microseconds.
    pub fn server_us_per_call(&self) -> Option<f64> {
        let calls = self.totals.1.right - self.totals.0.right;
        let spent = self.server_cpu_ns? as f64 / 1000.0;
        (0 < calls).then(|| spent / calls as f64)
    }

    /// A quantile of all calls, milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        self.window.all_calls().and_then(|calls| quantile_ms(&calls, quantile))
    }

    /// Why the generator was the limit; empty if it was not.
    pub fn generator_limits(&self) -> Vec<String> {
        let lag = self.window.lags.as_deref().and_then(|lags| quantile_ms(lags, 0.99));
        limits_of_generator(self.thread_percent, lag)
    }

    /// All of it.
    pub fn told(&self) -> Value {
        let windows = Spread::of(self.p99s_ms.iter().copied());
        let lags = self.window.lags.as_deref();
        let kinds = Kind::ALL.into_iter().filter_map(|kind| {
            let calls = self.window.calls[kind as usize].as_deref()?;
            let told = json!({ "calls": calls.len(), "latency_ms": latency(Some(calls)) });
            Some((kind.as_str().to_owned(), told))
        });
        json!({
            "seconds": self.whole_s,
            "calls": self.window.all_calls().map_or(0, |calls| calls.len()),
            "wrong": self.totals.1.wrong - self.totals.0.wrong,
            "lost": self.totals.1.lost - self.totals.0.lost,
            "missed": self.totals.1.missed - self.totals.0.missed,
            "calls_per_s": self.calls_per_s(),
            "messages_per_s": self.calls_per_s().map(|calls| 2.0 * calls),
            "latency_ms": latency(self.window.all_calls().as_ref()),
            "half_second_p99_ms": windows,
            "send_lag_ms": latency(lags),
            "server_cpu_percent": self.server_percent,
            "server_cpu_us_per_call": self.server_us_per_call(),
            "generator_busiest_thread_percent": self.thread_percent,
            "by_kind": kinds.collect::<Map<_, _>>(),
        })
    }
}

/// Quantiles of a histogram in milliseconds; null of nothing.
pub fn latency(histogram: Option<&Histogram<u64>>) -> Value {
    let Some(histogram) = histogram.filter(|histogram| !histogram.is_empty()) else {
        return Value::Null;
    };
    let at = |quantile: f64| quantile_ms(histogram, quantile);
    json!({
        "mean": histogram.mean() / 1000.0,
        "p50": at(0.5),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": at(1.0),
    })
}
