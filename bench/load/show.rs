//! Progress while it runs: one line redrawn each second on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write, stderr};

/// Seconds between two lines where nothing can be redrawn.
const SPARSE_S: f64 = 10.0;

/// What is to be seen of a run.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// What is going on.
    pub phase: String,
    /// Seconds since it began.
    pub elapsed_s: f64,
    /// Connections that there are, and that there should be.
    pub connections: (u64, u64),
    /// Connections made per second.
    pub connects_per_s: f64,
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// Latency of the last window.
    pub p50_ms: Option<f64>,
    /// Latency of the last window.
    pub p99_ms: Option<f64>,
    /// So far.
    pub errors: u64,
}

/// Shows it.
pub struct Show {
    is_terminal: bool,
    shown_s: f64,
    width: usize,
}

impl Show {
    /// On stderr: what a run comes to is on stdout.
    pub fn new() -> Self {
        Self { is_terminal: stderr().is_terminal(), shown_s: f64::NEG_INFINITY, width: 0 }
    }

    /// Shows it if it is time.
    pub fn show(&mut self, glance: &Glance) {
        let every = if self.is_terminal { 1.0 } else { SPARSE_S };
        if glance.elapsed_s < self.shown_s + every - 0.01 {
            return;
        }
        self.shown_s = glance.elapsed_s;
        let text = line(glance);
        if self.is_terminal {
            let padding = self.width.saturating_sub(text.chars().count());
            self.width = text.chars().count();
            let _ = write!(stderr(), "\r{text}{}", " ".repeat(padding));
            let _ = stderr().flush();
        } else {
            let _ = writeln!(stderr(), "{text}");
        }
    }

    /// Leaves the line as it stands.
    pub fn finish(&mut self) {
        if self.is_terminal && self.width != 0 {
            let _ = writeln!(stderr());
        }
        self.width = 0;
    }
}

fn line(glance: &Glance) -> String {
    let ms =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let Glance { phase, elapsed_s, connections: (actual, target), .. } = glance;
    format!(
        "{elapsed_s:6.1} s  {phase:12} {actual}/{target} connections, {:.0}/s | {:.0} calls/s, p50 {} p99 {} ms | {} errors",
        glance.connects_per_s,
        glance.calls_per_s,
        ms(glance.p50_ms),
        ms(glance.p99_ms),
        glance.errors
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_going_on() {
        let glance = Glance {
            phase: "hold".into(),
            elapsed_s: 12.3,
            connections: (99, 100),
            calls_per_s: 1234.6,
            p99_ms: Some(1.5),
            ..Glance::default()
        };
        let text = line(&glance);
        for part in ["hold", "99/100 connections", "1235 calls/s", "p50 - p99 1.50 ms", "0 errors"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
