//! Findings as text, for people at a terminal.

use std::fmt::Write;

use crate::finding::Finding;

/// One block per finding, worst first; one line when there is none.
pub fn render_table(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "host: nothing to improve\n".to_owned();
    }
    let mut out = String::new();
    let width = findings.iter().map(|finding| finding.id.len()).max().unwrap_or(0).max(7);
    let _ = writeln!(out, "{:<8}  {:<width$}  {:>12}  {:>12}", "LEVEL", "SETTING", "NOW", "WANTED");
    for finding in findings {
        let _ = writeln!(
            out,
            "{:<8}  {:<width$}  {:>12}  {:>12}",
            finding.severity.as_str(),
            finding.id,
            finding.current,
            finding.required
        );
        let _ = writeln!(out, "          {}", finding.why);
        let _ = writeln!(out, "          fix: {}", finding.fix);
    }
    out
}
