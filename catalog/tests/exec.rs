//! Programs as tools, with real programs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::tempfile;
use super::{Stage, failure, result, said};
use crate::*;

fn program(exec: Exec) -> Stage {
    Stage::new(Catalog::builder().tool(Tool::new("t").exec(exec)).build().expect("catalog"))
}

fn sh(script: &str) -> Exec {
    Exec::new(["sh", "-c", script])
}

fn run(exec: Exec, arguments: Value) -> Step {
    program(exec).tool("t", arguments).1
}

#[test]
fn arguments_come_as_json_and_output_goes_back_as_text() {
    assert_eq!(said(run(Exec::new(["cat"]), json!({"a": [1, "é"]}))), r#"{"a":[1,"é"]}"#);
    assert_eq!(said(run(Exec::new(["true"]), json!({}))), "");
    assert_eq!(said(run(sh("printf 'a\\377b'"), json!({}))), "a\u{fffd}b");
}

#[test]
fn no_shell_reads_the_words() {
    let words = ["printf", "%s|", "; echo x", "$(id)", "`id`", "a b", "*", "\\n", "&& false"];
    let expect = "; echo x|$(id)|`id`|a b|*|\\n|&& false|";
    assert_eq!(said(run(Exec::new(words), json!({"x": "; id"}))), expect);
}

#[test]
fn json_output_is_structured_if_it_is_an_object_or_an_array() {
    for (output, structured) in [
        (r#"{"sum": 3}"#, Some(json!({"sum": 3}))),
        ("[1,2]\n", Some(json!([1, 2]))),
        ("7", None),
        ("null", None),
    ] {
        let exec = Exec::new(["printf", "%s", output]).output(Output::Json);
        assert_eq!(result(run(exec, json!({}))).structured, structured, "{output}");
    }
    for output in ["", "hello", "{} {}", "{\"a\":"] {
        let exec = Exec::new(["printf", "%s", output]).output(Output::Json);
        let text = failure(run(exec, json!({})));
        assert!(text.starts_with("The program did not answer with JSON"), "{text}");
    }
}

#[test]
fn a_failure_tells_the_code_and_the_end_of_standard_error() {
    let text = failure(run(sh("echo ignored; echo the reason >&2; exit 3"), json!({})));
    assert_eq!(text, "The program exited with code 3: the reason");
    assert_eq!(failure(run(Exec::new(["false"]), json!({}))), "The program exited with code 1");
    assert_eq!(failure(run(sh("kill -9 $$"), json!({}))), "The program was ended by signal 9");
    let long = sh("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1");
    let text = failure(run(long, json!({})));
    assert!(text.ends_with("line 2999") && text.len() < 4200, "{} bytes", text.len());
}

#[test]
fn a_program_that_is_not_there_is_a_failure() {
    let text = failure(run(Exec::new(["/nonexistent/program"]), json!({})));
    assert!(text.starts_with("The program could not be run"), "{text}");
}

#[test]
fn output_up_to_the_cap_passes_and_one_byte_more_does_not() {
    let bytes = |count: usize| {
        let script = format!("head -c {count} /dev/zero | tr '\\0' x");
        run(sh(&script).output_bytes_max(100_000), json!({}))
    };
    assert_eq!(said(bytes(99_999)).len(), 99_999);
    assert_eq!(said(bytes(100_000)).len(), 100_000);
    let text = failure(bytes(100_001));
    assert_eq!(text, "The program wrote more than 100000 bytes and was stopped");
    let endless = run(Exec::new(["yes"]), json!({}));
    assert!(failure(endless).contains("1048576 bytes"));
}

#[test]
fn a_large_input_reaches_a_program_that_reads_it_and_one_that_does_not() {
    // Several times the capacity of a pipe.
    let arguments = json!({"text": "x".repeat(1_000_000)});
    let reads = Exec::new(["wc", "-c"]);
    let expect = arguments.to_string().len().to_string();
    assert_eq!(said(run(reads, arguments.clone())).trim(), expect);
    assert_eq!(said(run(Exec::new(["echo", "done"]), arguments.clone())), "done\n");
    // Writes as much before it reads: a caller that wrote first and read later would hang.
    let both = sh("head -c 500000 /dev/zero | tr '\\0' y; cat >/dev/null");
    assert_eq!(said(run(both, arguments)).len(), 500_000);
}

/// Waits until the process behind this number is gone or a zombie that someone else has to reap.
fn gone(pid: &str) -> bool {
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    for _ in 0..1000 {
        match std::fs::read_to_string(&stat) {
            Err(_) => return true,
            Ok(stat) if stat.rsplit(')').next().is_some_and(|s| s.trim().starts_with('Z')) => {
                return true;
            }
            Ok(_) => std::thread::yield_now(),
        }
    }
    false
}

fn check_family_ends(exec: impl FnOnce(&Path) -> Exec, end: impl FnOnce(&Stage)) -> Step {
    let file = tempfile("pids");
    let stage = program(exec(&file));
    assert_eq!(stage.start("t", json!({})).1, Step::Later);
    while std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 2) != true {
        std::thread::yield_now();
    }
    end(&stage);
    let (_, step) = stage.wait();
    for pid in std::fs::read_to_string(&file).expect("pids").lines() {
        assert!(gone(pid), "process {pid} is still there");
    }
    std::fs::remove_file(&file).expect("clean up");
    step
}

/// A program with a child of its own, both of which would run for an hour.
fn family(file: &Path) -> Exec {
    sh(&format!("sleep 3600 & {{ echo $$; echo $!; }} > {0}.new; mv {0}.new {0}; wait", file.display()))
}

#[test]
fn a_timeout_ends_the_program_and_all_it_started() {
    let step =
        check_family_ends(|file| family(file).timeout(Duration::from_millis(500)), |_| {});
    assert_eq!(failure(step), "Timed out after 500 ms");
}

#[test]
fn a_cancelled_call_ends_the_program_and_all_it_started() {
    assert_eq!(failure(check_family_ends(family, Stage::cancel)), "Cancelled");
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let leaves = |file: &Path| {
        sh(&format!("sleep 3600 & {{ echo $$; echo $!; }} > {0}.new; mv {0}.new {0}", file.display()))
    };
    assert_eq!(said(check_family_ends(leaves, |_| {})), "");
}

#[test]
fn the_environment_is_what_was_named() {
    let path = std::env::var("PATH").expect("PATH");
    let exec = Exec::new(["env"]).env("GREETING", "hello $HOME");
    let text = said(run(exec, json!({})));
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GREETING=hello $HOME", &format!("PATH={path}")]);
    let cargo = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let text = said(run(Exec::new(["env"]).env_inherit("CARGO_MANIFEST_DIR"), json!({})));
    assert!(text.lines().any(|line| line == format!("CARGO_MANIFEST_DIR={cargo}")), "{text}");
}

#[test]
fn a_program_runs_in_its_folder() {
    assert_eq!(said(run(Exec::new(["pwd"]).folder("/usr"), json!({}))).trim(), "/usr");
}

#[test]
fn calls_beyond_the_cap_are_told_to_retry() {
    let tool = Tool::new("t").concurrency_max(2).exec(sh("sleep 3600"));
    let stage = Stage::new(Catalog::builder().tool(tool).build().expect("catalog"));
    assert_eq!(stage.start("t", json!({})).1, Step::Later);
    assert_eq!(stage.start("t", json!({})).1, Step::Later);
    assert!(failure(stage.start("t", json!({})).1).contains("busy"));
    stage.cancel();
    assert_eq!(failure(stage.wait().1), "Cancelled");
    assert_eq!(failure(stage.wait().1), "Cancelled");
}

#[test]
fn nothing_is_left_unreaped() {
    let stage = program(sh("exec true"));
    for _ in 0..20 {
        said(stage.tool("t", json!({})).1);
    }
    // Other tests have children as well; none of ours may be a zombie that carries our program's name.
    let children = std::fs::read_dir("/proc").expect("proc").flatten().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let (state, parent) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let ours = parent == std::process::id().to_string() && head.ends_with("(true");
        (ours && state == "Z").then_some(stat)
    });
    assert_eq!(children.count(), 0);
}
