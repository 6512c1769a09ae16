//! A host is a folder: each test writes one and reads it back through the checks.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::render_table;

/// A folder that looks like a host which gives everything; removed when dropped.
struct FakeHost(PathBuf);

impl FakeHost {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("erlmcp-tuning-{}-{number}", std::process::id()));
        let host = Self(folder);
        host.limits("1048576", "8388608");
        for (path, value) in [
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("proc/sys/fs/nr_open", "1048576"),
            ("proc/sys/fs/file-max", "9223372036854775807"),
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
            ("proc/sys/net/ipv4/tcp_mem", "100000\t150000\t200000"),
        ] {
            host.write(path, value);
        }
        host
    }

    fn write(&self, path: &str, value: &str) {
        let full = self.0.join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, format!("{value}\n")).unwrap();
    }

    fn limits(&self, nofile: &str, memlock: &str) {
        self.write(
            "proc/self/limits",
            &format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max open files            1024                 {nofile:<20} files\n\
                 Max locked memory         {memlock:<20} unlimited            bytes"
            ),
        );
    }

    fn ids(&self) -> Vec<&'static str> {
        let (findings, errors) = check_all(&Root::at(&self.0), Demand::default());
        assert!(errors.is_empty(), "{errors:?}");
        findings.iter().map(|finding| finding.id).collect()
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn generous_host_has_no_findings() {
    assert_eq!(FakeHost::new().ids(), [] as [&str; 0]);
}

#[test]
fn somaxconn_is_pinned_from_both_sides() {
    let host = FakeHost::new();
    host.write("proc/sys/net/core/somaxconn", "4095");
    assert_eq!(host.ids(), ["net.core.somaxconn"]);
    host.write("proc/sys/net/core/somaxconn", "4096");
    assert_eq!(host.ids(), [] as [&str; 0]);
}

#[test]
fn descriptor_limit_is_pinned_from_both_sides_and_names_both_ways_out() {
    let host = FakeHost::new();
    host.limits("13011", "8388608");
    let (findings, _) = check_all(&Root::at(&host.0), Demand::default());
    assert_eq!(findings.len(), 1);
    assert_eq!(
        findings[0].fix,
        "in the unit: LimitNOFILE=13012; or more rings: --shards-per-core 2"
    );
    host.limits("13012", "8388608");
    assert_eq!(host.ids(), [] as [&str; 0]);
}

#[test]
fn a_hopeless_descriptor_limit_is_not_helped_by_rings() {
    let host = FakeHost::new();
    host.limits("600", "8388608");
    let (findings, _) = check_all(&Root::at(&host.0), Demand::default());
    assert_eq!(findings[0].fix, "in the unit: LimitNOFILE=13012");
}

#[test]
fn unlimited_is_more_than_any_number() {
    let host = FakeHost::new();
    host.limits("unlimited", "unlimited");
    assert_eq!(host.ids(), [] as [&str; 0]);
}

#[test]
fn worst_comes_first() {
    let host = FakeHost::new();
    host.write("proc/sys/net/ipv4/tcp_max_syn_backlog", "128");
    host.write("proc/sys/net/core/somaxconn", "128");
    host.write("proc/sys/kernel/io_uring_disabled", "2");
    assert_eq!(
        host.ids(),
        ["kernel.io_uring_disabled", "net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"]
    );
}

#[test]
fn missing_files_are_limits_this_host_does_not_have() {
    let host = FakeHost::new();
    fs::remove_dir_all(host.0.join("proc")).unwrap();
    assert_eq!(host.ids(), [] as [&str; 0]);
}

#[test]
fn garbage_is_an_error_that_names_the_file_and_hides_no_other_finding() {
    let host = FakeHost::new();
    host.write("proc/sys/net/core/somaxconn", "many");
    host.write("proc/sys/net/netfilter/nf_conntrack_max", "1000");
    let (findings, errors) = check_all(&Root::at(&host.0), Demand::default());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].fix, "sysctl -w net.netfilter.nf_conntrack_max=150000");
    assert!(errors[0].to_string().contains("proc/sys/net/core/somaxconn"), "{}", errors[0]);
}

#[test]
fn table_shows_each_fix() {
    let host = FakeHost::new();
    host.write("proc/sys/net/core/somaxconn", "128");
    let (findings, _) = check_all(&Root::at(&host.0), Demand::default());
    assert_eq!(
        render_table(&findings),
        "LEVEL     SETTING                      NOW        WANTED\n\
         warning   net.core.somaxconn           128          4096\n          \
         a connection storm overflows the accept queue and clients time out.\n          \
         fix: sysctl -w net.core.somaxconn=4096\n"
    );
}
