//! Tools that are programs: one process per call.

use std::time::Duration;

use crate::call::{Call, Step};
use crate::step::{IntoStep, failed};

/// A program that answers a call.
pub struct Exec {
    argv: Vec<String>,
    timeout: Duration,
}

/// How a program's output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// As text.
    Text,
    /// As JSON.
    Json,
}

impl Exec {
    /// A program and its arguments.
    pub fn new<T: Into<String>>(argv: impl IntoIterator<Item = T>) -> Exec {
        let argv = argv.into_iter().map(Into::into).collect();
        Exec { argv, timeout: Duration::from_secs(30) }
    }

    /// How long it may run.
    pub fn timeout(mut self, timeout: Duration) -> Exec {
        self.timeout = timeout;
        self
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.argv.is_empty() { Err("`exec` is empty".into()) } else { Ok(()) }
    }

    pub(crate) fn run(&self, _call: Call) -> Step {
        failed("").into_step()
    }
}
