//! `histogram.hdr`: an HdrHistogram interval log (V2, plain or deflated), as
//! `HistogramLogProcessor` and others read it too.
//!
//! Values are microseconds, unless a comment `#unit: ns` (us, ms, s) before the first interval says
//! otherwise. Tagged intervals are told apart, and count together in the whole.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

/// Significant digits of the histograms we merge into.
const DIGITS: u8 = 3;
/// Timestamps so much smaller than StartTime are counted from it: the rule of the Java reader.
const YEAR_S: f64 = 365.0 * 86_400.0;

/// What a run measured of its calls.
#[derive(Debug)]
pub struct Latencies {
    /// Milliseconds of one recorded unit.
    unit_ms: f64,
    /// All calls.
    all: Histogram<u64>,
    /// By tag, if there are tags.
    tagged: BTreeMap<String, Histogram<u64>>,
    /// In the order of the log.
    pub intervals: Vec<Interval>,
    /// How times of intervals are to be read.
    pub clock: Clock,
}

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// As the log counts, see [`Clock`].
    pub start_s: f64,
    /// How long it was.
    pub seconds: f64,
    /// Calls that ended in it.
    pub calls: u64,
}

/// What the times of intervals count from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clock {
    start: Option<f64>,
    base: Option<f64>,
}

impl Latencies {
    /// Reads a log; `file` is what complaints call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let mut latencies = Self {
            unit_ms: 1e-3,
            all: growing()?,
            tagged: BTreeMap::new(),
            intervals: Vec::new(),
            clock: Clock::default(),
        };
        for (index, line) in text.lines().enumerate() {
            let told = |what: String| format!("{file}:{}: {what}", index + 1);
            latencies.read_line(line.trim_end()).map_err(told)?;
        }
        Ok(latencies)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let comment = line.strip_prefix('#').map(str::trim);
        if let Some(unit) = comment.and_then(|comment| comment.strip_prefix("unit:")) {
            self.unit_ms = unit_ms(unit.trim())?;
        }
        // The reader wants whole lines, their end included, and takes neither empty ones nor the
        // legend of columns.
        if line.is_empty() || line.starts_with("\"StartTimestamp\"") {
            return Ok(());
        }
        let line = format!("{line}\n");
        for entry in IntervalLogIterator::new(line.as_bytes()) {
            match entry.map_err(|_| "this is not a line of an interval log".to_owned())? {
                LogEntry::StartTime(time) => self.clock.start = Some(time.as_secs_f64()),
                LogEntry::BaseTime(time) => self.clock.base = Some(time.as_secs_f64()),
                LogEntry::Interval(interval) => {
                    let histogram = decode(interval.encoded_histogram())?;
                    self.intervals.push(Interval {
                        start_s: interval.start_timestamp().as_secs_f64(),
                        seconds: interval.duration().as_secs_f64(),
                        calls: histogram.len(),
                    });
                    merge(&mut self.all, &histogram)?;
                    if let Some(tag) = interval.tag() {
                        let tag = tag.as_str().to_owned();
                        if !self.tagged.contains_key(&tag) {
                            self.tagged.insert(tag.clone(), growing()?);
                        }
                        if let Some(tagged) = self.tagged.get_mut(&tag) {
                            merge(tagged, &histogram)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls in all.
    pub fn calls(&self) -> u64 {
        self.all.len()
    }

    /// Latency in ms that this part of the calls stayed within, 0 to 1; `None` if nothing was
    /// called.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        self.of(&self.all, quantile)
    }

    /// Mean latency, ms.
    pub fn mean_ms(&self) -> Option<f64> {
        (!self.all.is_empty()).then(|| self.all.mean() * self.unit_ms)
    }

    /// Tags, in their order.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tagged.keys().map(String::as_str)
    }

    /// The same of one tag only.
    pub fn quantile_of_ms(&self, tag: &str, quantile: f64) -> Option<f64> {
        self.of(self.tagged.get(tag)?, quantile)
    }

    fn of(&self, histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
        let value = || histogram.value_at_quantile(quantile) as f64 * self.unit_ms;
        (!histogram.is_empty()).then(value)
    }

    /// When an interval began, in seconds since the run did; `epoch` is when that was, if known.
    pub fn start_s(&self, interval: &Interval, epoch: Option<f64>) -> f64 {
        let stamp = match (self.clock.base, self.clock.start) {
            (Some(base), _) => base + interval.start_s,
            (None, Some(start)) if interval.start_s < start - YEAR_S => start + interval.start_s,
            (None, _) => interval.start_s,
        };
        // A log without any clock counts from the start of the run.
        if stamp < YEAR_S {
            return stamp;
        }
        let first = self.clock.base.or(self.clock.start);
        let first = epoch.or(first).or(self.intervals.first().map(|interval| interval.start_s));
        stamp - first.unwrap_or(stamp)
    }
}

fn growing() -> Result<Histogram<u64>, String> {
    Histogram::new(DIGITS).map_err(|err| err.to_string())
}

fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) -> Result<(), String> {
    into.add(from).map_err(|err| format!("the histogram cannot be added: {err}"))
}

fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|_| "the histogram is not base64".to_owned())?;
    let read = Deserializer::new().deserialize(&mut bytes.as_slice());
    read.map_err(|err| format!("the histogram cannot be read: {err}"))
}

fn unit_ms(unit: &str) -> Result<f64, String> {
    match unit {
        "ns" => Ok(1e-6),
        "us" | "µs" => Ok(1e-3),
        "ms" => Ok(1.0),
        "s" => Ok(1e3),
        _ => Err(format!("{unit:?} is no unit of latency we know: ns, us, ms, s")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
    use hdrhistogram::serialization::{V2DeflateSerializer, V2Serializer};

    use super::*;

    /// A log of intervals of one second, each with these values.
    fn log(comment: &str, intervals: &[(Option<&str>, &[u64])]) -> String {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment(comment);
        let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).unwrap();
        for (index, (tag, values)) in intervals.iter().enumerate() {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
            values.iter().for_each(|value| histogram.record(*value).unwrap());
            let start = Duration::from_secs(index as u64);
            let tag = tag.and_then(Tag::new);
            writer.write_histogram(&histogram, start, Duration::from_secs(1), tag).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn intervals_count_together_and_by_tag() {
        let text =
            log("a run", &[(Some("http"), &[1000, 1000]), (Some("ws"), &[4000]), (None, &[])]);
        let latencies = Latencies::parse("h", &text).unwrap();
        assert_eq!(latencies.calls(), 3);
        assert_eq!(latencies.intervals.len(), 3);
        assert_eq!(latencies.intervals[1], Interval { start_s: 1.0, seconds: 1.0, calls: 1 });
        assert_eq!(latencies.tags().collect::<Vec<_>>(), ["http", "ws"]);
        let near = |value: Option<f64>, expect: f64| {
            let value = value.unwrap();
            assert!((value - expect).abs() <= expect * 0.001, "{value} is not {expect}");
        };
        near(latencies.quantile_ms(0.5), 1.0);
        near(latencies.quantile_ms(1.0), 4.0);
        near(latencies.quantile_of_ms("http", 1.0), 1.0);
        near(latencies.mean_ms(), 2.0);
        assert_eq!(latencies.quantile_of_ms("tcp", 0.5), None);
    }

    #[test]
    fn the_unit_is_microseconds_or_what_a_comment_says() {
        for (comment, expect) in
            [("", 2.0), ("unit: us", 2.0), ("unit: ns", 0.002), (" unit: ms", 2000.0)]
        {
            let latencies = Latencies::parse("h", &log(comment, &[(None, &[2000])])).unwrap();
            let value = latencies.quantile_ms(0.5).unwrap();
            assert!(
                (value - expect).abs() <= expect * 0.001,
                "{comment:?}: {value} is not {expect}"
            );
        }
        let wrong = Latencies::parse("h", "#unit: fortnights\n").unwrap_err();
        assert_eq!(wrong, "h:1: \"fortnights\" is no unit of latency we know: ns, us, ms, s");
    }

    #[test]
    fn an_empty_log_measured_nothing() {
        let latencies = Latencies::parse("h", &log("nothing", &[])).unwrap();
        assert_eq!((latencies.calls(), latencies.quantile_ms(0.5)), (0, None));
        assert_eq!(latencies.mean_ms(), None);
    }

    #[test]
    fn plain_and_deflated_histograms_read_the_same() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1000, 3).unwrap();
        histogram.record_n(7, 5).unwrap();
        let mut bytes = Vec::new();
        let mut plain = V2Serializer::new();
        let mut writer =
            IntervalLogWriterBuilder::new().begin_log_with(&mut bytes, &mut plain).unwrap();
        writer.write_histogram(&histogram, Duration::ZERO, Duration::from_secs(1), None).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(Latencies::parse("h", &text).unwrap().calls(), 5);
    }

    #[test]
    fn the_legend_of_the_java_writer_is_not_an_interval() {
        let text = "#[Histogram log format version 1.3]\n\
                    \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\"\n";
        assert_eq!(Latencies::parse("h", text).unwrap().calls(), 0);
    }

    #[test]
    fn a_malformed_line_is_told_with_its_number() {
        let good = log("one", &[(None, &[1])]);
        for (line, expect) in [
            ("nonsense", "h:3: this is not a line of an interval log"),
            ("0.0,1.0,1.0,####", "h:3: the histogram is not base64"),
            ("0.0,1.0,1.0,AAAAAAAA", "h:3: the histogram cannot be read:"),
        ] {
            let wrong = Latencies::parse("h", &format!("{good}{line}\n")).unwrap_err();
            assert!(wrong.starts_with(expect), "{line}: {wrong}");
        }
        let cut = &good[..good.len() - 20];
        assert!(Latencies::parse("h", cut).unwrap_err().starts_with("h:2: "), "a log cut short");
    }

    #[test]
    fn intervals_are_placed_on_the_clock_of_the_run() {
        let with = |base, start, at: f64| {
            let mut latencies = Latencies::parse("h", &log("", &[(None, &[1])])).unwrap();
            latencies.clock = Clock { start, base };
            latencies.intervals[0].start_s = at;
            latencies.start_s(&latencies.intervals[0], Some(1.7e9))
        };
        assert_eq!(with(None, None, 2.5), 2.5);
        assert_eq!(with(None, None, 1.7e9 + 2.5), 2.5);
        assert_eq!(with(None, Some(1.7e9 + 1.0), 1.7e9 + 2.5), 2.5);
        assert_eq!(with(None, Some(1.7e9 + 1.0), 1.5), 2.5);
        assert_eq!(with(Some(1.7e9 + 1.0), None, 1.5), 2.5);
        assert_eq!(with(Some(1.7e9), Some(1.7e9 + 1.0), 2.5), 2.5);
    }
}
