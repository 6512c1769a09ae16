//! The notice before a drain: balancers see that the node is not ready, clients see nothing of it.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::child::{HANG, META, Scratch, Server, ask, command, eventually, run};
use crate::cluster::{Cluster, alive, status};

/// A notice whose end only a hang reaches, milliseconds.
const LONG: &str = "600000";

fn patient() -> Server {
    Server::start(&["--drain-notice-ms", LONG])
}

/// One request over a new connection: the status of its answer.
fn code(address: &str, request: &str) -> u16 {
    let answer = ask(address, request);
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// As HAProxy asks (`option httpchk GET /health`): HTTP/1.0, no `Host`.
fn health(server: &Server) -> u16 {
    code(&server.http, "GET /health HTTP/1.0\r\n\r\n")
}

fn readyz(server: &Server) -> u16 {
    code(&server.admin, "GET /readyz HTTP/1.0\r\n\r\n")
}

/// Until both say that it is not ready: shards hear of it one after the other.
#[track_caller]
fn eventually_not_ready(server: &Server) {
    eventually("/readyz says so", || readyz(server) == 503);
    eventually("/health says so", || health(server) == 503);
}

/// Expects that a new connection is accepted, and a call and a new session on it served.
#[track_caller]
fn check_serves(server: &Server) {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"as before"}},{META}}}}}"#
    );
    let answer = server.call("tools/call", Some("echo"), &body);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("as before"), "{answer}");
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let answer = ask(
        &server.http,
        &format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.contains("\r\nMcp-Session-Id: "), "{answer}");
}

#[test]
fn a_node_that_gives_notice_is_not_ready_and_serves_and_then_leaves() {
    let notice = Duration::from_millis(3_000);
    let config = Scratch::new("server.drain_notice_ms = 3_000\n");
    let server = Server::start(&["--config", config.path()]);
    assert_eq!((readyz(&server), health(&server)), (200, 200));
    let asked = Instant::now();
    server.signal("-TERM");
    eventually_not_ready(&server);
    check_serves(&server);
    assert_eq!((readyz(&server), health(&server)), (503, 503));
    let (ended, stderr) = server.wait();
    assert!(notice <= asked.elapsed() && asked.elapsed() < HANG, "{:?}", asked.elapsed());
    assert_eq!(ended.code(), Some(0), "{stderr}");
    let says = ["SIGTERM: not ready any more", "the notice is over: draining", "drained"];
    let at: Vec<Option<usize>> = says.iter().map(|say| stderr.find(say)).collect();
    assert!(at.is_sorted() && at[0].is_some(), "{stderr}");
}

#[test]
fn sigint_skips_the_notice() {
    let server = patient();
    server.signal("-INT");
    let (ended, stderr) = server.wait();
    assert_eq!(ended.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("not ready any more"), "{stderr}");
}

#[test]
fn a_second_signal_in_the_notice_leaves_at_once() {
    for (second, code) in [("-TERM", 143), ("-INT", 130)] {
        let server = patient();
        server.signal("-TERM");
        eventually_not_ready(&server);
        server.signal(second);
        let (ended, stderr) = server.wait();
        assert_eq!(ended.code(), Some(code), "{stderr}");
    }
}

#[test]
fn an_order_to_drain_gives_notice_and_the_signal_after_it_is_the_same_wish() {
    let log = Scratch::new("");
    let file = File::options().append(true).open(log.path()).unwrap();
    let free = "127.0.0.1:0";
    let mut command = command(&["--listen", free, "--tcp", free, "--admin", free]);
    command.args(["--drain-notice-ms", LONG]).stderr(file);
    let server = Server::spawn(command);
    assert_eq!(run(&["drain", "--admin", &server.admin]).0, 0);
    eventually_not_ready(&server);
    let leaving = status(&server)["leaving"].clone();
    assert_eq!(leaving["stage"], "notice", "{leaving}");
    assert!(leaving["left_ms"].as_u64().is_some_and(|left| left <= 600_000), "{leaving}");
    let (_, table, _) = run(&["status", "--admin", &server.admin]);
    assert!(table.contains("draining: begins in "), "{table}");
    server.signal("-TERM");
    eventually("the signal was taken", || {
        let log = std::fs::read_to_string(log.path()).unwrap();
        log.contains("SIGTERM: it is leaving already")
    });
    check_serves(&server);
    assert_eq!((readyz(&server), health(&server)), (503, 503));
    server.signal("-TERM");
    assert_eq!(server.wait().0.code(), Some(143));
}

#[test]
fn a_person_who_asks_after_an_order_does_not_wait_for_the_notice() {
    let server = patient();
    assert_eq!(run(&["drain", "--admin", &server.admin]).0, 0);
    eventually_not_ready(&server);
    server.signal("-INT");
    let (ended, stderr) = server.wait();
    assert_eq!(ended.code(), Some(0), "{stderr}");
    assert!(stderr.contains("SIGINT: draining for at most 10000 ms"), "{stderr}");
}

#[test]
fn a_local_client_is_not_made_to_wait_for_balancers_that_are_not_there() {
    let mut pipe = crate::child::Pipe::start(&["--drain-notice-ms", LONG]);
    let request =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{META}}}}}"#);
    pipe.send(&request);
    assert!(pipe.line().contains("supportedVersions"));
    crate::child::signal(&pipe.child, "-TERM");
    assert_eq!(pipe.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_cluster_goes_on_with_a_node_that_gives_notice() {
    let mut cluster = Cluster::of(3, &["--drain-notice-ms", LONG]);
    let mut sessions: Vec<_> = (0..4).map(|_| cluster.open(2)).collect();
    let admin = cluster.node(1).admin.clone();
    let drain = ["drain", "--node", "2", "--admin", &admin];
    assert_eq!(run(&drain).0, 0);
    eventually_not_ready(cluster.node(2));
    check_serves(cluster.node(2));
    sessions.push(cluster.open(2));
    eventually("node 1 is told by node 2", || {
        status(cluster.node(1))["cluster"]["nodes"][1]["last"]["draining"] == true
    });
    assert!(alive(cluster.node(1)).eq([1, 2, 3]), "it is a node like the others");
    let (_, table, _) = run(&["status", "--admin", &admin]);
    assert!(table.contains("\n2           draining seed"), "{table}");
    for node in [1, 2, 3] {
        for session in &sessions {
            assert_eq!(session.echo(&cluster.node(node).http), Ok(()), "over node {node}");
        }
    }
    let leaver = cluster.take(2);
    leaver.signal("-INT");
    let (ended, stderr) = leaver.wait();
    assert_eq!(ended.code(), Some(0), "{stderr}");
    assert!(stderr.contains("asked through node 1 to drain: not ready any more"), "{stderr}");
    cluster.all_see_dead(2);
    for session in &sessions {
        eventually("its session goes on", || session.echo(&cluster.node(3).http).is_ok());
    }
}

#[test]
fn systemd_hears_of_the_notice_and_waits_for_all_of_it() {
    let socket = Scratch::new("");
    std::fs::remove_file(socket.path()).unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind(socket.path()).unwrap();
    systemd.set_read_timeout(Some(HANG)).unwrap();
    let mut words = [0; 256];
    let mut hear = |wanted: &str| {
        let deadline = Instant::now() + HANG;
        loop {
            assert!(Instant::now() < deadline, "no {wanted}");
            let count = systemd.recv(&mut words).unwrap_or_else(|err| panic!("no {wanted}: {err}"));
            if String::from_utf8_lossy(&words[..count]).trim_end() == wanted {
                return;
            }
        }
    };
    let mut command = command(&["--listen", "127.0.0.1:0", "--tcp", "off", "--admin", "off"]);
    command.env("NOTIFY_SOCKET", socket.path()).env("WATCHDOG_USEC", "100000");
    command.args(["--cores", "0", "--shards-per-core", "2", "--drain-notice-ms", "1500"]);
    let mut child = command.spawn().unwrap();
    hear("READY=1");
    crate::child::signal(&child, "-TERM");
    // 1.5 s of notice, 10 s of drain and 4 s of grace.
    hear("STOPPING=1\nEXTEND_TIMEOUT_USEC=15500000");
    hear("STATUS=draining soon, not ready: serving 0 connections on 2 shards");
    hear("WATCHDOG=1");
    hear("STOPPING=1\nEXTEND_TIMEOUT_USEC=14000000");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
