//! The figures and the page of the sample folders, and what happens when something is missing or
//! malformed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::figures::figures;
use super::raw::Raw;
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

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("report/sample")
}

#[track_caller]
fn check(sample: &str, expect: &[(&str, Option<f64>)]) {
    let figures = figures(&Raw::read(&samples().join(sample)).unwrap());
    for (name, expect) in expect {
        let figure = figures.iter().find(|figure| figure.name == *name);
        let value = figure.unwrap_or_else(|| panic!("no figure is called {name}")).value;
        let is_right = match (value, expect) {
            (Some(value), Some(expect)) => (value - expect).abs() <= expect.abs() * 0.002,
            (value, expect) => value.is_none() && expect.is_none(),
        };
        assert!(is_right, "{sample}: {name} is {value:?}, not {expect:?}");
    }
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
fn the_figures_are_those_of_the_raw_files() {
    // Computed apart from this program: from the CSV files by hand, from the histogram by another
    // reader.
    check(
        "hold",
        &[
            ("connections asked for", Some(20_000.0)),
            ("connections, most at once", Some(20_000.0)),
            ("connections lost while held", Some(0.0)),
            ("time until all were there", Some(4.0)),
            ("connect rate over the ramp", Some(5000.0)),
            ("highest connect rate", Some(5000.0)),
            ("errors", Some(2.0)),
            ("calls", Some(24_915.0)),
            ("calls per second", Some(958.269)),
            ("latency, mean", Some(0.36189)),
            ("latency p50", Some(0.331)),
            ("latency p90", Some(0.448)),
            ("latency p95", Some(0.502)),
            ("latency p99", Some(0.653)),
            ("latency p99.9", Some(3.591)),
            ("latency p99.99", Some(4.375)),
            ("latency, longest", Some(4.687)),
            ("p99 by p50 (fairness)", Some(1.9728)),
            ("p99 of half a second, median", Some(1.5935)),
            ("p99 of half a second, best", Some(1.217)),
            ("p99 of half a second, worst", Some(15.039)),
            ("CPU of the server, mean", Some(68.7483)),
            ("CPU of the server, highest", Some(94.8)),
            ("CPU of the generator, mean", Some(54.9067)),
            ("CPU of the generator, highest", Some(84.1)),
            ("CPU of the server per call", Some(677.50)),
            ("memory of the server, first", Some(12_582_912.0)),
            ("memory of the server, highest", Some(22_822_912.0)),
            ("memory of the server per connection", Some(512.0)),
            ("memory of socket buffers, highest", Some(804_096.0)),
            ("memory of socket buffers per connection", Some(0.0)),
            ("memory of kernel objects per connection", Some(4700.0)),
        ],
    );
}

#[test]
fn what_no_raw_file_tells_is_not_measured() {
    check(
        "ladder",
        &[
            ("connections, most at once", Some(50_000.0)),
            ("memory of the server per connection", Some(600.0)),
            ("calls", None),
            ("calls per second", None),
            ("latency p99", None),
            ("CPU of the server per call", None),
            ("memory of socket buffers, highest", None),
            ("memory of kernel objects per connection", None),
        ],
    );
    check("compare", &[("connections asked for", None), ("errors", None), ("latency p50", None)]);
}

#[test]
fn connections_lost_while_held_are_counted_and_those_let_go_are_not() {
    let lost = |rows: &str| {
        let folder = Folder::copy("ladder");
        let path = folder.path().join("connections.csv");
        let text = fs::read_to_string(&path).unwrap();
        let header = text.lines().next().unwrap();
        fs::write(&path, format!("{header}\n{rows}")).unwrap();
        let figures = figures(&Raw::read(folder.path()).unwrap());
        figures.iter().find(|one| one.name == "connections lost while held").unwrap().value
    };
    assert_eq!(lost("1,0,9,0,0,,,,0\n2,1,9,9,9,,,,0\n3,2,9,7,0,,,,0\n4,3,9,8,0,,,,0"), Some(2.0));
    assert_eq!(lost("1,0,9,0,0,,,,0\n2,1,9,9,9,,,,0\n3,2,0,9,0,,,,0\n4,3,0,0,0,,,,0"), Some(0.0));
    assert_eq!(lost("1,0,9,0,0,,,,0\n2,1,9,8,9,,,,0"), None, "never were all there");
}

#[test]
fn a_ladder_counts_the_time_in_which_it_climbed() {
    let rate = |rows: &[&str]| {
        let folder = Folder::copy("ladder");
        let path = folder.path().join("detailed.csv");
        let header = "Connections,Duration(sec),Throughput(conn/sec),P99_Latency(ms)";
        fs::write(&path, [&[header], rows].concat().join("\n")).unwrap();
        let figures = figures(&Raw::read(folder.path()).unwrap());
        figures.into_iter().find(|one| one.name == "connect rate over the ramp").unwrap()
    };
    // A second for the first 1,000, two for the other 8,000, however long each step was held.
    let ladder = rate(&["1000,60,1000,1", "9000,60,4000,1"]);
    assert_eq!((ladder.value, &ladder.from[..12]), (Some(3000.0), "detailed.csv"));
    let again = rate(&["1000,60,1000,1", "1000,60,1,1", "9000,60,4000,1", "5000,60,1,1"]);
    assert_eq!(again.value, Some(3000.0), "what was there already is not opened");
    for unsaid in ["", "0"] {
        let row = format!("9000,60,{unsaid},1");
        assert_eq!(rate(&["1000,60,1000,1", &row]).value, None, "{unsaid:?}");
    }
    // One step is a ramp, which has rows enough.
    for ramp in [&["50000,60,1,1"][..], &["0,1,,1", "50000,60,1,1"], &[]] {
        assert!(rate(ramp).from.starts_with("connections.csv"), "{ramp:?}");
    }
    check("ladder", &[("connect rate over the ramp", Some(7098.26))]);
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
