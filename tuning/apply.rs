//! Doing what the findings say: the only place that changes the host.

use crate::checks::Report;
use crate::finding::Setting;
use crate::root::{HostError, Root};

/// One setting that was to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, and what was to be written.
    pub setting: Setting,
    /// What was there, in the kernel's words with single spaces.
    pub before: String,
    /// Whether it is in force now; otherwise why not.
    pub outcome: Result<(), String>,
}

impl Change {
    /// The setting as it was: as text, the line that undoes the change.
    pub fn undo(&self) -> Setting {
        Setting { path: self.setting.path.clone(), value: self.before.clone() }
    }
}

/// Writes every setting that the report's gaps name, and reads it again: the kernel may clamp or ignore.
///
/// A setting that cannot be written stops no other. What a person must do is not among the changes.
pub fn apply(host: &Root, report: &Report) -> Vec<Change> {
    let gaps = report.findings.iter().filter_map(|finding| finding.gap.as_ref());
    let settings = gaps.flat_map(|gap| gap.fix.settings());
    settings.map(|setting| change(host, setting)).collect()
}

fn change(host: &Root, setting: &Setting) -> Change {
    let before = match current(host, setting) {
        Ok(before) => before,
        Err(err) => {
            let outcome = Err(err.to_string());
            return Change { setting: setting.clone(), before: "unread".into(), outcome };
        }
    };
    let outcome = write(host, setting);
    Change { setting: setting.clone(), before, outcome }
}

fn write(host: &Root, setting: &Setting) -> Result<(), String> {
    host.write_text(&setting.path, &setting.value).map_err(|err| err.to_string())?;
    let now = current(host, setting).map_err(|err| err.to_string())?;
    if now == setting.value { Ok(()) } else { Err(format!("the kernel made it {now}")) }
}

/// What is in force, with single spaces: the kernel writes tabs between numbers.
fn current(host: &Root, setting: &Setting) -> Result<String, HostError> {
    let text = host.read_text(&setting.path)?.unwrap_or_default();
    Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
