//! What operators of several nodes touch: what stops a node from starting, what they see, orders, secrets.

use std::fs::File;
use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use crate::child::{Scratch, Server, ask, command, eventually, run};
use crate::cluster::secret::Secret;

const SECRET: &str = "5d41402abc4b2a76b9719d911017c592\n";
const OTHER: &str = "7d793037a0760186574b0282f2f435e7\n";
const FREE: &str = "127.0.0.1:0";

fn secret(text: &str) -> Secret {
    let secret = Secret::new();
    secret.write(text);
    secret
}

/// A node of a cluster on one core.
fn node(number: &str, secret: &Secret, peers: &[&str]) -> Server {
    Server::start(&words(number, secret.path(), FREE, peers))
}

fn words<'w>(number: &'w str, secret: &'w str, mesh: &'w str, peers: &[&'w str]) -> Vec<&'w str> {
    let mut words =
        vec!["--cores", "0", "--node", number, "--secret-file", secret, "--mesh-listen", mesh];
    peers.iter().for_each(|peer| words.extend(["--peer", peer]));
    words
}

/// An address where nobody listens now.
fn nobody() -> String {
    let listener = TcpListener::bind(FREE).expect("there is a free port");
    listener.local_addr().expect("it has an address").to_string()
}

fn status(server: &Server) -> serde_json::Value {
    let (code, json, err) = run(&["status", "--json", "--admin", &server.admin]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&json).expect("it is JSON")
}

/// How that server sees that node: its state.
fn state(server: &Server, node: u16) -> String {
    let status = status(server);
    let nodes = status["cluster"]["nodes"].as_array().expect("it is in a cluster").clone();
    let found = nodes.iter().find(|view| view["node"] == node);
    found.map_or_else(|| "unknown".to_owned(), |view| view["state"].as_str().unwrap().to_owned())
}

#[track_caller]
fn eventually_sees(server: &Server, node: u16, wanted: &str) {
    eventually(&format!("node {node} is {wanted}"), || state(server, node) == wanted);
}

#[track_caller]
fn eventually_counts(server: &Server, metric: &str) {
    eventually(metric, || {
        let metrics = server.admin("GET", "/metrics");
        metrics.lines().any(|line| {
            line.strip_prefix(metric)
                .is_some_and(|count| count.trim().parse::<u64>().is_ok_and(|count| 0 < count))
        })
    });
}

/// Expects that the boot stops with exit code 2 before anything is listened on, and says this.
#[track_caller]
fn check_refused(words: &[&str], says: &[&str]) {
    for more in [&[][..], &["--check-config"]] {
        let words = [words, more].concat();
        let (code, out, err) = run(&words);
        assert_eq!((code, out.as_str()), (2, ""), "{words:?}: {err}");
        for say in says {
            assert!(err.contains(say), "{say:?} is not in {err:?}");
        }
        assert!(!err.contains(SECRET.trim()), "a secret was shown: {err}");
    }
}

#[test]
fn a_secret_that_others_can_read_stops_the_boot() {
    let secret = secret(SECRET);
    for mode in [0o644, 0o640, 0o602] {
        std::fs::set_permissions(secret.path(), Permissions::from_mode(mode)).unwrap();
        let says = format!("mode {mode:04o}): chmod 600 {}", secret.path());
        check_refused(&words("1", secret.path(), FREE, &[]), &[&says]);
    }
}

/// systemd.exec(5), `LoadCredential=`: root's file, opened to us by an access list, which shows as the group's mode.
#[test]
fn what_systemd_hands_over_may_show_permissions_of_the_group() {
    let secret = secret(SECRET);
    let folder = std::path::Path::new(secret.path()).parent().unwrap();
    let check = |mode: u32, folder: &std::path::Path, code: i32| {
        std::fs::set_permissions(secret.path(), Permissions::from_mode(mode)).unwrap();
        let mut command = command(&["--check-config"]);
        command.args(words("1", secret.path(), FREE, &[])).env("CREDENTIALS_DIRECTORY", folder);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{mode:o}: {output:?}");
    };
    check(0o440, folder, 0);
    check(0o444, folder, 2);
    check(0o440, &folder.join("elsewhere"), 2);
}

#[test]
fn a_file_that_is_no_secret_stops_the_boot_and_says_what_to_do() {
    let missing = "/nonexistent/cluster.secret";
    let advice = format!("erlmcp-shard secret {missing}");
    check_refused(&words("1", missing, FREE, &[]), &[missing, &advice]);
    for (text, says) in [
        ("", "no secret in it"),
        ("too short\n", "at least 16 bytes"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "easy to guess"),
        ("\u{1}\u{2}\u{3}\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "is it the right file?"),
    ] {
        let secret = secret(text);
        check_refused(&words("1", secret.path(), FREE, &[]), &[secret.path(), says]);
    }
    for special in ["/dev/full", "/dev/zero", "/"] {
        check_refused(&words("1", special, FREE, &[]), &[special, "not a regular file"]);
    }
}

#[test]
fn a_cluster_needs_a_number_a_secret_and_an_address_that_others_reach() {
    let secret = secret(SECRET);
    let path = secret.path();
    check_refused(&["--secret-file", path], &["cluster.node: missing", "--node"]);
    check_refused(&["--node", "1"], &["cluster.secret_file: missing", "erlmcp-shard secret"]);
    check_refused(&words("1", path, "0.0.0.0:7946", &[]), &["cannot be told to dial 0.0.0.0"]);
    check_refused(&words("1", path, FREE, &["192.0.2.1:7946"]), &["is on another machine"]);
    let holder = TcpListener::bind(FREE).unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let free = ["--listen", FREE, "--tcp", FREE, "--admin", FREE];
    let words = [&free[..], &words("1", path, &taken, &[])].concat();
    let (code, out, err) = run(&words);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(&taken), "{err}");
}

#[test]
fn nodes_find_each_other_whoever_starts_first() {
    let secret = secret(SECRET);
    let first = node("1", &secret, &[]);
    assert!(first.admin("GET", "/readyz").contains("ready: the first node of its cluster"));
    let second = node("2", &secret, &[&first.mesh]);
    // Named nowhere, found through the first.
    let third = node("3", &secret, &[&first.mesh]);
    for server in [&first, &second, &third] {
        for node in [1, 2, 3] {
            eventually_sees(server, node, "alive");
        }
    }
    assert!(first.admin("GET", "/readyz").contains("ready: in a cluster of 3"));
    eventually("reports have come", || {
        let status = status(&third);
        let nodes = status["cluster"]["nodes"].as_array().unwrap();
        nodes.iter().all(|node| node["last"]["version"] == env!("CARGO_PKG_VERSION"))
    });
    let (code, table, _) = run(&["status", "--shards", "--admin", &second.admin]);
    assert_eq!(code, 0);
    assert!(table.contains("seen from node 2  3 alive") && table.contains("seed"), "{table}");
    let metrics = second.admin("GET", "/metrics");
    assert!(metrics.contains("\nerlmcp_cluster_nodes{state=\"alive\"} 3\n"), "{metrics}");
    assert!(metrics.contains("\nerlmcp_mesh_peers 2"), "{metrics}");
}

#[test]
fn a_node_whose_peers_are_missing_is_ready_and_says_that_it_is_alone() {
    let secret = secret(SECRET);
    let server = node("1", &secret, &[&nobody(), &nobody()]);
    let ready = server.admin("GET", "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("none of 2 peers"), "{ready}");
}

/// A shard that left said goodbye to another that slept, and did not wake it: the drain took all its time.
#[test]
fn a_node_with_nothing_to_do_leaves_at_once_however_long_a_drain_may_take() {
    let config = Scratch::new("[server]\ndrain_ms = 3_600_000\n");
    let secret = secret(SECRET);
    for shards in ["1", "2", "3"] {
        let peer = nobody();
        let mut words = words("1", secret.path(), FREE, &[&peer]);
        words.extend(["--shards-per-core", shards, "--config", config.path()]);
        let server = Server::start(&words);
        server.signal("-TERM");
        eventually("it has left", || TcpStream::connect(&server.admin).is_err());
        assert_eq!(server.wait().0.code(), Some(0));
    }
}

#[test]
fn a_peer_list_may_name_the_node_itself() {
    let secret = secret(SECRET);
    let own = nobody();
    let server = Server::start(&words("1", secret.path(), &own, &[&own]));
    assert!(server.admin("GET", "/readyz").contains("the first node of its cluster"));
    server.signal("-TERM");
    let (_, stderr) = server.wait();
    assert!(stderr.contains("peers names this node itself: left out"), "{stderr}");
}

#[test]
fn a_dead_node_shows_what_it_said_last() {
    let secret = secret(SECRET);
    let first = node("1", &secret, &[]);
    let second = node("2", &secret, &[&first.mesh]);
    let last = |of: &Server| status(of)["cluster"]["nodes"][1]["last"].clone();
    eventually("it has said something", || last(&first)["pid"].is_u64());
    second.signal("-KILL");
    eventually_sees(&first, 2, "dead");
    let words = last(&first);
    assert!(words["age_ms"].is_u64() && words["total"]["capacity"].as_u64() > Some(0), "{words}");
    let status = status(&first);
    assert_eq!(status["cluster"]["total"]["capacity"], status["total"]["capacity"]);
    let answer = ask(
        &first.admin,
        "POST /drain?node=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("node 2 is dead"), "{answer}");
}

#[test]
fn any_node_can_be_drained_through_any_other() {
    let secret = secret(SECRET);
    let first = node("1", &secret, &[]);
    let second = node("2", &secret, &[&first.mesh]);
    eventually_sees(&first, 2, "alive");
    for (node, says) in [("9", "there is no node 9; there are 1, 2"), ("0", "from 1 to 65535")] {
        let (code, _, err) = run(&["drain", "--node", node, "--admin", &first.admin]);
        assert!(code != 0 && err.contains(says), "{code}: {err}");
    }
    let drain = ["drain", "--node", "2", "--admin", &first.admin];
    // The link may be a moment younger than the view.
    eventually("the order leaves", || run(&drain).0 == 0);
    let (status, stderr) = second.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("asked through node 1 to drain"), "{stderr}");
    eventually_sees(&first, 2, "dead");
    assert_eq!(run(&["drain", "--node", "1", "--admin", &first.admin]).0, 0);
    let (status, stderr) = first.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("node 2 has left"), "{stderr}");
}

#[test]
fn a_server_without_a_cluster_says_so() {
    let server = Server::start(&[]);
    let (code, _, err) = run(&["drain", "--node", "2", "--admin", &server.admin]);
    assert!(code == 1 && err.contains("in no cluster"), "{code}: {err}");
    assert!(!server.admin("GET", "/metrics").contains("erlmcp_mesh"));
}

/// A node whose log is a file, so that a test can wait for what it says.
fn logged(number: &str, secret: &Secret, peers: &[&str]) -> (Server, Scratch) {
    let log = Scratch::new("");
    let file = File::options().append(true).open(log.path()).unwrap();
    let mut command = command(&["--listen", FREE, "--tcp", FREE, "--admin", FREE]);
    command.args(words(number, secret.path(), FREE, peers)).stderr(file);
    (Server::spawn(command), log)
}

fn read(log: &Scratch) -> String {
    std::fs::read_to_string(log.path()).expect("the log can be read")
}

#[test]
fn a_secret_is_replaced_without_a_restart() {
    let secrets = [secret(SECRET), secret(SECRET)];
    let (first, first_log) = logged("1", &secrets[0], &[]);
    let (second, second_log) = logged("2", &secrets[1], &[&first.mesh]);
    eventually_sees(&first, 2, "alive");
    let nodes = [(&first, &secrets[0], &first_log), (&second, &secrets[1], &second_log)];
    let reread = |text: &str, says: &str, times: usize| {
        for (server, secret, log) in nodes {
            secret.write(text);
            server.signal("-HUP");
            eventually(says, || read(log).matches(says).count() == times);
        }
    };
    // What is wrong changes nothing.
    reread("short", "still using the old secret", 1);
    // Step by step, as the README says: known everywhere, used everywhere, the old one gone.
    reread(&format!("{SECRET}{OTHER}"), "the cluster's secret was replaced: Secrets(2)", 1);
    let old = node("3", &secret(SECRET), &[&first.mesh]);
    eventually_sees(&old, 2, "alive");
    reread(&format!("{OTHER}{SECRET}"), "the cluster's secret was replaced: Secrets(2)", 2);
    reread(OTHER, "the cluster's secret was replaced: Secrets(1)", 1);
    let new = secret(OTHER);
    let third = node("4", &new, &[&first.mesh]);
    eventually_sees(&third, 2, "alive");
    let stranger = node("5", &secret(SECRET), &[&first.mesh]);
    eventually_counts(&first, "erlmcp_mesh_refusals_total{reason=\"secret\"}");
    assert_eq!((state(&first, 2), state(&stranger, 1)), ("alive".into(), "unknown".into()));
    for log in [&first_log, &second_log] {
        let log = read(log);
        assert!(!log.contains(OTHER.trim()) && !log.contains(SECRET.trim()), "{log}");
    }
}

#[test]
fn ids_made_before_a_rotation_are_good_after_it() {
    let secret = secret(SECRET);
    let (server, log) = logged("1", &secret, &[]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let post = |session: &str, body: &str| {
        let length = body.len();
        ask(
            &server.http,
            &format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Accept: application/json, text/event-stream\r\n{session}Content-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            ),
        )
    };
    let opened = post("", body);
    let field = opened.lines().find(|line| line.to_ascii_lowercase().starts_with("mcp-session-id"));
    let session = format!("{}\r\n", field.expect("a session has an id"));
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    assert!(post(&session, ping).starts_with("HTTP/1.1 200 "));
    for (text, status) in [(format!("{OTHER}{SECRET}"), "200"), (OTHER.to_owned(), "404")] {
        let before = read(&log).matches("was replaced").count();
        secret.write(&text);
        server.signal("-HUP");
        eventually("it is read", || before < read(&log).matches("was replaced").count());
        // The shards hear of it a moment after the log.
        eventually(status, || post(&session, ping).starts_with(&format!("HTTP/1.1 {status} ")));
    }
}

#[test]
fn the_secret_command_makes_what_a_node_takes() {
    let (code, line, err) = run(&["secret"]);
    assert_eq!((code, line.len(), err.as_str()), (0, 65, ""));
    let folder = std::env::temp_dir().join(format!("erlmcp-test-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("cluster.secret");
    let path = path.to_str().unwrap();
    assert_eq!(run(&["secret", path]), (0, String::new(), String::new()));
    let (code, _, err) = run(&["secret", path]);
    assert!(code == 1 && err.contains("is there already"), "{err}");
    let checked = run(&["--check-config", "--node", "1", "--secret-file", path]);
    assert_eq!(checked, (0, "config ok\n".into(), "".into()));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_secret_that_does_not_reach_stdout_is_an_error() {
    let full = File::options().write(true).open("/dev/full").expect("there is /dev/full");
    let output = command(&["secret"]).stdout(full).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("cannot print the secret") && err.contains("No space left"), "{err}");
}
