//! Which plots a run has, and what each is made of.

use std::collections::BTreeMap;

use super::bars;
use super::chart::{Line, LineChart, XAxis};
use super::compare::{Compared, Comparison};
use super::csv::Column;
use super::figures::at;
use super::latencies::Latencies;
use super::raw::{Beats, Raw, Resources, ServerUse, Steps, Windows};
use super::scale::Scale;
use super::unit::{Unit, grouped};

/// From here on time is told in minutes.
const MINUTES_FROM_S: f64 = 900.0;
/// Points of the distribution for each nine.
const POINTS_PER_NINE: f64 = 40.0;
/// Servers drawn beside each other.
const SERVERS_MAX: usize = 6;
/// Tags drawn beside the whole.
const TAGS_MAX: usize = 5;

/// Every plot, rendered, in the order of the page.
pub fn plots(raw: &Raw) -> Vec<String> {
    let mut plots = Vec::new();
    let comparison = raw.rounds.as_deref().and_then(Comparison::new);
    if let Some(comparison) = &comparison {
        plots.extend(Compared::ALL.map(|what| bars::render(what, comparison)));
    }
    if let Some(steps) = raw.steps.as_ref().filter(|steps| 1 < steps.connections.len()) {
        plots.extend(ladder(raw, steps).iter().map(LineChart::render));
    }
    // A comparison has no course in time, unless it kept one.
    if comparison.is_none() || raw.windows.is_some() {
        plots.extend(course(raw).iter().map(LineChart::render));
    }
    plots
}

/// The run over time, and its calls as a whole.
fn course(raw: &Raw) -> Vec<LineChart> {
    let mut charts = windows(raw.windows.as_ref());
    charts.push(distribution(raw.latencies.as_ref()));
    charts.push(throughput(raw));
    charts.extend(resources(raw.resources.as_ref()));
    charts.extend(
        raw.resources
            .as_ref()
            .filter(|all| !all.servers.is_empty())
            .iter()
            .flat_map(|all| each_server(all)),
    );
    charts.extend(raw.beats.iter().flat_map(beats));
    charts
}

fn windows(windows: Option<&Windows>) -> Vec<LineChart> {
    let x = || time(windows.map_or(&[], |windows| &windows.elapsed));
    let line = |name, column: fn(&Windows) -> &Column| Line::new(name, windows.map(column));
    vec![
        LineChart {
            id: "connections",
            title: "Connections",
            caption: "connections.csv: what there should be, and what there was.".into(),
            x: x(),
            y_name: "connections",
            unit: Unit::Count,
            is_log: false,
            lines: vec![line("target", |all| &all.target), line("actual", |all| &all.actual)],
        },
        LineChart {
            id: "connect-rate",
            title: "Connect rate",
            caption: "connections.csv: connections made per second.".into(),
            x: x(),
            y_name: "connections",
            unit: Unit::PerSecond,
            is_log: false,
            lines: vec![line("connect rate", |all| &all.connect_rate)],
        },
        LineChart {
            id: "latency",
            title: "Latency over time",
            caption: "connections.csv: percentiles of the calls that ended in each half second; \
            the axis goes by factors."
                .into(),
            x: x(),
            y_name: "latency",
            unit: Unit::Milliseconds,
            is_log: true,
            lines: vec![
                line("p99", |all| &all.p99_ms),
                line("p95", |all| &all.p95_ms),
                line("p50", |all| &all.p50_ms),
            ],
        },
    ]
}

/// Latency by percentile, the way HdrHistogram draws it.
fn distribution(latencies: Option<&Latencies>) -> LineChart {
    let calls = latencies.map_or(0, Latencies::calls);
    let scale = Scale::nines(calls as f64);
    let nines = (calls.max(10) as f64).log10();
    let points = (nines * POINTS_PER_NINE).ceil() as u32;
    let quantile = |point| 1.0 - 10f64.powf(-nines * f64::from(point) / f64::from(points));
    let mut quantiles: Vec<f64> = (0..points).map(quantile).collect();
    quantiles.push(1.0);
    let mut lines = vec![Line {
        name: "all calls".into(),
        values: values(&quantiles, |quantile| latencies?.quantile_ms(quantile)),
    }];
    if let Some(latencies) = latencies.filter(|all| 1 < all.tags().count()) {
        lines.extend(latencies.tags().take(TAGS_MAX).map(|tag| Line {
            name: tag.to_owned(),
            values: values(&quantiles, |quantile| latencies.quantile_of_ms(tag, quantile)),
        }));
    }
    LineChart {
        id: "distribution",
        title: "Latency by percentile",
        caption: format!(
            "histogram.hdr: {} calls; so many of them took no longer than this. Each nine is as \
             wide as the one before.",
            grouped(calls as f64, 0)
        ),
        x: XAxis {
            name: "part of all calls".into(),
            scale,
            one: 1.0,
            values: quantiles,
            show: |quantile| match quantile {
                1.0 => "the longest".to_owned(),
                quantile => format!("{} % of calls", grouped(quantile * 100.0, 4)),
            },
        },
        y_name: "latency",
        unit: Unit::Milliseconds,
        is_log: true,
        lines,
    }
}

/// Calls that ended in each interval of the histogram; intervals of several tags count together.
fn throughput(raw: &Raw) -> LineChart {
    let mut by_end: BTreeMap<u64, f64> = BTreeMap::new();
    if let Some(latencies) = &raw.latencies {
        let epoch = raw.epoch();
        for interval in latencies.intervals.iter().filter(|interval| 0.0 < interval.seconds) {
            let end = latencies.start_s(interval, epoch) + interval.seconds;
            let end_ms = (end * 1e3).round().max(0.0) as u64;
            *by_end.entry(end_ms).or_default() += interval.calls as f64 / interval.seconds;
        }
    }
    let (mut ends, mut rates) = (Vec::new(), Vec::new());
    let shortest = by_end.keys().zip(by_end.keys().skip(1)).map(|(one, next)| next - one).min();
    for (end_ms, rate) in by_end {
        let end = end_ms as f64 / 1e3;
        // Nothing was recorded for a while: that is a gap, not a line from one side to the other.
        if let (Some(shortest), Some(last)) = (shortest, ends.last().copied())
            && (shortest as f64 * 2.5) / 1e3 < end - last
        {
            ends.push((last + end) / 2.0);
            rates.push(None);
        }
        ends.push(end);
        rates.push(Some(rate));
    }
    LineChart {
        id: "throughput",
        title: "Throughput",
        caption: "histogram.hdr: right answers of each interval, by its length.".into(),
        x: time(&ends),
        y_name: "calls",
        unit: Unit::PerSecond,
        is_log: false,
        lines: vec![Line { name: "calls per second".into(), values: rates }],
    }
}

fn resources(resources: Option<&Resources>) -> Vec<LineChart> {
    let x = || time(resources.map_or(&[], |resources| &resources.elapsed));
    let line = |name, column: fn(&Resources) -> &Column| Line::new(name, resources.map(column));
    vec![
        LineChart {
            id: "memory",
            title: "Memory",
            caption: "resource-usage.csv: resident memory of the server; what the kernel keeps in \
            buffers of sockets (both ends), and how much its objects grew (the whole host)."
                .into(),
            x: x(),
            y_name: "memory",
            unit: Unit::Bytes,
            is_log: false,
            lines: vec![
                line("server, resident", |all| &all.server_rss_bytes),
                line("socket buffers", |all| &all.socket_memory_bytes),
                line("kernel objects, growth", |all| &all.kernel_grown_bytes),
            ],
        },
        LineChart {
            id: "cpu",
            title: "CPU",
            caption: "resource-usage.csv: 100 % is one core.".into(),
            x: x(),
            y_name: "CPU",
            unit: Unit::Percent,
            is_log: false,
            lines: vec![
                line("server", |all| &all.server_cpu_percent),
                line("generator", |all| &all.generator_cpu_percent),
            ],
        },
    ]
}

/// Where there are several servers.
fn each_server(resources: &Resources) -> [LineChart; 2] {
    let lines = |column: fn(&ServerUse) -> &Column| -> Vec<Line> {
        let each = resources.servers.iter().take(SERVERS_MAX);
        each.map(|one| Line { name: format!("server {}", one.number), values: column(one).clone() })
            .collect()
    };
    let chart = |id, title, y_name, unit, lines| LineChart {
        id,
        title,
        caption: "resource-usage.csv: each server process on its own.".into(),
        x: time(&resources.elapsed),
        y_name,
        unit,
        is_log: false,
        lines,
    };
    [
        chart(
            "server-memory",
            "Memory of each server",
            "memory",
            Unit::Bytes,
            lines(|one| &one.rss_bytes),
        ),
        chart(
            "server-cpu",
            "CPU of each server",
            "CPU",
            Unit::Percent,
            lines(|one| &one.cpu_percent),
        ),
    ]
}

/// A failover, tenth by tenth of a second.
fn beats(beats: &Beats) -> [LineChart; 3] {
    let chart = |id, title, caption: &str, y_name, unit, is_log, column: &Column| LineChart {
        id,
        title,
        caption: format!("timeline.csv: {caption}, in each tenth of a second."),
        x: time(&beats.elapsed),
        y_name,
        unit,
        is_log,
        lines: vec![Line { name: y_name.to_owned(), values: column.clone() }],
    };
    [
        chart(
            "answers",
            "Answers",
            "right answers, all clients together",
            "answers",
            Unit::PerSecond,
            false,
            &beats.answers_per_s,
        ),
        chart(
            "failed",
            "Failed attempts",
            "attempts that were refused, cut off, or not answered; each was made again",
            "attempts",
            Unit::Count,
            false,
            &beats.failed,
        ),
        chart(
            "longest",
            "Longest answer",
            "the longest that an answer took from when its call was due, retries included",
            "latency",
            Unit::Milliseconds,
            true,
            &beats.longest_ms,
        ),
    ]
}

/// What more connections do.
fn ladder(raw: &Raw, steps: &Steps) -> Vec<LineChart> {
    let mut order: Vec<usize> = (0..steps.connections.len()).collect();
    order.sort_by(|a, b| steps.connections[*a].total_cmp(&steps.connections[*b]));
    let counts: Vec<f64> = order.iter().map(|row| steps.connections[*row]).collect();
    let line = |name: &str, column: &Column| Line {
        name: name.to_owned(),
        values: order.iter().map(|row| column[*row]).collect(),
    };
    let memory = |name: &str, column| line(name, &memory_of_steps(raw, steps, column));
    let most = counts.last().copied().unwrap_or(0.0);
    let even = Scale::from_zero(most);
    let factors = counts.first().filter(|first| 0.0 < **first);
    let factors = factors.map_or(even, |first| Scale::log(*first, most));
    let chart = |id, title, caption: &str, scale, unit, lines| LineChart {
        id,
        title,
        caption: format!("{caption} A mark for each step."),
        x: XAxis {
            name: "connections".into(),
            scale,
            one: 1.0,
            values: counts.clone(),
            show: |count| format!("{} connections", grouped(count, 0)),
        },
        y_name: match unit {
            Unit::Milliseconds => "latency",
            Unit::Bytes => "memory",
            _ => "rate",
        },
        unit,
        is_log: unit == Unit::Milliseconds,
        lines,
    };
    let latency =
        vec![line("p99", &steps.p99_ms), line("p99.9", &steps.p999_ms), line("p50", &steps.p50_ms)];
    let memory = vec![
        memory("server, resident", MemoryOf::Server),
        memory("socket buffers", MemoryOf::SocketBuffers),
        memory("kernel objects, growth", MemoryOf::KernelObjects),
    ];
    let rates =
        vec![line("connections made", &steps.per_s), line("calls answered", &steps.calls_per_s)];
    vec![
        chart(
            "ladder-latency",
            "Latency against connections",
            "detailed.csv; both axes go by factors.",
            factors,
            Unit::Milliseconds,
            latency,
        ),
        chart(
            "ladder-memory",
            "Memory against connections",
            "detailed.csv, or resource-usage.csv when a step's connections were last all there.",
            even,
            Unit::Bytes,
            memory,
        ),
        chart(
            "ladder-rate",
            "Rates against connections",
            "detailed.csv: connections made and calls answered per second.",
            factors,
            Unit::PerSecond,
            rates,
        ),
    ]
}

/// Whose memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryOf {
    /// Resident memory of the server.
    Server,
    /// What sockets hold, of both ends.
    SocketBuffers,
    /// What the kernel keeps for its objects, since the run began.
    KernelObjects,
}

/// Memory of each step: as it says itself, or when its connections were last all there.
pub fn memory_of_steps(raw: &Raw, steps: &Steps, whose: MemoryOf) -> Column {
    let column: fn(&Resources) -> &Column = match whose {
        MemoryOf::Server => |all| &all.server_rss_bytes,
        MemoryOf::SocketBuffers => |all| &all.socket_memory_bytes,
        MemoryOf::KernelObjects => |all| &all.kernel_grown_bytes,
    };
    let own = |row: usize| steps.server_rss_bytes[row].filter(|_| whose == MemoryOf::Server);
    let counts = steps.connections.iter().enumerate();
    counts.map(|(row, count)| own(row).or_else(|| memory_at(raw, column, *count))).collect()
}

fn memory_at(raw: &Raw, column: fn(&Resources) -> &Column, count: f64) -> Option<f64> {
    let (windows, resources) = (raw.windows.as_ref()?, raw.resources.as_ref()?);
    let mut rows = windows.target.iter().zip(&windows.actual);
    let row =
        rows.rposition(|(target, actual)| *target == Some(count) && *actual == Some(count))?;
    at(&resources.elapsed, column(resources), windows.elapsed[row])
}

impl Line {
    fn new(name: &str, column: Option<&Column>) -> Self {
        Self { name: name.to_owned(), values: column.cloned().unwrap_or_default() }
    }
}

fn values(of: &[f64], value: impl Fn(f64) -> Option<f64>) -> Column {
    of.iter().map(|x| value(*x)).collect()
}

fn time(seconds: &[f64]) -> XAxis {
    let last = seconds.last().copied().unwrap_or(0.0);
    let is_long = MINUTES_FROM_S <= last;
    let (name, one) = if is_long { ("time (min)", 60.0) } else { ("time (s)", 1.0) };
    XAxis {
        name: name.into(),
        scale: Scale::exact(0.0, last),
        one,
        values: seconds.to_vec(),
        show: |second| format!("{} s", grouped(second, 1)),
    }
}
