//! A node dies, hangs, or is asked to go; its sessions do not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{Session, call, publish};
use super::{Cluster, alive, status};
use crate::child::eventually;

/// Every session answers over every node that runs.
#[track_caller]
fn all_answer(cluster: &Cluster, sessions: &[Session]) {
    for (node, server) in cluster.running() {
        for (index, session) in sessions.iter().enumerate() {
            let mut last = String::new();
            let answers = |last: &mut String| match session.echo(&server.http) {
                Ok(()) => true,
                Err(why) => {
                    assert!(!why.starts_with("HTTP/1.1 404 "), "session {index} is lost: {why}");
                    *last = why;
                    false
                }
            };
            eventually(&format!("session {index} answers over node {node}; {last}"), || {
                answers(&mut last)
            });
        }
    }
}

#[test]
fn sessions_of_a_killed_node_go_on_with_their_subscriptions() {
    let mut cluster = Cluster::of(3, &[]);
    let sessions: Vec<Session> = (0..12).map(|_| cluster.open(2)).collect();
    for session in &sessions {
        session.subscribe(&cluster.node(1).http, "demo://clock");
    }
    cluster.kill(2);
    cluster.all_see_dead(2);
    all_answer(&cluster, &sessions);
    let mut streams: Vec<_> =
        sessions.iter().map(|session| session.listen(&cluster.node(3).http)).collect();
    publish(&cluster.node(1).http, "demo://clock");
    for stream in &mut streams {
        assert_eq!(stream.next_update(), "demo://clock");
    }
    // The node comes back and serves them too, as it serves those of any other.
    cluster.start(2);
    cluster.agree();
    all_answer(&cluster, &sessions);
    let fresh = cluster.open(2);
    all_answer(&cluster, &[fresh]);
}

#[test]
fn nodes_may_die_one_after_the_other() {
    let mut cluster = Cluster::of(3, &[]);
    let sessions: Vec<Session> = (0..12).map(|number| cluster.open(1 + number % 3)).collect();
    for victim in [1, 2, 3, 1] {
        cluster.kill(victim);
        cluster.all_see_dead(victim);
        all_answer(&cluster, &sessions);
        cluster.start(victim);
        cluster.agree();
        all_answer(&cluster, &sessions);
    }
}

#[test]
fn a_call_in_flight_on_a_killed_node_gets_an_error_that_says_again() {
    let mut cluster = Cluster::of(3, &[]);
    let session = cluster.open(2);
    let asked = cluster.node(1).http.clone();
    let waiting = {
        let session = session.clone();
        std::thread::spawn(move || session.try_post(&asked, &call("wait", r#"{"ms":9000}"#)))
    };
    eventually("the call is in flight on node 2", || {
        status(cluster.node(2))["total"]["calls"] == 1
    });
    cluster.kill(2);
    let answer = waiting.join().expect("the thread lives").expect("node 1 answers");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains(r#""retryable":true"#), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    cluster.all_see_dead(2);
    all_answer(&cluster, &[session]);
}

#[test]
fn a_stream_through_a_killed_owner_ends_and_may_be_opened_again() {
    let mut cluster = Cluster::of(3, &[]);
    let session = cluster.open(2);
    session.subscribe(&cluster.node(2).http, "demo://clock");
    let mut stream = session.listen(&cluster.node(1).http);
    publish(&cluster.node(3).http, "demo://clock");
    assert_eq!(stream.next_update(), "demo://clock");
    cluster.kill(2);
    let rest = stream.rest();
    assert!(rest.contains("retry:"), "it says when to come again: {rest:?}");
    cluster.all_see_dead(2);
    all_answer(&cluster, std::slice::from_ref(&session));
    let mut stream = session.listen(&cluster.node(1).http);
    publish(&cluster.node(3).http, "demo://clock");
    assert_eq!(stream.next_update(), "demo://clock");
}

#[test]
fn a_node_that_was_stopped_for_a_while_owns_nothing_twice() {
    let cluster = Cluster::of(3, &[]);
    let sessions: Vec<Session> = (0..12).map(|_| cluster.open(2)).collect();
    cluster.node(2).signal("-STOP");
    for node in [1, 3] {
        eventually(&format!("node {node} sees the silence"), || {
            alive(cluster.node(node)).eq([1, 3])
        });
        for session in &sessions {
            eventually("its session answers elsewhere", || {
                session.echo(&cluster.node(node).http).is_ok()
            });
        }
    }
    cluster.node(2).signal("-CONT");
    cluster.agree();
    all_answer(&cluster, &sessions);
    eventually("each session has one owner", || {
        let owned = |(_, server)| status(server)["total"]["sessions"].as_u64();
        cluster.running().filter_map(owned).sum::<u64>() == sessions.len() as u64
    });
    all_answer(&cluster, &sessions);
}

#[test]
fn a_node_drains_under_load_and_nothing_fails() {
    let mut cluster = Cluster::of(3, &[]);
    let sessions: Vec<Session> = (0..12).map(|number| cluster.open(1 + number % 3)).collect();
    let done = AtomicBool::new(false);
    let failures: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let others = [cluster.node(1).http.clone(), cluster.node(3).http.clone()];
    let leaver = cluster.take(2);
    std::thread::scope(|scope| {
        for (worker, http) in others.iter().chain(&others).enumerate() {
            let (sessions, done, failures) = (&sessions, &done, &failures);
            scope.spawn(move || {
                let mut turn = worker;
                while !done.load(Ordering::Relaxed) {
                    turn += 1;
                    let session = &sessions[turn % sessions.len()];
                    if let Err(why) = session.echo(http) {
                        failures.lock().expect("no worker panics").push(why);
                    }
                }
            });
        }
        leaver.signal("-TERM");
        let (ended, stderr) = leaver.wait();
        cluster.all_see_dead(2);
        done.store(true, Ordering::Relaxed);
        assert!(ended.success(), "{stderr}");
    });
    let failures = failures.into_inner().expect("no worker panics");
    assert!(failures.is_empty(), "{} calls failed, the first: {}", failures.len(), failures[0]);
    all_answer(&cluster, &sessions);
}

#[test]
fn an_operator_drains_a_node_through_another() {
    let mut cluster = Cluster::of(3, &[]);
    let sessions: Vec<Session> = (0..6).map(|_| cluster.open(2)).collect();
    let admin = cluster.node(1).admin.clone();
    let (code, out, stderr) = crate::child::run(&["drain", "--node", "2", "--admin", &admin]);
    assert_eq!(code, 0, "{out}{stderr}");
    let (ended, stderr) = cluster.take(2).wait();
    assert!(ended.success(), "{stderr}");
    cluster.all_see_dead(2);
    all_answer(&cluster, &sessions);
}
