//! Clients against two nodes of a few lines each: what they retry, what they count, whom they leave alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use erlmcp_protocol::seal::{Keyring, SessionToken};
use serde_json::{Value, json};

use super::super::book::{Blame, Failure};
use super::*;
use crate::load::say::{CallShape, LEGACY, URI};

/// What a node does with a call in a session.
const ANSWER: u32 = 0;
const REFUSE: u32 = 1;
const HANG_UP: u32 = 2;
const FORGET: u32 = 3;

/// A node that speaks as much as a client needs; all nodes know all sessions.
struct Toy {
    address: SocketAddr,
    does: Arc<AtomicU32>,
    calls: Arc<AtomicU64>,
}

impl Toy {
    fn start(node: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let toy = Self {
            address: listener.local_addr().unwrap(),
            does: Arc::default(),
            calls: Arc::default(),
        };
        let (does, calls) = (toy.does.clone(), toy.calls.clone());
        std::thread::spawn(move || {
            for (slot, stream) in (0..).zip(listener.incoming().map_while(Result::ok)) {
                let (does, calls) = (does.clone(), calls.clone());
                std::thread::spawn(move || serve(&stream, node, slot, &does, &calls));
            }
        });
        toy
    }

    fn does(&self, what: u32) {
        self.does.store(what, Ordering::SeqCst);
    }
}

/// Until the client goes.
fn serve(
    stream: &TcpStream,
    node: u16,
    slot: u32,
    does: &AtomicU32,
    calls: &AtomicU64,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let keys = Keyring::new(&[7; 32]);
    for generation in 0.. {
        let (mut length, mut line, mut first) = (0, String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result =
            |result: Value| json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        let (head, body) = match (message["method"].as_str(), does.load(Ordering::SeqCst)) {
            (None, _) => ("200 OK".to_owned(), Value::Null),
            (Some("initialize"), _) => {
                let token =
                    SessionToken { node, shard: 0, slot, generation, epoch: 1, random: [9; 16] };
                let head = format!("200 OK\r\nMcp-Session-Id: {}", &*keys.seal_session(&token));
                (head, result(json!({ "protocolVersion": LEGACY })))
            }
            (Some("notifications/initialized"), _) => ("202 Accepted".to_owned(), Value::Null),
            (_, HANG_UP) => return None,
            (_, REFUSE) => {
                let error =
                    json!({ "code": -32603, "message": "moving", "data": { "retryable": true } });
                (
                    "503 Busy\r\nRetry-After: 0".to_owned(),
                    json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
                )
            }
            (_, FORGET) => ("404 Not Found".to_owned(), json!({ "error": { "message": "who?" } })),
            _ => {
                calls.fetch_add(1, Ordering::SeqCst);
                let text = message["params"]["arguments"]["text"].clone();
                (
                    "200 OK".to_owned(),
                    result(json!({ "content": [{ "type": "text", "text": text }] })),
                )
            }
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut out = stream;
        out.write_all(answer.as_bytes()).ok()?;
    }
    None
}

/// Two nodes, clients of both, and so many sessions on each.
fn two(sessions: usize) -> ([Toy; 2], Clients) {
    let toys = [Toy::start(1), Toy::start(2)];
    let targets: Vec<Target> = toys
        .iter()
        .map(|toy| Target::parse(&format!("http://{}/mcp", toy.address), None).unwrap())
        .collect();
    let say = |target| Say::new(target, CallShape::echo(None), true, LEGACY, URI);
    let says = targets.iter().map(say).collect();
    let mut clients = Clients::new(Clock::start(), &targets, says, 4, 7).unwrap();
    clients.open(2 * sessions, None);
    until(&mut clients, "all sessions are open", |clients| clients.opening() == 0);
    let homes: Vec<u16> =
        clients.book.sessions.iter().map(|session| session.home.unwrap().node).collect();
    assert_eq!(homes.iter().filter(|node| **node == 1).count(), sessions, "{homes:?}");
    (toys, clients)
}

#[track_caller]
fn until(clients: &mut Clients, what: &str, is_so: impl Fn(&Clients) -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so(clients) {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        clients.turn();
    }
}

#[test]
fn sessions_are_opened_evenly_and_used_over_every_node() {
    let (toys, mut clients) = two(10);
    clients.load(Some(1000.0));
    until(&mut clients, "many calls were answered", |clients| {
        clients.window.all_calls().is_some_and(|all| 200 <= all.len())
    });
    assert_eq!((clients.book.failures(), clients.book.given_up), (0, 0));
    for toy in &toys {
        assert!(50 < toy.calls.load(Ordering::SeqCst), "both nodes are used");
    }
    clients.load(None);
    clients.sweep(0..20, Some(1));
    until(&mut clients, "every session was used over the second node", |clients| {
        clients.sweeping() == 0
    });
}

#[test]
fn what_is_refused_or_cut_off_is_tried_again_and_blamed_on_the_node_that_failed() {
    let (toys, mut clients) = two(10);
    let at_us = clients.clock.us();
    clients.book.fault = Some(Failure { target: 1, at_us, sessions: 20 });
    toys[0].does(REFUSE);
    toys[1].does(HANG_UP);
    clients.probe(10_000.0);
    clients.load(Some(200.0));
    until(&mut clients, "both were heard", |clients| {
        0 < clients.book.failed_by(Blame::ItsSession)
            && 0 < clients.book.failed_by(Blame::ToTheNode)
            // What node 1 refuses of its own sessions has no excuse.
            && 0 < clients.book.failed_by(Blame::None)
    });
    assert_eq!(clients.book.waiting(), 10);
    toys.iter().for_each(|toy| toy.does(ANSWER));
    until(&mut clients, "all its sessions answer elsewhere", |clients| clients.book.waiting() == 0);
    assert!(clients.book.texts.contains_key("503: moving"), "{:?}", clients.book.texts);
    assert_eq!(clients.book.given_up, 0);
}

#[test]
fn a_session_that_nobody_knows_is_lost_until_somebody_does() {
    let (toys, mut clients) = two(3);
    toys.iter().for_each(|toy| toy.does(FORGET));
    clients.sweep(0..6, None);
    until(&mut clients, "all were asked", |clients| clients.sweeping() == 0);
    assert_eq!(clients.book.lost(), 6);
    toys.iter().for_each(|toy| toy.does(ANSWER));
    clients.sweep(0..6, None);
    until(&mut clients, "all were asked again", |clients| clients.sweeping() == 0);
    assert_eq!(clients.book.lost(), 0);
}

#[test]
fn a_node_that_refuses_connections_is_left_alone() {
    let (toys, clients) = two(1);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let targets: Vec<Target> = [toys[0].address, gone]
        .iter()
        .map(|address| Target::parse(&format!("http://{address}/mcp"), None).unwrap())
        .collect();
    drop(clients);
    let say = |target| Say::new(target, CallShape::echo(None), true, LEGACY, URI);
    let says = targets.iter().map(say).collect();
    let mut clients = Clients::new(Clock::start(), &targets, says, 2, 7).unwrap();
    until(&mut clients, "it is down", |clients| !clients.is_up(1));
    clients.open(4, None);
    until(&mut clients, "the other takes all", |clients| clients.opening() == 0);
    assert!(clients.book.sessions.iter().all(|session| session.target == 0));
    assert_eq!((clients.book.failures(), clients.connected), (0, 2));
}
