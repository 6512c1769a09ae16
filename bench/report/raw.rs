//! The raw files of one run, read and checked. What they hold stands in the README of this room.

use std::fs;
use std::path::Path;

use super::csv::{Column, Table, read_text};
use super::latencies::Latencies;
use super::summary::Summary;

/// Everything the folder of a run holds; a file that is missing is `None`.
#[derive(Debug)]
pub struct Raw {
    /// `summary.json`.
    pub summary: Summary,
    /// `connections.csv`.
    pub windows: Option<Windows>,
    /// `detailed.csv`.
    pub steps: Option<Steps>,
    /// `resource-usage.csv`.
    pub resources: Option<Resources>,
    /// `histogram.hdr`.
    pub latencies: Option<Latencies>,
    /// `compare.csv`.
    pub rounds: Option<Vec<Round>>,
    /// `timeline.csv`.
    pub beats: Option<Beats>,
    /// Tables that are shown as they stand: name, title, content.
    pub tables: Vec<(&'static str, &'static str, Table)>,
    /// Which of them there are, with their bytes.
    pub files: Vec<(&'static str, Option<u64>)>,
}

/// The files of a run, summary first.
pub const FILES: [&str; 10] = [
    "summary.json",
    "connections.csv",
    "detailed.csv",
    "resource-usage.csv",
    "histogram.hdr",
    "compare.csv",
    "forward.csv",
    "events.csv",
    "timeline.csv",
    "sessions.csv",
];

/// Those that are shown as they stand.
const SHOWN: [(&str, &str); 2] = [("events.csv", "Events"), ("forward.csv", "Rounds of a forward")];
/// Lines of a table that is shown; more than this nobody reads.
pub const SHOWN_LINES_MAX: usize = 200;

/// `connections.csv`: a row for each half second.
#[derive(Debug)]
pub struct Windows {
    /// Start of the run, seconds since 1970.
    pub epoch: f64,
    /// Seconds since the start.
    pub elapsed: Vec<f64>,
    /// Connections that there should be.
    pub target: Column,
    /// Connections that there are.
    pub actual: Column,
    /// Connections made per second.
    pub connect_rate: Column,
    /// Latency of the calls that ended in the window.
    pub p50_ms: Column,
    /// The same.
    pub p95_ms: Column,
    /// The same.
    pub p99_ms: Column,
    /// Errors since the start.
    pub errors: Column,
}

/// `detailed.csv`: a row for each step.
#[derive(Debug)]
pub struct Steps {
    /// Connections of the step.
    pub connections: Vec<f64>,
    /// How long it took.
    pub seconds: Column,
    /// Connections made per second.
    pub per_s: Column,
    /// 99th percentile of its calls.
    pub p99_ms: Column,
    /// Their median; may be missing, like all that follow.
    pub p50_ms: Column,
    /// Their 99.9th percentile.
    pub p999_ms: Column,
    /// Calls answered per second.
    pub calls_per_s: Column,
    /// Errors in the step.
    pub errors: Column,
    /// Resident memory of the server at its end.
    pub server_rss_bytes: Column,
}

/// `resource-usage.csv`.
#[derive(Debug)]
pub struct Resources {
    /// Start of the run, seconds since 1970.
    pub epoch: f64,
    /// Seconds since the start.
    pub elapsed: Vec<f64>,
    /// Of the server; 100 is one core.
    pub server_cpu_percent: Column,
    /// Resident memory of the server.
    pub server_rss_bytes: Column,
    /// Of the load generator; 100 is one core.
    pub generator_cpu_percent: Column,
    /// What the kernel keeps in the buffers of sockets, of both ends.
    pub socket_memory_bytes: Column,
    /// What the kernel keeps for its own objects, sockets among them, the whole host; may be
    /// missing.
    pub kernel_slab_bytes: Column,
    /// The same, without what it was when the run began.
    pub kernel_grown_bytes: Column,
    /// Each server on its own, where there are several.
    pub servers: Vec<ServerUse>,
}

/// One of several servers.
#[derive(Debug)]
pub struct ServerUse {
    /// Which, from 1.
    pub number: usize,
    /// 100 is one core.
    pub cpu_percent: Column,
    /// Resident memory.
    pub rss_bytes: Column,
}

/// `timeline.csv`: a row for each tenth of a second of a failover.
#[derive(Debug)]
pub struct Beats {
    /// Seconds since the start.
    pub elapsed: Vec<f64>,
    /// Right answers.
    pub answers_per_s: Column,
    /// Attempts that failed.
    pub failed: Column,
    /// The longest that an answer took.
    pub longest_ms: Column,
}

/// A row of `compare.csv`: one server, one round.
#[derive(Debug, Clone)]
pub struct Round {
    /// Rounds are compared with each other, not across.
    pub round: u64,
    /// Which server.
    pub server: String,
    /// Connections of the load.
    pub connections: u64,
    /// What was measured, as `Measure` orders it.
    pub measured: [Option<f64>; Measure::ALL.len()],
}

/// What `compare.csv` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Calls per second.
    Calls,
    /// CPU of the server per call, µs.
    Cpu,
    /// Median latency.
    P50,
    /// 99th percentile of latency.
    P99,
    /// Resident memory.
    Rss,
    /// Memory per connection.
    PerConnection,
}

impl Measure {
    /// In the order of the columns.
    pub const ALL: [Self; 6] =
        [Self::Calls, Self::Cpu, Self::P50, Self::P99, Self::Rss, Self::PerConnection];

    /// The column that holds it.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Calls => "calls_per_s",
            Self::Cpu => "cpu_us_per_call",
            Self::P50 => "p50_ms",
            Self::P99 => "p99_ms",
            Self::Rss => "rss_bytes",
            Self::PerConnection => "bytes_per_connection",
        }
    }

    /// Of this row.
    pub fn of(self, round: &Round) -> Option<f64> {
        round.measured[self as usize]
    }
}

impl Raw {
    /// Reads the folder of a run.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let text = read_text(&folder.join("summary.json"))?
            .ok_or("summary.json is missing: this is not the folder of a run")?;
        let table = |name| Table::read(folder, name);
        let latencies = read_text(&folder.join("histogram.hdr"))?;
        let bytes = |name| fs::metadata(folder.join(name)).ok().map(|facts| facts.len());
        Ok(Self {
            summary: Summary::parse(&text)?,
            windows: table("connections.csv")?.as_ref().map(windows).transpose()?,
            steps: table("detailed.csv")?.as_ref().map(steps).transpose()?,
            resources: table("resource-usage.csv")?.as_ref().map(resources).transpose()?,
            latencies: latencies
                .map(|text| Latencies::parse("histogram.hdr", &text))
                .transpose()?,
            rounds: table("compare.csv")?.as_ref().map(rounds).transpose()?,
            beats: table("timeline.csv")?.as_ref().map(beats).transpose()?,
            tables: shown(folder)?,
            files: FILES.map(|name| (name, bytes(name))).to_vec(),
        })
    }

    /// When the run began, seconds since 1970, if a raw file tells.
    pub fn epoch(&self) -> Option<f64> {
        let windows = self.windows.as_ref().map(|windows| windows.epoch);
        windows.or(self.resources.as_ref().map(|resources| resources.epoch))
    }
}

fn windows(table: &Table) -> Result<Windows, String> {
    Ok(Windows {
        epoch: epoch(table)?,
        elapsed: table.times("elapsed_seconds")?,
        target: table.numbers("target_connections")?,
        actual: table.numbers("actual_connections")?,
        connect_rate: table.numbers("connection_rate")?,
        p50_ms: table.numbers("latency_p50_ms")?,
        p95_ms: table.numbers("latency_p95_ms")?,
        p99_ms: table.numbers("latency_p99_ms")?,
        errors: table.numbers("errors")?,
    })
}

fn steps(table: &Table) -> Result<Steps, String> {
    Ok(Steps {
        connections: table.filled("Connections")?,
        seconds: table.numbers("Duration(sec)")?,
        per_s: table.numbers("Throughput(conn/sec)")?,
        p99_ms: table.numbers("P99_Latency(ms)")?,
        p50_ms: table.numbers_if_any("P50_Latency(ms)")?,
        p999_ms: table.numbers_if_any("P999_Latency(ms)")?,
        calls_per_s: table.numbers_if_any("Calls/sec")?,
        errors: table.numbers_if_any("Errors")?,
        server_rss_bytes: table.numbers_if_any("Server_RSS(bytes)")?,
    })
}

fn resources(table: &Table) -> Result<Resources, String> {
    let kernel_slab_bytes = table.numbers_if_any("kernel_slab_bytes")?;
    let first = kernel_slab_bytes.iter().flatten().next().copied().unwrap_or(0.0);
    let grown = |bytes: &Option<f64>| bytes.map(|bytes| (bytes - first).max(0.0));
    Ok(Resources {
        epoch: epoch(table)?,
        elapsed: table.times("elapsed_seconds")?,
        server_cpu_percent: table.numbers("server_cpu_percent")?,
        server_rss_bytes: table.numbers("server_rss_bytes")?,
        generator_cpu_percent: table.numbers("generator_cpu_percent")?,
        socket_memory_bytes: table.numbers("socket_memory_bytes")?,
        kernel_grown_bytes: kernel_slab_bytes.iter().map(grown).collect(),
        kernel_slab_bytes,
        servers: servers(table)?,
    })
}

/// As many as have columns.
fn servers(table: &Table) -> Result<Vec<ServerUse>, String> {
    let cpu = |number| format!("server_{number}_cpu_percent");
    let there = (1..).take_while(|number| table.columns().contains(&cpu(*number)));
    let read = |number: usize| {
        Ok(ServerUse {
            number,
            cpu_percent: table.numbers(&cpu(number))?,
            rss_bytes: table.numbers(&format!("server_{number}_rss_bytes"))?,
        })
    };
    there.map(read).collect()
}

fn beats(table: &Table) -> Result<Beats, String> {
    Ok(Beats {
        elapsed: table.times("elapsed_seconds")?,
        answers_per_s: table.numbers("answers_per_second")?,
        failed: table.numbers("failed_attempts")?,
        longest_ms: table.numbers("longest_ms")?,
    })
}

fn shown(folder: &Path) -> Result<Vec<(&'static str, &'static str, Table)>, String> {
    let mut tables = Vec::new();
    for (name, title) in SHOWN {
        tables.extend(Table::read(folder, name)?.map(|table| (name, title, table)));
    }
    Ok(tables)
}

fn rounds(table: &Table) -> Result<Vec<Round>, String> {
    let (numbers, servers) = (table.filled("round")?, table.texts("server")?);
    let connections = table.filled("connections")?;
    let columns: Vec<Column> = Measure::ALL
        .iter()
        .map(|measure| table.numbers(measure.column()))
        .collect::<Result<_, _>>()?;
    let row = |(index, server): (usize, String)| Round {
        round: numbers[index] as u64,
        server,
        connections: connections[index] as u64,
        measured: std::array::from_fn(|column| columns[column][index]),
    };
    Ok(servers.into_iter().enumerate().map(row).collect())
}

/// Seconds since 1970 when the clock of the rows began; zero if there is no row.
fn epoch(table: &Table) -> Result<f64, String> {
    let (stamps, elapsed) = (table.filled("timestamp_epoch")?, table.times("elapsed_seconds")?);
    Ok(stamps.first().zip(elapsed.first()).map_or(0.0, |(stamp, elapsed)| stamp - elapsed))
}
