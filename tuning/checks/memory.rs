//! Memory: what so many connections cost, and what the host or the control group leaves.

use crate::demand::Demand;
use crate::finding::{Finding, Fix, Gap, Severity, Value};
use crate::root::{HostError, Root};

pub(super) fn memory(host: &Root, demand: &Demand) -> Result<Finding, HostError> {
    let required = demand.bytes();
    let actual = available_bytes(host)?;
    Ok(Finding {
        id: "memory",
        required: Value::Bytes(required),
        actual: actual.map(Value::Bytes),
        why: "about 5.6 KB per idle connection, ours and the kernel's, beside what is in flight.",
        gap: actual.is_some_and(|actual| actual < required).then(|| Gap {
            severity: Severity::Warning,
            fix: Fix::ByHand(
                "more memory (in a unit: MemoryMax=), or fewer connections: [limits] connections_max"
                    .into(),
            ),
        }),
    })
}

/// What this process may still use, bytes: of the host, or of its control group and those above it.
pub(crate) fn available_bytes(host: &Root) -> Result<Option<u64>, HostError> {
    let meminfo = host.read_named("proc/meminfo", "MemAvailable:")?;
    let free = meminfo.map(|kib| kib.saturating_mul(1024));
    Ok([free, group_bytes(host)?].into_iter().flatten().min())
}

/// What the tightest of the control groups around this process leaves.
fn group_bytes(host: &Root) -> Result<Option<u64>, HostError> {
    let Some(text) = host.read_text("proc/self/cgroup")? else { return Ok(None) };
    let mut least = None;
    for line in text.lines() {
        // `0::/path` is the unified hierarchy, `7:memory:/path` the older one (cgroups(7)).
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, limit, usage) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be the host's, and only the mount itself is there.
        let mut group = path.trim_end_matches('/');
        loop {
            let left = left_bytes(host, &format!("{mount}{group}"), limit, usage)?;
            least = [least, left].into_iter().flatten().min();
            match group.rfind('/') {
                Some(slash) => group = &group[..slash],
                None => break,
            }
        }
    }
    Ok(least)
}

fn left_bytes(
    host: &Root,
    group: &str,
    limit: &str,
    usage: &str,
) -> Result<Option<u64>, HostError> {
    let path = format!("{group}/{limit}");
    if host.read_text(&path)?.is_some_and(|text| text.trim() == "max") {
        return Ok(None);
    }
    let Some(limit) = host.read_u64(&path)? else { return Ok(None) };
    let used = host.read_u64(&format!("{group}/{usage}"))?.unwrap_or(0);
    Ok(Some(limit.saturating_sub(used)))
}
