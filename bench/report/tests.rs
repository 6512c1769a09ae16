//! The page of the sample folders, and what happens when something is missing or
//! malformed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{FILE, write};

/// A copy of a sample folder that a test may spoil; gone when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn copy(sample: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("erlmcp-report-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(samples().join(sample)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the report and reads it.
    pub fn report(&self) -> Result<String, String> {
        write(&self.0)?;
        Ok(fs::read_to_string(self.0.join(FILE)).unwrap())
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let path = self.0.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} does not hold {from:?}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind in /tmp spoils nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where the samples lie.
pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("report/sample")
}

/// Takes one file away, or spoils it, and expects this complaint, without a page.
#[track_caller]
fn check_spoilt(sample: &str, name: &str, from: &str, to: &str, expect: &str) {
    let folder = Folder::copy(sample);
    folder.replace(name, from, to);
    let wrong = folder.report().unwrap_err();
    let expect = format!("{}/{expect}", folder.path().display());
    assert!(wrong.starts_with(&expect), "{wrong}\nis not\n{expect}");
    assert!(!folder.path().join(FILE).exists(), "no page of malformed files");
}

#[test]
fn a_step_tells_its_memory_or_takes_it_from_the_time_it_was_held() {
    let page = Folder::copy("ladder").report().unwrap();
    let steps = page.split("<h2>Steps</h2>").nth(1).unwrap().split("</table>").next().unwrap();
    let cells = |count: &str| {
        let row = steps.split("<tr>").find(|row| row.contains(&format!(">{count}<"))).unwrap();
        row.matches("not measured").count()
    };
    // Neither sockets nor kernel objects were measured; the server was, though the step at 10,000
    // does not say so.
    assert_eq!((cells("10,000"), cells("50,000")), (2, 2));
    assert!(steps.contains("16.7 MiB"), "11 MiB and 600 B for each of 10,000");
}

#[test]
fn the_same_files_make_the_same_page() {
    for sample in ["hold", "ladder", "compare"] {
        let folder = Folder::copy(sample);
        assert_eq!(folder.report().unwrap(), folder.report().unwrap(), "{sample}");
    }
}

#[test]
fn the_page_needs_nothing_from_outside() {
    for sample in ["hold", "ladder", "compare"] {
        let page = Folder::copy(sample).report().unwrap();
        for outside in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "href="] {
            assert!(!page.contains(outside), "{sample}: {outside}");
        }
        assert!(page.contains("default-src 'none'"), "{sample}: what a browser must refuse");
    }
}

#[test]
fn the_verdict_and_the_command_stand_first() {
    let page = Folder::copy("hold").report().unwrap();
    assert!(page.contains("<span id=\"verdict\" class=\"badge good\">passed</span>"));
    assert!(
        page.contains("erlmcp-bench hold --target http://127.0.0.1:8080/mcp --connections 20000")
    );
    assert!(!page.contains("generator-limited"));
    let page = Folder::copy("ladder").report().unwrap();
    assert!(page.contains("class=\"badge bad\">failed: 2 thresholds</span>"));
    assert!(page.contains("id=\"generator-limited\"") && page.contains("12.5 ms late at p99"));
    let page = Folder::copy("compare").report().unwrap();
    assert!(page.contains("class=\"badge plain\">no thresholds were set</span>"));
}

#[test]
fn the_host_is_told_with_every_fact() {
    let page = Folder::copy("hold").report().unwrap();
    for fact in [
        "<th>kernel</th><td>6.18.0-invented</td>",
        "<th>nofile_max</th><td>20000</td>",
        "<th>mitigations.spectre_v2</th><td>Mitigation: Retpolines</td>",
        "<th>versions.erlmcp-shard</th><td>erlmcp-shard 0.1.0</td>",
        "<th>versions.commit</th><td>not measured</td>",
    ] {
        assert!(page.contains(fact), "{fact}");
    }
}

#[test]
fn a_missing_file_was_not_measured() {
    for (name, gone, there) in [
        ("connections.csv", "Connections</h3>", "Memory</h3>"),
        ("resource-usage.csv", "Memory</h3>", "Connections</h3>"),
        ("histogram.hdr", "Latency by percentile</h3>", "Latency over time</h3>"),
    ] {
        let folder = Folder::copy("hold");
        folder.remove(name);
        let page = folder.report().unwrap();
        let plot = |title: &str| {
            let from = page.find(title).unwrap_or_else(|| panic!("{title}"));
            page[from..].split("</figure>").next().unwrap().contains("class=\"chart\"")
        };
        assert!(!plot(gone) && plot(there), "{name}");
        assert!(
            page.contains(&format!("<th>{name}</th><td class=\"number unmeasured\">")),
            "{name}"
        );
    }
}

#[test]
fn a_folder_with_nothing_but_a_summary_still_has_a_page() {
    let folder = Folder::copy("hold");
    for name in ["connections.csv", "detailed.csv", "resource-usage.csv", "histogram.hdr"] {
        folder.remove(name);
    }
    let page = folder.report().unwrap();
    assert!(!page.contains("class=\"chart\"") && page.contains("not measured"));
    for value in ["NaN", "inf", "None", "Some("] {
        assert!(!page.contains(value), "{value}");
    }
}

#[test]
fn a_folder_without_a_summary_is_not_a_run() {
    let folder = Folder::copy("hold");
    folder.remove("summary.json");
    assert!(folder.report().unwrap_err().contains("summary.json is missing"));
}

#[test]
fn files_that_hold_only_a_header_measured_nothing() {
    let folder = Folder::copy("hold");
    for name in ["connections.csv", "detailed.csv", "resource-usage.csv"] {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.lines().next().unwrap()).unwrap();
    }
    fs::write(folder.path().join("histogram.hdr"), "").unwrap();
    let page = folder.report().unwrap();
    assert!(!page.contains("class=\"chart\"") && !page.contains("NaN"));
}

#[test]
fn what_is_malformed_is_told_with_file_and_line() {
    let windows = "connections.csv";
    check_spoilt(
        "hold",
        windows,
        "latency_p99_ms",
        "p99",
        "connections.csv:1: the column latency_p99_ms is missing",
    );
    check_spoilt(
        "hold",
        windows,
        ",1.0,20000,5000",
        ",1.0,20000,many",
        "connections.csv:4: actual_connections is \"many\", which is not a measurement",
    );
    check_spoilt(
        "hold",
        windows,
        ",1.0,20000,5000",
        ",1.0,20000",
        "connections.csv:4: 8 cells where the header has 9",
    );
    check_spoilt(
        "hold",
        windows,
        ",1.0,20000,5000",
        ",0.1,20000,5000",
        "connections.csv:4: elapsed_seconds goes back",
    );
    check_spoilt(
        "hold",
        windows,
        ",1.0,20000,5000",
        ",,20000,5000",
        "connections.csv:4: elapsed_seconds is empty",
    );
    check_spoilt(
        "hold",
        "resource-usage.csv",
        "server_rss_bytes",
        "rss",
        "resource-usage.csv:1: the column server_rss_bytes is missing",
    );
    check_spoilt(
        "hold",
        "detailed.csv",
        "20000,",
        "-1,",
        "detailed.csv:2: Connections is \"-1\", which is not a measurement",
    );
    check_spoilt(
        "hold",
        "histogram.hdr",
        "Tag=http,4.000",
        "Tag=http;4.000",
        "histogram.hdr:4: this is not a line of an interval log",
    );
    check_spoilt("hold", "summary.json", "\"command\":", "\"command\"", "summary.json:3: ");
    check_spoilt(
        "compare",
        "compare.csv",
        "cpu_us_per_call",
        "cpu",
        "compare.csv:1: the column cpu_us_per_call is missing",
    );
    check_spoilt(
        "compare",
        "compare.csv",
        "1,floor,64,",
        "1,floor,,",
        "compare.csv:3: connections is empty",
    );
}

#[test]
fn names_from_outside_stay_text() {
    let folder = Folder::copy("compare");
    let path = folder.path().join("compare.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("rmcp", "<script>alert(1)</script>")).unwrap();
    folder.replace("summary.json", "\"scenario\": \"compare\"", "\"scenario\": \"<b>&\"");
    let page = folder.report().unwrap();
    assert!(!page.contains("<script") && !page.contains("<b>"));
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("&lt;b&gt;&amp;")
    );
}

#[test]
fn a_comparison_without_peers_has_no_ratios() {
    let folder = Folder::copy("compare");
    let path = folder.path().join("compare.csv");
    let text = fs::read_to_string(&path).unwrap();
    let alone =
        text.lines().filter(|line| line.starts_with("round") || line.contains("erlmcp-shard"));
    fs::write(&path, alone.collect::<Vec<_>>().join("\n")).unwrap();
    let page = folder.report().unwrap();
    assert!(!page.contains("class=\"chart\"") && page.contains("<th>erlmcp-shard</th>"));
}
