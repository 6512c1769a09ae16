//! The page: one file that needs nothing else, in light and dark, on screen and on paper.

use super::chart::escape;
use super::compare::{Compared, Comparison};
use super::figures::{Figure, figures};
use super::plots::{MemoryOf, memory_of_steps, plots};
use super::raw::{Raw, SHOWN_LINES_MAX};
use super::summary::{Summary, Verdict};
use super::unit::{NOT_MEASURED, Unit, grouped};
use crate::numbers::Spread;

/// Figures that stand above the plots.
const FIRST_SIGHT: [&str; 8] = [
    "connections, most at once",
    "connections lost while held",
    "connect rate over the ramp",
    "errors",
    "calls per second",
    "latency p50",
    "latency p99",
    "memory of the server per connection",
];

/// The whole page. The same raw files make the same bytes.
pub fn render(raw: &Raw) -> String {
    let summary = &raw.summary;
    let figures = figures(raw);
    let title = escape(&summary.scenario);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · \
         erlmcp-bench</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n<main>\n",
        include_str!("style.css")
    );
    out.push_str(&header(summary));
    if raw.rounds.is_none() || raw.windows.is_some() {
        out.push_str(&tiles(&figures));
    }
    out.push_str(&format!("<section class=\"plots\">\n{}</section>\n", plots(raw).concat()));
    out.push_str(&comparison(raw));
    out.push_str(&ladder(raw));
    out.push_str(&as_they_stand(raw));
    out.push_str(&table_of(&figures));
    out.push_str(&pairs(
        "What the run says of itself",
        "summary.json, not computed again",
        &summary.told,
    ));
    out.push_str(&pairs("Options", "summary.json", &summary.options));
    out.push_str(&pairs("Host", "summary.json", &summary.host));
    out.push_str(&files(raw));
    out + "</main>\n</body>\n</html>\n"
}

fn header(summary: &Summary) -> String {
    let (class, verdict) = match summary.verdict() {
        Verdict::Passed => ("good", "passed".to_owned()),
        Verdict::Failed(1) => ("bad", "failed: 1 threshold".to_owned()),
        Verdict::Failed(count) => ("bad", format!("failed: {count} thresholds")),
        Verdict::Unjudged => ("plain", "no thresholds were set".to_owned()),
    };
    let host = ["date", "cpu", "cores", "kernel"].map(|fact| {
        let value = summary.fact(fact).unwrap_or(NOT_MEASURED);
        let value = if fact == "cores" { format!("{value} cores") } else { value.to_owned() };
        format!("<span>{}</span>", escape(&value))
    });
    let mut out = format!(
        "<header>\n<h1>{} <span id=\"verdict\" class=\"badge {class}\">{verdict}</span></h1>\n<p \
         class=\"host\">{}</p>\n",
        escape(&summary.scenario),
        host.join(" · ")
    );
    if !summary.generator_limited.is_empty() {
        let reasons: Vec<String> =
            summary.generator_limited.iter().map(|why| escape(why)).collect();
        out.push_str(&format!(
            "<p id=\"generator-limited\" class=\"warning\"><strong>The load generator was the \
             bottleneck</strong>: {}. \
             The server may be better than these numbers.</p>\n",
            reasons.join("; ")
        ));
    }
    if !summary.thresholds.is_empty() {
        let rows = summary.thresholds.iter().map(|one| {
            let (class, word) = match one.passed {
                Some(true) => ("good", "passed"),
                Some(false) => ("bad", "failed"),
                None => ("bad", NOT_MEASURED),
            };
            let cell = |text: &Option<String>| escape(text.as_deref().unwrap_or(NOT_MEASURED));
            let (limit, measured) = (cell(&one.limit), cell(&one.measured));
            format!(
                "<tr><th>{}</th><td>{limit}</td><td>{measured}</td><td><span class=\"badge \
                 {class}\">{word}</span></td></tr>\n",
                escape(&one.name)
            )
        });
        out.push_str(&table(&["threshold", "limit", "measured", ""], rows));
    }
    let command = summary.command.as_deref().unwrap_or(NOT_MEASURED);
    out + &format!("<pre id=\"command\">{}</pre>\n</header>\n", escape(command))
}

fn tiles(figures: &[Figure]) -> String {
    let mut out = String::from("<dl class=\"tiles\">\n");
    for figure in FIRST_SIGHT.iter().filter_map(|name| figures.iter().find(|one| one.name == *name))
    {
        let value = figure.unit.show_some(figure.value);
        let class = if figure.value.is_some() { "" } else { " class=\"unmeasured\"" };
        out.push_str(&format!(
            "<div><dt>{}</dt><dd{class}>{}</dd></div>\n",
            figure.name,
            escape(&value)
        ));
    }
    out + "</dl>\n"
}

fn table_of(figures: &[Figure]) -> String {
    let rows = figures.iter().map(|figure| {
        let exact = figure.value.map_or(String::new(), |value| format!(" title=\"{value}\""));
        format!(
            "<tr><th>{}</th>{}<td class=\"from\">{}</td></tr>\n",
            escape(figure.name),
            number(&figure.unit.show_some(figure.value), &exact),
            escape(figure.from)
        )
    });
    let rows = table(&["figure", "value", "computed from"], rows);
    section("Figures", "Computed from the raw files; the exact value shows on hovering.", &rows)
}

fn ladder(raw: &Raw) -> String {
    let Some(steps) = raw.steps.as_ref().filter(|steps| !steps.connections.is_empty()) else {
        return String::new();
    };
    let memory = [MemoryOf::Server, MemoryOf::SocketBuffers, MemoryOf::KernelObjects];
    let memory = memory.map(|whose| memory_of_steps(raw, steps, whose));
    let connections = steps.connections.iter().copied().map(Some).collect();
    let columns = [
        ("connections", Unit::Count, &connections),
        ("duration", Unit::Seconds, &steps.seconds),
        ("connect rate", Unit::PerSecond, &steps.per_s),
        ("calls", Unit::PerSecond, &steps.calls_per_s),
        ("latency p50", Unit::Milliseconds, &steps.p50_ms),
        ("p99", Unit::Milliseconds, &steps.p99_ms),
        ("p99.9", Unit::Milliseconds, &steps.p999_ms),
        ("errors", Unit::Count, &steps.errors),
        ("server, resident", Unit::Bytes, &memory[0]),
        ("socket buffers", Unit::Bytes, &memory[1]),
        ("kernel objects, growth", Unit::Bytes, &memory[2]),
    ];
    let rows = (0..steps.connections.len()).map(|row| {
        let cells = columns.map(|(_, unit, column)| number(&unit.show_some(column[row]), ""));
        format!("<tr>{}</tr>\n", cells.concat())
    });
    let names = columns.map(|(name, _, _)| name);
    let about = "detailed.csv; memory of the kernel by time from resource-usage.csv";
    section("Steps", about, &table(&names, rows))
}

fn comparison(raw: &Raw) -> String {
    let Some(comparison) = raw.rounds.as_deref().and_then(Comparison::new) else {
        return String::new();
    };
    let mut rows = Vec::new();
    for what in Compared::ALL {
        for (group, count) in comparison.connections.iter().enumerate() {
            for (index, server) in comparison.servers.iter().enumerate() {
                // A name spans the rows it holds for.
                let servers = comparison.servers.len();
                let mut row = String::from("<tr>");
                if (group, index) == (0, 0) {
                    let span = servers * comparison.connections.len();
                    row.push_str(&format!("<th rowspan=\"{span}\">{}</th>", what.name()));
                }
                if index == 0 {
                    let count = grouped(*count as f64, 0);
                    row.push_str(&format!(
                        "<td class=\"number\" rowspan=\"{servers}\">{count}</td>"
                    ));
                }
                let measured = comparison.measured(what, server, *count);
                let ratio = comparison.ratio(what, server, *count).map(|(ratio, _)| ratio);
                row.push_str(&format!(
                    "<th>{}</th>{}",
                    escape(server),
                    spread(measured, what.unit())
                ));
                row.push_str(&match index {
                    0 => "<td colspan=\"3\"></td>".to_owned(),
                    _ => spread(ratio, Unit::Times),
                });
                rows.push(row + "</tr>\n");
            }
        }
    }
    let names = ["", "connections", "server", "median", "least", "most", "ratio", "least", "most"];
    let about = format!(
        "compare.csv over rounds. Ratio: how many times better {} did than the server of the row, \
         each round compared with itself.",
        comparison.subject()
    );
    section("Comparison", &about, &table(&names, rows.into_iter()))
}

/// Three cells: median, least and most.
fn spread(spread: Option<Spread>, unit: Unit) -> String {
    let values = spread.map(|spread| [spread.median, spread.min, spread.max]);
    let texts =
        values.map_or([NOT_MEASURED; 3].map(str::to_owned), |all| all.map(|one| unit.show(one)));
    texts.map(|text| number(&text, "")).concat()
}

/// Tables of which nothing is computed.
fn as_they_stand(raw: &Raw) -> String {
    let sections = raw.tables.iter().map(|(name, title, content)| {
        let names: Vec<&str> = content.columns().iter().map(String::as_str).collect();
        let rows = content.rows().take(SHOWN_LINES_MAX).map(|cells| {
            let cells = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        });
        let about = match content.rows().count() {
            count if SHOWN_LINES_MAX < count => {
                format!("{name}, the first {SHOWN_LINES_MAX} of {count} lines")
            }
            _ => (*name).to_owned(),
        };
        section(title, &about, &table(&names, rows))
    });
    sections.collect()
}

fn pairs(title: &str, about: &str, pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return section(title, about, &format!("<p class=\"unmeasured\">{NOT_MEASURED}</p>\n"));
    }
    let rows = pairs.iter().map(|(name, value)| {
        let value = if value.is_empty() { NOT_MEASURED } else { value };
        format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value))
    });
    section(title, about, &table(&["", ""], rows))
}

fn files(raw: &Raw) -> String {
    let rows = raw.files.iter().map(|(name, bytes)| {
        let bytes = Unit::Bytes.show_some(bytes.map(|bytes| bytes as f64));
        format!("<tr><th>{name}</th>{}</tr>\n", number(&bytes, ""))
    });
    let about =
        "This page holds nothing else; <code>erlmcp-bench report FOLDER</code> makes it again.";
    format!(
        "<section>\n<h2>Raw files</h2>\n<p class=\"about\">{about}</p>\n{}</section>\n",
        table(&["file", "size"], rows)
    )
}

fn number(text: &str, attributes: &str) -> String {
    let class = if text == NOT_MEASURED { "number unmeasured" } else { "number" };
    format!("<td class=\"{class}\"{attributes}>{}</td>", escape(text))
}

fn section(title: &str, about: &str, body: &str) -> String {
    let (title, about) = (escape(title), escape(about));
    format!("<section>\n<h2>{title}</h2>\n<p class=\"about\">{about}</p>\n{body}</section>\n")
}

fn table(names: &[&str], rows: impl Iterator<Item = String>) -> String {
    let head: String = names.iter().map(|name| format!("<th>{name}</th>")).collect();
    let head = if names.iter().all(|name| name.is_empty()) {
        String::new()
    } else {
        format!("<thead><tr>{head}</tr></thead>\n")
    };
    format!(
        "<div class=\"scroll\"><table>\n{head}<tbody>\n{}</tbody>\n</table></div>\n",
        rows.collect::<String>()
    )
}
