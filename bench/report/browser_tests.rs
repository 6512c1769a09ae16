//! What a real browser makes of the page: every plot has data, in sight, on axes that can be read.
//!
//! Needs Chromium (Debian's `chromium`); without it the tests say so and pass.
//! `REPORT_SCREENSHOTS=FOLDER` keeps the screenshots for whoever wants to look.

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::FILE;
use super::tests::Folder;

/// How long a browser may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);
/// Contrast that lines and marks need against what is behind them (WCAG 2.2, 1.4.11).
const CONTRAST_MIN: f64 = 3.0;
/// A screenshot of a page without plots is smaller.
const SCREENSHOT_BYTES_MIN: usize = 60_000;

#[derive(Debug, Clone, Copy)]
struct View {
    name: &'static str,
    width: u32,
    is_dark: bool,
}

const LIGHT: View = View { name: "light", width: 1320, is_dark: false };
const DARK: View = View { name: "dark", width: 1320, is_dark: true };
const PHONE: View = View { name: "phone", width: 500, is_dark: false };

/// Opens the report of a sample, and holds every plot to what a reader needs.
#[track_caller]
fn check(sample: &str, view: View, plots: &[&str], unmeasured: &[&str]) {
    let Some(browser) = browser() else {
        eprintln!("skipped: no chromium in PATH (Debian: apt-get install chromium)");
        return;
    };
    let folder = Folder::copy(sample);
    let page = folder.report().unwrap();
    let (measured, screenshot) = open(&browser, &folder, &page, view);
    let at = format!("{sample}, {}", view.name);
    assert_eq!(measured["dark"], view.is_dark, "{at}: the browser's theme");
    assert_eq!(measured["overflow"], 0.0, "{at}: the page is wider than the window");
    let found = measured["plots"].as_array().unwrap();
    let ids = |is_there: bool| -> Vec<&str> {
        let some = found.iter().filter(|plot| plot["measured"] == is_there);
        some.map(|plot| plot["id"].as_str().unwrap()).collect()
    };
    assert_eq!(ids(true), plots, "{at}: plots with data");
    assert_eq!(ids(false), unmeasured, "{at}: plots without");
    for plot in found.iter().filter(|plot| plot["measured"] == true) {
        check_plot(plot, &at);
    }
    let (width, _) = size(&screenshot);
    assert_eq!(width, view.width, "{at}: the screenshot");
    assert!(SCREENSHOT_BYTES_MIN < screenshot.len(), "{at}: only {} bytes", screenshot.len());
}

#[track_caller]
fn check_plot(plot: &Value, at: &str) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let at = format!("{at}: {}", plot["id"]);
    assert!(300.0 < number(&plot["width"]) && 120.0 < number(&plot["height"]), "{at}: {plot}");
    assert_eq!(plot["strange"], Value::Array(vec![]), "{at}: out of the plot");
    assert_eq!(plot["overlaps"], Value::Array(vec![]), "{at}: labels over each other");
    assert!(2 <= plot["xTicks"].as_u64().unwrap() && 2 <= plot["yTicks"].as_u64().unwrap(), "{at}");
    assert!(plot["titles"].as_u64().unwrap() > 0, "{at}: nothing to hover");
    let marks = plot["marks"].as_array().unwrap();
    assert!(!marks.is_empty(), "{at}: nothing is drawn");
    for mark in marks {
        let (width, height) = (number(&mark["width"]), number(&mark["height"]));
        assert!(width.is_finite() && height.is_finite() && 1.0 < width + height, "{at}: {mark}");
        assert!(CONTRAST_MIN <= number(&mark["contrast"]), "{at}: {mark}");
    }
}

/// What the browser measured in the page, and its screenshot.
fn open(browser: &Path, folder: &Folder, page: &str, view: View) -> (Value, Vec<u8>) {
    // The page forbids scripts; this copy of it has one, which measures.
    let copy =
        page.replace("default-src 'none'; style-src", "default-src 'unsafe-inline'; style-src");
    assert_ne!(copy, page, "the page forbids scripts");
    let script = include_str!("browser_measure.js");
    let copy = copy.replace("</main>", &format!("</main><script>{script}</script>"));
    let path = folder.path().join("measured.html");
    fs::write(&path, copy).unwrap();
    let screenshot = folder.path().join("page.png");
    let mut command = Command::new(browser);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--disable-extensions", "--mute-audio"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!view.is_dark)))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--window-size={},2600", view.width))
        .arg(format!("--screenshot={}", screenshot.display()))
        .args(["--dump-dom", &format!("file://{}", path.display())]);
    let dom = output(command);
    if let Ok(keep) = env::var("REPORT_SCREENSHOTS") {
        let name = page.split("<title>").nth(1).and_then(|rest| rest.split(' ').next());
        let name = format!("{}-{}.png", name.unwrap_or("page"), view.name);
        fs::copy(&screenshot, Path::new(&keep).join(name)).unwrap();
    }
    let json =
        dom.split("<pre id=\"measured\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let json = json.unwrap_or_else(|| panic!("the page was not measured:\n{dom}"));
    assert!(folder.path().join(FILE).exists());
    (serde_json::from_str(json).unwrap(), fs::read(screenshot).unwrap())
}

/// What a program says, or a panic when it takes too long.
fn output(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (done, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.read_to_end(&mut bytes);
        // Nobody listens any more when it took too long.
        let _ = done.send(read.map(|_| bytes));
    });
    let bytes = told.recv_timeout(PATIENCE);
    if bytes.is_err() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    reader.join().unwrap();
    let bytes = bytes.expect("the browser ends in time").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

/// Width and height of a PNG: the first chunk is IHDR (PNG specification, 11.2.1).
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(png.get(..8), Some(b"\x89PNG\r\n\x1a\n".as_slice()), "a PNG");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

const COURSE: [&str; 7] =
    ["connections", "connect-rate", "latency", "distribution", "throughput", "memory", "cpu"];
const COMPARED: [&str; 7] = [
    "compare-calls",
    "compare-cpu",
    "compare-p50",
    "compare-p99",
    "compare-fairness",
    "compare-rss",
    "compare-per-connection",
];

#[test]
fn a_browser_shows_the_course_of_a_run() {
    check("hold", LIGHT, &COURSE, &[]);
}

#[test]
fn a_browser_shows_it_in_the_dark() {
    check("hold", DARK, &COURSE, &[]);
}

#[test]
fn a_browser_shows_it_in_a_narrow_window() {
    check("hold", PHONE, &COURSE, &[]);
}

#[test]
fn a_browser_shows_a_ladder_and_says_what_was_not_measured() {
    let plots = [
        "ladder-latency",
        "ladder-memory",
        "ladder-rate",
        "connections",
        "connect-rate",
        "latency",
        "memory",
        "cpu",
    ];
    check("ladder", LIGHT, &plots, &["distribution", "throughput"]);
}

#[test]
fn a_browser_shows_a_comparison() {
    check("compare", LIGHT, &COMPARED, &[]);
    check("compare", DARK, &COMPARED, &[]);
}
