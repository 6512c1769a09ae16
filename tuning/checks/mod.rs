//! The checks: read, compare, name the fix. One function or one row of a table each.

mod kernel;
mod machine;
mod memory;
mod process;

pub(crate) use kernel::{KNOBS, LOCAL_PORTS};
pub(crate) use memory::available_bytes;
pub(crate) use process::NOFILE_TARGET;

use serde::Serialize;

use crate::demand::Demand;
use crate::finding::{Finding, Fix, Gap, Severity, Value};
use crate::root::{HostError, Root};

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the host was compared with.
    pub demand: Demand,
    /// One per limit, fine or not, in a fixed order.
    pub findings: Vec<Finding>,
    /// Readings that failed.
    pub errors: Vec<HostError>,
}

impl Report {
    /// Whether the host carries what was asked for, as far as it shows; advice does not count. A host that
    /// shows nothing at all is not fit.
    pub fn is_fit(&self) -> bool {
        let gap = |finding: &Finding| Some(Severity::Warning) <= finding.severity();
        self.errors.is_empty()
            && !self.findings.iter().any(gap)
            && self.absent() < self.findings.len()
    }

    /// How many limits this host does not have, or does not show.
    pub fn absent(&self) -> usize {
        self.findings.iter().filter(|finding| finding.actual.is_none()).count()
    }

    /// What is missing, worst first.
    pub fn gaps(&self) -> Vec<&Finding> {
        let mut gaps: Vec<&Finding> =
            self.findings.iter().filter(|finding| finding.gap.is_some()).collect();
        gaps.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        gaps
    }

    /// Adds what was found out elsewhere: whether this kernel's io_uring can do what a ring needs. `Err` says
    /// what is missing and what to do about it.
    pub fn add_ring_probe(&mut self, probe: Result<(), String>) {
        let finding = Finding {
            id: "io_uring features",
            required: Value::Text("Linux 6.1".into()),
            actual: Some(Value::Text(if probe.is_ok() { "all" } else { "some" }.into())),
            why: "each shard is one ring: multishot receive, direct descriptors, buffer rings, MSG_RING.",
            gap: probe.err().map(|why| Gap { severity: Severity::Fatal, fix: Fix::ByHand(why) }),
        };
        // Where io_uring is mentioned first.
        self.findings.insert(1.min(self.findings.len()), finding);
    }
}

/// For machines.
impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Lines<'r> {
            fit: bool,
            demand: &'r Demand,
            findings: &'r [Finding],
            errors: Vec<String>,
        }
        Lines {
            fit: self.is_fit(),
            demand: &self.demand,
            findings: &self.findings,
            errors: self.errors.iter().map(HostError::to_string).collect(),
        }
        .serialize(to)
    }
}

/// One check: what it saw, or a reading that failed.
type Check = fn(&Root, &Demand) -> Result<Finding, HostError>;

/// Runs every check.
pub fn check_all(host: &Root, demand: Demand) -> Report {
    const BEFORE: [Check; 6] = [
        kernel::io_uring_disabled,
        process::memlock,
        process::nofile_soft,
        process::nofile_hard,
        process::ring_descriptors,
        memory::memory,
    ];
    const AFTER: [Check; 7] = [
        kernel::local_ports,
        kernel::tcp_mem,
        kernel::tcp_rmem,
        kernel::tcp_wmem,
        machine::cores,
        machine::numa_nodes,
        machine::governor,
    ];
    let before = BEFORE.iter().map(|check| check(host, &demand));
    let knobs = KNOBS.iter().map(|knob| knob.check(host, &demand));
    let after = AFTER.iter().map(|check| check(host, &demand));
    let mut report = Report { demand, findings: Vec::new(), errors: Vec::new() };
    for outcome in before.chain(knobs).chain(after) {
        match outcome {
            Ok(finding) => report.findings.push(finding),
            Err(err) => report.errors.push(err),
        }
    }
    report
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
