//! Tasks of the built binary: made over one connection, asked for over others, on whichever shard they land.

use std::io::{Read, Write};

use crate::child::{Server, connect, eventually};

/// Params of a client that knows of tasks.
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}}"#;

fn two_shards() -> Server {
    Server::start(&["--catalog", "everything", "--shards-per-core", "2"])
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params},{META}}}}}"#)
}

/// The id of a new task.
fn begin(server: &Server, tool: &str) -> String {
    let body = request("tools/call", &format!(r#""name":"{tool}","arguments":{{"seconds":3600}}"#));
    let answer = server.call("tools/call", Some(tool), &body);
    assert!(answer.contains(r#""resultType":"task""#), "{answer}");
    let (_, rest) = answer.split_once(r#""taskId":""#).expect("an id");
    rest.split('"').next().expect("an id").to_owned()
}

fn ask(server: &Server, method: &str, id: &str, more: &str) -> String {
    server.call(method, Some(id), &request(method, &format!(r#""taskId":"{id}"{more}"#)))
}

#[test]
fn a_task_is_answered_over_other_connections() {
    let server = two_shards();
    let id = begin(&server, "confirm_delete");
    eventually("it asks", || {
        ask(&server, "tasks/get", &id, "").contains(r#""status":"input_required""#)
    });
    let answer =
        r#","inputResponses":{"confirm-1":{"action":"accept","content":{"confirm":true}}}"#;
    let acknowledged = ask(&server, "tasks/update", &id, answer);
    assert!(acknowledged.contains(r#""resultType":"complete""#), "{acknowledged}");
    eventually("it ends", || ask(&server, "tasks/get", &id, "").contains("Deleted everything"));
    // Sixteen connections: some of them land on each shard.
    for _ in 0..16 {
        let got = ask(&server, "tasks/get", &id, "");
        assert!(got.contains(r#""status":"completed""#), "{got}");
    }
}

#[test]
fn a_pipe_gets_the_answer_of_another_shard_before_it_is_closed() {
    let server = two_shards();
    let id = begin(&server, "slow_compute");
    for _ in 0..16 {
        let mut stream = connect(&server.tcp);
        writeln!(stream, "{}", request("tasks/get", &format!(r#""taskId":"{id}""#))).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        assert!(got.contains(r#""status":"working""#), "{got}");
    }
    ask(&server, "tasks/cancel", &id, "");
    assert!(ask(&server, "tasks/get", &id, "").contains(r#""status":"cancelled""#));
    let metrics = server.admin("GET", "/metrics");
    let kept = |line: &str| line.starts_with("erlmcp_tasks_active{") && line.ends_with(" 1");
    assert!(metrics.lines().any(kept), "{metrics}");
}

#[test]
fn a_task_that_was_cancelled_holds_up_no_drain() {
    let server = two_shards();
    let id = begin(&server, "slow_compute");
    ask(&server, "tasks/cancel", &id, "");
    server.signal("-TERM");
    let (status, stderr) = server.wait();
    assert!(status.success(), "{stderr}");
}
