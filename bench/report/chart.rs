//! A plot of lines as SVG: several values over one axis, gaps where nothing was measured.
//!
//! Written by hand: `plotters` knows neither colours that follow the reader's theme nor a title to
//! hover, and brings a dozen crates; what we need of it is the two hundred lines here.

use super::scale::Scale;
use super::unit::{NOT_MEASURED, Unit};

/// Size of a plot, in its own units; the page scales it.
pub const WIDTH: f64 = 640.0;
/// The same.
pub const HEIGHT: f64 = 290.0;
const LEFT: f64 = 82.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
/// Places along the x axis: more rows than this share them, the first, lowest, highest and last of
/// each kept.
const PLACES: usize = 360;
/// Up to so many values are marked one by one.
const MARKED_MAX: usize = 40;
/// Colours and dashes that the style sheet has.
pub const INKS: usize = 6;

/// A plot of lines over the same x.
#[derive(Debug)]
pub struct LineChart {
    /// For the page's anchors and the tests.
    pub id: &'static str,
    /// What is plotted.
    pub title: &'static str,
    /// What the reader should know about it.
    pub caption: String,
    /// The axis along.
    pub x: XAxis,
    /// The name of the axis up.
    pub y_name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Even factors instead of even steps.
    pub is_log: bool,
    /// The lines; those that hold nothing are told in the legend as not measured.
    pub lines: Vec<Line>,
}

/// What the lines run over.
#[derive(Debug)]
pub struct XAxis {
    /// Its name.
    pub name: String,
    /// How values are placed.
    pub scale: Scale,
    /// How much of a value's unit a tick counts.
    pub one: f64,
    /// Of each row, never going back.
    pub values: Vec<f64>,
    /// How one is told on hovering.
    pub show: fn(f64) -> String,
}

/// One line.
#[derive(Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// A value for each x.
    pub values: Vec<Option<f64>>,
}

impl LineChart {
    /// Whether any line holds anything.
    pub fn is_measured(&self) -> bool {
        self.lines.iter().any(|line| line.values.iter().any(Option::is_some))
    }

    /// The plot with its legend, as a part of the page.
    pub fn render(&self) -> String {
        let names = self.lines.iter().map(|line| {
            let is_there = line.values.iter().any(Option::is_some);
            (line.name.as_str(), is_there)
        });
        let legend = legend(names, Key::Line);
        let body = if self.is_measured() { self.svg() } else { unmeasured() };
        figure(self.id, self.title, &self.caption, &legend, &body)
    }

    fn svg(&self) -> String {
        let (y, one, y_name) = self.y_axis();
        let x_name = self.x.name.as_str();
        let mut out =
            open(self.title, &self.x.scale.ticks(self.x.one), &y.ticks(one), x_name, &y_name);
        for (index, line) in self.lines.iter().enumerate() {
            out.push_str(&self.path(line, index, &y));
        }
        out.push_str(&self.strips());
        out.push_str("</svg>");
        out
    }

    fn y_axis(&self) -> (Scale, f64, String) {
        let values = || self.lines.iter().flat_map(|line| line.values.iter().flatten().copied());
        let max = values().fold(0.0, f64::max);
        let (unit, one) = self.unit.scaled(max);
        let above_zero = values().filter(|value| 0.0 < *value).reduce(f64::min);
        let scale = match above_zero.filter(|_| self.is_log) {
            Some(min) => Scale::log(min, max),
            None => match Scale::from_zero(max / one) {
                Scale::Linear { min, max } => Scale::Linear { min, max: max * one },
                other => other,
            },
        };
        let name = if unit.is_empty() {
            self.y_name.to_owned()
        } else {
            format!("{} ({unit})", self.y_name)
        };
        (scale, one, name)
    }

    /// Where a row of a line is, if it was measured and the axes have a place for it.
    fn point(&self, line: &Line, row: usize, y: &Scale) -> Option<(f64, f64)> {
        let x = self.x.scale.place(self.x.values[row])?;
        let y = y.place((*line.values.get(row)?)?)?;
        Some(at(x, y))
    }

    fn path(&self, line: &Line, ink: usize, y: &Scale) -> String {
        let mut path = String::new();
        let mut marks = String::new();
        let is_marked = self.x.values.len() <= MARKED_MAX;
        // A pen that is up starts a new stroke; the stroke of a lone value is a dot.
        let mut is_down = false;
        for row in self.rows(line) {
            let Some((x, y)) = row.and_then(|row| self.point(line, row, y)) else {
                is_down = false;
                continue;
            };
            path.push_str(&if is_down {
                format!("L{x:.1} {y:.1}")
            } else {
                format!("M{x:.1} {y:.1}h0")
            });
            is_down = true;
            if is_marked {
                marks.push_str(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"));
            }
        }
        if path.is_empty() {
            return String::new();
        }
        format!("<g class=\"line i{}\"><path d=\"{path}\"/>{marks}</g>", ink % INKS)
    }

    /// Rows to draw: all, or the telling ones of each place. `None` lifts the pen.
    fn rows(&self, line: &Line) -> Vec<Option<usize>> {
        let value = |row: usize| line.values.get(row).copied().flatten();
        let mut rows = Vec::new();
        for place in self.places() {
            if place.len() <= 4 {
                rows.extend(place.map(|row| value(row).map(|_| row)));
                continue;
            }
            let there: Vec<usize> = place.filter(|row| value(*row).is_some()).collect();
            let by_value = |a: &&usize, b: &&usize| {
                value(**a).partial_cmp(&value(**b)).unwrap_or(std::cmp::Ordering::Equal)
            };
            let ends = [
                there.first(),
                there.iter().min_by(by_value),
                there.iter().max_by(by_value),
                there.last(),
            ];
            let mut telling: Vec<usize> = ends.into_iter().flatten().copied().collect();
            telling.sort_unstable();
            telling.dedup();
            if telling.is_empty() {
                rows.push(None);
            }
            rows.extend(telling.into_iter().map(Some));
        }
        rows
    }

    /// Rows by the place they share.
    fn places(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let count = self.x.values.len();
        let places = count.min(PLACES);
        (0..places).map(move |place| place * count / places..(place + 1) * count / places)
    }

    /// What is told on hovering: a strip for each place, from halfway to the one before to halfway
    /// to the next.
    fn strips(&self) -> String {
        let placed: Vec<(f64, std::ops::Range<usize>)> = self
            .places()
            .filter_map(|rows| {
                let middle = rows.start + (rows.len() - 1) / 2;
                let x = self.x.scale.place(self.x.values[middle])?;
                Some((at(x, 0.0).0, rows))
            })
            .collect();
        let mut out = String::from("<g class=\"strips\">");
        for (index, (x, rows)) in placed.iter().enumerate() {
            let before = index.checked_sub(1).map_or(LEFT, |before| (placed[before].0 + x) / 2.0);
            let after = placed.get(index + 1).map_or(WIDTH - RIGHT, |after| (after.0 + x) / 2.0);
            let height = HEIGHT - TOP - BOTTOM;
            out.push_str(&format!(
                "<rect x=\"{before:.1}\" y=\"{TOP}\" width=\"{:.1}\" \
                 height=\"{height}\"><title>{}</title></rect>",
                (after - before).max(0.1),
                escape(&self.told(rows.clone())),
            ));
        }
        out + "</g>"
    }

    fn told(&self, rows: std::ops::Range<usize>) -> String {
        let (first, last) = (self.x.values[rows.start], self.x.values[rows.end - 1]);
        let show = self.x.show;
        let mut text =
            if first == last { show(first) } else { format!("{} to {}", show(first), show(last)) };
        for line in &self.lines {
            let values = || rows.clone().filter_map(|row| line.values.get(row).copied().flatten());
            let (min, max) = (values().reduce(f64::min), values().reduce(f64::max));
            let value = match (min, max) {
                (Some(min), Some(max)) if min < max => {
                    format!("{} to {}", self.unit.show(min), self.unit.show(max))
                }
                (Some(value), _) => self.unit.show(value),
                (None, _) => NOT_MEASURED.to_owned(),
            };
            text.push_str(&format!("\n{}: {value}", line.name));
        }
        text
    }
}

/// A part of the page that holds one plot.
pub fn figure(id: &str, title: &str, caption: &str, legend: &str, body: &str) -> String {
    let (title, caption) = (escape(title), escape(caption));
    format!(
        "<figure id=\"{id}\" class=\"plot\"><h3>{title}</h3>{legend}<div \
         class=\"scroll\">{body}</div>\
         <figcaption>{caption}</figcaption></figure>\n"
    )
}

/// What stands where there is nothing to plot.
pub fn unmeasured() -> String {
    format!("<p class=\"unmeasured\">{NOT_MEASURED}</p>")
}

/// What a legend shows beside a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A piece of the line.
    Line,
    /// A piece of the bar.
    Bar,
}

/// Names with the look of what is plotted; those of which nothing was measured say so.
pub fn legend<'n>(names: impl Iterator<Item = (&'n str, bool)>, key: Key) -> String {
    let shape = match key {
        Key::Line => ("line", "<path d=\"M1 5h24\"/>"),
        Key::Bar => ("bar", "<rect x=\"6\" width=\"14\" height=\"10\"/>"),
    };
    let mut out = String::from("<ul class=\"legend\">");
    for (index, (name, is_there)) in names.enumerate() {
        let more = if is_there { String::new() } else { format!(" <em>{NOT_MEASURED}</em>") };
        out.push_str(&format!(
            "<li><svg class=\"key\" viewBox=\"0 0 26 10\" aria-hidden=\"true\"><g class=\"{} \
             i{}\">{}</g></svg>{}{more}</li>",
            shape.0,
            index % INKS,
            shape.1,
            escape(name)
        ));
    }
    out + "</ul>"
}

/// The start of a plot: frame, grid, ticks and the names of the axes.
pub fn open(
    title: &str,
    x_ticks: &[super::scale::Tick],
    y_ticks: &[super::scale::Tick],
    x_name: &str,
    y_name: &str,
) -> String {
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><g \
         class=\"axes\">",
        escape(title)
    );
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in y_ticks {
        let (_, y) = at(0.0, tick.at);
        out.push_str(&format!("<path d=\"M{LEFT} {y:.1}H{right}\"/>"));
        if !tick.label.is_empty() {
            let (x, y) = (LEFT - 7.0, y + 4.0);
            out.push_str(&format!(
                "<text class=\"y\" x=\"{x}\" y=\"{y:.1}\">{}</text>",
                tick.label
            ));
        }
    }
    for tick in x_ticks {
        let (x, _) = at(tick.at, 0.0);
        out.push_str(&format!("<path class=\"tick\" d=\"M{x:.1} {bottom}v5\"/>"));
        let y = bottom + 18.0;
        out.push_str(&format!(
            "<text class=\"x\" x=\"{x:.1}\" y=\"{y}\">{}</text>",
            escape(&tick.label)
        ));
    }
    let (middle_x, middle_y) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
    out.push_str(&format!(
        "<path class=\"frame\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text class=\"x name\" x=\"{middle_x}\" y=\"{}\">{}</text>\
         <text class=\"x name\" transform=\"translate(13 {middle_y}) rotate(-90)\">{}</text></g>",
        HEIGHT - 8.0,
        escape(x_name),
        escape(y_name),
    ));
    out
}

/// From parts of the axes to a place in the plot.
pub fn at(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM))
}

/// Text as HTML, in an element or in an attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>) -> LineChart {
        LineChart {
            id: "test",
            title: "Test",
            caption: String::new(),
            x: XAxis {
                name: "time (s)".into(),
                scale: Scale::exact(0.0, values.len() as f64 - 1.0),
                one: 1.0,
                values: (0..values.len()).map(|row| row as f64).collect(),
                show: |x| format!("{x} s"),
            },
            y_name: "things",
            unit: Unit::Count,
            is_log: false,
            lines: vec![Line { name: "a".into(), values }],
        }
    }

    #[test]
    fn a_gap_lifts_the_pen_and_a_lone_value_is_a_dot() {
        let svg = chart(vec![Some(1.0), Some(2.0), None, Some(2.0), None]).render();
        assert!(svg.contains("<path d=\"M82.0 128.0h0L214.5 12.0M479.5 12.0h0\"/>"), "{svg}");
        assert!(svg.contains("<title>2 s\na: not measured</title>"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_said_and_not_drawn() {
        for values in [vec![], vec![None, None]] {
            let svg = chart(values).render();
            assert!(svg.contains("not measured") && !svg.contains("class=\"chart\""), "{svg}");
        }
    }

    #[test]
    fn zero_has_no_place_among_factors() {
        let mut chart = chart(vec![Some(0.0), Some(10.0), Some(20.0)]);
        chart.is_log = true;
        let svg = chart.render();
        assert!(svg.contains("<path d=\"M347.0 244.0h0L612.0 12.0\"/>"), "{svg}");
    }

    #[test]
    fn a_long_run_keeps_its_extremes() {
        let mut values: Vec<Option<f64>> = vec![Some(50.0); 100_000];
        values[61_803] = Some(100.0);
        values[31_415] = Some(0.0);
        let chart = chart(values);
        let svg = chart.render();
        assert!(svg.len() < 200_000, "{} bytes", svg.len());
        let rows: Vec<usize> = chart.rows(&chart.lines[0]).into_iter().flatten().collect();
        assert!(rows.contains(&61_803) && rows.contains(&31_415) && rows.is_sorted());
        assert_eq!((rows[0], rows[rows.len() - 1]), (0, 99_999));
        assert!(svg.contains("a: 50 to 100</title>"), "hovering tells the highest");
    }

    #[test]
    fn names_from_outside_stay_text() {
        let mut chart = chart(vec![Some(1.0)]);
        chart.lines[0].name = "<script>\"&'".into();
        let svg = chart.render();
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;script&gt;&quot;&amp;&#39;"), "{svg}");
    }
}
