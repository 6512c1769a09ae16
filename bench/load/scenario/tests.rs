//! Each scenario for a second or two, against a server in this process, and what it leaves behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use erlmcp_catalog::ThreadRunner;
use erlmcp_protocol::http::Access;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::EngineConfig;
use erlmcp_shards::fleet::{Fleet, FleetConfig, ShardPlace};
use erlmcp_shards::io::listen::ListenOptions;
use erlmcp_shards::io::uring::UringConfig;
use serde_json::Value;

use super::super::kind::{Kind, Mix};
use super::super::options::Options;
use super::super::record::{CONNECTIONS, DETAILED, RESOURCES};
use super::super::units::{Count, Percent, Span};
use super::{calls_per_s, compare, fanout, forward, plain, steps, suite};

const SECOND: Duration = Duration::from_secs(1);

/// Two shards with the demo catalog, a folder for results, options that point at both.
struct Stage {
    fleet: Fleet,
    folder: PathBuf,
    options: Options,
}

impl Stage {
    fn new(name: &str) -> Self {
        let catalog = erlmcp_catalog::demo().unwrap().into_handle();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let fleet = FleetConfig {
            node: 0,
            shards: vec![ShardPlace::default(); 2],
            http: Some(any),
            tcp: Some(any),
            mesh: None,
            limits: Limits::default(),
            listen: ListenOptions::default(),
            ring: UringConfig { capacity: 1024, ..UringConfig::default() },
        };
        let engine = EngineConfig {
            limits: Limits::default(),
            access: Arc::new(Access::new(&[], &[]).unwrap()),
            keys: Arc::new(Keyring::new(&[7; 32])),
            epoch: 1,
            lookout: None,
            cluster: None,
        };
        let runner = Arc::new(ThreadRunner::new(1).unwrap());
        let fleet = erlmcp_shards::serve::serve(fleet, engine, catalog, runner).unwrap();
        let folder = std::env::temp_dir().join(format!("erlmcp-{name}-{}", std::process::id()));
        let options = Options {
            target: Some(format!("http://{}/mcp", fleet.addresses().http.unwrap())),
            tcp: fleet.addresses().tcp.map(|tcp| tcp.to_string()),
            pid: Some(std::process::id().to_string()),
            connections: Some(Count(40)),
            duration: Some(Span(SECOND)),
            output: Some(folder.clone()),
            min_success: Some(Percent(100.0)),
            ..Options::default()
        };
        Self { fleet, folder, options }
    }

    /// The summary, after a look at the raw files beside it.
    #[track_caller]
    fn results(self) -> Value {
        let summary = check_files(&self.folder);
        self.fleet.abort();
        self.fleet.join().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
        summary["results"].clone()
    }
}

#[track_caller]
fn check_files(folder: &std::path::Path) -> Value {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for (name, header) in [
        ("connections.csv", CONNECTIONS),
        ("resource-usage.csv", RESOURCES),
        ("detailed.csv", DETAILED),
    ] {
        let text = read(name);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(header), "{name}");
        let columns = header.split(',').count();
        let rows: Vec<&str> = lines.collect();
        assert!(!rows.is_empty(), "{name} has rows");
        assert!(rows.iter().all(|row| row.split(',').count() == columns), "{name}: {rows:?}");
    }
    assert!(read("histogram.hdr").starts_with("#unit: us\n"));
    assert!(folder.join("report.html").exists());
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(summary["thresholds"][0]["passed"], true, "{summary:#}");
    assert!(summary["host"]["kernel"].is_string() && summary["options"]["mix"].is_string());
    summary
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn ramp_opens_every_connection_and_tells_its_rate() {
    let stage = Stage::new("ramp");
    assert_eq!(plain::ramp_with(&stage.options), Ok(true));
    let results = stage.results();
    assert_eq!(results["opened"]["ready"], 40);
    assert!(0.0 < number(&results["opened"]["per_s"]));
    assert!(0.0 < number(&results["until_ready_ms"]["p99"]));
}

#[test]
fn hold_keeps_every_kind_on_several_rings_and_threads_and_updates_its_listeners() {
    let mut stage = Stage::new("hold");
    stage.options.mix = "http=4,ws=2,tcp=2,listen=2,session=2,stream=2".parse().ok();
    stage.options.connections = Some(Count(140));
    (stage.options.threads, stage.options.rings) = (Some(2), Some(6));
    assert_eq!(plain::hold_with(&stage.options, SECOND), Ok(true));
    let results = stage.results();
    assert_eq!(results["held"], 140, "{results:#}");
    assert_eq!(results["generator"]["rings_per_thread"], 3);
    assert_eq!(results["updates"]["published"], 1);
    assert_eq!(results["updates"]["received"], 40);
    for kind in ["http", "ws", "tcp", "session"] {
        assert!(0.0 < number(&results["measured"]["by_kind"][kind]["calls"]), "{kind}");
    }
}

#[test]
fn rate_calls_as_often_as_it_was_told_and_counts_from_the_intended_time() {
    let mut stage = Stage::new("rate");
    stage.options.rate = Some(Count(200));
    stage.options.max_p99 = Some(Span(Duration::from_secs(30)));
    assert_eq!(plain::rate_with(&stage.options, SECOND / 2), Ok(true));
    let results = stage.results();
    // On a host that is busy with other things an answer may fall into the next half second.
    let calls = number(&results["measured"]["calls"]);
    assert!((100.0..=300.0).contains(&calls), "{calls} in a second at 200/s");
    assert!(results["measured"]["half_second_p99_ms"]["median"].is_number());
    assert!(results["measured"]["send_lag_ms"]["p99"].is_number());
}

#[test]
fn saturate_keeps_every_connection_busy() {
    let mut stage = Stage::new("saturate");
    stage.options.mix = "http=1,ws=1,tcp=1,session=1".parse().ok();
    assert_eq!(plain::saturate_with(&stage.options, SECOND / 2), Ok(true));
    let results = stage.results();
    assert!(40.0 < number(&results["measured"]["calls"]));
    assert!(0.0 < number(&results["measured"]["server_cpu_us_per_call"]));
    assert_eq!(results["measured"]["by_kind"].as_object().unwrap().len(), 4);
}

#[test]
fn a_load_without_callers_is_refused_where_calls_are_measured() {
    let mut stage = Stage::new("no-callers");
    stage.options.mix = Some(Mix::only(Kind::Listen));
    assert!(plain::rate_with(&stage.options, SECOND).unwrap_err().contains("nobody calls"));
    stage.fleet.abort();
    stage.fleet.join().unwrap();
}

#[test]
fn fanout_reaches_every_listener_each_time() {
    let mut stage = Stage::new("fanout");
    stage.options.mix = "listen=3,stream=1".parse().ok();
    assert_eq!(fanout::fanout_with(&stage.options, 2), Ok(true));
    let results = stage.results();
    assert_eq!(results["listeners"], 40);
    for round in results["rounds"].as_array().unwrap() {
        assert_eq!(round["received"], 40);
        assert!(number(&round["first_ms"]) <= number(&round["last_ms"]) + 0.001, "{round}");
    }
}

#[test]
fn churn_brings_the_same_clients_again_and_again() {
    let mut stage = Stage::new("churn");
    stage.options.mix = "http=1,ws=1,tcp=1,session=1,listen=1".parse().ok();
    stage.options.connections = Some(Count(10));
    assert_eq!(steps::churn_with(&stage.options), Ok(true));
    let results = stage.results();
    assert!(20.0 < number(&results["clients"]), "{results:#}");
    assert_eq!(results["totals"]["failed"], 0);
}

#[test]
fn listeners_that_do_not_read_cost_the_others_nothing() {
    let mut stage = Stage::new("slow");
    stage.options.rate = Some(Count(100));
    stage.options.duration = Some(Span(2 * SECOND));
    assert_eq!(fanout::slow_with(&stage.options, 0.5, Some(50.0)), Ok(true));
    let results = stage.results();
    assert_eq!((&results["listeners"], &results["deaf"]), (&Value::from(8), &Value::from(4)));
    assert!(0.0 < number(&results["updates_while_some_were_deaf"]));
    assert!(results["p99_ratio"].is_number());
}

#[test]
fn a_ladder_has_a_row_for_each_step() {
    let stage = Stage::new("ladder");
    assert_eq!(steps::ladder_with(&stage.options, &[20, 5, 60]), Ok(true));
    let detailed = std::fs::read_to_string(stage.folder.join("detailed.csv")).unwrap();
    let connections: Vec<&str> =
        detailed.lines().skip(1).filter_map(|row| row.split(',').next()).collect();
    assert_eq!(connections, ["5", "20", "60"]);
    assert_eq!(stage.results()["steps"].as_array().unwrap().len(), 3);
}

#[test]
fn compare_measures_each_server_in_each_round_and_tells_ratios() {
    let stage = Stage::new("compare");
    let mut options = stage.options.clone();
    options.connections = None;
    let url = options.target.take().unwrap();
    let servers = [format!("one={url},{}", std::process::id()), format!("two={url}")];
    assert_eq!(compare::compare_with(&options, &servers, &[4], 2), Ok(true));
    let table = std::fs::read_to_string(stage.folder.join("compare.csv")).unwrap();
    assert_eq!(table.lines().next(), Some(compare::COMPARE));
    assert_eq!(table.lines().count(), 1 + 2 * 2);
    check_files(&stage.folder.join("one-4-1"));
    let summary = std::fs::read_to_string(stage.folder.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let ratios = &summary["results"]["ratios"]["4"]["two"];
    assert!(0.0 < number(&ratios["calls_per_s"]["median"]));
    assert!(ratios["cpu_us_per_call"].is_null(), "the second has no process to look at");
    stage.fleet.abort();
    stage.fleet.join().unwrap();
    std::fs::remove_dir_all(&stage.folder).unwrap();
}

#[test]
fn a_suite_runs_what_its_budget_allows() {
    let stage = Stage::new("suite");
    let done = suite::suite_with(&stage.options, 5 * SECOND);
    let summary = std::fs::read_to_string(stage.folder.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let rows = summary["results"]["scenarios"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    assert_eq!(rows[0]["passed"], true, "{summary:#}");
    // What the budget did not allow is said, and is no success.
    assert_eq!(rows[7]["passed"], Value::Null);
    assert_eq!(done, Ok(false));
    stage.fleet.abort();
    stage.fleet.join().unwrap();
    std::fs::remove_dir_all(&stage.folder).unwrap();
}

/// A server that answers so many calls rightly, and all later ones with another text.
fn lying_server(right: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answered = answered.clone();
            std::thread::spawn(move || lie(stream, &answered, right));
        }
    });
    address
}

fn lie(mut stream: TcpStream, answered: &AtomicU64, right: u64) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let message: Value = serde_json::from_slice(&body).ok()?;
        let is_right = answered.fetch_add(1, Ordering::Relaxed) < right;
        let text = if is_right { message["params"]["arguments"]["text"].as_str()? } else { "lies" };
        let answer = serde_json::json!({
            "jsonrpc": "2.0", "id": message["id"], "result": { "content": [{ "type": "text", "text": text }] },
        });
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(answer.as_bytes()))
            .ok()?;
    }
}

#[test]
fn wrong_answers_are_errors_and_miss_the_threshold() {
    let address = lying_server(20);
    let folder = std::env::temp_dir().join(format!("erlmcp-lies-{}", std::process::id()));
    let options = Options {
        target: Some(format!("http://{address}/mcp")),
        connections: Some(Count(4)),
        rate: Some(Count(100)),
        duration: Some(Span(SECOND)),
        output: Some(folder.clone()),
        min_success: Some(Percent(99.9)),
        ..Options::default()
    };
    assert_eq!(plain::rate_with(&options, SECOND / 2), Ok(false));
    let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert!(10.0 < number(&summary["results"]["totals"]["wrong"]), "{summary:#}");
    let fault = summary["results"]["faults"][0].as_str().unwrap();
    assert!(fault.contains("the text of the result"), "{fault}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_said_before_anything_is_written() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = std::env::temp_dir().join(format!("erlmcp-gone-{}", std::process::id()));
    let options = Options {
        target: Some(format!("http://{gone}/mcp")),
        output: Some(folder.clone()),
        ..Options::default()
    };
    let why = plain::ramp_with(&options).unwrap_err();
    assert!(why.contains("refused"), "{why}");
    assert!(!folder.exists());
}

#[test]
fn several_targets_get_their_even_share_of_every_kind_and_columns_of_their_own() {
    let mut stage = Stage::new("targets");
    let twice = |text: &str| format!("{text},{text}");
    stage.options.target = stage.options.target.as_deref().map(twice);
    stage.options.tcp = stage.options.tcp.as_deref().map(twice);
    stage.options.mix = "http=4,ws=2,tcp=2,listen=1,session=1".parse().ok();
    stage.options.connections = Some(Count(120));
    stage.options.threads = Some(2);
    assert_eq!(plain::hold_with(&stage.options, SECOND), Ok(true));
    let results = stage.results();
    let distribution = &results["distribution"];
    for target in distribution["targets"].as_array().unwrap() {
        assert_eq!(target["connections"], 60, "{distribution:#}");
    }
    assert_eq!(distribution["deviation_max_percent"], 0.0);
}

#[test]
fn sessions_roam_to_the_other_shard_and_what_it_adds_is_told_by_round() {
    let mut stage = Stage::new("forward");
    stage.options.duration = Some(Span(Duration::from_millis(500)));
    // Whether the goals are met is not for a debug build to say.
    forward::forward_with(&stage.options, 2, 100.0).unwrap();
    let folder = stage.folder.clone();
    let csv = std::fs::read_to_string(folder.join("forward.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some(forward::FORWARD));
    assert_eq!(csv.lines().count(), 1 + 2 * 2 * 2, "{csv}");
    let results = stage.results();
    assert_eq!(results["places"], serde_json::json!(["own", "shard"]));
    assert!(results["added"]["shard"]["load_cpu_ratio"]["median"].is_f64(), "{results:#}");
    assert_eq!(results["totals"]["wrong"], 0, "{results:#}");
}

#[test]
fn nobody_is_idle_for_long_at_the_usual_rate() {
    for (connections, calls) in [(1, 1000.0), (50_000, 1000.0), (50_050, 1001.0), (100_000, 2000.0)]
    {
        assert_eq!(calls_per_s(None, connections), calls, "{connections}");
        assert_eq!(calls_per_s(Some(Count(7)), connections), 7.0, "{connections}");
    }
}

#[test]
fn the_more_listen_the_less_is_published() {
    let all = [(0, 50.0), (1, 50.0), (400, 50.0), (500, 40.0), (20_000, 1.0), (100_000, 1.0)];
    for (listeners, publishes) in all {
        assert_eq!(fanout::publishes_per_s(listeners), publishes, "{listeners}");
    }
}
