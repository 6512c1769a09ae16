//! Cores and how they run.

use crate::demand::Demand;
use crate::finding::{Finding, Fix, Gap, Setting, Severity, Value};
use crate::root::{HostError, Root};

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

pub(super) fn cores(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    let online = host.read_text(&format!("{CPUS}/online"))?;
    Ok(Finding {
        id: "cores online",
        required: Value::Count(1),
        actual: online.as_deref().map(|list| Value::Count(count(list))),
        why: "one shard runs on each, unless --cores chooses.",
        gap: None,
    })
}

pub(super) fn numa_nodes(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    let online = host.read_text(&format!("{NODES}/online"))?;
    let nodes = online.as_deref().map(count);
    let first = host.read_text(&format!("{NODES}/node0/cpulist"))?.unwrap_or_default();
    Ok(Finding {
        id: "NUMA nodes",
        required: Value::Count(1),
        actual: nodes.map(Value::Count),
        why: "memory of another node costs each access; one instance per node keeps it near.",
        gap: nodes.filter(|&nodes| 1 < nodes).map(|_| Gap {
            severity: Severity::Advice,
            fix: Fix::ByHand(format!(
                "one erlmcp-shard@ instance per node, each with a drop-in: CPUAffinity={} \
                 NUMAPolicy=bind NUMAMask=0",
                first.trim()
            )),
        }),
    })
}

pub(super) fn governor(host: &Root, _: &Demand) -> Result<Finding, HostError> {
    let mut names: Vec<String> = Vec::new();
    let mut settings = Vec::new();
    for cpu in host.names(CPUS)? {
        let is_cpu = cpu.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok());
        let path = format!("{CPUS}/{cpu}/cpufreq/scaling_governor");
        let Some(name) = host.read_text(&path)?.filter(|_| is_cpu) else { continue };
        let name = name.trim().to_owned();
        if name != WANTED {
            settings.push(Setting { path, value: WANTED.to_owned() });
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Finding {
        id: "CPU governor",
        required: Value::Text(WANTED.into()),
        actual: (!names.is_empty()).then(|| Value::Text(names.join(" "))),
        why: "a core that must speed up first answers late: milliseconds at the 99th percentile.",
        gap: (!settings.is_empty()).then(|| Gap {
            severity: Severity::Advice,
            fix: Fix::Write {
                line: format!("echo {WANTED} | tee /{CPUS}/cpu*/cpufreq/scaling_governor"),
                settings,
            },
        }),
    })
}

const WANTED: &str = "performance";

/// How many numbers a list like `0-3,8` names.
fn count(list: &str) -> u64 {
    let numbers = |piece: &str| -> Option<u64> {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    list.trim().split(',').filter_map(numbers).sum()
}
