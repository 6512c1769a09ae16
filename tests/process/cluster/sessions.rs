//! A session belongs to no connection and to no node: it is used over all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::client::{Session, call, publish, request};
use super::{Cluster, metric};

#[test]
fn a_session_is_used_over_every_node_and_deleted_over_any() {
    let cluster = Cluster::of(3, &[]);
    for home in 1..=3 {
        // Enough of them to live on every shard, and used over enough connections to come from every shard.
        let sessions: Vec<Session> = (0..6).map(|_| cluster.open(home)).collect();
        for (_, server) in cluster.running() {
            for session in &sessions {
                session.echo(&server.http).expect("every node serves it");
                session.echo(&server.http).expect("again");
            }
        }
        for (index, session) in sessions.iter().enumerate() {
            let at = 1 + (usize::from(home) + index) as u16 % 3;
            let answer = session.delete(&cluster.node(at).http);
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            for (_, server) in cluster.running() {
                // Who has just met the others asks for patience first.
                let deadline = Instant::now() + Duration::from_secs(5);
                let mut refusal = session.echo(&server.http).expect_err("it was deleted");
                while refusal.starts_with("HTTP/1.1 503 ") && Instant::now() < deadline {
                    refusal = session.echo(&server.http).expect_err("it was deleted");
                }
                assert!(refusal.starts_with("HTTP/1.1 404 "), "{refusal}");
            }
        }
    }
    let forwards: f64 =
        cluster.running().map(|(_, server)| metric(server, "erlmcp_forwards", "")).sum();
    assert!(0.0 < forwards, "nothing was forwarded");
}

#[test]
fn a_stream_over_one_node_hears_what_is_done_over_the_others() {
    let cluster = Cluster::of(3, &[]);
    for (home, stream_at) in [(1, 2), (2, 2), (3, 1)] {
        // A resource of its own: who subscribes may also hear what was published just before.
        let (news, end) = (format!("demo://echo/{home}"), format!("demo://echo/end-{home}"));
        let session = cluster.open(home);
        session.subscribe(&cluster.node(1).http, &news);
        let mut stream = session.listen(&cluster.node(stream_at).http);
        for (_, server) in cluster.running() {
            let arguments = format!(r#"{{"uri":"{news}"}}"#);
            let answer = session.post(&server.http, &call("publish", &arguments));
            assert!(answer.contains("Published"), "{answer}");
        }
        for (node, server) in cluster.running() {
            assert_eq!(stream.next_update(), news, "the update of node {node}");
            publish(&server.http, "demo://nobody/cares");
        }
        session.subscribe(&cluster.node(3).http, &end);
        publish(&cluster.node(2).http, &end);
        assert_eq!(stream.next_update(), end, "each was heard once");
        let answer = session.delete(&cluster.node(3).http);
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        assert!(stream.next().is_none(), "the stream ends with its session");
    }
}

#[test]
fn what_a_session_is_told_over_one_node_holds_over_all() {
    let cluster = Cluster::of(3, &["--catalog", "everything"]);
    let session = cluster.open(2);
    let set = request("logging/setLevel", r#""level":"warning""#);
    let answer = session.post(&cluster.node(1).http, &set);
    assert!(answer.contains(r#""result":{}"#), "{answer}");
    for (_, server) in cluster.running() {
        let list = session.post(&server.http, &request("tools/list", ""));
        assert!(list.starts_with("HTTP/1.1 200 ") && list.contains("\"tools\""), "{list}");
    }
}

#[test]
fn ids_of_sessions_name_their_nodes_and_are_never_the_same() {
    let cluster = Cluster::of(2, &[]);
    let ids: BTreeSet<String> = (0..20).map(|number| cluster.open(1 + number % 2).id).collect();
    assert_eq!(ids.len(), 20);
    let forged =
        Session { id: ids.iter().next().expect("there are some").replace(['A', 'B'], "C") };
    for (_, server) in cluster.running() {
        let refusal = forged.echo(&server.http).expect_err("nobody made it");
        assert!(refusal.starts_with("HTTP/1.1 404 "), "{refusal}");
    }
}
