//! Findings and changes as text, for people at a terminal.

use std::fmt::Write;

use crate::apply::Change;
use crate::checks::Report;
use crate::finding::Finding;

/// One row per limit: what is needed, what there is, `ok` and why it matters, or the line that fixes it.
pub fn render_table(report: &Report) -> String {
    let findings = &report.findings;
    let id = width("SETTING", findings, |finding| finding.id.to_owned());
    let required = width("REQUIRED", findings, |finding| finding.required.to_string());
    let actual = width("ACTUAL", findings, actual_text);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<id$}  {:>required$}  {:>actual$}  STATE",
        "SETTING", "REQUIRED", "ACTUAL"
    );
    for finding in findings {
        let _ = write!(
            out,
            "{:<id$}  {:>required$}  {:>actual$}  {:<7}  ",
            finding.id,
            finding.required,
            actual_text(finding),
            finding.state()
        );
        if let Some(gap) = &finding.gap {
            let indent = id + required + actual + 15;
            let _ = write!(out, "{}\n{:indent$}", gap.fix.line(), "");
        }
        let _ = writeln!(out, "{}", finding.why);
    }
    for err in &report.errors {
        let _ = writeln!(out, "{err}");
    }
    out.push_str(&summary(report));
    out
}

fn summary(report: &Report) -> String {
    let demand = &report.demand;
    let mut out = String::from("\n");
    let gaps = report.gaps().len();
    if gaps != 0 {
        let _ = write!(out, "To look at: {gaps}. ");
    }
    let absent = report.absent();
    if absent != 0 {
        let _ = write!(out, "Not there, or not shown: {absent}. ");
    }
    let verdict = if absent == report.findings.len() {
        "Nothing can be said (is /proc mounted?) about"
    } else if report.is_fit() {
        "This host is fit for"
    } else {
        "This host is not yet fit for"
    };
    let (connections, rings) = (demand.connections, demand.rings);
    let s = if rings == 1 { "" } else { "s" };
    let _ = writeln!(out, "{verdict} {connections} connections on {rings} shard{s}.");
    out
}

/// What `tune apply` did, each with the line that undoes it.
pub fn render_changes(changes: &[Change]) -> String {
    let mut out = String::new();
    for change in changes {
        let name = change.setting.name();
        let (before, wanted) = (&change.before, &change.setting.value);
        let _ = match &change.outcome {
            Ok(()) => {
                writeln!(out, "{name}: {before} → {wanted}\n    undo: {}", change.undo())
            }
            Err(err) => writeln!(out, "{name}: still {before}: {err}"),
        };
    }
    out
}

fn width(title: &str, findings: &[Finding], text: impl Fn(&Finding) -> String) -> usize {
    findings.iter().map(|finding| text(finding).len()).max().unwrap_or(0).max(title.len())
}

fn actual_text(finding: &Finding) -> String {
    finding.actual.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}
