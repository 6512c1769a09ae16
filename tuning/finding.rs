//! What a check says.

use std::fmt;

use serde::{Serialize, Serializer};

/// How bad a gap is; it decides whether the boot goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works; better with it. Shown by `tune check` only, and does not make it fail.
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

/// The kernel's largest signed number, and all above it: "unlimited".
const UNLIMITED: u64 = i64::MAX as u64;

/// What is needed, or what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// An amount of memory.
    Bytes(u64),
    /// Words, or several numbers, as the kernel writes them.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match self {
            Value::Count(UNLIMITED..) | Value::Bytes(UNLIMITED..) => out.pad("unlimited"),
            Value::Count(count) => out.pad(&count.to_string()),
            Value::Bytes(bytes) if *bytes % KIB != 0 && *bytes < 10 * KIB => {
                out.pad(&format!("{bytes} B"))
            }
            Value::Bytes(bytes) if *bytes < 10 * MIB => out.pad(&format!("{} KiB", bytes / KIB)),
            Value::Bytes(bytes) => out.pad(&format!("{} MiB", bytes / MIB)),
            Value::Text(text) => out.pad(text),
        }
    }
}

/// Numbers as numbers (bytes unscaled), "unlimited" and words as strings.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Count(UNLIMITED..) | Value::Bytes(UNLIMITED..) => to.serialize_str("unlimited"),
            Value::Count(number) | Value::Bytes(number) => to.serialize_u64(*number),
            Value::Text(text) => to.serialize_str(text),
        }
    }
}

/// One file of the kernel and what belongs into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Below the root, e.g. `proc/sys/net/core/somaxconn`.
    pub path: String,
    /// What to write.
    pub value: String,
}

impl Setting {
    /// A kernel parameter by the name `sysctl` knows it under.
    pub fn sysctl(key: &str, value: impl Into<String>) -> Self {
        Self { path: format!("proc/sys/{}", key.replace('.', "/")), value: value.into() }
    }

    /// The name people know it under: a sysctl key, or the path.
    pub fn name(&self) -> String {
        match self.path.strip_prefix("proc/sys/") {
            Some(key) => key.replace('/', "."),
            None => format!("/{}", self.path),
        }
    }
}

/// The line to paste into a root shell.
impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = &self.value;
        match self.path.strip_prefix("proc/sys/") {
            Some(key) if value.contains(char::is_whitespace) => {
                write!(out, "sysctl -w {}=\"{value}\"", key.replace('/', "."))
            }
            Some(key) => write!(out, "sysctl -w {}={value}", key.replace('/', ".")),
            None => write!(out, "echo {value} > /{}", self.path),
        }
    }
}

/// How a gap is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// `tune apply` can write it; the line does the same by hand.
    Write {
        /// Ready to paste.
        line: String,
        /// What is written, in this order.
        settings: Vec<Setting>,
    },
    /// Belongs into a unit, a shell or a purchase order: this line, by a person.
    ByHand(String),
}

impl Fix {
    /// One kernel parameter.
    pub fn sysctl(key: &str, value: impl Into<String>) -> Self {
        let setting = Setting::sysctl(key, value);
        Fix::Write { line: setting.to_string(), settings: vec![setting] }
    }

    /// The line, ready to paste.
    pub fn line(&self) -> &str {
        match self {
            Fix::Write { line, .. } | Fix::ByHand(line) => line,
        }
    }

    /// What `tune apply` may write.
    pub fn settings(&self) -> &[Setting] {
        match self {
            Fix::Write { settings, .. } => settings,
            Fix::ByHand(_) => &[],
        }
    }
}

/// That something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// How bad it is.
    pub severity: Severity,
    /// How to close it.
    pub fix: Fix,
}

/// One limit of the host, compared with what is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kernel's own name of the setting, e.g. `net.core.somaxconn`.
    pub id: &'static str,
    /// What is needed.
    pub required: Value,
    /// What there is; `None`: this host has no such limit, or does not show it.
    pub actual: Option<Value>,
    /// What goes wrong without it, in one sentence.
    pub why: &'static str,
    /// Set when it is not enough.
    pub gap: Option<Gap>,
}

impl Finding {
    /// How bad it is, when it is bad.
    pub fn severity(&self) -> Option<Severity> {
        self.gap.as_ref().map(|gap| gap.severity)
    }

    /// The word in tables: `ok`, how bad it is, or `absent`.
    pub fn state(&self) -> &'static str {
        match (self.severity(), &self.actual) {
            (Some(severity), _) => severity.as_str(),
            (None, Some(_)) => "ok",
            (None, None) => "absent",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.actual {
            Some(actual) => write!(out, "{} is {actual}, {} wanted", self.id, self.required)?,
            None => write!(out, "{}: this host shows no such limit", self.id)?,
        }
        match &self.gap {
            Some(gap) => write!(out, ": {} Fix: {}", self.why, gap.fix.line()),
            None => write!(out, ": {}", self.why),
        }
    }
}

/// Flat, for machines: `{"id", "state", "required", "actual", "why", "fix"}`.
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'f> {
            id: &'f str,
            state: &'f str,
            required: &'f Value,
            actual: &'f Option<Value>,
            why: &'f str,
            fix: Option<&'f str>,
            /// Whether `tune apply` can do it.
            applicable: bool,
        }
        let fix = self.gap.as_ref().map(|gap| &gap.fix);
        Line {
            id: self.id,
            state: self.state(),
            required: &self.required,
            actual: &self.actual,
            why: self.why,
            fix: fix.map(Fix::line),
            applicable: fix.is_some_and(|fix| !fix.settings().is_empty()),
        }
        .serialize(to)
    }
}
