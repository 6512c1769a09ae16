//! The checks, one function each: read, compare, name the fix.

use crate::finding::{Finding, Severity};
use crate::root::{HostError, Root};

/// What this server is asked to carry; the checks compare the host with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Connections of the whole process.
    pub connections: u64,
    /// How many rings share them (one per shard): each has a descriptor table of its own.
    pub rings: u64,
    /// The backlog the listeners ask for.
    pub backlog: u64,
}

impl Default for Demand {
    /// What a host should give before anybody asked for more: 100,000 connections on 8 rings.
    fn default() -> Self {
        Self { connections: 100_000, rings: 8, backlog: 4096 }
    }
}

/// Kernel memory of one idle connection, bytes; measured 4.6 KB, see ARCHITECTURE.md.
const KERNEL_BYTES_PER_CONNECTION: u64 = 4_600;
/// Descriptors a ring's table never hands out, and the process's own files.
const DESCRIPTORS_SPARE: u64 = 512;
/// More rings than this per core are no advice.
const SHARDS_PER_CORE_MAX: u64 = 16;
/// What the control plane's executor refuses to start below, bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
const PAGE_BYTES: u64 = 4096;

/// One check: no finding, a finding, or a reading that failed.
type Check = fn(&Root, Demand) -> Result<Option<Finding>, HostError>;

/// Runs every check. Gaps come sorted, worst first; readings that failed are returned beside them.
pub fn check_all(host: &Root, demand: Demand) -> (Vec<Finding>, Vec<HostError>) {
    const CHECKS: [Check; 9] = [
        check_io_uring,
        check_memlock,
        check_nofile,
        check_nr_open,
        check_file_max,
        check_somaxconn,
        check_syn_backlog,
        check_tcp_memory,
        check_conntrack,
    ];
    let (mut findings, mut errors) = (Vec::new(), Vec::new());
    for check in CHECKS {
        match check(host, demand) {
            Ok(finding) => findings.extend(finding),
            Err(err) => errors.push(err),
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    (findings, errors)
}

fn check_io_uring(host: &Root, _: Demand) -> Result<Option<Finding>, HostError> {
    // 0: everybody; 1: members of kernel.io_uring_group and CAP_SYS_ADMIN; 2: nobody.
    let disabled = host.read_u64("proc/sys/kernel/io_uring_disabled")?.unwrap_or(0);
    Ok((disabled != 0).then(|| Finding {
        id: "kernel.io_uring_disabled",
        // 1 may still work for this user; the boot's probe of the ring has the last word.
        severity: if disabled == 1 { Severity::Warning } else { Severity::Fatal },
        required: 0,
        current: disabled,
        why: "the shards are built on io_uring.",
        fix: "sysctl -w kernel.io_uring_disabled=0".to_owned(),
    }))
}

fn check_memlock(host: &Root, _: Demand) -> Result<Option<Finding>, HostError> {
    let Some((soft, _)) = host.read_limit("Max locked memory")? else { return Ok(None) };
    Ok((soft < MEMLOCK_BYTES_MIN).then(|| Finding {
        id: "RLIMIT_MEMLOCK",
        severity: Severity::Fatal,
        required: MEMLOCK_BYTES_MIN,
        current: soft,
        why: "the control plane's executor refuses to start with less.",
        fix: "in the unit: LimitMEMLOCK=8M; in a shell: ulimit -l 8192".to_owned(),
    }))
}

fn check_nofile(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    // The boot raises soft to hard, so hard is what counts; the limit applies to each ring's table by itself.
    let Some((_, hard)) = host.read_limit("Max open files")? else { return Ok(None) };
    let required = demand.connections.div_ceil(demand.rings.max(1)) + DESCRIPTORS_SPARE;
    Ok((hard < required).then(|| Finding {
        id: "RLIMIT_NOFILE",
        severity: Severity::Warning,
        required,
        current: hard,
        why: "each shard's ring holds at most this many connections.",
        fix: match rings_factor(demand, hard) {
            factor @ ..=SHARDS_PER_CORE_MAX => format!(
                "in the unit: LimitNOFILE={required}; or more rings: --shards-per-core {factor}"
            ),
            _ => format!("in the unit: LimitNOFILE={required}"),
        },
    }))
}

/// By how much the rings must grow so that `hard` descriptors each are enough.
fn rings_factor(demand: Demand, hard: u64) -> u64 {
    let usable = hard.saturating_sub(DESCRIPTORS_SPARE).max(1);
    demand.connections.div_ceil(usable).div_ceil(demand.rings.max(1)).max(1)
}

fn check_nr_open(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    let required = demand.connections.div_ceil(demand.rings.max(1)) + DESCRIPTORS_SPARE;
    at_least(
        host.read_u64("proc/sys/fs/nr_open")?,
        required,
        Severity::Warning,
        "fs.nr_open",
        "RLIMIT_NOFILE cannot be raised above it.",
    )
}

fn check_file_max(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    at_least(
        host.read_u64("proc/sys/fs/file-max")?,
        demand.connections + DESCRIPTORS_SPARE * demand.rings,
        Severity::Warning,
        "fs.file-max",
        "every connection is an open file of the whole host.",
    )
}

fn check_somaxconn(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    at_least(
        host.read_u64("proc/sys/net/core/somaxconn")?,
        demand.backlog,
        Severity::Warning,
        "net.core.somaxconn",
        "a connection storm overflows the accept queue and clients time out.",
    )
}

fn check_syn_backlog(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    at_least(
        host.read_u64("proc/sys/net/ipv4/tcp_max_syn_backlog")?,
        demand.backlog,
        Severity::Advice,
        "net.ipv4.tcp_max_syn_backlog",
        "a connection storm falls back to SYN cookies.",
    )
}

fn check_tcp_memory(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    // Third word: pages at which TCP starts to refuse memory.
    let required = (demand.connections * KERNEL_BYTES_PER_CONNECTION).div_ceil(PAGE_BYTES);
    let Some(current) = host.read_word("proc/sys/net/ipv4/tcp_mem", 2)? else { return Ok(None) };
    Ok((current < required).then(|| Finding {
        id: "net.ipv4.tcp_mem",
        severity: Severity::Warning,
        required,
        current,
        why: "TCP drops packets when its pages run out.",
        fix: format!(
            "sysctl -w net.ipv4.tcp_mem=\"{} {} {required}\"",
            required / 2,
            required / 4 * 3
        ),
    }))
}

fn check_conntrack(host: &Root, demand: Demand) -> Result<Option<Finding>, HostError> {
    at_least(
        host.read_u64("proc/sys/net/netfilter/nf_conntrack_max")?,
        demand.connections + demand.connections / 2,
        Severity::Warning,
        "net.netfilter.nf_conntrack_max",
        "the firewall drops new connections when its table is full.",
    )
}

fn at_least(
    current: Option<u64>,
    required: u64,
    severity: Severity,
    id: &'static str,
    why: &'static str,
) -> Result<Option<Finding>, HostError> {
    Ok(current.filter(|&current| current < required).map(|current| Finding {
        id,
        severity,
        required,
        current,
        why,
        fix: format!("sysctl -w {id}={required}"),
    }))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
