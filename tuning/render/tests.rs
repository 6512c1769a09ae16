//! What is shipped is what is rendered, and does what it says.

use super::*;
use crate::checks::check_all;
use crate::fake::FakeHost;

/// Compares the files of a kind with the folder of the repository that ships them; `UPDATE_SHIPPED=1` writes
/// them instead.
#[track_caller]
fn check_shipped(kind: Kind, folder: &str) {
    for file in render(kind, &Demand::default()) {
        let path = format!("{}/../{folder}/{}", env!("CARGO_MANIFEST_DIR"), file.name);
        if std::env::var_os("UPDATE_SHIPPED").is_some() {
            std::fs::write(&path, &file.text).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            shipped == file.text,
            "{path} is stale; `erlmcp-shard tune render` says:\n{}",
            file.text
        );
    }
}

#[test]
fn what_is_shipped_is_what_is_rendered() {
    check_shipped(Kind::Sysctl, "sysctl");
    check_shipped(Kind::Limits, "sysctl/limits.d");
    check_shipped(Kind::Systemd, "systemd");
}

/// `key = value` lines of a sysctl.d file, as systemd-sysctl reads them (sysctl.d(5)).
fn parameters(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.trim_start_matches('-').split_once(" = ").unwrap());
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_parameters_make_a_bad_host_good_as_far_as_a_file_can() {
    /// Depend on the memory there is, or are no kernel parameters.
    const LEFT: [&str; 4] =
        ["net.ipv4.tcp_mem", "net.core.rmem_max", "net.core.wmem_max", "CPU governor"];
    for connections in [1, 100_000, 1_000_000, 20_000_000] {
        let host = FakeHost::bad();
        let demand = Demand { connections, ..Demand::default() };
        let [file] = &render(Kind::Sysctl, &demand)[..] else { panic!("one file") };
        for (key, value) in parameters(&file.text) {
            host.write(&format!("proc/sys/{}", key.replace('.', "/")), &value);
        }
        let report = check_all(&host.root(), demand);
        for gap in report.gaps() {
            let is_ours = gap.gap.as_ref().is_some_and(|gap| !gap.fix.settings().is_empty());
            assert!(!is_ours || LEFT.contains(&gap.id), "{connections}: {gap}");
        }
    }
}

#[test]
fn what_depends_on_the_memory_of_the_host_is_named_and_not_set() {
    let [file] = &render(Kind::Sysctl, &Demand::default())[..] else { panic!("one file") };
    for name in ["tcp_mem", "tcp_rmem", "tcp_wmem", "rmem_max", "wmem_max"] {
        assert!(file.text.contains(name), "{name}");
        assert!(parameters(&file.text).iter().all(|(key, _)| !key.ends_with(name)), "{name}");
    }
}

#[test]
fn lines_fit_a_terminal() {
    for (name, kind) in Kind::ALL {
        for file in render(kind, &Demand::default()) {
            for line in file.text.lines() {
                assert!(line.chars().count() <= 120, "{name}: {line}");
            }
        }
    }
}

/// The values of a key in a unit, in order.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn a_unit_gives_what_the_checks_want() {
    for connections in [100_000, 1_000_000] {
        let demand = Demand { connections, ..Demand::default() };
        for file in render(Kind::Systemd, &demand) {
            let [nofile] = values(&file.text, "LimitNOFILE")[..] else { panic!("{}", file.text) };
            let host = FakeHost::good();
            host.limits(nofile, "8388608");
            let report = check_all(&host.root(), demand);
            assert!(report.gaps().iter().all(|gap| !gap.id.contains("RLIMIT")), "{connections}");
            assert_eq!(values(&file.text, "LimitMEMLOCK"), ["8M"]);
        }
    }
}

#[test]
fn the_units_differ_only_in_whose_configuration_they_read() {
    let files = render(Kind::Systemd, &Demand::default());
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter(|line| !line.starts_with("Description="));
        lines.map(|line| line.replace("/%i.", "/config.")).collect()
    };
    assert_eq!(settings(&files[0].text), settings(&files[1].text));
    assert!(files[1].text.contains("--config /etc/erlmcp-shard/%i.toml"));
}
