//! A host is a folder: what the checks say about a good one, a bad one, and one that shows little.

use super::*;
use crate::fake::FakeHost;
use crate::render_table;

/// What there is to complain about, worst first; every reading must succeed.
#[track_caller]
fn gaps(host: &FakeHost, demand: Demand) -> Vec<&'static str> {
    let report = check_all(&host.root(), demand);
    assert_eq!(report.errors, []);
    report.gaps().iter().map(|finding| finding.id).collect()
}

/// The line that fixes the only gap.
#[track_caller]
fn fix(host: &FakeHost, demand: Demand) -> String {
    let report = check_all(&host.root(), demand);
    let gaps = report.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    gaps[0].gap.as_ref().map_or_else(String::new, |gap| gap.fix.line().to_owned())
}

/// A file that must say at least this: one less is this gap, exactly enough is none.
#[track_caller]
fn check_pinned(path: &str, short: &str, enough: &str, gap: &'static str) {
    let host = FakeHost::good();
    host.write(path, short);
    assert_eq!(gaps(&host, Demand::default()), [gap], "{path} = {short}");
    host.write(path, enough);
    assert_eq!(gaps(&host, Demand::default()), [] as [&str; 0], "{path} = {enough}");
}

/// Compares with a file in `golden/`; `UPDATE_GOLDEN=1` writes it instead.
#[track_caller]
fn check_golden(name: &str, said: &str) {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, said).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, golden, "{path}; if it should say that, run with UPDATE_GOLDEN=1");
}

fn check_golden_host(name: &str, host: &FakeHost, is_fit: bool) {
    let report = check_all(&host.root(), Demand::default());
    assert_eq!(report.is_fit(), is_fit);
    check_golden(&format!("{name}.txt"), &render_table(&report));
    let json = serde_json::to_string_pretty(&report).unwrap();
    check_golden(&format!("{name}.json"), &format!("{json}\n"));
}

#[test]
fn a_good_host_is_fit() {
    check_golden_host("good", &FakeHost::good(), true);
}

#[test]
fn a_bad_host_gets_a_line_for_everything() {
    check_golden_host("bad", &FakeHost::bad(), false);
}

#[test]
fn a_container_is_judged_by_what_it_shows() {
    check_golden_host("container", &FakeHost::container(), false);
}

#[test]
fn a_host_that_shows_nothing_is_not_called_fit() {
    let report = check_all(&FakeHost::empty().root(), Demand::default());
    assert!(!report.is_fit());
    assert_eq!(report.gaps(), [] as [&Finding; 0]);
    let table = render_table(&report);
    assert!(table.contains("Nothing can be said (is /proc mounted?)"), "{table}");
}

#[test]
fn every_number_is_pinned_from_both_sides() {
    // 100,000 connections on 8 rings, 512 spare entries of each; 320 files of the process.
    check_pinned("proc/sys/fs/nr_open", "13011", "13012", "fs.nr_open");
    check_pinned("proc/sys/fs/file-max", "100319", "100320", "fs.file-max");
    check_pinned("proc/sys/net/core/somaxconn", "4095", "4096", "net.core.somaxconn");
    check_pinned(
        "proc/sys/net/ipv4/tcp_max_syn_backlog",
        "4095",
        "4096",
        "net.ipv4.tcp_max_syn_backlog",
    );
    check_pinned(
        "proc/sys/net/core/netdev_max_backlog",
        "4095",
        "4096",
        "net.core.netdev_max_backlog",
    );
    check_pinned("proc/sys/net/ipv4/tcp_migrate_req", "0", "1", "net.ipv4.tcp_migrate_req");
    check_pinned(
        "proc/sys/net/netfilter/nf_conntrack_max",
        "149999",
        "150000",
        "net.netfilter.nf_conntrack_max",
    );
    check_pinned("proc/sys/net/core/rmem_max", "131071", "131072", "net.core.rmem_max");
    check_pinned("proc/sys/net/core/wmem_max", "131071", "131072", "net.core.wmem_max");
    // 100,000 × 4,600 bytes in pages.
    check_pinned("proc/sys/net/ipv4/tcp_mem", "1 2 112304", "1 2 112305", "net.ipv4.tcp_mem");
    check_pinned(
        "proc/sys/net/ipv4/ip_local_port_range",
        "10002 60000",
        "10001 60000",
        "net.ipv4.ip_local_port_range",
    );
    // 32 MiB, 8 × 4 MiB, 100,000 × 5,624 bytes.
    let kib = |bytes: u64| format!("MemAvailable: {} kB", bytes / 1024);
    let needed = (32 << 20) + 8 * (4 << 20) + 100_000 * 5_624_u64;
    check_pinned("proc/meminfo", &kib(needed - 1024), &kib(needed + 1023), "memory");
    check_pinned("sys/devices/system/node/online", "0-1", "0", "NUMA nodes");
    check_pinned(
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "ondemand",
        "performance",
        "CPU governor",
    );
}

#[test]
fn the_descriptor_limit_counts_per_ring_and_has_two_ways_out() {
    let host = FakeHost::good();
    host.limits("13011", "8388608");
    assert_eq!(
        fix(&host, Demand::default()),
        "in the unit: LimitNOFILE=1048576; or more rings: --shards-per-core 2"
    );
    host.limits("13012", "8388608");
    assert_eq!(gaps(&host, Demand::default()), [] as [&str; 0]);
    // The host these numbers were first measured on: 20,000 and two cores.
    host.limits("20000", "8388608");
    let two = Demand { rings: 2, ..Demand::default() };
    assert!(fix(&host, two).ends_with("--shards-per-core 3"), "{}", fix(&host, two));
    assert_eq!(gaps(&host, Demand { rings: 6, ..two }), [] as [&str; 0]);
}

#[test]
fn a_hopeless_descriptor_limit_is_not_helped_by_rings() {
    let host = FakeHost::good();
    host.limits("600", "8388608");
    assert_eq!(fix(&host, Demand::default()), "in the unit: LimitNOFILE=1048576");
}

#[test]
fn no_limit_lets_a_ring_hold_more_than_the_kernel_does() {
    let host = FakeHost::good();
    host.limits("unlimited", "unlimited");
    host.write("proc/sys/fs/nr_open", "2000000000");
    let most = (1 << 20) - 512;
    let on_one = |connections| Demand { connections, rings: 1, ..Demand::default() };
    let ids = |connections| gaps(&host, on_one(connections));
    assert!(!ids(most).contains(&"RLIMIT_NOFILE per ring"));
    assert!(ids(most + 1).contains(&"RLIMIT_NOFILE per ring"));
    let report = check_all(&host.root(), on_one(most + 1));
    let text = render_table(&report);
    assert!(text.contains("more rings: --shards-per-core 2"), "{text}");
}

#[test]
fn too_few_descriptors_for_the_process_itself_are_fatal() {
    let host = FakeHost::good();
    let few = Demand { connections: 0, rings: 1, ..Demand::default() };
    host.limits("512", "8388608");
    assert_eq!(gaps(&host, few), [] as [&str; 0]);
    host.limits("263", "8388608");
    let report = check_all(&host.root(), few);
    assert_eq!(report.gaps()[0].id, "RLIMIT_NOFILE hard");
    assert_eq!(report.gaps()[0].severity(), Some(Severity::Fatal));
}

#[test]
fn memory_that_may_be_locked_is_pinned_from_both_sides() {
    let host = FakeHost::good();
    host.limits("1048576", "524287");
    assert_eq!(gaps(&host, Demand::default()), ["RLIMIT_MEMLOCK"]);
    host.limits("1048576", "524288");
    assert_eq!(gaps(&host, Demand::default()), [] as [&str; 0]);
}

#[test]
fn io_uring_for_some_is_a_warning_and_for_nobody_is_fatal() {
    for (level, severity) in [("1", Severity::Warning), ("2", Severity::Fatal)] {
        let host = FakeHost::good();
        host.write("proc/sys/kernel/io_uring_disabled", level);
        let report = check_all(&host.root(), Demand::default());
        assert_eq!(report.gaps()[0].severity(), Some(severity));
        assert_eq!(fix(&host, Demand::default()), "sysctl -w kernel.io_uring_disabled=0");
    }
}

#[test]
fn buffers_left_to_the_kernel_are_looked_at() {
    let host = FakeHost::good();
    let tuned = Demand { recv_buffer_bytes: 0, send_buffer_bytes: 0, ..Demand::default() };
    assert_eq!(gaps(&host, tuned), ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"]);
    host.write("proc/sys/net/ipv4/tcp_rmem", "4096 131072 1048576");
    host.write("proc/sys/net/ipv4/tcp_wmem", "4096 16384 1048576");
    assert_eq!(gaps(&host, tuned), [] as [&str; 0]);
}

#[test]
fn worst_comes_first() {
    let host = FakeHost::good();
    host.write("proc/sys/net/ipv4/tcp_max_syn_backlog", "128");
    host.write("proc/sys/net/core/somaxconn", "128");
    host.write("proc/sys/kernel/io_uring_disabled", "2");
    assert_eq!(
        gaps(&host, Demand::default()),
        ["kernel.io_uring_disabled", "net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"]
    );
}

#[test]
fn advice_alone_leaves_a_host_fit() {
    let host = FakeHost::good();
    host.write("proc/sys/net/ipv4/tcp_max_syn_backlog", "128");
    assert!(check_all(&host.root(), Demand::default()).is_fit());
    host.write("proc/sys/net/core/somaxconn", "128");
    assert!(!check_all(&host.root(), Demand::default()).is_fit());
}

#[test]
fn garbage_is_an_error_that_names_the_file_and_hides_no_other_finding() {
    let host = FakeHost::good();
    host.write("proc/sys/net/core/somaxconn", "many");
    host.write("proc/sys/net/netfilter/nf_conntrack_max", "1000");
    let report = check_all(&host.root(), Demand::default());
    assert!(!report.is_fit());
    assert_eq!(report.gaps().len(), 1);
    assert_eq!(report.gaps()[0].id, "net.netfilter.nf_conntrack_max");
    let table = render_table(&report);
    let told = "proc/sys/net/core/somaxconn: no number at word 0 of \"many\"\n";
    assert!(table.contains(told), "{table}");
}

#[test]
fn what_the_kernel_cannot_do_is_fatal_and_comes_with_its_remedy() {
    let host = FakeHost::good();
    let mut report = check_all(&host.root(), Demand::default());
    report.add_ring_probe(Ok(()));
    assert!(report.is_fit());
    let mut report = check_all(&host.root(), Demand::default());
    report.add_ring_probe(Err("this kernel lacks MSG_RING: use Linux 6.1".into()));
    assert!(!report.is_fit());
    assert!(
        report.gaps()[0].to_string().ends_with("Fix: this kernel lacks MSG_RING: use Linux 6.1")
    );
}

#[test]
fn no_demand_is_too_large_to_compare() {
    let all = Demand {
        connections: u64::MAX,
        rings: u64::MAX,
        backlog: u64::MAX,
        recv_buffer_bytes: u64::MAX,
        send_buffer_bytes: u64::MAX,
    };
    for demand in [all, Demand { rings: 0, ..all }, Demand { connections: 0, rings: 0, ..all }] {
        let report = check_all(&FakeHost::bad().root(), demand);
        assert!(!report.is_fit());
    }
}
