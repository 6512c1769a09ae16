//! Lines on stderr, as text for people or JSON for collectors, behind the `log` facade.
//!
//! Why our own: the process logs at boot, at signals and when something breaks, never per message, so a
//! subscriber with spans and filters (tracing-subscriber, some fifteen crates) buys nothing here. An embedder
//! who installed a logger of his own keeps it: ours is only set by the binary.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::LogFormat;

/// Sends `log` records of this process to stderr. Does nothing when a logger is already installed.
pub fn install(format: LogFormat) {
    let logger = Box::new(StderrLog { format });
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

struct StderrLog {
    format: LogFormat,
}

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak only when something is wrong.
        let ours = metadata.target().starts_with("erlmcp");
        metadata.level() <= if ours { Level::Info } else { Level::Warn }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let message = record.args().to_string();
        let line = render(self.format, unix_ms, record.level(), record.target(), &message);
        // One write per line, so that lines of several threads do not mix. Nobody to tell if it fails.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn render(format: LogFormat, unix_ms: u64, level: Level, target: &str, message: &str) -> String {
    let time = rfc3339(unix_ms);
    match format {
        LogFormat::Text => {
            // A line break inside a message would let it forge a line of its own.
            let message = message.replace('\n', " | ");
            format!("{time} {:<5} {message}\n", level.as_str().to_lowercase())
        }
        LogFormat::Json => {
            let mut line = serde_json::json!({
                "time": time,
                "level": level.as_str().to_lowercase(),
                "target": target,
                "message": message,
            })
            .to_string();
            line.push('\n');
            line
        }
    }
}

/// RFC 3339 in UTC with milliseconds. The calendar is Howard Hinnant's `civil_from_days`.
fn rfc3339(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (seconds, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rfc_3339_across_leap_days() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(rfc3339(1_709_251_200_000), "2024-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_219_199_001), "2026-11-20T23:59:59.001Z");
    }

    #[test]
    fn a_message_is_one_line_in_both_formats() {
        let text = render(LogFormat::Text, 0, Level::Warn, "erlmcp_shard", "a\nb");
        assert_eq!(text, "1970-01-01T00:00:00.000Z warn  a | b\n");
        let json = render(LogFormat::Json, 0, Level::Error, "erlmcp_shard", "a\n\"b\"");
        assert_eq!(
            json,
            "{\"level\":\"error\",\"message\":\"a\\n\\\"b\\\"\",\"target\":\"erlmcp_shard\",\
             \"time\":\"1970-01-01T00:00:00.000Z\"}\n"
        );
    }
}
