//! `forward`: what it costs that a session lives elsewhere. The same connections use sessions of their own shard, of
//! another shard and of other nodes in turns, in one run on the same servers: first at a low rate for the latency that
//! a forward adds on an idle host, then as fast as it goes for the CPU that it adds.
//!
//! A round has every place once, and differences are taken within a round: a host is not the same host a minute
//! later.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::measured::Measured;
use super::super::options::{ForwardArgs, Options};
use super::super::outcome::{Judge, Threshold};
use super::super::plan::Work;
use super::super::roam::Place;
use super::super::run::{Opened, Run};
use super::compare::COMPARE;
use super::{defaults_of_calls, told};
use crate::numbers::Spread;

/// Header of `forward.csv`.
pub const FORWARD: &str =
    "phase,round,place,calls,calls_per_s,cpu_us_per_call,p50_us,p99_us,errors";
/// Calls per second on the idle host: each has the servers for itself.
const IDLE_RATE: f64 = 200.0;
/// Calls before a stretch is measured: caches and branch predictors shall know the way.
const WARMUP: Duration = Duration::from_millis(500);
/// Added latency of a forward on an idle host, microseconds.
const ADDED_P50_US_MAX: f64 = 60.0;
/// CPU of all servers per call on another shard, by that on the own one.
const SHARD_CPU_RATIO_MAX: f64 = 1.10;
/// The same on another node.
const NODE_CPU_RATIO_MAX: f64 = 2.0;

/// `forward`.
pub fn forward(args: &ForwardArgs) -> Result<bool, String> {
    let idle_rate = args.idle_rate.map_or(IDLE_RATE, |rate| rate.0 as f64);
    forward_with(&args.options(), args.rounds.unwrap_or(5), idle_rate)
}

/// What the servers do beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    /// Nothing.
    Idle,
    /// As much as they can, or as much as was asked for.
    Load,
}

/// One place in one round.
#[derive(Debug, Clone, Serialize)]
struct Row {
    phase: Phase,
    round: u32,
    place: &'static str,
    calls: u64,
    calls_per_s: Option<f64>,
    cpu_us_per_call: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    errors: u64,
}

pub(super) fn forward_with(options: &Options, rounds: u32, idle_rate: f64) -> Result<bool, String> {
    let mut run = Run::start("forward", options, &defaults_of_calls(64, "session"))?;
    run.phase("open");
    let opened = run.open(run.connections)?;
    let places = places(&mut run)?;
    let mut rows = Vec::new();
    let mut limits = Vec::new();
    for phase in [Phase::Idle, Phase::Load] {
        for round in 1..=rounds.max(1) {
            for turn in 0..places.len() {
                // Nobody is always the first.
                let place = places[(turn + round as usize - 1) % places.len()];
                run.roam(place)?;
                let measured = measure(&mut run, phase, idle_rate)?;
                let told = measured.generator_limits().into_iter();
                limits.extend(told.map(|why| format!("{place}, round {round}: {why}")));
                rows.push(row(phase, round, place, &measured));
                show(&rows[rows.len() - 1]);
                run.step(
                    &Opened { seconds: 0.0, per_s: None, failed: 0, ..opened },
                    Some(&measured),
                )?;
            }
        }
    }
    run.crew.work(Work::Rest);
    run.recorder.keep("forward.csv", &forward_csv(&rows))?;
    run.recorder.keep("compare.csv", &compare_csv(&rows, opened.ready))?;
    let added = added(&places, &rows);
    show_added(&added);
    let errors: u64 = rows.iter().map(|row| row.errors).sum();
    let mut failures = Vec::new();
    if 0 < errors {
        failures.push(format!("{errors} calls failed"));
    }
    let judge = Judge { limits: goals(&added), failures, generator_limits: limits, p99_ms: None };
    let results = json!({
        "opened": opened,
        "places": places.iter().map(|place| place.as_str()).collect::<Vec<_>>(),
        "added": added,
        "rounds": rows,
    });
    run.finish(judge, results)
}

/// The places that there are: with one shard or one node some do not exist.
fn places(run: &mut Run) -> Result<Vec<Place>, String> {
    let mut found = vec![Place::Own];
    for place in &Place::ALL[1..] {
        match run.roam(*place) {
            Ok(()) => found.push(*place),
            Err(why) => println!("{place} is not measured: {why}"),
        }
    }
    match found.len() {
        1 => Err("one shard of one node: no session can be elsewhere".to_owned()),
        _ => Ok(found),
    }
}

fn measure(run: &mut Run, phase: Phase, idle_rate: f64) -> Result<Measured, String> {
    match (phase, run.options.rate) {
        (Phase::Idle, _) => {
            run.phase("idle");
            run.call_at(idle_rate);
        }
        (Phase::Load, Some(rate)) => {
            run.phase("load");
            run.call_at(rate.0 as f64);
        }
        (Phase::Load, None) => {
            run.phase("load");
            run.crew.work(Work::Closed);
        }
    }
    run.pass(WARMUP)?;
    run.measure(run.options.duration.map_or(Duration::from_secs(4), |span| span.0))
}

fn row(phase: Phase, round: u32, place: Place, measured: &Measured) -> Row {
    let (before, after) = measured.totals;
    let us = |quantile| measured.quantile_ms(quantile).map(|ms| ms * 1000.0);
    Row {
        phase,
        round,
        place: place.as_str(),
        calls: after.right - before.right,
        calls_per_s: measured.calls_per_s(),
        cpu_us_per_call: measured.server_us_per_call(),
        p50_us: us(0.5),
        p99_us: us(0.99),
        errors: after.errors() - before.errors(),
    }
}

/// What each place adds to the own shard, in the same round: the middle and the extremes of it.
fn added(places: &[Place], rows: &[Row]) -> Value {
    let spread = |phase: Phase, place: &Place, of: &dyn Fn(&Row, &Row) -> Option<f64>| {
        let there = rows.iter().filter(|row| row.phase == phase && row.place == place.as_str());
        let each = there.filter_map(|there| {
            let own = rows.iter().find(|row| {
                (row.phase, row.round, row.place) == (phase, there.round, Place::Own.as_str())
            })?;
            of(own, there)
        });
        json!(Spread::of(each))
    };
    let difference =
        |of: fn(&Row) -> Option<f64>| move |own: &Row, there: &Row| Some(of(there)? - of(own)?);
    let ratio = |of: fn(&Row) -> Option<f64>| {
        move |own: &Row, there: &Row| {
            let own = of(own).filter(|own| 0.0 < *own)?;
            Some(of(there)? / own)
        }
    };
    let mut all = Map::new();
    for place in places.iter().filter(|place| **place != Place::Own) {
        let measures = json!({
            "idle_p50_us": spread(Phase::Idle, place, &difference(|row| row.p50_us)),
            "idle_p99_us": spread(Phase::Idle, place, &difference(|row| row.p99_us)),
            "load_cpu_us_per_call": spread(Phase::Load, place, &difference(|row| row.cpu_us_per_call)),
            "load_cpu_ratio": spread(Phase::Load, place, &ratio(|row| row.cpu_us_per_call)),
            "load_calls_per_s_ratio": spread(Phase::Load, place, &ratio(|row| row.calls_per_s)),
        });
        all.insert(place.as_str().to_owned(), measures);
    }
    Value::Object(all)
}

fn goals(added: &Value) -> Vec<Threshold> {
    let goals = [
        ("added_p50_us_shard", "shard", "idle_p50_us", ADDED_P50_US_MAX),
        ("added_p50_us_node", "node", "idle_p50_us", ADDED_P50_US_MAX),
        ("cpu_ratio_shard", "shard", "load_cpu_ratio", SHARD_CPU_RATIO_MAX),
        ("cpu_ratio_node", "node", "load_cpu_ratio", NODE_CPU_RATIO_MAX),
    ];
    let there = goals.into_iter().filter(|(_, place, ..)| !added[*place].is_null());
    let judged = there.map(|(name, place, measure, limit)| {
        let measured = added[place][measure]["median"].as_f64();
        Threshold { name, limit, measured, passed: measured.is_some_and(|one| one <= limit) }
    });
    judged.collect()
}

fn forward_csv(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| {
        let phase = if row.phase == Phase::Idle { "idle" } else { "load" };
        format!(
            "{phase},{},{},{},{},{},{},{},{}\n",
            row.round,
            row.place,
            row.calls,
            cell(row.calls_per_s),
            cell(row.cpu_us_per_call),
            cell(row.p50_us),
            cell(row.p99_us),
            row.errors
        )
    });
    format!("{FORWARD}\n{}", lines.collect::<String>())
}

/// The rounds under load, as servers that are compared.
fn compare_csv(rows: &[Row], connections: u64) -> String {
    let lines = rows.iter().filter(|row| row.phase == Phase::Load).map(|row| {
        let ms = |us: Option<f64>| cell(us.map(|us| us / 1000.0));
        format!(
            "{},{},{connections},{},{},{},{},,,{}\n",
            row.round,
            row.place,
            cell(row.calls_per_s),
            cell(row.cpu_us_per_call),
            ms(row.p50_us),
            ms(row.p99_us),
            row.errors
        )
    });
    format!("{COMPARE}\n{}", lines.collect::<String>())
}

/// An empty cell was not measured.
fn cell(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.3}")).unwrap_or_default()
}

fn show(row: &Row) {
    println!(
        "{:5} round {}: {:5}  {} calls, {}, CPU {} per call, p50 {} p99 {}, {} errors",
        if row.phase == Phase::Idle { "idle" } else { "load" },
        row.round,
        row.place,
        row.calls,
        told(row.calls_per_s, "/s"),
        told(row.cpu_us_per_call, " us"),
        told(row.p50_us, " us"),
        told(row.p99_us, " us"),
        row.errors,
    );
}

fn show_added(added: &Value) {
    for (place, measures) in added.as_object().into_iter().flatten() {
        println!("{place}, against the own shard:");
        for (name, spread) in measures.as_object().into_iter().flatten() {
            match spread["median"].as_f64() {
                None => println!("  {name:24} not measured"),
                Some(median) => println!(
                    "  {name:24} {median:9.3}  ({:.3} to {:.3})",
                    spread["min"].as_f64().unwrap_or(median),
                    spread["max"].as_f64().unwrap_or(median),
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(phase: Phase, round: u32, place: Place, p50_us: f64, cpu: Option<f64>) -> Row {
        Row {
            phase,
            round,
            place: place.as_str(),
            calls: 1,
            calls_per_s: Some(100.0),
            cpu_us_per_call: cpu,
            p50_us: Some(p50_us),
            p99_us: None,
            errors: 0,
        }
    }

    #[test]
    fn what_a_place_adds_is_taken_within_a_round_and_held_against_the_goals() {
        let rows = [
            row(Phase::Idle, 1, Place::Own, 100.0, None),
            row(Phase::Idle, 1, Place::Shard, 160.0, None),
            row(Phase::Idle, 2, Place::Own, 50.0, None),
            row(Phase::Idle, 2, Place::Shard, 90.0, None),
            row(Phase::Load, 1, Place::Own, 1.0, Some(10.0)),
            row(Phase::Load, 1, Place::Shard, 1.0, Some(12.0)),
        ];
        let added = added(&[Place::Own, Place::Shard], &rows);
        let shard = &added["shard"];
        assert_eq!(shard["idle_p50_us"], json!({ "median": 50.0, "min": 40.0, "max": 60.0 }));
        assert_eq!(shard["idle_p99_us"], Value::Null, "what was not measured adds nothing");
        assert_eq!(shard["load_cpu_ratio"]["median"], 1.2);
        assert_eq!(shard["load_cpu_us_per_call"]["median"], 2.0);
        let goals: Vec<(&str, bool)> =
            goals(&added).iter().map(|one| (one.name, one.passed)).collect();
        assert_eq!(goals, [("added_p50_us_shard", true), ("cpu_ratio_shard", false)]);
    }
}
