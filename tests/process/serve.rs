//! The built binary over its sockets: it starts, serves, is watched, reloads, drains and ends.

use std::io::{Read, Write};

use crate::child::{META, Scratch, Server, ask, command, connect, eventually, run};

fn echo(server: &Server, text: &str) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}},{META}}}}}"#
    );
    server.call("tools/call", Some("echo"), &body)
}

#[test]
fn the_first_command_works() {
    let server = Server::start(&[]);
    let answer = echo(&server, "hello");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains(r#""text":"hello""#), "{answer}");
}

#[test]
fn newline_delimited_json_is_served_too() {
    let server = Server::start(&[]);
    let mut stream = connect(&server.tcp);
    let request =
        format!(r#"{{"jsonrpc":"2.0","id":"a","method":"server/discover","params":{{{META}}}}}"#);
    writeln!(stream, "{request}").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("supportedVersions") && answer.ends_with('\n'), "{answer}");
}

#[test]
fn metrics_and_status_count_what_was_served() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        echo(&server, "x");
    }
    let metrics = server.admin("GET", "/metrics");
    assert!(
        metrics.contains("\nerlmcp_requests_total{method=\"tools/call\",outcome=\"ok\"} 3\n"),
        "{metrics}"
    );
    assert!(metrics.contains("tool=\"echo\""), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    assert!(server.admin("GET", "/livez").starts_with("HTTP/1.1 200 "));
    assert!(server.admin("GET", "/readyz").starts_with("HTTP/1.1 200 "));
    let (code, table, _) = run(&["status", "--shards", "--admin", &server.admin]);
    assert_eq!(code, 0);
    assert!(table.contains("ready") && table.contains("total"), "{table}");
    let (code, json, _) = run(&["status", "--json", "--admin", &server.admin]);
    assert_eq!(code, 0);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["total"]["latency_us"]["count"], 3, "{json}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn sigterm_and_sigint_end_it_with_success() {
    for signal in ["-TERM", "-INT"] {
        let server = Server::start(&[]);
        server.signal(signal);
        let (status, stderr) = server.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("drained"), "{stderr}");
    }
}

#[test]
fn a_drain_waits_for_the_call_in_flight_and_a_second_signal_does_not() {
    let slow = |server: &Server, ms: u32| {
        let mut stream = connect(&server.tcp);
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"name":"wait","arguments":{{"ms":{ms}}},{META}}}}}"#
        );
        writeln!(stream, "{request}").unwrap();
        eventually("the call is in flight", || {
            server.admin("GET", "/status").contains("\"calls\":1")
        });
        stream
    };

    let server = Server::start(&[]);
    let mut waiting = slow(&server, 700);
    server.signal("-TERM");
    eventually("it drains", || server.admin("GET", "/readyz").starts_with("HTTP/1.1 503 "));
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"id\":9") && answer.contains("result"), "{answer}");
    assert_eq!(server.wait().0.code(), Some(0));

    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let server = Server::start(&[]);
        let _waiting = slow(&server, 9_000);
        server.signal("-TERM");
        eventually("it drains", || server.admin("GET", "/readyz").starts_with("HTTP/1.1 503 "));
        server.signal(signal);
        let (status, stderr) = server.wait();
        assert_eq!(status.code(), Some(code), "{stderr}");
    }
}

#[test]
fn the_drain_command_drains() {
    let server = Server::start(&[]);
    let (code, out, _) = run(&["drain", "--admin", &server.admin]);
    assert_eq!((code, out.as_str()), (0, "draining\n"));
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_process_on_the_same_port_fails_loudly() {
    let server = Server::start(&[]);
    let free = "127.0.0.1:0";
    for (flag, taken) in
        [("--listen", &server.http), ("--tcp", &server.tcp), ("--admin", &server.admin)]
    {
        let mut words = vec!["--listen", free, "--tcp", free, "--admin", free];
        words.extend([flag, taken.as_str()]);
        // A flag may be given once: the free one makes room.
        let at = words.iter().position(|word| *word == flag).unwrap();
        words.drain(at..at + 2);
        let (code, out, err) = run(&words);
        assert_eq!(code, 1, "{flag}: {out}{err}");
        assert!(!out.contains("ready"), "{flag}: {out}");
        assert!(err.contains(taken.as_str()), "{flag}: {err}");
    }
    assert!(echo(&server, "still here").contains("still here"));
}

#[test]
fn sighup_reads_the_catalog_anew_and_a_broken_one_changes_nothing() {
    let resource = |name: &str| {
        format!("[[resource]]\nuri = \"test://{name}\"\nname = \"{name}\"\ntext = \"x\"\n")
    };
    let catalog = Scratch::new(&resource("before"));
    let server = Server::start(&["--catalog", catalog.path()]);
    let list = || {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/list","params":{{{META}}}}}"#);
        server.call("resources/list", None, &body)
    };
    assert!(list().contains("test://before"), "{}", list());
    catalog.write(&resource("after"));
    server.signal("-HUP");
    eventually("the new catalog is served", || list().contains("test://after"));
    assert!(!list().contains("test://before"));
    catalog.write("[[resource]]\nuri = 1\n");
    server.signal("-HUP");
    catalog.write(&resource("last"));
    server.signal("-HUP");
    eventually("a good one is served again", || list().contains("test://last"));
    server.signal("-TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn configuration_is_checked_without_starting() {
    let good = Scratch::new("[server]\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(
        run(&["--check-config", "--config", good.path()]),
        (0, "config ok\n".into(), "".into())
    );
    let bad = Scratch::new("[server]\nlisen = 1\n[limits]\npage_size = 0\n");
    let (code, out, err) = run(&["--check-config", "--config", bad.path()]);
    assert_eq!((code, out.as_str()), (2, ""));
    let file = bad.path();
    assert_eq!(
        err,
        format!(
            "{file}:2: server.lisen: unknown key; did you mean \"listen\"?\n\
             {file}:4: limits.page_size: 0 is not from 1 to 100000\n"
        )
    );
    let (code, _, err) = run(&["--check-config", "--catalog", "/nonexistent/tools.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("/nonexistent/tools.toml"), "{err}");
}

#[test]
fn a_public_address_must_be_meant() {
    let (code, out, err) = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("--public"), "{err}");
    let server = Server::start(&["--public", "--allow-host", "mcp.example"]);
    let answer =
        ask(&server.http, "GET /health HTTP/1.1\r\nHost: mcp.example\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = ask(
        &server.http,
        "GET /health HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn wrong_words_exit_with_2_and_right_ones_with_0() {
    assert_eq!(run(&["--no-such-flag"]).0, 2);
    assert_eq!(run(&["--cores", "0,0"]).0, 2);
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out), (0, format!("erlmcp-shard {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["--help"]).0, 0);
}

#[test]
fn logs_are_json_lines_when_asked() {
    let server = Server::start(&["--log", "json"]);
    server.signal("-TERM");
    let (_, stderr) = server.wait();
    assert!(!stderr.is_empty());
    for line in stderr.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            line["time"].is_string() && line["level"].is_string() && line["message"].is_string()
        );
    }
}

#[test]
fn systemd_is_told_of_life_and_end() {
    let socket = Scratch::new("");
    std::fs::remove_file(socket.path()).unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind(socket.path()).unwrap();
    systemd.set_read_timeout(Some(crate::child::HANG)).unwrap();
    let mut heard: Vec<String> = Vec::new();
    // Until it was said, before now or just now: beats come from a thread of their own.
    let mut hear = |wanted: &str| {
        let deadline = std::time::Instant::now() + crate::child::HANG;
        let mut words = [0; 256];
        while !heard.iter().any(|said| said == wanted) {
            assert!(std::time::Instant::now() < deadline, "no {wanted} in {heard:?}");
            let count = systemd.recv(&mut words).unwrap_or_else(|err| panic!("no {wanted}: {err}"));
            let said = String::from_utf8_lossy(&words[..count]).trim_end().to_owned();
            heard.push(said);
        }
        // Once heard is not heard twice.
        heard.retain(|said| said != wanted);
    };
    let mut command = command(&["--listen", "127.0.0.1:0", "--tcp", "off", "--admin", "off"]);
    command.env("NOTIFY_SOCKET", socket.path()).env("WATCHDOG_USEC", "100000");
    command.args(["--cores", "0", "--shards-per-core", "2"]);
    let mut child = command.spawn().unwrap();
    hear("STATUS=serving 0 connections on 2 shards");
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    crate::child::signal(&child, "-TERM");
    // 10 s of drain and 4 s of grace, whatever the unit's TimeoutStopSec says.
    hear("STOPPING=1\nEXTEND_TIMEOUT_USEC=14000000");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_program_learns_which_trace_it_is_part_of() {
    let catalog = Scratch::new(
        "[[tool]]\nname = \"env\"\ndescription = \"Its environment\"\nexec = [\"env\"]\n\
         input_schema = { type = \"object\" }\n",
    );
    let server = Server::start(&["--catalog", catalog.path()]);
    let meta = META.replace(
        r#""_meta":{"#,
        r#""_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","baggage":"a\u0000b","#,
    );
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"env",{meta}}}}}"#
    );
    let answer = server.call("tools/call", Some("env"), &body);
    let expect = r"TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n";
    assert!(answer.contains(expect) && !answer.contains("BAGGAGE"), "{answer}");
}
