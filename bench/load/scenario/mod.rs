//! What happens in a run.

mod compare;
mod failover;
mod failover_told;
mod fanout;
mod forward;
mod plain;
mod steps;
mod suite;

pub use compare::compare;
pub use failover::failover;
pub use fanout::{fanout, slow};
pub use forward::forward;
pub use plain::{hold, ramp, rate, saturate};
pub use steps::{churn, ladder};
pub use suite::suite;

use super::run::Defaults;
use super::units::Count;

/// Callers of every kind, as a public server may have them.
const MIXED: &str = "http=40,ws=20,tcp=20,listen=10,session=10";

const fn defaults(connections: u32, mix: &'static str) -> Defaults {
    Defaults { connections, mix, needs_callers: false }
}

/// The same for what is about calls.
const fn defaults_of_calls(connections: u32, mix: &'static str) -> Defaults {
    Defaults { needs_callers: true, ..defaults(connections, mix) }
}

/// Calls per second where none are asked for.
const CALLS_PER_S: f64 = 1000.0;
/// Within so many seconds each connection is used then: servers end HTTP connections that are idle for longer, ours after 75.
const USED_WITHIN_S: f64 = 50.0;

/// Calls per second: as many as asked for, else enough that no connection is idle for long.
fn calls_per_s(asked: Option<Count>, connections: u32) -> f64 {
    let enough = CALLS_PER_S.max(f64::from(connections) / USED_WITHIN_S);
    asked.map_or(enough, |rate| rate.0 as f64)
}

/// A number that may not have been measured.
fn told(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}{unit}"))
}

#[cfg(test)]
mod tests;
