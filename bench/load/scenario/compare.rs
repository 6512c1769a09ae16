//! `compare`: the same calls to several servers, round by round in turns, and ratios to the first of them.
//!
//! Interleaved, because a host is not the same host a minute later: a round has every server once, and ratios
//! are taken within a round.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::options::{CompareArgs, Options};
use super::super::plan::Work;
use super::super::run::Run;
use super::super::sample::Sample;
use super::super::units::{Count, Span};
use super::{defaults_of_calls, told};
use crate::facts::{Facts, date};
use crate::numbers::Spread;

/// Header of `compare.csv`.
pub const COMPARE: &str = "round,server,connections,calls_per_s,cpu_us_per_call,p50_ms,p99_ms,rss_bytes,bytes_per_connection,errors";
/// Calls before it is measured.
const WARMUP: Duration = Duration::from_secs(1);
/// What is measured of each server in each round.
const MEASURES: [&str; 7] = [
    "calls_per_s",
    "cpu_us_per_call",
    "calls_per_cpu_second",
    "p50_ms",
    "p99_ms",
    "rss_bytes",
    "bytes_per_connection",
];

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    name: String,
    url: String,
    pid: Option<u32>,
}

/// One server in one round.
#[derive(Debug, Clone, Serialize)]
struct Row {
    round: u32,
    server: String,
    connections: u64,
    calls_per_s: Option<f64>,
    cpu_us_per_call: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    rss_bytes: Option<u64>,
    bytes_per_connection: Option<f64>,
    errors: u64,
    generator_limited: Vec<String>,
}

/// `compare`.
pub fn compare(args: &CompareArgs) -> Result<bool, String> {
    let sizes: Vec<u64> = args.sizes.0.iter().map(|count| count.0).collect();
    compare_with(&args.options(), &args.server, &sizes, args.rounds.unwrap_or(3))
}

pub(super) fn compare_with(
    options: &Options,
    servers: &[String],
    sizes: &[u64],
    rounds: u32,
) -> Result<bool, String> {
    let servers: Vec<Server> = servers.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
    if servers.len() < 2 {
        return Err(
            "name at least two: --server ours=http://…,PID --server theirs=http://…,PID".into()
        );
    }
    let sizes = match options.connections {
        Some(count) => vec![count.0],
        None => sizes.to_vec(),
    };
    let stamp = date(SystemTime::now()).replace(':', "");
    let folder = options.output.clone();
    let folder = folder.unwrap_or_else(|| Path::new("results").join(format!("compare-{stamp}")));
    let facts = Facts::gather(None);
    let mut rows: Vec<Row> = Vec::new();
    let mut passed = true;
    // Before any of them has seen a connection of ours: later a server keeps what it once needed.
    let empty: Vec<Option<u64>> = servers
        .iter()
        .map(|server| Sample::read(server.pid.as_slice(), 0.0).server_rss())
        .collect();
    for size in &sizes {
        for round in 1..=rounds {
            for turn in 0..servers.len() {
                // Nobody is always the first.
                let index = (turn + round as usize - 1) % servers.len();
                let server = &servers[index];
                let raw = folder.join(format!("{}-{size}-{round}", server.name));
                let (mut row, ok) = measure(options, server, *size, round, &raw)?;
                passed &= ok;
                row.bytes_per_connection = row
                    .rss_bytes
                    .zip(empty[index])
                    .map(|(rss, empty)| rss.saturating_sub(empty) as f64 / *size as f64);
                show(&row);
                rows.push(row);
            }
        }
    }
    let all = finish(options, &folder, &facts, &servers, &sizes, &rows)?;
    Ok(all && passed)
}

fn measure(
    options: &Options,
    server: &Server,
    size: u64,
    round: u32,
    folder: &Path,
) -> Result<(Row, bool), String> {
    let mut own = options.clone();
    own.target = Some(server.url.clone());
    own.pid = server.pid.map(|pid| pid.to_string());
    own.start = Vec::new();
    own.connections = Some(Count(size));
    own.output = Some(folder.to_owned());
    let mut run = Run::start("compare", &own, &defaults_of_calls(64, "http"))
        .map_err(|why| format!("{}: {why}", server.name))?;
    run.phase("open");
    let opened = run.open(run.connections)?;
    let memory = run.memory(opened.ready);
    run.phase("call");
    match options.rate {
        Some(rate) => run.call_at(rate.0 as f64),
        None => run.crew.work(Work::Closed),
    }
    run.pass(WARMUP)?;
    let measured = run.measure(options.duration.map_or(Duration::from_secs(5), |span| span.0))?;
    run.crew.work(Work::Rest);
    run.step(&opened, Some(&measured))?;
    let row = Row {
        round,
        server: server.name.clone(),
        connections: size,
        calls_per_s: measured.calls_per_s(),
        cpu_us_per_call: measured.server_us_per_call(),
        p50_ms: measured.quantile_ms(0.5),
        p99_ms: measured.quantile_ms(0.99),
        rss_bytes: measured.server_rss,
        bytes_per_connection: None,
        errors: run.crew.totals().errors(),
        generator_limited: measured.generator_limits(),
    };
    let judge = super::plain::judge(&measured, Vec::new());
    let results = json!({ "server": server.name, "opened": opened, "measured": measured.told(), "memory": memory });
    let passed = run.finish(judge, results)?;
    Ok((row, passed))
}

fn finish(
    options: &Options,
    folder: &Path,
    facts: &Facts,
    servers: &[Server],
    sizes: &[u64],
    rows: &[Row],
) -> Result<bool, String> {
    let mut table = format!("{COMPARE}\n");
    for row in rows {
        let number =
            |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
        let rss = row.rss_bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        table += &format!(
            "{},{},{},{},{},{},{},{rss},{},{}\n",
            row.round,
            row.server,
            row.connections,
            number(row.calls_per_s),
            number(row.cpu_us_per_call),
            number(row.p50_ms),
            number(row.p99_ms),
            number(row.bytes_per_connection),
            row.errors
        );
    }
    let ratios = ratios(servers, sizes, rows);
    show_ratios(&ratios);
    let errors: u64 = rows.iter().map(|row| row.errors).sum();
    let limited: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            let at = format!("{} at {}", row.server, row.connections);
            row.generator_limited.iter().map(move |why| format!("{at}: {why}"))
        })
        .collect();
    let document = json!({
        "scenario": "compare",
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "generator_limited": !limited.is_empty(),
        "thresholds": [{ "name": "errors", "limit": 0, "measured": errors, "passed": errors == 0 }],
        "host": facts,
        "options": {
            "servers": servers.iter().map(|one| format!("{}={}", one.name, one.url)).collect::<Vec<_>>(),
            "connections": sizes,
            "mix": options.mix.map(|mix| mix.to_string()),
            "rate_per_s": options.rate.map(|rate| rate.0),
            "duration_s": options.duration.unwrap_or(Span(Duration::from_secs(5))).0.as_secs_f64(),
        },
        "results": {
            "baseline": servers[0].name,
            "ratios": ratios,
            "rounds": rows,
            "generator": { "limited_because": limited },
        },
    });
    let text = serde_json::to_string_pretty(&document).map_err(|err| err.to_string())?;
    for (name, text) in [("compare.csv", table), ("summary.json", format!("{text}\n"))] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|err| format!("{}: {err}", path.display()))?;
    }
    crate::report::write(folder)?;
    println!("{}", folder.display());
    Ok(errors == 0)
}

/// Each server's measure by that of the first in the same round: the middle and the extremes of it.
fn ratios(servers: &[Server], sizes: &[u64], rows: &[Row]) -> Value {
    let mut by_size = Map::new();
    for size in sizes {
        let mut by_server = Map::new();
        for server in &servers[1..] {
            let mut by_measure = Map::new();
            for name in MEASURES {
                let pairs =
                    rows.iter().filter(|row| row.connections == *size && row.server == server.name);
                let each = pairs.filter_map(|theirs| {
                    let ours = rows.iter().find(|row| {
                        (row.connections, row.round) == (*size, theirs.round)
                            && row.server == servers[0].name
                    })?;
                    let (ours, theirs) = (of(ours, name)?, of(theirs, name)?);
                    (0.0 < ours).then(|| theirs / ours)
                });
                by_measure.insert(name.to_owned(), json!(Spread::of(each)));
            }
            by_server.insert(server.name.clone(), Value::Object(by_measure));
        }
        by_size.insert(size.to_string(), Value::Object(by_server));
    }
    Value::Object(by_size)
}

fn of(row: &Row, measure: &str) -> Option<f64> {
    match measure {
        "calls_per_s" => row.calls_per_s,
        "cpu_us_per_call" => row.cpu_us_per_call,
        "calls_per_cpu_second" => row.cpu_us_per_call.filter(|us| 0.0 < *us).map(|us| 1e6 / us),
        "p50_ms" => row.p50_ms,
        "p99_ms" => row.p99_ms,
        "rss_bytes" => row.rss_bytes.map(|bytes| bytes as f64),
        _ => row.bytes_per_connection,
    }
}

fn parse(text: &str) -> Result<Server, String> {
    let wrong = || format!("{text:?}: say --server name=http://host:port/mcp,PID");
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (url, pid) = match rest.rsplit_once(',') {
        None => (rest, None),
        Some((url, pid)) => (url, Some(pid.trim().parse::<u32>().map_err(|_| wrong())?)),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) || url.is_empty() {
        return Err(wrong());
    }
    Ok(Server { name: name.to_owned(), url: url.to_owned(), pid })
}

fn show(row: &Row) {
    println!(
        "{:12} {:6} connections, round {}: {}, CPU {} per call, p50 {} p99 {}, {} errors",
        row.server,
        row.connections,
        row.round,
        told(row.calls_per_s, " calls/s"),
        told(row.cpu_us_per_call, " us"),
        told(row.p50_ms, " ms"),
        told(row.p99_ms, " ms"),
        row.errors,
    );
}

fn show_ratios(ratios: &Value) {
    for (size, servers) in ratios.as_object().into_iter().flatten() {
        for (server, measures) in servers.as_object().into_iter().flatten() {
            println!("{server} at {size} connections, by the first:");
            for (name, spread) in measures.as_object().into_iter().flatten() {
                match spread["median"].as_f64() {
                    None => println!("  {name:22} not measured"),
                    Some(median) => println!(
                        "  {name:22} {median:8.3}  ({:.3} to {:.3})",
                        spread["min"].as_f64().unwrap_or(median),
                        spread["max"].as_f64().unwrap_or(median),
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: &str, round: u32, calls_per_s: f64, cpu: Option<f64>) -> Row {
        Row {
            round,
            server: server.to_owned(),
            connections: 64,
            calls_per_s: Some(calls_per_s),
            cpu_us_per_call: cpu,
            p50_ms: None,
            p99_ms: None,
            rss_bytes: None,
            bytes_per_connection: None,
            errors: 0,
            generator_limited: Vec::new(),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let servers = [parse("a=http://x/mcp").unwrap(), parse("b=http://y/mcp,7").unwrap()];
        let rows = [
            row("a", 1, 100.0, Some(5.0)),
            row("b", 1, 50.0, Some(20.0)),
            row("a", 2, 10.0, Some(10.0)),
            row("b", 2, 20.0, None),
        ];
        let ratios = ratios(&servers, &[64], &rows);
        let of = |name: &str| ratios["64"]["b"][name].clone();
        assert_eq!(of("calls_per_s"), json!({ "median": 1.25, "min": 0.5, "max": 2.0 }));
        assert_eq!(of("cpu_us_per_call"), json!({ "median": 4.0, "min": 4.0, "max": 4.0 }));
        assert_eq!(of("calls_per_cpu_second"), json!({ "median": 0.25, "min": 0.25, "max": 0.25 }));
        assert_eq!(of("p99_ms"), Value::Null, "what was not measured has no ratio");
    }

    #[test]
    fn a_server_is_a_name_a_url_and_perhaps_a_process() {
        let server = parse("rmcp=http://127.0.0.1:8081/mcp,4712").unwrap();
        assert_eq!((server.name.as_str(), server.pid), ("rmcp", Some(4712)));
        assert_eq!(parse("x=http://h/mcp").unwrap().pid, None);
        for text in ["http://h/mcp", "=http://h", "a/b=http://h", "a=http://h,x", "a="] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
