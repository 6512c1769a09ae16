//! `ancestor`: what erlmcp promised, and what was measured here, from folders of results and from nothing else.
//!
//! The ancestor's README promised 100,000 connections on four nodes, 125,000 messages a second, p99 below 100 ms, a
//! failure seen in 5 s and healed in 10 s; none of it was ever measured. Each line here names the folder it comes from;
//! what no folder tells was not measured.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde_json::{Value, json};

use crate::report::Most;

/// The table of promises and measurements, from folders of results.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "ancestor",
    example = "{command_name} bench/results/2026-11-22-hold-4-nodes bench/results/2026-11-22-failover"
)]
pub struct AncestorArgs {
    /// folders of runs: hold, rate or saturate on several nodes, and failover
    #[argh(positional, arg_name = "FOLDER")]
    pub folders: Vec<PathBuf>,

    /// JSON instead of a table
    #[argh(switch)]
    pub json: bool,
}

/// A promise: what, how much, whether less is better, and where a summary tells of it.
struct Promise {
    what: &'static str,
    promised: Option<f64>,
    unit: &'static str,
    less_is_better: bool,
    scenarios: &'static [&'static str],
    value: fn(&Value) -> Option<f64>,
}

const CALLS: &[&str] = &["hold", "rate", "saturate"];
const HELD: &[&str] = &["hold"];
const FAILED: &[&str] = &["failover"];

/// The lines of the table.
const PROMISES: [Promise; 11] = [
    Promise {
        what: "connections at once",
        promised: Some(100_000.0),
        unit: "",
        less_is_better: false,
        scenarios: CALLS,
        value: |results| number(&results["held"]).or(number(&results["opened"]["ready"])),
    },
    Promise {
        what: "connections lost while held",
        promised: Some(0.0),
        unit: "",
        less_is_better: true,
        scenarios: HELD,
        value: |results| number(&results["totals"]["lost"]),
    },
    Promise {
        what: "uneven by, at most",
        promised: Some(2.0),
        unit: "%",
        less_is_better: true,
        scenarios: CALLS,
        value: |results| number(&results["distribution"]["deviation_max_percent"]),
    },
    Promise {
        what: "messages a second",
        promised: Some(125_000.0),
        unit: "/s",
        less_is_better: false,
        scenarios: CALLS,
        value: |results| number(&results["measured"]["messages_per_s"]),
    },
    Promise {
        what: "latency p50",
        promised: None,
        unit: "ms",
        less_is_better: true,
        scenarios: CALLS,
        value: |results| number(&results["measured"]["latency_ms"]["p50"]),
    },
    Promise {
        what: "latency p95",
        promised: None,
        unit: "ms",
        less_is_better: true,
        scenarios: CALLS,
        value: |results| number(&results["measured"]["latency_ms"]["p95"]),
    },
    Promise {
        what: "latency p99",
        promised: Some(100.0),
        unit: "ms",
        less_is_better: true,
        scenarios: CALLS,
        value: |results| number(&results["measured"]["latency_ms"]["p99"]),
    },
    Promise {
        what: "failure of a node seen by all within",
        promised: Some(5000.0),
        unit: "ms",
        less_is_better: true,
        scenarios: FAILED,
        value: |results| number(&results["detected_ms"]),
    },
    Promise {
        what: "its last session answers elsewhere after",
        promised: Some(10_000.0),
        unit: "ms",
        less_is_better: true,
        scenarios: FAILED,
        // The last of those that answered says nothing while others never did.
        value: |results| {
            let all = results["sessions"]["all_answered"] == true;
            number(&results["sessions"]["last_answered_after_ms"]).filter(|_| all)
        },
    },
    Promise {
        what: "sessions lost",
        promised: Some(0.0),
        unit: "",
        less_is_better: true,
        scenarios: FAILED,
        value: |results| number(&results["sessions"]["lost"]),
    },
    Promise {
        what: "the node serves again after",
        promised: None,
        unit: "ms",
        less_is_better: true,
        scenarios: FAILED,
        value: |results| number(&results["return"]["serves_ms"]),
    },
];

/// A run.
struct Run {
    folder: PathBuf,
    scenario: String,
    results: Value,
    /// CPU and memory of each server: highest of the run.
    servers: Vec<Most>,
}

/// `ancestor`.
pub fn run(args: &AncestorArgs) -> Result<(), String> {
    if args.folders.is_empty() {
        return Err("name the folders of the runs".to_owned());
    }
    let runs: Vec<Run> =
        args.folders.iter().map(|folder| read(folder)).collect::<Result<_, _>>()?;
    match args.json {
        false => print!("{}", table(&runs)),
        true => {
            let text = serde_json::to_string_pretty(&told(&runs)).map_err(|err| err.to_string())?;
            println!("{text}");
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Run, String> {
    let path = folder.join("summary.json");
    let text =
        std::fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    let summary: Value = serde_json::from_str(&text)
        .map_err(|err| format!("{}:{}: {err}", path.display(), err.line()))?;
    let scenario = summary["scenario"].as_str().ok_or("summary.json: \"scenario\" is missing")?;
    let servers =
        crate::report::servers(folder).map_err(|why| format!("{}/{why}", folder.display()))?;
    Ok(Run {
        folder: folder.to_owned(),
        scenario: scenario.to_owned(),
        results: summary["results"].clone(),
        servers,
    })
}

/// What one run tells of one promise.
struct Measured<'r> {
    run: &'r Run,
    value: f64,
    kept: Option<bool>,
}

fn measured<'r>(promise: &Promise, runs: &'r [Run]) -> Vec<Measured<'r>> {
    let fitting = runs.iter().filter(|run| promise.scenarios.contains(&run.scenario.as_str()));
    let told = fitting.filter_map(|run| Some((run, (promise.value)(&run.results)?)));
    let judged = told.map(|(run, value)| {
        let kept = promise.promised.map(|promised| match promise.less_is_better {
            true => value <= promised,
            false => promised <= value,
        });
        Measured { run, value, kept }
    });
    judged.collect()
}

/// Markdown, so that it can be put into a README as it is.
fn table(runs: &[Run]) -> String {
    let mut out = String::from("| | promised | measured | | run |\n|---|---:|---:|---|---|\n");
    let shown = |value: f64, unit: &str| format!("{} {unit}", rounded(value)).trim_end().to_owned();
    for promise in &PROMISES {
        let promised =
            promise.promised.map_or_else(|| "–".to_owned(), |one| shown(one, promise.unit));
        let all = measured(promise, runs);
        if all.is_empty() {
            let _ = writeln!(out, "| {} | {promised} | not measured | | |", promise.what);
        }
        for one in all {
            let verdict = match one.kept {
                None => "",
                Some(true) => "kept",
                Some(false) => "MISSED",
            };
            let (value, run) = (shown(one.value, promise.unit), name(&one.run.folder));
            let _ =
                writeln!(out, "| {} | {promised} | {value} | {verdict} | {run} |", promise.what);
        }
    }
    for run in runs {
        for (index, most) in run.servers.iter().enumerate() {
            let cpu = most.cpu_percent;
            let cpu = cpu.map_or_else(|| "not measured".to_owned(), |cpu| format!("{cpu:.0} %"));
            let rss = most.rss_bytes.map_or_else(
                || "not measured".to_owned(),
                |rss| format!("{:.1} MiB", rss / 1_048_576.0),
            );
            let what = format!("node {}: memory and CPU at most", index + 1);
            let _ =
                writeln!(out, "| {what} | – | {rss}, {cpu} of a core | | {} |", name(&run.folder));
        }
    }
    out
}

fn told(runs: &[Run]) -> Value {
    let lines = PROMISES.iter().map(|promise| {
        let all = measured(promise, runs);
        let each = all.iter().map(|one| json!({ "run": name(&one.run.folder), "measured": one.value, "kept": one.kept }));
        json!({ "what": promise.what, "unit": promise.unit, "promised": promise.promised, "runs": each.collect::<Vec<_>>() })
    });
    json!({ "promises": lines.collect::<Vec<_>>() })
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// Whole numbers from 100 on, two places below.
fn rounded(value: f64) -> String {
    match value.fract() == 0.0 || 100.0 <= value.abs() {
        true => format!("{value:.0}"),
        false => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(scenario: &str, results: Value) -> Run {
        Run {
            folder: format!("results/{scenario}-1").into(),
            scenario: scenario.into(),
            results,
            servers: vec![Most { cpu_percent: Some(98.4), rss_bytes: None }],
        }
    }

    #[test]
    fn every_promise_is_held_against_what_a_run_says_or_was_not_measured() {
        let hold = run_of(
            "hold",
            json!({ "held": 99_999, "totals": { "lost": 0 }, "measured": { "latency_ms": { "p99": 100.0 } } }),
        );
        let failover = run_of(
            "failover",
            json!({ "detected_ms": 57.25, "sessions": { "all_answered": false, "last_answered_after_ms": 1.0, "lost": 1 } }),
        );
        let table = table(&[hold, failover]);
        for line in [
            "| connections at once | 100000 | 99999 | MISSED | hold-1 |",
            "| connections lost while held | 0 | 0 | kept | hold-1 |",
            "| messages a second | 125000 /s | not measured | | |",
            "| latency p99 | 100 ms | 100 ms | kept | hold-1 |",
            "| failure of a node seen by all within | 5000 ms | 57.25 ms | kept | failover-1 |",
            "| its last session answers elsewhere after | 10000 ms | not measured | | |",
            "| sessions lost | 0 | 1 | MISSED | failover-1 |",
            "| node 1: memory and CPU at most | – | not measured, 98 % of a core | | hold-1 |",
        ] {
            assert!(table.contains(line), "{line}\nis not in\n{table}");
        }
    }
}
