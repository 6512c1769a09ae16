//! Kernel parameters: what `sysctl` shows and sets.

use crate::demand::{Demand, KERNEL_BYTES_PER_CONNECTION};
use crate::finding::{Finding, Fix, Gap, Severity, Value};
use crate::root::{HostError, Root};

/// A kernel parameter of one number that must be at least something.
pub(crate) struct Knob {
    /// As `sysctl` knows it.
    pub key: &'static str,
    /// What is enough.
    required: fn(&Demand) -> u64,
    /// What is written when there is less; never below `required`. For most, more costs nothing.
    pub target: fn(&Demand) -> u64,
    severity: Severity,
    pub why: &'static str,
    /// Whether the shipped file sets it. Where a bigger host has more by itself, a file would take it away.
    pub is_shipped: bool,
}

/// In the order of the table and of the shipped file.
pub(crate) const KNOBS: [Knob; 9] = [
    Knob {
        key: "fs.nr_open",
        required: |demand| demand.descriptors_per_ring().max(demand.descriptors()),
        // What systemd sets on its own; less would take descriptors from other services.
        target: |_| 1_073_741_816,
        severity: Severity::Warning,
        why: "RLIMIT_NOFILE, and with it a ring's descriptor table, cannot be raised above it.",
        is_shipped: true,
    },
    Knob {
        key: "fs.file-max",
        required: Demand::files,
        // As above.
        target: |_| i64::MAX as u64,
        severity: Severity::Warning,
        why: "every connection is an open file of the whole host.",
        is_shipped: true,
    },
    Knob {
        key: "net.core.somaxconn",
        required: |demand| demand.backlog,
        target: |demand| demand.backlog.max(65_535),
        severity: Severity::Warning,
        why: "it caps [socket] backlog: a connection storm overflows the accept queue, clients time out.",
        is_shipped: true,
    },
    Knob {
        key: "net.ipv4.tcp_max_syn_backlog",
        required: |demand| demand.backlog,
        target: |demand| demand.backlog.max(65_535),
        severity: Severity::Advice,
        why: "beyond it a connection storm gets SYN cookies, which lose TCP options.",
        is_shipped: true,
    },
    Knob {
        key: "net.core.netdev_max_backlog",
        required: |_| NETDEV_BACKLOG_MIN,
        target: |_| 16_384,
        severity: Severity::Advice,
        why: "packets wait there between network card and TCP; a burst that does not fit is dropped.",
        is_shipped: true,
    },
    Knob {
        key: "net.ipv4.tcp_migrate_req",
        required: |_| 1,
        target: |_| 1,
        severity: Severity::Advice,
        why: "when a listener closes, what waits in its queue goes to another on the port, not to RST.",
        is_shipped: true,
    },
    Knob {
        key: "net.netfilter.nf_conntrack_max",
        required: |demand| demand.connections.saturating_add(demand.connections / 2),
        target: |demand| demand.connections.saturating_add(demand.connections / 2).max(1_048_576),
        severity: Severity::Warning,
        why: "the firewall drops new connections when its table is full, unless a NOTRACK rule exempts them.",
        is_shipped: true,
    },
    Knob {
        key: "net.core.rmem_max",
        required: |demand| demand.recv_buffer_bytes,
        target: |demand| demand.recv_buffer_bytes,
        severity: Severity::Advice,
        why: "it silently caps [socket] recv_buffer_bytes.",
        is_shipped: false,
    },
    Knob {
        key: "net.core.wmem_max",
        required: |demand| demand.send_buffer_bytes,
        target: |demand| demand.send_buffer_bytes,
        severity: Severity::Advice,
        why: "it silently caps [socket] send_buffer_bytes.",
        is_shipped: false,
    },
];

impl Knob {
    /// Where the kernel keeps it.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.key.replace('.', "/"))
    }

    /// Compares.
    pub fn check(&self, host: &Root, demand: &Demand) -> Result<Finding, HostError> {
        let required = (self.required)(demand);
        let actual = host.read_u64(&self.path())?;
        let is_short = actual.is_some_and(|actual| actual < required);
        Ok(Finding {
            id: self.key,
            required: Value::Count(required),
            actual: actual.map(Value::Count),
            why: self.why,
            gap: is_short.then(|| Gap {
                severity: self.severity,
                fix: Fix::sysctl(self.key, (self.target)(demand).to_string()),
            }),
        })
    }
}

pub(super) fn io_uring_disabled(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    // 0: everybody; 1: members of kernel.io_uring_group and CAP_SYS_ADMIN; 2: nobody.
    let actual = host.read_u64("proc/sys/kernel/io_uring_disabled")?;
    let is_forbidden = actual.is_some_and(|level| level != 0);
    Ok(Finding {
        id: "kernel.io_uring_disabled",
        required: Value::Count(0),
        actual: actual.map(Value::Count),
        why: "the shards are built on io_uring.",
        gap: is_forbidden.then(|| Gap {
            // 1 may still work for this user; the boot's probe of the ring has the last word.
            severity: if actual == Some(1) { Severity::Warning } else { Severity::Fatal },
            fix: Fix::sysctl("kernel.io_uring_disabled", "0"),
        }),
    })
}

/// First and last port for outgoing connections: as many as possible without touching the usual server ports.
pub(crate) const LOCAL_PORTS: &str = "10240 65535";

pub(super) fn local_ports(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    let actual = host.read_words::<2>("proc/sys/net/ipv4/ip_local_port_range")?;
    let is_short =
        actual.is_some_and(|[first, last]| (last + 1).saturating_sub(first) < LOCAL_PORTS_MIN);
    Ok(Finding {
        id: "net.ipv4.ip_local_port_range",
        required: Value::Text(format!("{LOCAL_PORTS_MIN} ports")),
        actual: actual.map(|[first, last]| Value::Text(format!("{first} {last}"))),
        why: "outgoing connections from one address to one port: a proxy or load generator on this host.",
        gap: is_short.then(|| Gap {
            severity: Severity::Advice,
            fix: Fix::sysctl("net.ipv4.ip_local_port_range", LOCAL_PORTS),
        }),
    })
}

pub(super) fn tcp_mem(host: &Root, demand: &Demand) -> Result<Finding, HostError> {
    // Pages: below the first no care, above the second pressure, at the third TCP refuses memory.
    let required =
        demand.connections.saturating_mul(KERNEL_BYTES_PER_CONNECTION).div_ceil(PAGE_BYTES);
    let actual = host.read_words::<3>("proc/sys/net/ipv4/tcp_mem")?;
    let short = actual.filter(|words| words[2] < required);
    Ok(Finding {
        id: "net.ipv4.tcp_mem",
        required: Value::Text(format!("- - {required}")),
        actual: actual.map(|words| Value::Text(join(&words))),
        why: "pages of 4 KiB for all TCP buffers; TCP drops packets when they run out.",
        gap: short.map(|[low, pressure, _]| Gap {
            severity: Severity::Warning,
            fix: Fix::sysctl(
                "net.ipv4.tcp_mem",
                join(&[low.max(required / 2), pressure.max(required / 4 * 3), required]),
            ),
        }),
    })
}

pub(super) fn tcp_rmem(host: &Root, demand: &Demand) -> Result<Finding, HostError> {
    autotuned(
        host,
        Autotuned {
            id: "net.ipv4.tcp_rmem",
            path: "proc/sys/net/ipv4/tcp_rmem",
            ours: demand.recv_buffer_bytes,
            why: "how far a receive buffer grows by itself; unused while [socket] recv_buffer_bytes is set.",
            fix: "in the configuration: [socket] recv_buffer_bytes = 131072",
        },
    )
}

pub(super) fn tcp_wmem(host: &Root, demand: &Demand) -> Result<Finding, HostError> {
    autotuned(
        host,
        Autotuned {
            id: "net.ipv4.tcp_wmem",
            path: "proc/sys/net/ipv4/tcp_wmem",
            ours: demand.send_buffer_bytes,
            why: "how far a slow reader's send buffer grows; unused while [socket] send_buffer_bytes is set.",
            fix: "in the configuration: [socket] send_buffer_bytes = 131072",
        },
    )
}

/// A buffer size that the kernel tunes by itself, unless ours is set.
struct Autotuned {
    id: &'static str,
    path: &'static str,
    ours: u64,
    why: &'static str,
    fix: &'static str,
}

fn autotuned(host: &Root, buffer: Autotuned) -> Result<Finding, HostError> {
    let actual = host.read_words::<3>(buffer.path)?;
    let is_unbounded =
        buffer.ours == 0 && actual.is_some_and(|words| AUTOTUNED_BYTES_MAX < words[2]);
    Ok(Finding {
        id: buffer.id,
        required: Value::Text(match buffer.ours {
            0 => format!("- - {AUTOTUNED_BYTES_MAX}"),
            _ => "any".into(),
        }),
        actual: actual.map(|words| Value::Text(join(&words))),
        why: buffer.why,
        gap: is_unbounded
            .then(|| Gap { severity: Severity::Advice, fix: Fix::ByHand(buffer.fix.into()) }),
    })
}

fn join(words: &[u64]) -> String {
    let words: Vec<String> = words.iter().map(u64::to_string).collect();
    words.join(" ")
}

/// What the kernel counts TCP memory in, bytes.
const PAGE_BYTES: u64 = 4096;
/// The kernel's default is 1000, from when a network card brought 1 Gbit/s.
const NETDEV_BACKLOG_MIN: u64 = 4096;
/// Ports wanted for outgoing connections; the kernel's default is 28,232.
const LOCAL_PORTS_MIN: u64 = 50_000;
/// More than this for the buffer of one of 100,000 connections deserves a second look, bytes.
const AUTOTUNED_BYTES_MAX: u64 = 1 << 20;
