//! The raw data of a run: `connections.csv`, `resource-usage.csv`, `detailed.csv`, `histogram.hdr`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::kind::Kind;
use super::pulse::{Clock, Window};
use super::sample::Sample;

/// Header of `connections.csv`.
pub const CONNECTIONS: &str = "timestamp_epoch,elapsed_seconds,target_connections,actual_connections,connection_rate,latency_p50_ms,latency_p95_ms,latency_p99_ms,errors";
/// Header of `resource-usage.csv`.
pub const RESOURCES: &str = "timestamp_epoch,elapsed_seconds,server_cpu_percent,server_rss_bytes,generator_cpu_percent,socket_memory_bytes,kernel_slab_bytes";
/// Beginning of the header of `detailed.csv`.
pub const DETAILED: &str = "Connections,Duration(sec),Throughput(conn/sec),P99_Latency(ms),Calls,Calls/sec,P50_Latency(ms),P999_Latency(ms),Errors,Server_RSS(bytes)";

/// A row of `connections.csv`.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// When the window ended, seconds since the run began.
    pub elapsed_s: f64,
    /// Connections that there should be.
    pub target: u64,
    /// Connections that there are.
    pub actual: u64,
    /// Connections made per second.
    pub per_s: f64,
    /// Errors since the start.
    pub errors: u64,
}

/// A row of `detailed.csv`.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Step {
    /// Connections held.
    pub connections: u64,
    /// How long the step took, opening and measuring.
    pub seconds: f64,
    /// Connections made per second while they were opened; `None`: none were.
    pub per_s: Option<f64>,
    /// Of the calls.
    pub p99_ms: Option<f64>,
    /// Calls answered.
    pub calls: u64,
    /// Calls answered per second.
    pub calls_per_s: Option<f64>,
    /// Of the calls.
    pub p50_ms: Option<f64>,
    /// Of the calls.
    pub p999_ms: Option<f64>,
    /// In this step.
    pub errors: u64,
    /// Of the server, at its end.
    pub server_rss: Option<u64>,
}

/// The files, being written.
pub struct Recorder {
    folder: PathBuf,
    clock: Clock,
    connections: BufWriter<File>,
    resources: BufWriter<File>,
    histogram: BufWriter<File>,
    detailed: BufWriter<File>,
    servers: usize,
}

impl Recorder {
    /// Makes the folder and the files; where there are several servers each has columns of its own.
    pub fn create(folder: &Path, clock: Clock, servers: usize) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|err| format!("{}: {err}", folder.display()))?;
        let open = |name: &str, header: &str| {
            let path = folder.join(name);
            let told = |err: std::io::Error| format!("{}: {err}", path.display());
            let mut file = BufWriter::new(File::create(&path).map_err(told)?);
            if !header.is_empty() {
                writeln!(file, "{header}").map_err(told)?;
            }
            Ok::<_, String>(file)
        };
        let mut recorder = Self {
            folder: folder.to_owned(),
            clock,
            connections: open("connections.csv", CONNECTIONS)?,
            resources: open("resource-usage.csv", &resources_header(servers))?,
            histogram: open("histogram.hdr", "")?,
            detailed: open("detailed.csv", DETAILED)?,
            servers,
        };
        let mut builder = IntervalLogWriterBuilder::new();
        builder
            .add_comment("unit: us")
            .with_start_time(clock.start_time())
            .with_base_time(clock.start_time());
        let mut serializer = V2DeflateSerializer::new();
        let begun = builder.begin_log_with(&mut recorder.histogram, &mut serializer);
        begun.map(drop).map_err(|err| format!("histogram.hdr: {err}"))?;
        Ok(recorder)
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of a window.
    pub fn row(&mut self, row: &Row, calls: Option<&Histogram<u64>>) -> Result<(), String> {
        let at = |quantile: f64| cell(calls.and_then(|calls| quantile_ms(calls, quantile)));
        let written = writeln!(
            self.connections,
            "{:.3},{:.3},{},{},{:.1},{},{},{},{}",
            self.clock.epoch + row.elapsed_s,
            row.elapsed_s,
            row.target,
            row.actual,
            row.per_s,
            at(0.5),
            at(0.95),
            at(0.99),
            row.errors
        );
        written.map_err(|err| format!("connections.csv: {err}"))
    }

    /// What was spent between two readings.
    pub fn sample(&mut self, now: &Sample, before: &Sample) -> Result<(), String> {
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut each = String::new();
        for index in (0..self.servers).filter(|_| 1 < self.servers) {
            let rss = now.servers.get(index).and_then(|one| one.rss);
            each += &format!(",{},{}", cell(now.server_percent_of(index, before)), number(rss));
        }
        let written = writeln!(
            self.resources,
            "{:.3},{:.3},{},{},{},{},{}{}",
            self.clock.epoch + now.elapsed_s,
            now.elapsed_s,
            cell(now.server_percent(before)),
            number(now.server_rss()),
            cell(now.generator_percent(before)),
            number(now.sockets.map(|sockets| sockets.buffer_bytes)),
            number(now.sockets.map(|sockets| sockets.slab_bytes)),
            each
        );
        written.map_err(|err| format!("resource-usage.csv: {err}"))
    }

    /// Latencies of a measured window, tagged with the kind of client.
    pub fn latencies(&mut self, window: &Window, from_s: f64, seconds: f64) -> Result<(), String> {
        let told = |err: String| format!("histogram.hdr: {err}");
        let mut serializer = V2DeflateSerializer::new();
        // Without comments and times a builder writes nothing of its own: this goes on with the log.
        let mut log = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.histogram, &mut serializer)
            .map_err(|err| told(err.to_string()))?;
        for (kind, calls) in Kind::ALL.into_iter().zip(&window.calls) {
            let Some(calls) = calls else { continue };
            let (from, length) =
                (Duration::from_secs_f64(from_s), Duration::from_secs_f64(seconds));
            log.write_histogram(calls, from, length, Tag::new(kind.as_str()))
                .map_err(|err| told(format!("{err:?}")))?;
        }
        Ok(())
    }

    /// A step that is over.
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        let written = writeln!(
            self.detailed,
            "{},{:.3},{},{},{},{},{},{},{},{}",
            step.connections,
            step.seconds,
            cell(step.per_s),
            cell(step.p99_ms),
            step.calls,
            cell(step.calls_per_s),
            cell(step.p50_ms),
            cell(step.p999_ms),
            step.errors,
            step.server_rss.map(|bytes| bytes.to_string()).unwrap_or_default()
        );
        written.map_err(|err| format!("detailed.csv: {err}"))
    }

    /// Puts a file of its own beside them.
    pub fn keep(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|err| format!("{}: {err}", path.display()))
    }

    /// Everything is on its way to the disk.
    pub fn flush(&mut self) -> Result<(), String> {
        let files =
            [&mut self.connections, &mut self.resources, &mut self.histogram, &mut self.detailed];
        files.into_iter().try_for_each(|file| {
            file.flush().map_err(|err| format!("{}: {err}", self.folder.display()))
        })
    }
}

/// Header of `resource-usage.csv` for so many servers.
pub fn resources_header(servers: usize) -> String {
    let each = (1..=servers).filter(|_| 1 < servers);
    let each = each.map(|number| format!(",server_{number}_cpu_percent,server_{number}_rss_bytes"));
    format!("{RESOURCES}{}", each.collect::<String>())
}

/// A quantile in milliseconds; `None` of nothing.
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1000.0)
}

/// An empty cell was not measured.
fn cell(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_with_their_headers_and_empty_cells_were_not_measured() {
        let folder = std::env::temp_dir().join(format!("erlmcp-record-{}", std::process::id()));
        let clock = Clock::start();
        let mut recorder = Recorder::create(&folder, clock, 1).unwrap();
        let row = Row { elapsed_s: 0.5, target: 10, actual: 9, per_s: 18.0, errors: 1 };
        let mut window = Window::default();
        for us in [1000, 2000, 3000] {
            window.call(Kind::Http, us);
            window.call(Kind::Ws, us);
        }
        recorder.row(&row, None).unwrap();
        recorder.row(&row, window.all_calls().as_ref()).unwrap();
        recorder.sample(&Sample::default(), &Sample::default()).unwrap();
        recorder.step(&Step { connections: 10, seconds: 1.0, ..Step::default() }).unwrap();
        recorder.latencies(&window, 0.0, 0.5).unwrap();
        recorder.latencies(&window, 0.5, 0.5).unwrap();
        recorder.flush().unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let connections = read("connections.csv");
        let lines: Vec<&str> = connections.lines().collect();
        assert_eq!(lines[0], CONNECTIONS);
        assert!(lines[1].ends_with(",0.500,10,9,18.0,,,,1"), "{}", lines[1]);
        assert!(lines[2].ends_with(",0.500,10,9,18.0,2.000,3.001,3.001,1"), "{}", lines[2]);
        let detailed = read("detailed.csv");
        assert!(
            detailed.starts_with("Connections,Duration(sec),Throughput(conn/sec),P99_Latency(ms)")
        );
        assert!(detailed.contains("\n10,1.000,,,0,,,,0,\n"), "{detailed}");
        assert!(read("resource-usage.csv").starts_with(RESOURCES));
        let log = read("histogram.hdr");
        assert_eq!(log.matches("Tag=http,").count(), 2, "{log}");
        assert_eq!(log.matches("Tag=ws,").count(), 2, "{log}");
        assert!(log.contains("#unit: us\n") && log.contains("#[BaseTime: "), "{log}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
