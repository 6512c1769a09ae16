//! What host this is: whoever reads a number later must know where it came from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// Facts of the host and of what ran on it.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// When, UTC.
    pub date: String,
    /// Kernel release and version.
    pub kernel: String,
    /// Model name of the CPU.
    pub cpu: String,
    /// Online cores.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// `hypervisor` when it is a virtual machine.
    pub virtual_machine: bool,
    /// Each CPU weakness and what the kernel does about it; those that do not affect this CPU left out.
    pub mitigations: BTreeMap<String, String>,
    /// Hard limit of open files.
    pub nofile_max: Option<u64>,
    /// Settings of the kernel that matter here.
    pub sysctl: BTreeMap<String, String>,
    /// Programs that took part.
    pub versions: BTreeMap<String, String>,
    /// Load averages when it began: other work on this host spoils the numbers.
    pub load_before: String,
}

/// Settings that shape the numbers.
const SYSCTLS: [&str; 6] = [
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_mem",
    "kernel/io_uring_disabled",
];

impl Facts {
    /// Of this host, and of this server binary.
    pub fn gather(binary: Option<&Path>) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let kibibytes = value_of(&meminfo, "MemTotal:").and_then(|text| {
            text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok())
        });
        let mut versions = BTreeMap::new();
        versions.insert("erlmcp-bench".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        if let Some(binary) = binary {
            versions.insert("erlmcp-shard".to_owned(), said(Command::new(binary).arg("--version")));
        }
        versions.insert("rustc".to_owned(), said(Command::new("rustc").arg("--version")));
        let mut git = Command::new("git");
        versions.insert("commit".to_owned(), said(git.args(["describe", "--always", "--dirty"])));
        let sysctl = SYSCTLS.iter().map(|name| {
            let value = read(&format!("/proc/sys/{name}"));
            (name.replace('/', "."), value.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        Self {
            date: date(SystemTime::now()),
            kernel: format!(
                "{} {}",
                read("/proc/sys/kernel/osrelease").trim(),
                read("/proc/sys/kernel/version").trim()
            ),
            cpu: value_of(&cpuinfo, "model name")
                .unwrap_or_default()
                .trim_matches([':', ' '])
                .into(),
            cores: core_affinity::get_core_ids().map_or(0, |cores| cores.len()),
            memory_bytes: kibibytes.unwrap_or(0) * 1024,
            virtual_machine: cpuinfo.contains(" hypervisor"),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            nofile_max: getrlimit(Resource::Nofile).maximum,
            sysctl: sysctl.collect(),
            versions,
            load_before: read("/proc/loadavg").trim().to_owned(),
        }
    }
}

/// `2026-07-28T10:00:00Z`.
pub fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970 as a date: Howard Hinnant's algorithm, for dates after 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn mitigations(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().into_string().ok()?;
            (text.trim() != "Not affected").then(|| (name, text.trim().to_owned()))
        })
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn value_of<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The first line a program says; empty if it cannot be run.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_785_196_800, "2026-07-28T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expect);
        }
    }

    #[test]
    fn this_host_has_facts() {
        let facts = Facts::gather(None);
        assert!(0 < facts.cores && 0 < facts.memory_bytes && !facts.kernel.is_empty());
    }
}
