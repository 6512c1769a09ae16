//! What a check says.

use serde::Serialize;

/// How bad a gap is; it decides whether the boot goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; shown by `tune check` only.
    Advice,
    /// Works, but not at the size asked for. Logged at boot.
    Warning,
    /// Cannot start.
    Fatal,
}

impl Severity {
    /// The word in tables and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Advice => "advice",
            Severity::Warning => "warning",
            Severity::Fatal => "fatal",
        }
    }
}

/// One gap between what is needed and what the host gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kernel's own name of the setting, e.g. `net.core.somaxconn`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is needed.
    pub required: u64,
    /// What there is.
    pub current: u64,
    /// What goes wrong without it, in one sentence.
    pub why: &'static str,
    /// The line that fixes it, ready to paste.
    pub fix: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} is {}, {} wanted: {} Fix: {}",
            self.id, self.current, self.required, self.why, self.fix
        )
    }
}
