//! The figures of the sample folders, and of some that were spoilt for it.

use std::fs;

use super::figures;
use crate::report::raw::Raw;
use crate::report::tests::{Folder, samples};

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
