//! Whoever does not know the secret, does not speak the protocol, or claims to be somebody else stays outside, and is
//! counted; those inside go on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;

use super::secret::Secret;
use super::{Cluster, alive, metric};
use crate::child::{HANG, command, eventually, run};

/// The cluster is as it was, and serves.
#[track_caller]
fn undisturbed(cluster: &Cluster) {
    cluster.agree();
    let session = cluster.open(1);
    for (_, server) in cluster.running() {
        // Not every shard's link need stand when the nodes have seen each other: until then clients are told to retry.
        eventually("every node serves", || match session.echo(&server.http) {
            Ok(()) => true,
            Err(why) => {
                assert!(why.contains(r#""retryable":true"#), "{why}");
                false
            }
        });
    }
}

#[test]
fn a_node_with_another_secret_stays_outside() {
    let mut cluster = Cluster::of(2, &[]);
    let other = Secret::new();
    let (mesh, peer) = (cluster.mesh(3), cluster.mesh(1));
    let words =
        ["--node", "3", "--mesh-listen", &mesh, "--peer", &peer, "--secret-file", other.path()];
    let stranger = crate::child::Server::start(&words);
    eventually("it is refused, and counted", || {
        0.0 < metric(cluster.node(1), "erlmcp_mesh_refusals_total", "secret")
    });
    eventually("it is told", || 0.0 < metric(&stranger, "erlmcp_mesh_refusals_by_peers", ""));
    assert!(alive(&stranger).eq([3]), "it is alone");
    undisturbed(&cluster);
    // It tries again, but not hot: refusals come seconds apart, however long it stays.
    let session = super::client::Session::open(&stranger.http);
    let refusal = session.echo(&cluster.node(1).http).expect_err("another secret sealed it");
    assert!(refusal.starts_with("HTTP/1.1 404 "), "{refusal}");
    drop(stranger);
    cluster.kill(2);
    let said = cluster.take(1);
    said.signal("-TERM");
    let (_, stderr) = said.wait();
    let lines = stderr.lines().filter(|line| line.contains("refused") && line.contains("secret"));
    assert_eq!(lines.count(), 1, "it is said once: {stderr}");
}

#[test]
fn garbage_on_the_mesh_is_cut_and_counted() {
    let cluster = Cluster::of(2, &[]);
    let mesh = cluster.mesh(1);
    let mut noise = vec![0u8; 4096];
    let mut seed = 7u32;
    for byte in &mut noise {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (seed >> 24) as u8;
    }
    let pieces: [&[u8]; 7] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0xff; 64],
        &[0; 64],
        &[0, 0, 0, 4, 1, 2, 3, 4],
        &u32::MAX.to_be_bytes(),
        &noise,
    ];
    for (number, piece) in pieces.iter().enumerate() {
        let mut stream = TcpStream::connect(&mesh).expect("the mesh listens");
        stream.set_read_timeout(Some(HANG)).expect("a timeout can be set");
        // It may be cut while we still write.
        let _ = stream.write_all(piece);
        let _ = stream.shutdown(Shutdown::Write);
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert!(heard.len() < 4096, "piece {number}: little is said to a stranger");
    }
    let counted = metric(cluster.node(1), "erlmcp_mesh_refusals_total", "");
    assert!(4.0 <= counted, "{counted} refusals were counted");
    undisturbed(&cluster);
}

#[test]
fn strangers_that_say_nothing_are_bounded_and_keep_nobody_out() {
    let mut cluster = Cluster::of(2, &[]);
    let mesh = cluster.mesh(1);
    let silent: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(&mesh).ok()).collect();
    assert!(250 < silent.len(), "the kernel takes them");
    undisturbed(&cluster);
    // Who comes while they sit there gets in when they are sent away for their silence.
    cluster.start(3);
    cluster.agree();
    undisturbed(&cluster);
    drop(silent);
}

#[test]
fn a_second_node_of_the_same_number_stays_outside() {
    let cluster = Cluster::of(2, &[]);
    let (mesh, peer) = (cluster.mesh(9), cluster.mesh(1));
    let words = [
        "--node",
        "2",
        "--mesh-listen",
        &mesh,
        "--peer",
        &peer,
        "--secret-file",
        cluster.secret.path(),
    ];
    let double = crate::child::Server::start(&words);
    eventually("it is refused, and counted", || {
        0.0 < metric(cluster.node(1), "erlmcp_mesh_refusals_total", "number")
    });
    undisturbed(&cluster);
    drop(double);
    undisturbed(&cluster);
}

#[test]
fn a_node_whose_list_names_only_itself_is_alone_and_serves() {
    let mut cluster = Cluster::new();
    let own = cluster.mesh(1);
    cluster.start_with(1, &["--peer", &own]);
    undisturbed(&cluster);
}

#[test]
fn a_secret_that_others_may_read_stops_the_boot() {
    let check = |mode: u32, text: Option<&str>, expect: &str| {
        let secret = Secret::new();
        if let Some(text) = text {
            secret.write(text);
        }
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(secret.path(), permissions).expect("the mode can be set");
        let words = ["--node", "1", "--mesh-listen", "127.0.0.1:0", "--secret-file", secret.path()];
        let free = ["--listen", "127.0.0.1:0", "--tcp", "off", "--admin", "off"];
        let words: Vec<&str> = words.iter().chain(&free).copied().collect();
        let (code, stdout, stderr) = run(&words);
        assert_ne!(code, 0, "{stdout}{stderr}");
        assert!(stderr.contains(expect) && stderr.contains(secret.path()), "{stderr}");
    };
    check(0o644, None, "chmod 600");
    check(0o640, None, "chmod 600");
    check(0o600, Some(""), "secret");
    check(0o600, Some("short\n"), "16");
    check(0o600, Some("aaaaaaaaaaaaaaaaaaaa\n"), "guess");
    check(
        0o600,
        Some(
            "1 234567890abcdef\n2 234567890abcdef\n3 234567890abcdef\n4 234567890abcdef\n5 234567890abcdef\n",
        ),
        "4",
    );
}

#[test]
fn a_secret_that_cannot_be_written_is_told() {
    // A full disk is /dev/full: every write fails.
    let output = command(&["secret", "/dev/full"]).output().expect("the binary runs");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("/dev/full"), "{stderr}");
}

#[test]
fn a_log_that_cannot_be_written_holds_nobody_up() {
    let full =
        std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full is there");
    let mut command =
        command(&["--listen", "127.0.0.1:0", "--tcp", "off", "--admin", "127.0.0.1:0"]);
    let mut cluster = Cluster::new();
    let (mesh, peer) = (cluster.mesh(1), cluster.mesh(2));
    command.args(["--node", "1", "--mesh-listen", &mesh, "--peer", &peer]);
    command.args([
        "--secret-file",
        cluster.secret.path(),
        "--cores",
        "0",
        "--shards-per-core",
        "2",
    ]);
    command.stderr(full);
    let server = crate::child::Server::spawn(command);
    cluster.nodes.insert(1, server);
    cluster.start(2);
    undisturbed(&cluster);
}
