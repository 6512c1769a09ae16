use super::*;
use crate::load::say::{CallShape, LEGACY, Say, URI};
use crate::load::target::Target;
use crate::request::ID_FIRST;

fn voice() -> Voice {
    let target = Target::parse("http://127.0.0.1:1/mcp", None).unwrap();
    let shape = CallShape::echo(None);
    Voice::new(Say::new(&target, shape, true, LEGACY, URI), true, 0)
}

fn result(id: u64) -> String {
    let text = crate::load::say::TEXT;
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
    )
}

fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn sse(events: &[&str]) -> Vec<u8> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut out = head.as_bytes().to_vec();
    for event in events {
        out.extend(chunk(event));
    }
    out
}

fn chunk(event: &str) -> Vec<u8> {
    let event = format!("data: {event}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

fn frame(message: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(message.len() as u16).to_be_bytes());
    frame.extend_from_slice(message.as_bytes());
    frame
}

/// Feeds one input, cut in two at `cut`; returns the events that came, quiet ones left out.
fn feed(
    talk: &mut Talk,
    voice: &mut Voice,
    input: &[u8],
    cut: usize,
    out: &mut Vec<u8>,
) -> Result<Vec<Event>, String> {
    let (mut kept, mut events) = (Vec::new(), Vec::new());
    for part in [&input[..cut], &input[cut..]] {
        kept.extend_from_slice(part);
        let mut used_all = 0;
        while used_all < kept.len() {
            let (used, event) = talk.read(voice, &kept[used_all..], out)?;
            if event != Event::Quiet {
                events.push(event);
            }
            if used == 0 {
                break;
            }
            used_all += used;
        }
        kept.drain(..used_all);
    }
    assert!(kept.is_empty(), "not taken: {}", String::from_utf8_lossy(&kept));
    Ok(events)
}

/// Plays a conversation at every cut of every input. Inputs are made knowing the id in flight.
#[track_caller]
fn check(kind: Kind, inputs: &[&dyn Fn(u64) -> Vec<u8>], expect: &[&[Event]]) {
    assert_eq!(inputs.len(), expect.len());
    let lengths: Vec<usize> = inputs.iter().map(|input| input(ID_FIRST).len()).collect();
    for (cut_in, length) in lengths.iter().enumerate() {
        for cut in 0..=*length {
            let (mut voice, mut talk, mut out) = (voice(), Talk::new(kind), Vec::new());
            talk.begin(&mut voice, &mut out);
            for (index, (input, expect)) in inputs.iter().zip(expect).enumerate() {
                if talk.is_idle() {
                    talk.call(&mut voice, &mut out);
                }
                let input = input(talk.id);
                let cut = if index == cut_in { cut } else { input.len() };
                let events = feed(&mut talk, &mut voice, &input, cut, &mut out);
                assert_eq!(events.as_deref(), Ok(*expect), "{kind:?}: input {index} cut at {cut}");
            }
        }
    }
}

#[test]
fn an_http_client_calls_and_is_answered_in_json_or_events() {
    let ping = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
    check(
        Kind::Http,
        &[
            &|id| json(&result(id)),
            &|id| json(&result(id)),
            &|id| [sse(&[ping, &result(id)]), b"0\r\n\r\n".to_vec()].concat(),
            &|id| {
                let body = result(id);
                let (one, two) = body.split_at(20);
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                    one.len(),
                    two.len()
                )
                .into_bytes()
            },
        ],
        &[&[Event::Ready], &[Event::Right], &[Event::Right], &[Event::Right]],
    );
}

#[test]
fn a_session_says_hello_and_then_calls() {
    let hello = |id| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        format!(
            "HTTP/1.1 200 OK\r\nMcp-Session-Id: s1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let accepted = |_| b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec();
    check(
        Kind::Session,
        &[&hello, &accepted, &|id| json(&result(id))],
        &[&[], &[Event::Ready], &[Event::Right]],
    );
    let update = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{URI}"}}}}"#
    );
    check(
        Kind::Stream,
        &[&hello, &accepted, &|id| json(&result(id)), &|_| sse(&[]), &|_| chunk(&update)],
        &[&[], &[], &[], &[Event::Ready], &[Event::Updates(1)]],
    );
}

#[test]
fn a_listener_is_ready_when_acknowledged_and_counts_its_updates_only() {
    let ack = format!(
        r#"{{"method":"notifications/subscriptions/acknowledged","params":{{"notifications":{{"resourceSubscriptions":["{URI}"]}}}}}}"#
    );
    let update =
        format!(r#"{{"method":"notifications/resources/updated","params":{{"uri":"{URI}"}}}}"#);
    let other = r#"{"method":"notifications/resources/updated","params":{"uri":"x://y"}}"#;
    check(
        Kind::Listen,
        &[&|_| sse(&[&ack]), &|_| chunk(":"), &|_| chunk(other), &|_| chunk(&update)],
        &[&[Event::Ready], &[], &[], &[Event::Updates(1)]],
    );
}

#[test]
fn pipes_answer_pings_and_take_their_answers() {
    let upgraded = |_| b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
    check(
        Kind::Ws,
        &[&upgraded, &|id| [vec![0x89, 2, b'h', b'i'], frame(&result(id))].concat(), &|id| {
            frame(&result(id))
        }],
        &[&[], &[Event::Ready], &[Event::Right]],
    );
    check(
        Kind::Tcp,
        &[&|id| format!("{}\n", result(id)).into_bytes(), &|id| {
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"x\"}}\n{}\r\n", result(id)).into_bytes()
        }],
        &[&[Event::Ready], &[Event::Right]],
    );
    let (mut voice, mut talk, mut out) = (voice(), Talk::new(Kind::Ws), Vec::new());
    talk.begin(&mut voice, &mut out);
    talk.stage = Stage::Ready;
    out.clear();
    assert_eq!(talk.read(&mut voice, &[0x89, 2, b'h', b'i'], &mut out), Ok((4, Event::Quiet)));
    assert_eq!(out, [0x8a, 0x82, 0, 0, 0, 0, b'h', b'i']);
}

#[test]
fn a_wrong_answer_is_told_and_a_broken_one_ends_the_conversation() {
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlate".to_vec();
    let (mut voice, mut talk, mut out) = (voice(), Talk::new(Kind::Http), Vec::new());
    talk.begin(&mut voice, &mut out);
    // A greeting that fails is a connection that failed.
    assert!(feed(&mut talk, &mut voice, &busy, 0, &mut out).is_err());
    talk.call(&mut voice, &mut out);
    let events = feed(&mut talk, &mut voice, &busy, 0, &mut out).unwrap();
    assert_eq!(events, [Event::Wrong("503: late".into())]);
    assert!(talk.is_idle(), "the connection can go on");
    talk.call(&mut voice, &mut out);
    let other = json(&result(talk.id + 1));
    let events = feed(&mut talk, &mut voice, &other, 0, &mut out).unwrap();
    assert!(
        matches!(&events[..], [Event::Wrong(why)] if why.starts_with("the answer has another id"))
    );
    talk.call(&mut voice, &mut out);
    assert!(feed(&mut talk, &mut voice, b"nonsense\r\n\r\n", 0, &mut out).is_err());
}

#[test]
fn a_refused_handshake_is_an_error_that_says_what_came() {
    let refused = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone".to_vec();
    for kind in [Kind::Ws, Kind::Session, Kind::Stream, Kind::Listen] {
        let (mut voice, mut talk, mut out) = (voice(), Talk::new(kind), Vec::new());
        talk.begin(&mut voice, &mut out);
        let why = feed(&mut talk, &mut voice, &refused, 9, &mut out).unwrap_err();
        assert!(why.contains("404"), "{kind:?}: {why}");
    }
}
