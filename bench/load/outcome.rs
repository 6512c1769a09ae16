//! How a run is judged: against the thresholds it was given, and whether the generator itself was the limit.

use std::fmt;

use serde::Serialize;

use super::options::Options;

/// One threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Threshold {
    /// `min_success_percent`, `max_p99_ms`, or a goal of the scenario's own.
    pub name: &'static str,
    /// What was asked.
    pub limit: f64,
    /// What it was; null if it could not be measured.
    pub measured: Option<f64>,
    /// What was not measured has not passed.
    pub passed: bool,
}

/// What a scenario brings to be judged.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// Its 99th percentile.
    pub p99_ms: Option<f64>,
    /// What it says against its own success, beside what is counted: empty is good.
    pub failures: Vec<String>,
    /// Why the generator was the limit.
    pub generator_limits: Vec<String>,
    /// Goals of the scenario's own, judged already.
    pub limits: Vec<Threshold>,
}

impl Judge {
    /// Every threshold that was asked for.
    pub fn thresholds(&self, options: &Options, success: Option<f64>) -> Vec<Threshold> {
        let mut all = Vec::new();
        if let Some(limit) = options.min_success {
            let passed = success.is_some_and(|success| limit.0 <= success);
            let name = "min_success_percent";
            all.push(Threshold { name, limit: limit.0, measured: success, passed });
        }
        if let Some(limit) = options.max_p99 {
            let limit = limit.0.as_secs_f64() * 1e3;
            let passed = self.p99_ms.is_some_and(|p99| p99 <= limit);
            all.push(Threshold { name: "max_p99_ms", limit, measured: self.p99_ms, passed });
        }
        all.extend(self.limits.iter().cloned());
        if !self.failures.is_empty() {
            let measured = Some(self.failures.len() as f64);
            all.push(Threshold { name: "failures", limit: 0.0, measured, passed: false });
        }
        all
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "ok" } else { "MISSED" };
        let measured =
            self.measured.map_or_else(|| "not measured".to_owned(), |one| format!("{one:.3}"));
        write!(f, "{verdict:6} {}: {measured}, limit {}", self.name, self.limit)
    }
}

/// Why the generator was the limit: its CPU, or that it sent late.
pub fn limits_of_generator(thread_percent: Option<f64>, lag_p99_ms: Option<f64>) -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(percent) = thread_percent.filter(|percent| CPU_PERCENT_MAX <= *percent) {
        limits.push(format!("its busiest thread used {percent:.0} % of a core"));
    }
    if let Some(lag) = lag_p99_ms.filter(|lag| LAG_P99_MS_MAX <= *lag) {
        limits.push(format!("it sent calls late by {lag:.2} ms (99th percentile)"));
    }
    limits
}

/// How far the count that lies farthest from the mean is from it, in parts of hundred; `None` of nothing.
pub fn deviation_max_percent(counts: &[u64]) -> Option<f64> {
    let mean = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
    let off = counts.iter().map(|count| (*count as f64 - mean).abs()).reduce(f64::max)?;
    (0.0 < mean).then(|| 100.0 * off / mean)
}

/// A thread that is busier has no time to be on time.
const CPU_PERCENT_MAX: f64 = 90.0;
/// Calls sent later than this spoil what is measured.
const LAG_P99_MS_MAX: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::units::{Percent, Span};

    #[test]
    fn thresholds_hold_up_to_their_limit_and_never_unmeasured() {
        let options = Options {
            min_success: Some(Percent(99.9)),
            max_p99: Some(Span(std::time::Duration::from_millis(50))),
            ..Options::default()
        };
        let check = |success, p99_ms| {
            let judge = Judge { p99_ms, ..Judge::default() };
            let all = judge.thresholds(&options, success);
            all.iter().map(|one| one.passed).collect::<Vec<_>>()
        };
        assert_eq!(check(Some(99.9), Some(50.0)), [true, true]);
        assert_eq!(check(Some(99.89), Some(50.1)), [false, false]);
        assert_eq!(check(None, None), [false, false]);
        assert!(Judge::default().thresholds(&Options::default(), None).is_empty());
    }

    #[test]
    fn a_failure_of_the_scenario_is_a_missed_threshold() {
        let judge = Judge { failures: vec!["an update was lost".into()], ..Judge::default() };
        assert!(!judge.thresholds(&Options::default(), Some(100.0))[0].passed);
    }

    #[test]
    fn the_generator_is_the_limit_from_ninety_percent_or_a_millisecond_on() {
        assert!(limits_of_generator(Some(89.9), Some(0.99)).is_empty());
        assert_eq!(limits_of_generator(Some(90.0), Some(1.0)).len(), 2);
        assert!(limits_of_generator(None, None).is_empty());
    }

    #[test]
    fn the_deviation_is_that_of_the_worst() {
        assert_eq!(deviation_max_percent(&[100, 100]), Some(0.0));
        assert_eq!(deviation_max_percent(&[98, 100, 102, 100]), Some(2.0));
        assert_eq!(deviation_max_percent(&[0, 200]), Some(100.0));
        assert_eq!(deviation_max_percent(&[0, 0]), None);
        assert_eq!(deviation_max_percent(&[]), None);
    }
}
