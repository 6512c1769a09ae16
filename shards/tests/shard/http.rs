//! HTTP conversations over a simulated ring.

use crate::common::wire::{get, parse_response, post, take_responses};
use crate::common::{World, echo};
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::{ChunkLen, End, Faults, SimClient};

/// Sends `input` in one conversation, whole, byte by byte and in random pieces; checks status and body of
/// each response, and whether the server then closed.
#[track_caller]
fn check(input: &[u8], expect: &[(u16, &[u8])], closes: bool) {
    let pieces = [ChunkLen::Whole, ChunkLen::Fixed(1), ChunkLen::Fixed(7), ChunkLen::Random(90)];
    for (seed, chunk) in pieces.into_iter().enumerate() {
        let mut world = World::new(seed as u64, Faults { chunk, ..Faults::none() });
        let client = world.http();
        client.send(input);
        world.turns(input.len() + 200);
        let mut bytes = client.received();
        let found = take_responses(&mut bytes);
        let found: Vec<_> = found.iter().map(|one| (one.status, one.body.as_slice())).collect();
        assert_eq!(found, expect, "{chunk:?}");
        assert_eq!(bytes, b"", "{chunk:?}: more than whole responses");
        assert_eq!(client.end(), closes.then_some(End::Fin), "{chunk:?}");
        client.close();
        world.settle();
        world.assert_clean();
    }
}

#[test]
fn requests_are_answered_in_order_however_they_are_cut() {
    check(&post("/echo", b"hello"), &[(200, b"hello")], false);
    let mut three = post("/later", b"one");
    three.extend(post("/echo", b"two"));
    three.extend(get("/nowhere"));
    check(&three, &[(200, b"one"), (200, b"two"), (404, b"nothing here")], false);
    let chunked = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n";
    check(chunked, &[(200, b"abcdefg")], false);
}

#[test]
fn a_body_larger_than_a_receive_buffer_arrives_whole() {
    let body = echo::big(10_000);
    check(&post("/echo", &body), &[(200, &body)], false);
}

#[test]
fn close_is_obeyed_and_what_follows_it_is_ignored() {
    let mut input =
        b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
            .to_vec();
    input.extend(post("/echo", b"too late"));
    check(&input, &[(200, b"hi")], true);
    check(b"GET /nowhere HTTP/1.0\r\n\r\n", &[(404, b"nothing here")], true);
    let kept = b"GET /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    check(kept, &[(404, b"nothing here")], false);
}

#[test]
fn a_bad_request_is_told_why_before_the_connection_closes() {
    let text: &[u8] = b"HTTP/1.1 requires a Host header: send one\n";
    check(b"GET / HTTP/1.1\r\n\r\n", &[(400, text)], true);
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    client.send(&vec![b'x'; 50_000]); // What is still on its way must not turn the answer into a reset.
    world.settle();
    let (response, _) = parse_response(&client.received()).expect("an answer");
    assert!(response.says_close());
    assert_eq!(client.end(), Some(End::Fin));
    assert_eq!(world.errors("host_missing"), 1);
    client.close();
    world.settle();
    assert_eq!(client.end(), Some(End::Fin));
    world.assert_clean();
}

#[test]
fn a_head_request_gets_the_length_and_no_content() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(b"HEAD /big?12 HTTP/1.1\r\nHost: a\r\n\r\n");
    world.settle();
    let answer = String::from_utf8(client.received()).expect("text");
    assert!(answer.contains("Content-Length: 12\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn an_allowed_origin_is_echoed_for_its_own_exchange_only() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(b"GET /later HTTP/1.1\r\nHost: a\r\nOrigin: http://a.example\r\n\r\n");
    client.send(&get("/echo"));
    world.turns(40);
    let responses = take_responses(&mut client.received());
    assert_eq!(responses.len(), 2);
    assert!(responses[0].head.contains("Access-Control-Allow-Origin: http://a.example\r\n"));
    assert!(!responses[1].head.contains("Access-Control"));
}

#[test]
fn a_client_that_expects_continue_gets_it_once() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    world.settle();
    assert_eq!(client.received(), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"bo");
    world.settle();
    client.send(b"dy");
    world.settle();
    let responses = take_responses(&mut client.received());
    assert_eq!((responses.len(), responses[0].status), (1, 200));
    assert_eq!(responses[0].body, b"body");
}

fn stream_text(events: u32) -> Vec<u8> {
    let mut text: Vec<u8> = (1..=events).rev().flat_map(echo::event).collect();
    text.extend_from_slice(b"data: end\n\n");
    text
}

#[test]
fn a_stream_is_chunked_and_leaves_the_connection_usable() {
    let mut input = get("/stream?3");
    input.extend(post("/echo", b"after"));
    check(&input, &[(200, &stream_text(3)), (200, b"after")], false);
}

#[test]
fn a_stream_for_http_1_0_ends_with_its_connection() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(b"GET /stream?2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    world.turns(60);
    assert_eq!(client.end(), Some(End::Fin));
    let bytes = client.received();
    assert!(bytes.ends_with(&stream_text(2)), "{}", bytes.escape_ascii());
    assert!(!bytes.windows(7).any(|seven| seven == b"chunked"));
}

#[test]
fn a_silent_stream_is_kept_alive_by_comments() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(&get("/open"));
    world.settle();
    assert!(client.received().ends_with(b"9\r\n: hello\n\n\r\n"));
    world.pass(14_000);
    assert_eq!(client.received(), b"");
    world.pass(2_000);
    assert_eq!(client.received(), b"3\r\n:\n\n\r\n");
    world.pass(15_000);
    assert_eq!(client.received(), b"3\r\n:\n\n\r\n");
}

#[test]
fn whoever_leaves_is_reported_gone_and_only_while_something_is_owed() {
    let ways: [fn(&SimClient); 3] = [SimClient::finish, SimClient::close, SimClient::reset];
    for (path, gone) in [("/never", 1), ("/open", 1), ("/later", 1), ("/echo", 0)] {
        for leave in ways {
            let mut world = World::new(1, Faults::none());
            let client = world.http();
            client.send(&get(path));
            world.turns(4);
            leave(&client);
            world.turns(30);
            assert_eq!(world.seen.gone.get(), gone, "{path}");
            world.assert_clean();
        }
    }
}

#[test]
fn half_closing_after_the_request_still_gets_the_answers_that_are_ready() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    for number in 0..100 {
        client.send(&post("/echo", format!("{number}").as_bytes()));
    }
    client.finish();
    world.settle();
    let responses = take_responses(&mut client.received());
    assert_eq!(responses.len(), 100);
    assert_eq!(responses[99].body, b"99");
    assert_eq!(client.end(), Some(End::Fin));
    world.assert_clean();
}

#[test]
fn a_pipelining_client_does_not_starve_the_others() {
    let mut world = World::new(1, Faults::none());
    let (greedy, modest) = (world.http(), world.http());
    world.turns(2);
    for _ in 0..2_000 {
        greedy.send(&post("/echo", b""));
    }
    modest.send(&post("/echo", b"me"));
    world.turns(4);
    assert_eq!(take_responses(&mut modest.received()).len(), 1);
    let early = take_responses(&mut greedy.received()).len();
    assert!((1..2_000).contains(&early), "{early} in four turns");
    world.turns(200);
    assert_eq!(early + take_responses(&mut greedy.received()).len(), 2_000);
}

#[test]
fn input_behind_a_pending_exchange_is_bounded() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(&get("/open"));
    client.send(&vec![b'x'; 1_000_000]);
    world.turns(100);
    let taken = 1_000_000 - client.unread();
    let pause = Limits::default().outbox_pause_bytes;
    // What the ring's 64 buffers held when the receive was cancelled may come on top.
    assert!((pause..pause + 65 * 2048).contains(&taken), "{taken} bytes were taken");
    // A peer that is not read from cannot be seen leaving; writing to it tells.
    client.reset();
    world.pass(16_000);
    world.assert_clean();
}

#[test]
fn slow_heads_and_bodies_are_answered_408() {
    let mut world = World::new(1, Faults::none());
    let (head, body, progress) = (world.http(), world.http(), world.http());
    let started = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nb".as_slice();
    head.send(b"GET / HTTP/1.1\r\n");
    body.send(started);
    progress.send(started);
    world.pass(4_500);
    head.send(b"Host: a\r\n"); // Dripping does not help: the head has one deadline.
    progress.send(b"o"); // A body only has to move.
    world.pass(600);
    assert_eq!(take_responses(&mut head.received())[0].status, 408);
    assert_eq!(head.end(), Some(End::Fin));
    assert_eq!(body.end(), None);
    world.pass(5_000);
    assert_eq!(take_responses(&mut body.received())[0].status, 408);
    assert_eq!(progress.end(), None);
    progress.send(b"dydydyd");
    world.pass(100);
    assert_eq!(take_responses(&mut progress.received())[0].body, b"bodydydyd");
    assert_eq!(world.errors("head_timeout"), 1);
    assert_eq!(world.errors("body_timeout"), 1);
}

#[test]
fn an_idle_connection_is_closed_but_never_while_something_is_owed() {
    let mut world = World::new(1, Faults::none());
    let (silent, once, owed) = (world.http(), world.http(), world.http());
    world.pass(1_000);
    once.send(&post("/echo", b"x"));
    owed.send(&get("/never"));
    world.pass(73_900);
    assert_eq!(silent.end(), None);
    world.pass(200);
    assert_eq!((silent.end(), once.end()), (Some(End::Fin), None));
    world.pass(1_000);
    assert_eq!(once.end(), Some(End::Fin));
    world.pass(100_000);
    assert_eq!(owed.end(), None);
    assert_eq!(world.errors("idle_timeout"), 2);
    owed.reset();
    world.pass(100);
    world.assert_clean();
}

#[test]
fn who_never_answers_our_fin_is_cut() {
    let mut world = World::new(1, Faults::none());
    let client = world.http();
    client.send(b"GET / HTTP/1.0\r\n\r\n");
    world.settle();
    assert_eq!(client.end(), Some(End::Fin));
    assert!(client.is_open());
    world.pass(2_100);
    assert!(!client.is_open());
    world.assert_clean();
}
