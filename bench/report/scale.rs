//! From a value to its place on an axis, and the ticks beside it.

use super::unit::grouped;

/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;
/// Decades of a logarithmic axis up to which 2 and 5 have ticks too.
const DECADES_FINE: f64 = 2.0;

/// An axis from its first value to its last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Even steps.
    Linear { min: f64, max: f64 },
    /// Even factors.
    Log { min: f64, max: f64 },
    /// Parts of a whole, 0 to 1, each nine as wide as the one before: 90 %, 99 %, 99.9 %.
    Nines { nines: f64 },
}

/// A tick: where, 0 to 1, and what it says; a minor one says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Part of the axis.
    pub at: f64,
    /// Text.
    pub label: String,
}

impl Scale {
    /// From zero to a round value that holds all of these.
    pub fn from_zero(max: f64) -> Self {
        let step = step(max);
        Scale::Linear { min: 0.0, max: ((max / step - 1e-9).ceil() * step).max(step) }
    }

    /// Exactly these bounds.
    pub fn exact(min: f64, max: f64) -> Self {
        Scale::Linear { min, max: if min < max { max } else { min + 1.0 } }
    }

    /// Holds these values, which are above zero, between round ones.
    pub fn log(min: f64, max: f64) -> Self {
        let (low, high) = (round(min, false), round(max, true));
        if low < high {
            Scale::Log { min: low, max: high }
        } else {
            Scale::Log { min: low / 2.0, max: high * 2.0 }
        }
    }

    /// All that so many calls can tell.
    pub fn nines(count: f64) -> Self {
        Scale::Nines { nines: count.max(10.0).log10() }
    }

    /// Where a value is, 0 to 1; `None` if this axis has no place for it.
    pub fn place(&self, value: f64) -> Option<f64> {
        let at = match *self {
            Scale::Linear { min, max } => (value - min) / (max - min),
            Scale::Log { min, max } if 0.0 < value => (value / min).log10() / (max / min).log10(),
            Scale::Log { .. } => return None,
            Scale::Nines { .. } if 1.0 <= value => 1.0,
            Scale::Nines { nines } => (-(1.0 - value).log10() / nines).min(1.0),
        };
        at.is_finite().then(|| at.clamp(0.0, 1.0))
    }

    /// What is told at the axis; labels in units of `one`.
    pub fn ticks(&self, one: f64) -> Vec<Tick> {
        let values: Vec<(f64, bool)> = match *self {
            Scale::Linear { min, max } => {
                let step = step((max - min) / one) * one;
                let (first, last) = ((min / step - 1e-9).ceil(), (max / step + 1e-9).floor());
                (0..=(last - first) as u32).map(|n| ((first + f64::from(n)) * step, true)).collect()
            }
            Scale::Log { min, max } => log_values(min, max),
            Scale::Nines { nines } => {
                let whole = (1..=nines.floor() as i32).map(|n| (1.0 - 10f64.powi(-n), true));
                [(0.0, true), (0.5, nines <= 4.5)].into_iter().chain(whole).collect()
            }
        };
        let label = |value: f64| match self {
            Scale::Nines { .. } => format!("{}%", trimmed(value * 100.0, 6)),
            Scale::Linear { .. } | Scale::Log { .. } => trimmed(value / one, 6),
        };
        values
            .into_iter()
            .filter_map(|(value, is_major)| {
                let label = if is_major { label(value) } else { String::new() };
                Some(Tick { at: self.place(value)?, label })
            })
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten: about [`TICKS`] of them up to `span`.
fn step(span: f64) -> f64 {
    if span.is_nan() || span <= 0.0 {
        return 1.0;
    }
    let rough = span / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let times =
        [1.0, 2.0, 2.5, 5.0].into_iter().find(|times| rough <= times * power * (1.0 + 1e-9));
    times.unwrap_or(10.0) * power
}

/// The 1, 2 or 5 of its decade next to `value`, above or below.
fn round(value: f64, is_up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let (mut below, mut above) = (power, power * 10.0);
    for times in [1.0, 2.0, 5.0] {
        let near = times * power;
        if near <= value * (1.0 + 1e-9) {
            below = near;
        }
        if value <= near * (1.0 + 1e-9) && near < above {
            above = near;
        }
    }
    if is_up { above } else { below }
}

/// 1, 2 and 5 of each decade; on a long axis only the 1 is told.
fn log_values(min: f64, max: f64) -> Vec<(f64, bool)> {
    let is_fine = (max / min).log10() <= DECADES_FINE + 1e-9;
    let decades = min.log10().floor() as i32..=max.log10().ceil() as i32;
    let all = decades.flat_map(|power| {
        [1.0, 2.0, 5.0].map(|times| (times * 10f64.powi(power), is_fine || times == 1.0))
    });
    all.filter(|(value, _)| min * (1.0 - 1e-9) <= *value && *value <= max * (1.0 + 1e-9)).collect()
}

/// As few decimals as tell it.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = grouped(value, decimals);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scale: Scale, expect: &[&str]) {
        let ticks = scale.ticks(1.0);
        let labels: Vec<&str> = ticks
            .iter()
            .map(|tick| tick.label.as_str())
            .filter(|label| !label.is_empty())
            .collect();
        assert_eq!(labels, expect, "{scale:?}");
        assert!(ticks.is_sorted_by(|a, b| a.at < b.at), "{ticks:?}");
        assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&tick.at)), "{ticks:?}");
    }

    #[test]
    fn ticks_are_round() {
        check(
            Scale::from_zero(100_000.0),
            &["0", "20,000", "40,000", "60,000", "80,000", "100,000"],
        );
        check(Scale::from_zero(7.3), &["0", "2", "4", "6", "8"]);
        check(Scale::from_zero(0.0), &["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        check(Scale::exact(0.0, 12.5), &["0", "2.5", "5", "7.5", "10", "12.5"]);
        check(Scale::exact(3.0, 3.0), &["3", "3.2", "3.4", "3.6", "3.8", "4"]);
        check(Scale::log(0.3, 45.0), &["1", "10"]);
        check(Scale::log(1.5, 45.0), &["1", "2", "5", "10", "20", "50"]);
        check(Scale::log(2.0, 2.0), &["1", "2"]);
        check(Scale::nines(1e4), &["0%", "50%", "90%", "99%", "99.9%", "99.99%"]);
    }

    #[test]
    fn an_axis_in_larger_units_has_round_ticks_in_them() {
        let mib = 1024.0 * 1024.0;
        let scale = Scale::exact(0.0, 150.0 * mib);
        let labels: Vec<String> = scale.ticks(mib).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["0", "50", "100", "150"]);
    }

    #[test]
    fn every_value_has_its_place() {
        let near = |scale: Scale, value: f64, expect: f64| {
            let at = scale.place(value).unwrap();
            assert!((at - expect).abs() < 1e-9, "{scale:?} {value}: {at}");
        };
        near(Scale::Linear { min: 0.0, max: 10.0 }, 2.5, 0.25);
        near(Scale::Log { min: 1.0, max: 100.0 }, 10.0, 0.5);
        near(Scale::Nines { nines: 4.0 }, 0.99, 0.5);
        near(Scale::Nines { nines: 4.0 }, 1.0, 1.0);
        near(Scale::Nines { nines: 4.0 }, 0.0, 0.0);
        assert_eq!(Scale::log(1.0, 10.0).place(0.0), None);
        assert_eq!(Scale::from_zero(1.0).place(f64::NAN), None);
    }
}
