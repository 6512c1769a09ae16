//! Curves over a number of nodes, as SVG: one panel per unit.

use std::fmt::Write;

/// One curve.
pub struct Curve {
    /// Said in the legend.
    pub name: &'static str,
    /// Of the line.
    pub color: &'static str,
    /// Nodes and value.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 34.0;
const PANEL: f64 = LEFT + WIDTH + 30.0;

/// Panels side by side: a title, and its curves.
pub fn chart(panels: &[(&str, Vec<Curve>)]) -> String {
    let (width, height) = (PANEL * panels.len() as f64, TOP + HEIGHT + 48.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, (title, curves)) in panels.iter().enumerate() {
        panel(&mut out, PANEL * index as f64 + LEFT, title, curves);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, left: f64, title: &str, curves: &[Curve]) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let x_max = points().map(|point| point.0).fold(1.0, f64::max);
    let y_max = round_up(points().map(|point| point.1).fold(1.0, f64::max));
    let x = |value: f64| left + value / x_max * WIDTH;
    let y = |value: f64| TOP + HEIGHT - value / y_max * HEIGHT;
    text(out, left, TOP - 14.0, "start", &format!("{title}, by number of nodes"));
    for step in 0..=4 {
        let value = y_max * f64::from(step) / 4.0;
        line(out, (left, y(value)), (left + WIDTH, y(value)), "#ddd");
        text(out, left - 6.0, y(value) + 4.0, "end", &format!("{value}"));
    }
    for nodes in [4.0, 8.0, 16.0, 32.0, 48.0, 64.0] {
        line(out, (x(nodes), TOP + HEIGHT), (x(nodes), TOP + HEIGHT + 4.0), "#888");
        text(out, x(nodes), TOP + HEIGHT + 17.0, "middle", &format!("{nodes}"));
    }
    let mut legend = left;
    for curve in curves {
        let points: Vec<String> =
            curve.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let (color, points) = (curve.color, points.join(" "));
        let _ = writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        line(out, (legend, TOP + HEIGHT + 34.0), (legend + 14.0, TOP + HEIGHT + 34.0), color);
        text(out, legend + 18.0, TOP + HEIGHT + 38.0, "start", curve.name);
        legend += 34.0 + 5.6 * curve.name.len() as f64;
    }
}

/// The next of 1, 2, 4, 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| value <= *step).unwrap_or(value)
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), color: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{color}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}
