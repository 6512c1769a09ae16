//! Every limit is reached, from both sides: slow readers, full tables, drains.

use crate::common::wire::{frame, get, parse_response, post, take_frames, take_responses, upgrade};
use crate::common::{World, echo};
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::{End, Faults, SimClient};
use erlmcp_shards::message::Mail;

fn tight() -> Limits {
    Limits { outbox_pause_bytes: 1_000, outbox_bytes_max: 10_000, ..Limits::default() }
}

#[test]
fn a_reader_that_stops_is_not_read_from_and_a_reader_that_resumes_is() {
    let mut world = World::with(1, Faults::none(), tight(), 64);
    let client = world.http();
    client.stop_reading();
    for _ in 0..100 {
        client.send(&get("/big?600"));
    }
    client.send(&[b' '; 0]);
    world.turns(50);
    // The first answer is in flight, two more fill the queue beyond the pause mark.
    assert_eq!(world.seen.owed.get(), 0);
    let requests = 100 * get("/big?600").len();
    assert!(client.unread() < requests, "something was read");
    client.resume_reading();
    world.turns(300);
    let responses = take_responses(&mut client.received());
    assert_eq!(responses.len(), 100);
    assert!(responses.iter().all(|response| response.body == echo::big(600)));
    client.close();
    world.settle();
    world.assert_clean();
}

#[test]
fn a_reader_that_does_not_come_back_is_cut_after_the_stall_time() {
    let mut world = World::with(1, Faults::none(), tight(), 64);
    let client = world.http();
    client.stop_reading();
    client.send(&get("/big?600"));
    world.turns(10);
    world.pass(9_800);
    assert!(client.is_open());
    world.pass(1_500);
    assert!(!client.is_open());
    assert_eq!(world.errors("send_stalled"), 1);
    world.assert_clean();
}

#[test]
fn a_reader_that_moves_is_never_cut() {
    let mut world = World::with(1, Faults::none(), tight(), 64);
    let client = world.lines();
    client.read_only(0);
    for round in 0..20 {
        client.send(b"big 700\n");
        world.pass(4_000);
        client.resume_reading();
        world.pass(50);
        assert_eq!(client.received().len(), 701, "round {round}");
        client.stop_reading();
    }
    assert_eq!(world.errors("send_stalled"), 0);
}

#[test]
fn large_messages_are_refused_when_too_many_are_unfinished() {
    let limits = Limits { message_bytes_max: 40_000, ..Limits::default() };
    let mut world = World::with(1, Faults::none(), limits, 64);
    let started = |rest: usize| {
        let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n";
        [head.to_vec(), vec![b'x'; rest]].concat()
    };
    let fits: Vec<SimClient> = (0..15).map(|_| world.http()).collect();
    fits.iter().for_each(|client| client.send(&started(39_999)));
    let (http, lines, ws) = (world.http(), world.lines(), world.http());
    ws.send(&upgrade());
    world.turns(60);
    assert_eq!(world.errors("input_memory"), 0);
    for (client, input) in [
        (&http, started(39_999)),
        (&lines, vec![b'x'; 39_999]),
        (&ws, frame(1, false, &[b'x'; 39_000])),
    ] {
        client.received();
        client.send(&input);
    }
    world.turns(60);
    // The one that crossed the line is refused; then there is room for the next.
    let refused = world.errors("input_memory");
    assert!((1..=2).contains(&refused), "{refused} refused");
    assert!(fits.iter().all(|client| client.end().is_none()));
    // A small message always finds room.
    let small = world.lines();
    small.send(b"hello\n");
    fits.iter().for_each(|client| client.send(b"x"));
    world.turns(60);
    assert_eq!(small.received(), b"hello\n");
    assert!(fits.iter().all(|client| take_responses(&mut client.received())[0].status == 200));
    let all = [&http, &lines, &ws, &small];
    all.into_iter().chain(&fits).for_each(SimClient::reset);
    world.settle();
    world.assert_clean();
}

#[test]
fn a_pipe_whose_queue_grows_over_the_limit_is_cut() {
    let mut world = World::with(1, Faults::none(), tight(), 64);
    let client = world.lines();
    client.send(b"later a\n");
    client.stop_reading();
    // One answer may be larger than the limit: it is asked whether there is room before, not after.
    client.send(b"big 20000\n");
    world.turns(3);
    assert!(client.is_open());
    assert_eq!(world.errors("slow_reader"), 0);
    world.turns(20); // Now `later` wants to be sent too.
    assert_eq!(world.errors("slow_reader"), 1);
    assert!(!client.is_open());
    world.assert_clean();
}

#[test]
fn a_stream_whose_queue_grows_over_the_limit_is_cut_and_its_exchange_gone() {
    let limits = Limits { outbox_bytes_max: 300, ..tight() };
    let mut world = World::with(1, Faults::none(), limits, 64);
    let client = world.http();
    client.stop_reading();
    client.send(&get("/stream?1000"));
    world.turns(3_000);
    assert_eq!(world.errors("slow_reader"), 1);
    assert_eq!(world.seen.gone.get(), 1);
    world.assert_clean();
}

#[test]
fn above_the_cap_the_newcomer_is_told_when_to_come_back() {
    let limits = Limits { connections_max: 4, ..Limits::default() };
    let mut world = World::with(7, Faults::none(), limits, 64);
    let served: Vec<SimClient> = (0..4).map(|_| world.http()).collect();
    world.turns(3);
    let (http, lines) = (world.http(), world.lines());
    http.send(&post("/echo", b"x"));
    lines.send(b"hello\n");
    world.turns(5);
    let (response, _) = parse_response(&http.received()).expect("an answer");
    assert_eq!(response.status, 503);
    assert!(response.says_close());
    let retry = response.head.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    assert!((1..=5).contains(&retry.and_then(|text| text.parse().ok()).unwrap_or(0)));
    let line = String::from_utf8(lines.received()).expect("text");
    assert!(
        line.starts_with("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32603,")
            && line.ends_with("}\n")
    );
    assert_eq!((http.end(), lines.end()), (Some(End::Fin), Some(End::Fin)));
    assert_eq!(world.errors("connections_refused"), 2);
    assert_eq!(world.seen.messages.get(), 0);
    assert_eq!(world.active(), [4, 0, 0, 0]);
    http.close();
    lines.close();
    served[0].close();
    world.turns(5);
    let next = world.http();
    next.send(&post("/echo", b"x"));
    world.turns(5);
    assert_eq!(parse_response(&next.received()).expect("an answer").0.status, 200);
}

#[test]
fn a_nearly_full_table_stops_accepting_and_starts_again() {
    let mut world = World::new(1, Faults::none());
    let clients: Vec<SimClient> = (0..200)
        .map(|_| {
            let client = world.http();
            world.turns(1);
            client
        })
        .collect();
    world.turns(10);
    assert_eq!(world.net.tally().table_full, 0, "a connection was lost");
    let open = clients.iter().filter(|client| client.is_open()).count();
    assert!((48..=60).contains(&open), "{open} of 64 slots are used");
    clients.iter().for_each(SimClient::close);
    world.pass(3_000);
    let open = clients.iter().filter(|client| client.is_open()).count();
    assert_eq!(open, 0);
    let next = world.http();
    next.send(&post("/echo", b"x"));
    world.turns(10);
    assert_eq!(parse_response(&next.received()).expect("an answer").0.status, 200);
    next.close();
    world.pass(100);
    world.assert_clean();
}

#[test]
fn an_accept_that_fails_rests_and_never_spins() {
    let mut world = World::new(1, Faults { accept_error: 100, ..Faults::none() });
    let client = world.http();
    world.pass(2_000);
    let failed = world.net.tally().accept_errors;
    assert!((10..=25).contains(&failed), "{failed} attempts in two seconds");
    world.net.set_faults(Faults::none());
    world.pass(200);
    assert!(client.is_open());
}

#[test]
fn a_drain_lets_go_of_the_idle_finishes_the_rest_and_ends() {
    let mut world = World::new(1, Faults::none());
    let idle = world.http();
    let (busy, stream, lines, ws) = (world.http(), world.http(), world.lines(), world.http());
    busy.send(&post("/later", b"last words"));
    stream.send(&get("/open"));
    lines.send(b"hello\n");
    ws.send(&upgrade());
    world.turns(4);
    let clients = [&idle, &busy, &stream, &lines, &ws];
    assert!(world.post.send(Mail::Drain { deadline_ms: 60_000 }).is_ok());
    world.turns(3);
    assert_eq!(idle.end(), Some(End::Fin));
    assert_eq!(busy.end(), None);
    assert!(!world.shard.is_over());
    let late = world.http();
    world.turns(20);
    let responses = take_responses(&mut busy.received());
    assert!(responses[0].says_close());
    assert_eq!(responses[0].body, b"last words");
    assert!(stream.received().ends_with(b"\r\n0\r\n\r\n"));
    assert_eq!(lines.received(), b"hello\n");
    let mut bytes = ws.received();
    let (_, used) = parse_response(&bytes).expect("an answer");
    bytes.drain(..used);
    assert_eq!(take_frames(&mut bytes)[0].1[..2], 1001u16.to_be_bytes());
    for client in clients {
        assert_eq!(client.end(), Some(End::Fin));
        client.close();
    }
    world.until("the end", |world| world.shard.is_over());
    assert!(!late.is_open());
    assert_eq!(late.end(), Some(End::Reset), "the listener is closed");
    world.assert_clean();
}

#[test]
fn a_drain_leaves_at_its_deadline_and_says_what_it_cut() {
    let mut world = World::new(1, Faults::none());
    let clients = [world.http(), world.http()];
    clients[0].send(&get("/never"));
    world.turns(3);
    assert!(world.post.send(Mail::Drain { deadline_ms: 500 }).is_ok());
    world.pass(450);
    assert!(!world.shard.is_over());
    world.pass(100);
    assert!(world.shard.is_over());
    // The idle one lingers because its client did not answer the FIN.
    assert_eq!(world.shard.summary().cut, 2);
}

#[test]
fn an_abort_leaves_at_once() {
    let mut world = World::new(1, Faults::none());
    let _client = world.http();
    world.turns(2);
    assert!(world.post.send(Mail::Abort).is_ok());
    world.turns(1);
    assert!(world.shard.is_over());
}

#[test]
fn a_snapshot_answers_by_mail() {
    let mut world = World::new(1, Faults::none());
    let _client = world.http();
    let (answer, answers) = crossbeam_channel::bounded(1);
    assert!(world.post.send(Mail::Snapshot(answer)).is_ok());
    world.turns(3);
    let snapshot = answers.try_recv().expect("a snapshot");
    assert_eq!(snapshot.counters.connections_active, [1, 0, 0, 0]);
    assert_eq!((snapshot.shard, snapshot.capacity), (0, 48));
}
