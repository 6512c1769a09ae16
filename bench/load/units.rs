//! Numbers as people write them: `100K`, `64KiB`, `5m`, `99.9%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How many: `500`, `100K`, `1M`, `2.5K`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// Bytes: `512`, `1KiB`, `64K` (thousands), `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

/// Time: `250us`, `50ms`, `30s`, `5m`, `1h`; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A part of hundred: `99.9` or `99.9%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scale = |unit: &str| match unit {
            "" => Some(1.0),
            "k" | "K" => Some(1e3),
            "m" | "M" => Some(1e6),
            _ => None,
        };
        let value = scaled(text, scale).ok_or("say a count like 500, 10K or 1M")?;
        Ok(Self(value.round() as u64))
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scale = |unit: &str| match unit {
            "" | "B" => Some(1.0),
            "K" | "k" | "KB" | "kB" => Some(1e3),
            "M" | "MB" => Some(1e6),
            "KiB" => Some(1024.0),
            "MiB" => Some(1024.0 * 1024.0),
            _ => None,
        };
        let value = scaled(text, scale).ok_or("say bytes like 512, 1KiB or 1MB")?;
        Ok(Self(value.round() as usize))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scale = |unit: &str| match unit {
            "us" | "µs" => Some(1e-6),
            "ms" => Some(1e-3),
            "" | "s" => Some(1.0),
            "m" | "min" => Some(60.0),
            "h" => Some(3600.0),
            _ => None,
        };
        let seconds = scaled(text, scale).ok_or("say a time like 50ms, 30s or 5m")?;
        if SPAN_SECONDS_MAX < seconds {
            return Err("that is longer than a year".to_owned());
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scale = |unit: &str| matches!(unit, "" | "%").then_some(1.0);
        let value = scaled(text, scale).filter(|value| *value <= 100.0);
        value.map(Self).ok_or_else(|| "say a part of hundred like 99.9".to_owned())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            _ if seconds < 1.0 => write!(f, "{} ms", seconds * 1e3),
            _ if seconds < 120.0 => write!(f, "{seconds} s"),
            _ => write!(f, "{} min", seconds / 60.0),
        }
    }
}

/// A year.
const SPAN_SECONDS_MAX: f64 = 365.0 * 86_400.0;

/// A number that is not negative, times what its unit says.
fn scaled(text: &str, scale: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some(number * scale(unit.trim())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_bytes_and_times_have_their_units() {
        for (text, expect) in [("500", 500), ("100K", 100_000), ("2.5k", 2500), ("1_000", 1000)] {
            assert_eq!(text.parse(), Ok(Count(expect)), "{text}");
        }
        for (text, expect) in [("512", 512), ("1KiB", 1024), ("64K", 64_000), ("2 MiB", 2 << 20)] {
            assert_eq!(text.parse(), Ok(Bytes(expect)), "{text}");
        }
        for (text, ms) in [("50ms", 50), ("2", 2000), ("1.5s", 1500), ("5m", 300_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!("99.9%".parse(), Ok(Percent(99.9)));
    }

    #[test]
    fn what_is_no_number_says_how_to_write_one() {
        for text in ["", "K", "-1", "1x", "1.2.3", "1 0"] {
            assert!(text.parse::<Count>().is_err(), "{text:?}");
            assert!(text.parse::<Bytes>().is_err(), "{text:?}");
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        assert!("100.1".parse::<Percent>().is_err());
        assert!("9000h".parse::<Span>().is_err());
    }
}
