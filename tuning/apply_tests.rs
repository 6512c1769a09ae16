//! What is written, what is told, and what happens when the host says no.

use super::*;
use crate::checks::check_all;
use crate::demand::Demand;
use crate::fake::FakeHost;
use crate::render_changes;

fn apply_to(host: &FakeHost) -> Vec<Change> {
    apply(&host.root(), &check_all(&host.root(), Demand::default()))
}

#[test]
fn a_fit_host_is_left_alone() {
    assert_eq!(apply_to(&FakeHost::good()), []);
    assert_eq!(apply_to(&FakeHost::empty()), []);
}

#[test]
fn after_it_only_what_a_person_must_do_is_left() {
    let host = FakeHost::bad();
    let changes = apply_to(&host);
    assert!(changes.iter().all(|change| change.outcome.is_ok()), "{changes:?}");
    assert_eq!(host.text("proc/sys/net/core/somaxconn"), "65535");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_mem"), "56152 84228 112305");
    for cpu in ["cpu0", "cpu1"] {
        let path = format!("sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor");
        assert_eq!(host.text(&path), "performance");
    }
    let report = check_all(&host.root(), Demand::default());
    let left: Vec<&str> = report.gaps().iter().map(|gap| gap.id).collect();
    assert_eq!(
        left,
        ["RLIMIT_MEMLOCK", "RLIMIT_NOFILE per ring", "memory", "NUMA nodes"],
        "limits of a process, memory and shape of the machine are not ours to write"
    );
    assert_eq!(apply_to(&host), [], "twice changes nothing");
}

#[test]
fn every_change_can_be_undone_by_its_line() {
    let host = FakeHost::bad();
    let before = host.text("proc/sys/net/ipv4/ip_local_port_range");
    let changes = apply_to(&host);
    assert_ne!(host.text("proc/sys/net/ipv4/ip_local_port_range"), before);
    for change in &changes {
        let undo = change.undo();
        host.root().write_text(&undo.path, &undo.value).unwrap();
    }
    // The kernel's tabs are spaces to us, and to it.
    assert_eq!(host.text("proc/sys/net/ipv4/ip_local_port_range"), before.replace('\t', " "));
    assert_eq!(apply_to(&host), changes);
}

#[test]
fn what_is_more_than_needed_is_never_lowered() {
    let host = FakeHost::bad();
    host.write("proc/sys/net/ipv4/tcp_mem", "100000\t110000\t112304");
    apply_to(&host);
    // One page short at the end; the others had more than they need.
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_mem"), "100000 110000 112305");
}

#[test]
fn one_refusal_stops_no_other_change_and_says_why() {
    let host = FakeHost::bad();
    let report = check_all(&host.root(), Demand::default());
    host.remove("proc/sys/net/core/somaxconn");
    let changes = apply(&host.root(), &report);
    let told = render_changes(&changes);
    let refused: Vec<_> = changes.iter().filter(|change| change.outcome.is_err()).collect();
    assert_eq!(refused.len(), 1, "{told}");
    assert_eq!(refused[0].setting.name(), "net.core.somaxconn");
    assert!(told.contains("proc/sys/net/core/somaxconn: No such file"), "{told}");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_max_syn_backlog"), "65535");
}

#[test]
fn what_was_done_is_told_with_the_line_that_undoes_it() {
    let host = FakeHost::good();
    host.write("proc/sys/net/core/somaxconn", "128");
    host.write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999");
    host.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave");
    assert_eq!(
        render_changes(&apply_to(&host)),
        "net.core.somaxconn: 128 → 65535\n    undo: sysctl -w net.core.somaxconn=128\n\
         net.ipv4.ip_local_port_range: 32768 60999 → 10240 65535\n    \
         undo: sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"\n\
         /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor: powersave → performance\n    \
         undo: echo powersave > /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor\n"
    );
}
