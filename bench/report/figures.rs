//! The figures of a run, each computed from a raw file.

use super::csv::Column;
use super::latencies::Interval;
use super::raw::{Raw, Resources, Steps, Windows};
use super::unit::Unit;
use crate::numbers::{Spread, slope};

/// One figure: what it is, what it came to, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is, for the reader.
    pub name: &'static str,
    /// `None`: not measured.
    pub value: Option<f64>,
    /// What `value` counts.
    pub unit: Unit,
    /// How it was computed, naming file and columns.
    pub from: &'static str,
}

/// Rows of two files belong together when they are no further apart.
const JOIN_S: f64 = 1.0;

/// Every figure, in the order of the page.
pub fn figures(raw: &Raw) -> Vec<Figure> {
    let mut figures = Vec::new();
    connections(raw, &mut figures);
    latency(raw, &mut figures);
    resources(raw, &mut figures);
    figures
}

fn connections(raw: &Raw, figures: &mut Vec<Figure>) {
    let windows = raw.windows.as_ref();
    let mut add = |name, value, unit, from| figures.push(Figure { name, value, unit, from });
    let asked = windows.and_then(|windows| highest(&windows.target));
    add("connections asked for", asked, Unit::Count, "connections.csv: highest target");
    let most = windows.and_then(|windows| highest(&windows.actual));
    add("connections, most at once", most, Unit::Count, "connections.csv: highest actual");
    add(
        "connections lost while held",
        windows.and_then(lost_while_held),
        Unit::Count,
        "connections.csv: highest target less the lowest actual, after all were there and while \
         all were asked for",
    );
    add(
        "time until all were there",
        windows.and_then(ramp_s),
        Unit::Seconds,
        "connections.csv: from the last row without a connection to the first with all",
    );
    // Between its steps a ladder opens nothing, and most of them open within one row of
    // connections.csv.
    let (rate, from) = match raw.steps.as_ref().filter(|steps| 1 < climb(steps).count()) {
        Some(steps) => (
            climb_rate(steps),
            "detailed.csv: connections of the highest step by the time they took to open, step by \
             step",
        ),
        None => (
            windows.and_then(ramp_rate),
            "connections.csv: connections asked for by time until all were there",
        ),
    };
    add("connect rate over the ramp", rate, Unit::PerSecond, from);
    let rate = windows.and_then(|windows| highest(&windows.connect_rate));
    add("highest connect rate", rate, Unit::PerSecond, "connections.csv: highest rate of a row");
    let errors = windows.and_then(|windows| windows.errors.iter().rev().find_map(|errors| *errors));
    add("errors", errors, Unit::Count, "connections.csv: errors, last row");
}

fn latency(raw: &Raw, figures: &mut Vec<Figure>) {
    let latencies = raw.latencies.as_ref();
    let quantile = |quantile: f64| latencies.and_then(|all| all.quantile_ms(quantile));
    let mut add = |name, value, unit, from| figures.push(Figure { name, value, unit, from });
    let calls = latencies.map(|all| all.calls() as f64);
    add("calls", calls, Unit::Count, "histogram.hdr: count");
    let rate = calls.zip(calls_s(raw)).map(|(calls, seconds)| calls / seconds);
    add(
        "calls per second",
        rate,
        Unit::PerSecond,
        "histogram.hdr: count by the time its intervals cover",
    );
    let mean = latencies.and_then(|all| all.mean_ms());
    add("latency, mean", mean, Unit::Milliseconds, "histogram.hdr");
    for (name, at) in [
        ("latency p50", 0.5),
        ("latency p90", 0.9),
        ("latency p95", 0.95),
        ("latency p99", 0.99),
        ("latency p99.9", 0.999),
        ("latency p99.99", 0.9999),
        ("latency, longest", 1.0),
    ] {
        // A percentile that leaves out less than one call says no more than the longest.
        let enough = calls.is_some_and(|calls| at == 1.0 || 1.0 <= calls * (1.0 - at) + 1e-9);
        add(name, quantile(at).filter(|_| enough), Unit::Milliseconds, "histogram.hdr");
    }
    let fairness = quantile(0.99).zip(quantile(0.5)).filter(|(_, p50)| 0.0 < *p50);
    let fairness = fairness.map(|(p99, p50)| p99 / p50);
    add("p99 by p50 (fairness)", fairness, Unit::Times, "histogram.hdr");
    let windows = raw.windows.as_ref();
    let p99 = windows.and_then(|windows| Spread::of(windows.p99_ms.iter().copied().flatten()));
    let from = "connections.csv: p99 of each row";
    add("p99 of half a second, median", p99.map(|p99| p99.median), Unit::Milliseconds, from);
    add("p99 of half a second, best", p99.map(|p99| p99.min), Unit::Milliseconds, from);
    add("p99 of half a second, worst", p99.map(|p99| p99.max), Unit::Milliseconds, from);
}

fn resources(raw: &Raw, figures: &mut Vec<Figure>) {
    let resources = raw.resources.as_ref();
    let mut add = |name, value, unit, from| figures.push(Figure { name, value, unit, from });
    let of = |column: fn(&Resources) -> &Column| resources.map(column);
    let server = of(|resources| &resources.server_cpu_percent);
    let generator = of(|resources| &resources.generator_cpu_percent);
    let from = "resource-usage.csv; 100 % is one core";
    add("CPU of the server, mean", server.and_then(mean), Unit::Percent, from);
    add("CPU of the server, highest", server.and_then(highest), Unit::Percent, from);
    add("CPU of the generator, mean", generator.and_then(mean), Unit::Percent, from);
    add("CPU of the generator, highest", generator.and_then(highest), Unit::Percent, from);
    let from = "mean CPU of the server while calls were made, by calls per second";
    add("CPU of the server per call", cpu_per_call_us(raw), Unit::Microseconds, from);
    let rss = of(|resources| &resources.server_rss_bytes);
    let socket = of(|resources| &resources.socket_memory_bytes);
    let slab = of(|resources| &resources.kernel_slab_bytes);
    let from = "resource-usage.csv: server_rss_bytes";
    add("memory of the server, first", rss.and_then(first), Unit::Bytes, from);
    add("memory of the server, highest", rss.and_then(highest), Unit::Bytes, from);
    let from = "resource-usage.csv: socket_memory_bytes, both ends";
    add("memory of socket buffers, highest", socket.and_then(highest), Unit::Bytes, from);
    let from = "resource-usage.csv: kernel_slab_bytes, the whole host";
    add("memory of kernel objects, highest", slab.and_then(highest), Unit::Bytes, from);
    let from = "slope of memory over connections until the most were there: both CSV files, \
    joined by time";
    let per_connection =
        |column: Option<&Column>| growth(raw.windows.as_ref()?, resources?, column?);
    add("memory of the server per connection", per_connection(rss), Unit::Bytes, from);
    add("memory of socket buffers per connection", per_connection(socket), Unit::Bytes, from);
    add("memory of kernel objects per connection", per_connection(slab), Unit::Bytes, from);
}

fn lost_while_held(windows: &Windows) -> Option<f64> {
    let (asked, full) = (highest(&windows.target)?, row_when_full(windows)?);
    let held = windows.target.iter().zip(&windows.actual).skip(full);
    let held = held.take_while(|(target, _)| **target == Some(asked));
    let lowest = held.filter_map(|(_, actual)| *actual).reduce(f64::min)?;
    Some((asked - lowest).max(0.0))
}

/// From the last row without a connection, or the first row, to the first with all that were asked
/// for.
fn ramp_s(windows: &Windows) -> Option<f64> {
    let full = row_when_full(windows)?;
    let before = windows.actual[..full].iter().rposition(|actual| *actual == Some(0.0));
    Some(windows.elapsed[full] - windows.elapsed[before.unwrap_or(0)])
}

fn ramp_rate(windows: &Windows) -> Option<f64> {
    let seconds = ramp_s(windows).filter(|seconds| 0.0 < *seconds)?;
    Some(highest(&windows.target)? / seconds)
}

/// Steps with more connections than any before: how many came, and how many per second.
fn climb(steps: &Steps) -> impl Iterator<Item = (f64, Option<f64>)> {
    let mut most = 0.0;
    steps.connections.iter().zip(&steps.per_s).filter_map(move |(there, per_s)| {
        let came = there - most;
        most = most.max(*there);
        (0.0 < came).then_some((came, *per_s))
    })
}

/// `None` if a step does not say how fast its own came.
fn climb_rate(steps: &Steps) -> Option<f64> {
    let came: f64 = climb(steps).map(|(came, _)| came).sum();
    let seconds: Option<f64> =
        climb(steps).map(|(came, per_s)| Some(came / per_s.filter(|rate| 0.0 < *rate)?)).sum();
    Some(came / seconds?)
}

fn row_when_full(windows: &Windows) -> Option<usize> {
    let asked = highest(&windows.target).filter(|asked| 0.0 < *asked)?;
    windows.actual.iter().position(|actual| actual.is_some_and(|actual| asked <= actual))
}

/// When calls were measured, on the clock of the run: the intervals of the histogram, those that
/// touch as one.
fn measured_s(raw: &Raw) -> Vec<(f64, f64)> {
    let Some(latencies) = &raw.latencies else { return Vec::new() };
    let epoch = raw.epoch();
    let span = |interval: &Interval| {
        let start = latencies.start_s(interval, epoch);
        (start, start + interval.seconds)
    };
    let mut spans: Vec<(f64, f64)> = latencies.intervals.iter().map(span).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (begin, end) in spans {
        match merged.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

/// How long calls were measured.
fn calls_s(raw: &Raw) -> Option<f64> {
    let seconds: f64 = measured_s(raw).iter().map(|(begin, end)| end - begin).sum();
    Some(seconds).filter(|seconds| 0.0 < *seconds)
}

fn cpu_per_call_us(raw: &Raw) -> Option<f64> {
    let resources = raw.resources.as_ref()?;
    let calls_per_s = raw.latencies.as_ref()?.calls() as f64 / calls_s(raw)?;
    let spans = measured_s(raw);
    // A row tells of the time since the one before it; what counts is where its middle lies.
    let during = resources.elapsed.windows(2).zip(resources.server_cpu_percent.iter().skip(1));
    let during = during.filter(|(row, _)| {
        let middle = (row[0] + row[1]) / 2.0;
        spans.iter().any(|(begin, end)| *begin <= middle && middle <= *end)
    });
    let percent = mean(&during.map(|(_, percent)| *percent).collect())?;
    Some(percent / 100.0 * 1e6 / calls_per_s).filter(|_| 0.0 < calls_per_s)
}

/// Bytes per connection, as connections came.
fn growth(windows: &Windows, resources: &Resources, bytes: &Column) -> Option<f64> {
    let most = highest(&windows.actual)?;
    let until = windows.actual.iter().position(|actual| *actual == Some(most))?;
    let points: Vec<(f64, f64)> = (0..=until)
        .filter_map(|row| {
            let bytes = at(&resources.elapsed, bytes, windows.elapsed[row])?;
            Some((windows.actual[row]?, bytes))
        })
        .collect();
    slope(&points)
}

/// What a column says nearest to this time.
pub fn at(elapsed: &[f64], column: &Column, second: f64) -> Option<f64> {
    let after = elapsed.partition_point(|at| *at < second);
    let near = [after.checked_sub(1), Some(after)].into_iter().flatten();
    let near = near.filter(|row| elapsed.get(*row).is_some_and(|at| (at - second).abs() <= JOIN_S));
    let distance = |row: &usize| (elapsed[*row] - second).abs();
    column[near.min_by(|a, b| distance(a).total_cmp(&distance(b)))?]
}

/// The highest value, if anything was measured.
pub fn highest(column: &Column) -> Option<f64> {
    column.iter().copied().flatten().reduce(f64::max)
}

fn first(column: &Column) -> Option<f64> {
    column.iter().copied().flatten().next()
}

fn mean(column: &Column) -> Option<f64> {
    let (sum, count) = column.iter().flatten().fold((0.0, 0), |(sum, n), x| (sum + x, n + 1));
    (0 < count).then(|| sum / f64::from(count))
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
