//! The built binary over its own stdin and stdout.

use std::io::Read;

use crate::child::{META, Pipe};

fn discover(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{{META}}}}}"#)
}

#[test]
fn a_request_is_answered_at_once_and_nothing_else_is_on_stdout() {
    let mut pipe = Pipe::start(&[]);
    for id in 1..=3 {
        pipe.send(&discover(id));
        // Read before the next is written: the answer was not held back in a buffer.
        let answer: serde_json::Value = serde_json::from_str(&pipe.line()).unwrap();
        assert_eq!(answer["id"], id);
        assert!(answer["result"]["supportedVersions"].is_array(), "{answer}");
    }
}

#[test]
fn the_end_of_stdin_ends_it_after_the_last_answer() {
    let mut pipe = Pipe::start(&[]);
    for id in 0..100 {
        pipe.send(&discover(id));
    }
    drop(pipe.stdin.take());
    let mut ids = Vec::new();
    loop {
        let line = pipe.line();
        if line.is_empty() {
            break;
        }
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        ids.push(answer["id"].as_u64().unwrap());
    }
    assert_eq!(ids, (0..100).collect::<Vec<u64>>());
    assert_eq!(pipe.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_slow_call_is_finished_after_the_end_of_stdin() {
    let mut pipe = Pipe::start(&[]);
    pipe.send(&format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"wait","arguments":{{"ms":300}},{META}}}}}"#
    ));
    drop(pipe.stdin.take());
    let answer = pipe.line();
    assert!(answer.contains("\"id\":7") && answer.contains("result"), "{answer:?}");
    assert_eq!(pipe.line(), "");
    assert_eq!(pipe.child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_ends_when_nobody_reads_its_stdout() {
    let mut pipe = Pipe::start(&[]);
    // Close our end of its stdout, keep its stdin open.
    let (reader, writer) = std::io::pipe().unwrap();
    let stdout = std::mem::replace(
        &mut pipe.stdout,
        std::io::BufReader::new(std::process::ChildStdout::from(std::os::fd::OwnedFd::from(
            reader,
        ))),
    );
    drop((stdout, writer));
    pipe.send(&discover(1));
    assert_eq!(pipe.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_listener_that_is_asked_for_is_opened_and_not_announced_on_stdout() {
    let mut pipe = Pipe::start(&["--admin", "127.0.0.1:0"]);
    pipe.send(&discover(1));
    assert!(pipe.line().contains("\"id\":1"));
    drop(pipe.stdin.take());
    assert_eq!(pipe.line(), "");
    let mut log = String::new();
    pipe.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("listening admin 127.0.0.1:"), "{log}");
}
