//! One update reaches every listener of every node, exactly once.

use super::Cluster;
use super::client::{Stream, publish};

#[test]
fn an_update_is_heard_once_by_every_listener_of_every_node() {
    let cluster = Cluster::of(3, &[]);
    let (news, end) = ("demo://clock", "demo://greeting");
    let mut listeners: Vec<(String, Stream)> = Vec::new();
    for (node, server) in cluster.running() {
        for number in 0..4 {
            let mut of = |uri: &str| {
                let stream = Stream::of_updates(&server.http, uri);
                listeners.push((format!("listener {number} of node {node} for {uri}"), stream));
            };
            of(news);
        }
        // Legacy sessions of this node listen over the next.
        let session = cluster.open(node);
        for uri in [news, end] {
            session.subscribe(&server.http, uri);
        }
        let stream = session.listen(&cluster.node(1 + node % 3).http);
        listeners.push((format!("session of node {node}"), stream));
    }
    // Interest travels; what was published since a subscription reaches it all the same.
    for (_, server) in cluster.running() {
        publish(&server.http, news);
    }
    for (name, stream) in &mut listeners {
        for _ in 0..3 {
            assert_eq!(stream.next_update(), news, "{name}");
        }
    }
    // The next thing that each hears is the next thing that is published: nothing came twice.
    publish(&cluster.node(2).http, end);
    for (name, stream) in listeners.iter_mut().filter(|(name, _)| name.starts_with("session")) {
        assert_eq!(stream.next_update(), end, "{name}");
    }
    publish(&cluster.node(1).http, news);
    for (name, stream) in &mut listeners {
        assert_eq!(stream.next_update(), news, "{name}");
    }
}

#[test]
fn a_listener_that_comes_while_news_do_hears_each_at_most_once_and_all_after_its_acknowledgement() {
    let cluster = Cluster::of(2, &[]);
    let (one, two) = (cluster.node(1), cluster.node(2));
    for round in 0..20 {
        let uri = format!("demo://echo/round-{round}");
        let mut stream = Stream::of_updates(&one.http, &uri);
        publish(&two.http, &uri);
        publish(&two.http, &uri);
        assert_eq!((stream.next_update(), stream.next_update()), (uri.clone(), uri.clone()));
    }
}
