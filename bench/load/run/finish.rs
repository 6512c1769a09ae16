//! What a run says of itself: rows of its steps, memory, and at its end the summary, the verdict and the report.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::measured::Measured;
use super::super::outcome::{Judge, deviation_max_percent};
use super::super::pulse::WINDOW_US;
use super::super::record::{Step, quantile_ms};
use super::{Opened, Run, WINDOW_GRACE_US};

/// How long closing may take, seconds.
const CLOSE_PATIENCE_S: f64 = 20.0;

impl Run {
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
