//! Grouped bars of ratios: up from one where the subject is better, down where it is not.

use super::chart::{INKS, Key, at, escape, figure, legend, open, unmeasured};
use super::compare::{Compared, Comparison};
use super::scale::{Scale, Tick};
use super::unit::{Unit, grouped};
use crate::numbers::Spread;

/// Part of a group that its bars fill.
const FILL: f64 = 0.88;
/// A bar is not wider than this part of the plot.
const BAR_MAX: f64 = 0.1;

/// The plot of one thing compared.
pub fn render(what: Compared, comparison: &Comparison<'_>) -> String {
    let bars = bars(what, comparison);
    let names = comparison.peers().iter().enumerate();
    let names = names.map(|(peer, name)| (*name, bars.iter().any(|bar| bar.peer == peer)));
    let caption = format!(
        "1 is even; above it {} did better. Bars: median over rounds; whiskers: least and most. \
         Each round is compared with itself only.",
        comparison.subject()
    );
    let body = if bars.is_empty() { unmeasured() } else { svg(what, comparison, &bars) };
    figure(what.id(), what.title(), &caption, &legend(names, Key::Bar), &body)
}

struct Bar {
    group: usize,
    peer: usize,
    ratio: Spread,
    rounds: usize,
}

fn bars(what: Compared, comparison: &Comparison<'_>) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (group, connections) in comparison.connections.iter().enumerate() {
        for (peer, name) in comparison.peers().iter().enumerate() {
            if let Some((ratio, rounds)) = comparison.ratio(what, name, *connections) {
                bars.push(Bar { group, peer, ratio, rounds });
            }
        }
    }
    bars
}

fn svg(what: Compared, comparison: &Comparison<'_>, bars: &[Bar]) -> String {
    let min = bars.iter().map(|bar| bar.ratio.min).fold(1.0, f64::min);
    let max = bars.iter().map(|bar| bar.ratio.max).fold(1.0, f64::max);
    // Room for the numbers beyond the whiskers: a tenth of the height, at either end that needs it.
    let room = (max / min).max(2.0).powf(0.1);
    let y = Scale::log(if min < 1.0 { min / room } else { min }, max * room);
    let groups = comparison.connections.len() as f64;
    let ticks = comparison.connections.iter().enumerate().map(|(group, connections)| Tick {
        at: (group as f64 + 0.5) / groups,
        label: grouped(*connections as f64, 0),
    });
    let ticks: Vec<Tick> = ticks.collect();
    let mut out = open(what.title(), &ticks, &y.ticks(1.0), "connections", "times (×)");
    let even = y.place(1.0).unwrap_or(0.0);
    let ((left, zero), (right, _)) = (at(0.0, even), at(1.0, even));
    for bar in bars {
        out.push_str(&draw(bar, what, comparison, &y, zero));
    }
    out + &format!("<path class=\"even\" d=\"M{left} {zero:.1}H{right}\"/></svg>")
}

fn draw(bar: &Bar, what: Compared, comparison: &Comparison<'_>, y: &Scale, zero: f64) -> String {
    let (groups, peers) = (comparison.connections.len() as f64, comparison.peers().len() as f64);
    let slot = (FILL / groups / peers).min(BAR_MAX);
    let centre = (bar.group as f64 + 0.5) / groups + (bar.peer as f64 - (peers - 1.0) / 2.0) * slot;
    let height = |ratio: f64| at(0.0, y.place(ratio).unwrap_or(0.0)).1;
    let ((left, _), (right, _)) = (at(centre - slot * 0.45, 0.0), at(centre + slot * 0.45, 0.0));
    let (x, top) = ((left + right) / 2.0, height(bar.ratio.median));
    let (low, high) = (height(bar.ratio.min), height(bar.ratio.max));
    let is_up = top <= zero;
    let label_y = if is_up { high - 5.0 } else { low + 13.0 };
    let title = format!(
        "{} at {} connections\n{}: {} (from {} to {}, {} rounds)",
        comparison.peers()[bar.peer],
        grouped(comparison.connections[bar.group] as f64, 0),
        what.name(),
        Unit::Times.show(bar.ratio.median),
        Unit::Times.show(bar.ratio.min),
        Unit::Times.show(bar.ratio.max),
        bar.rounds,
    );
    format!(
        "<g class=\"bar i{}\"><title>{}</title><rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
         height=\"{:.1}\"/>\
         <path class=\"whisker\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} \
         {high:.1}h8\"/>\
         <text x=\"{x:.1}\" y=\"{label_y:.1}\">{}</text></g>",
        bar.peer % INKS,
        escape(&title),
        top.min(zero),
        right - left,
        (top - zero).abs().max(0.5),
        x - 4.0,
        x - 4.0,
        short(bar.ratio.median),
    )
}

/// As it stands at a bar, where there is little room.
fn short(ratio: f64) -> String {
    let decimals = match ratio {
        ratio if ratio < 9.995 => 2,
        ratio if ratio < 99.95 => 1,
        _ => 0,
    };
    format!("{}×", grouped(ratio, decimals))
}
