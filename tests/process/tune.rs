//! `tune` at a terminal: on a folder that looks like a host, and on this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child::run;

/// A folder, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("erlmcp-tune-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A host with somaxconn at 128.
    fn host() -> Self {
        let folder = Self::new();
        let core = folder.0.join("proc/sys/net/core");
        fs::create_dir_all(&core).unwrap();
        fs::write(core.join("somaxconn"), "128\n").unwrap();
        folder
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn apply_changes_the_host_tells_how_to_undo_it_and_check_is_content() {
    let host = Folder::host();
    let check = ["tune", "check", "--root", host.path()];
    let (code, table, _) = run(&check);
    assert_eq!(code, 1, "{table}");
    assert!(table.contains("sysctl -w net.core.somaxconn=65535"), "{table}");
    let (code, told, _) = run(&["tune", "apply", "--root", host.path()]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("undo: sysctl -w net.core.somaxconn=128\n"), "{told}");
    assert_eq!(host.text("proc/sys/net/core/somaxconn"), "65535\n");
    let (code, table, _) = run(&check);
    assert_eq!(code, 0, "{table}");
    let (code, told, _) = run(&["tune", "apply", "--root", host.path()]);
    assert_eq!((code, told.as_str()), (0, "Nothing to change.\n"));
}

#[test]
fn what_apply_cannot_do_is_left_and_said() {
    let host = Folder::host();
    let limits = "Max open files            1024                 4096                 files\n";
    fs::create_dir_all(host.0.join("proc/self")).unwrap();
    fs::write(host.0.join("proc/self/limits"), limits).unwrap();
    let (code, told, _) = run(&["tune", "apply", "--shards", "2", "--root", host.path()]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("net.core.somaxconn: 128 → 65535"), "{told}");
    assert!(
        told.contains("\nLeft:\nwarning: RLIMIT_NOFILE per ring is 4096, 50512 wanted"),
        "{told}"
    );
}

#[test]
fn machines_get_json_with_the_same_exit_code() {
    let host = Folder::host();
    let (code, json, _) = run(&["tune", "check", "--json", "--root", host.path()]);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["fit"], false);
    assert_eq!(report["demand"]["connections"], 100_000);
    let findings = report["findings"].as_array().unwrap();
    let somaxconn = findings.iter().find(|line| line["id"] == "net.core.somaxconn").unwrap();
    assert_eq!(somaxconn["required"], 4096);
    assert_eq!(somaxconn["actual"], 128);
    assert_eq!(somaxconn["state"], "warning");
    assert_eq!(somaxconn["fix"], "sysctl -w net.core.somaxconn=65535");
}

#[test]
fn this_host_is_looked_at_with_its_kernel() {
    let words = ["tune", "check", "--json", "--connections", "10", "--shards", "1"];
    let (code, json, stderr) = run(&words);
    assert!(matches!(code, 0 | 1), "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["fit"], code == 0, "{json}");
    assert_eq!(report["errors"].as_array().map(Vec::len), Some(0), "{json}");
    assert_eq!(report["findings"][1]["id"], "io_uring features");
}

#[test]
fn render_writes_what_the_repository_ships() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (kind, folder, names) in [
        ("sysctl", "sysctl", &["60-erlmcp-shard.conf"][..]),
        ("limits", "sysctl/limits.d", &["erlmcp-shard.conf"]),
        ("systemd", "systemd", &["erlmcp-shard.service", "erlmcp-shard@.service"]),
    ] {
        let output = Folder::new();
        let (code, _, stderr) = run(&["tune", "render", kind, "--output", output.path()]);
        assert_eq!(code, 0, "{stderr}");
        let (code, printed, _) = run(&["tune", "render", kind]);
        assert_eq!(code, 0);
        for name in names {
            let shipped = fs::read_to_string(root.join(folder).join(name)).unwrap();
            assert_eq!(output.text(name), shipped, "{kind}");
            assert!(printed.contains(&shipped), "{kind}");
        }
    }
    let (code, _, stderr) = run(&["tune", "render", "limits", "--output", "/nonexistent"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot write /nonexistent/erlmcp-shard.conf"), "{stderr}");
}
