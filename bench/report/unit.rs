//! How numbers are written: with their unit, thousands apart, no more digits than they are worth.

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things per second.
    PerSecond,
    /// Time.
    Seconds,
    /// Time.
    Milliseconds,
    /// Time.
    Microseconds,
    /// Memory.
    Bytes,
    /// 100 is one core.
    Percent,
    /// A ratio.
    Times,
}

/// Of what could not be told.
pub const NOT_MEASURED: &str = "not measured";

impl Unit {
    /// The unit in which a value as large as `max` reads best: its name and how much of ours it is.
    pub fn scaled(self, max: f64) -> (&'static str, f64) {
        match self {
            Unit::Count => ("", 1.0),
            Unit::PerSecond => ("/s", 1.0),
            Unit::Seconds => ("s", 1.0),
            Unit::Milliseconds => ("ms", 1.0),
            Unit::Microseconds => ("µs", 1.0),
            Unit::Percent => ("%", 1.0),
            Unit::Times => ("×", 1.0),
            Unit::Bytes => match max {
                max if max < 1024.0 => ("B", 1.0),
                max if max < 1024.0 * 1024.0 => ("KiB", 1024.0),
                max if max < 1024.0 * 1024.0 * 1024.0 => ("MiB", 1024.0 * 1024.0),
                _ => ("GiB", 1024.0 * 1024.0 * 1024.0),
            },
        }
    }

    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        let (name, one) = self.scaled(value.abs());
        let number = match self {
            Unit::Count => grouped(value, 0),
            _ => three_digits(value / one),
        };
        match self {
            Unit::Count => number,
            Unit::PerSecond => format!("{number}/s"),
            _ => format!("{number} {name}"),
        }
    }

    /// The same of what may not have been measured.
    pub fn show_some(self, value: Option<f64>) -> String {
        value.map_or_else(|| NOT_MEASURED.to_owned(), |value| self.show(value))
    }
}

/// Three significant digits, or all digits before the point.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        value if value < 1e-9 => 0,
        value if value < 0.01 => 5,
        value if value < 0.1 => 4,
        value if value < 1.0 => 3,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    grouped(value, decimals)
}

/// With so many decimals, `12,345.6`.
pub fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_their_unit() {
        for (unit, value, expect) in [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 999.0, "999"),
            (Unit::Count, 100_000.0, "100,000"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::PerSecond, 62_500.4, "62,500/s"),
            (Unit::Milliseconds, 0.0123, "0.0123 ms"),
            (Unit::Milliseconds, 1.0, "1.00 ms"),
            (Unit::Milliseconds, 9.996, "10.0 ms"),
            (Unit::Milliseconds, 99.96, "100 ms"),
            (Unit::Milliseconds, 0.0, "0 ms"),
            (Unit::Bytes, 1023.0, "1,023 B"),
            (Unit::Bytes, 1024.0, "1.00 KiB"),
            (Unit::Bytes, 1.5 * 1024.0 * 1024.0, "1.50 MiB"),
            (Unit::Bytes, 11.0 * 1024.0 * 1024.0 * 1024.0, "11.0 GiB"),
            (Unit::Bytes, -170.0, "-170 B"),
            (Unit::Percent, 87.25, "87.2 %"),
            (Unit::Times, 6.8, "6.80 ×"),
            (Unit::Microseconds, 4.6, "4.60 µs"),
        ] {
            assert_eq!(unit.show(value), expect, "{value}");
        }
        assert_eq!(Unit::Bytes.show_some(None), "not measured");
    }
}
