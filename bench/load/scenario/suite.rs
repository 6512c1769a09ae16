//! `suite`: all scenarios, one after the other, on a time budget.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::super::kind::Mix;
use super::super::options::{Options, SuiteArgs};
use super::super::setup::Servers;
use super::super::target::Target;
use super::super::units::{Count, Span};
use super::{fanout, plain, steps};
use crate::facts::{Facts, date};

/// What the opening of a scenario and the closing take beside its measurement.
const AROUND: Duration = Duration::from_secs(4);
/// A measurement is no shorter, however small the budget.
const SHORTEST: Duration = Duration::from_secs(1);
/// Connections where nothing is said.
const CONNECTIONS: u64 = 1000;

/// One scenario of the suite: its name, its part of the time, and how it runs.
type Part = (&'static str, f64, fn(&Options) -> Result<bool, String>);

/// In the order in which they run.
const PARTS: [Part; 8] = [
    ("ramp", 0.0, plain::ramp_with),
    ("hold", 2.0, |options| plain::hold_with(options, Duration::from_secs(20))),
    ("rate", 1.0, |options| plain::rate_with(options, Duration::from_secs(1))),
    ("saturate", 1.0, |options| plain::saturate_with(options, Duration::from_secs(1))),
    ("fanout", 0.5, |options| fanout::fanout_with(options, 3)),
    ("churn", 1.0, steps::churn_with),
    ("slow", 2.0, |options| fanout::slow_with(options, 0.5, None)),
    ("ladder", 2.0, ladder),
];

/// `suite`.
pub fn suite(args: &SuiteArgs) -> Result<bool, String> {
    suite_with(&args.options(), args.budget.map_or(Duration::from_secs(300), |span| span.0))
}

pub(super) fn suite_with(options: &Options, budget: Duration) -> Result<bool, String> {
    let stamp = date(SystemTime::now()).replace(':', "");
    let folder = options.output.clone();
    let folder = folder.unwrap_or_else(|| Path::new("results").join(format!("suite-{stamp}")));
    let facts = Facts::gather(None);
    let mut options = options.clone();
    // One server for all of them: started here and not by each.
    let started = start(&mut options)?;
    let connections = options.connections.map_or(CONNECTIONS, |count| count.0);
    let began = Instant::now();
    let spare = budget.saturating_sub(AROUND * PARTS.len() as u32);
    let parts: f64 = PARTS.iter().map(|(_, part, _)| part).sum();
    let mut rows = Vec::new();
    let mut passed = true;
    for (name, part, run) in PARTS {
        let share = Duration::from_secs_f64(spare.as_secs_f64() * part / parts).max(SHORTEST);
        if budget < began.elapsed() + SHORTEST {
            rows.push(json!({ "scenario": name, "passed": null, "why": "no time was left" }));
            passed = false;
            continue;
        }
        println!("\n# {name}");
        let mut own = options.clone();
        own.duration = Some(Span(share));
        own.output = Some(folder.join(name));
        own.connections = Some(Count(connections));
        match name {
            // A storm of as many clients as stay elsewhere would be another scenario.
            "churn" => own.connections = Some(Count(connections.min(200))),
            "saturate" => own.connections = Some(Count(connections.min(64))),
            "fanout" => own.mix = Some(Mix::only(super::super::kind::Kind::Listen)),
            // So that those who are deaf have more sent to them than the kernel keeps for them.
            "slow" => {
                own.connections = Some(Count(connections.min(10_000)));
                own.mix = "http=80,listen=20".parse().ok();
            }
            _ => {}
        }
        match run(&own) {
            Ok(ok) => {
                passed &= ok;
                rows.push(json!({ "scenario": name, "passed": ok, "why": null }));
            }
            Err(why) => {
                println!("{name}: {why}");
                passed = false;
                rows.push(json!({ "scenario": name, "passed": false, "why": why }));
            }
        }
    }
    drop(started);
    let missed = rows.iter().filter(|row| row["passed"] != true).count();
    let document = json!({
        "scenario": "suite",
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "host": facts,
        "thresholds": [{ "name": "scenarios_missed", "limit": 0, "measured": missed, "passed": passed }],
        "options": { "connections": connections, "budget_s": budget.as_secs_f64() },
        "results": { "seconds": began.elapsed().as_secs_f64(), "scenarios": rows },
    });
    let text = serde_json::to_string_pretty(&document).map_err(|err| err.to_string())?;
    let path = folder.join("summary.json");
    std::fs::write(&path, format!("{text}\n"))
        .map_err(|err| format!("{}: {err}", path.display()))?;
    crate::report::write(&folder)?;
    println!("\n{}", folder.display());
    Ok(passed)
}

/// Starts the servers, and points the options at them.
fn start(options: &mut Options) -> Result<Option<Servers>, String> {
    if options.start.is_empty() {
        return Ok(None);
    }
    let servers = Servers::find(options)?;
    let join = |words: Vec<String>| Some(words.join(",")).filter(|list| !list.is_empty());
    let url = |target: &Target| format!("http://{}{}", target.http, target.path);
    options.target = join(servers.targets.iter().map(url).collect());
    let tcp: Vec<String> =
        servers.targets.iter().filter_map(|one| one.tcp).map(|tcp| tcp.to_string()).collect();
    options.tcp = join(tcp).filter(|_| servers.targets.iter().all(|one| one.tcp.is_some()));
    options.pid = join(servers.pids.iter().map(u32::to_string).collect());
    options.start.clear();
    Ok(Some(servers))
}

/// Up to the connections of the suite, in steps as far as they are below.
fn ladder(options: &Options) -> Result<bool, String> {
    let top = options.connections.map_or(CONNECTIONS, |count| count.0);
    let mut steps: Vec<u64> = [100, 1000, 10_000, 25_000, 50_000, 75_000, 100_000]
        .into_iter()
        .filter(|step| *step < top)
        .collect();
    steps.push(top);
    let mut options = options.clone();
    let each = options.duration.map(|span| Span(span.0 / steps.len() as u32));
    options.duration = each.map(|each| each.max(Span(SHORTEST)));
    steps::ladder_with(&options, &steps)
}
