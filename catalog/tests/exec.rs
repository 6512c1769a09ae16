//! Programs as tools, with real programs.

use std::path::Path;
use std::time::{Duration, Instant};

use erlmcp_protocol::mcp::Content;
use serde_json::{Value, json};

use super::api::tempfile;
use super::{PATIENCE, Stage, failure, result, said};
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

/// Waits for something that must come; only a hang makes it give up.
fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        if condition() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Whether a process is gone, or a zombie that its new parent has to reap.
fn is_gone(pid: &str) -> bool {
    match std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')),
    }
}

/// Runs a family of two, ends it, and looks that both are gone.
#[track_caller]
fn check_family_ends(exec: Exec, file: &Path, end: impl FnOnce(&Stage)) -> String {
    let stage = program(exec);
    assert_eq!(stage.start("t", json!({})).1, Step::Later);
    assert!(wait_until(|| file.exists()), "the program never started");
    end(&stage);
    let (_, step) = stage.wait();
    let pids = std::fs::read_to_string(file).expect("pids");
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        assert!(wait_until(|| is_gone(pid)), "process {pid} is still there");
    }
    std::fs::remove_file(file).expect("clean up");
    let result = result(step);
    match result.content.as_slice() {
        [Content::Text(text)] => text.clone(),
        content => panic!("not one text: {content:?}"),
    }
}

/// A program with a child that would run for an hour; both numbers stand in the file, then `last` is done.
fn family(file: &Path, last: &str) -> Exec {
    let file = file.display();
    sh(&format!("sleep 3600 & {{ echo $$; echo $!; }} > {file}.new; mv {file}.new {file}; {last}"))
}

#[test]
fn a_timeout_ends_the_program_and_all_it_started() {
    let file = tempfile("pids");
    // However slow the machine is, one of these is long enough for the family to have started.
    let mut timeout = Duration::from_millis(200);
    while !file.exists() && timeout < PATIENCE {
        let text = failure(run(family(&file, "wait").timeout(timeout), json!({})));
        assert_eq!(text, format!("Timed out after {} ms", timeout.as_millis()));
        timeout *= 2;
    }
    for pid in std::fs::read_to_string(&file).expect("pids").lines() {
        assert!(wait_until(|| is_gone(pid)), "process {pid} is still there");
    }
    std::fs::remove_file(file).expect("clean up");
}

#[test]
fn a_cancelled_call_ends_the_program_and_all_it_started() {
    let file = tempfile("pids");
    assert_eq!(check_family_ends(family(&file, "wait"), &file, Stage::cancel), "Cancelled");
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let file = tempfile("pids");
    assert_eq!(check_family_ends(family(&file, "true"), &file, |_| {}), "");
}

#[test]
fn the_environment_is_what_was_named() {
    let path = std::env::var("PATH").expect("PATH");
    let exec = Exec::new(["env"]).env("GREETING", "hello $HOME");
    let text = said(run(exec, json!({})));
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GREETING=hello $HOME", &format!("PATH={path}")]);
    let plain = |(name, value): &(String, String)| name != "PATH" && !value.contains('\n');
    let (name, value) = std::env::vars().find(plain).expect("some other variable");
    let text = said(run(Exec::new(["env"]).env_inherit(&name), json!({})));
    assert!(text.lines().any(|line| line == format!("{name}={value}")), "{text}");
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
