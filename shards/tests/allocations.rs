//! Answering a small request allocates nothing, nor does sending it to the shard that answers it, on the real kernel. A test
//! binary of its own, because it replaces the allocator; the `unsafe` here is that and no more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use erlmcp_catalog::ThreadRunner;
use erlmcp_protocol::http::{Access, Head};
use erlmcp_protocol::seal::{Keyring, SessionToken};
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::{Engine, EngineConfig, EngineMail, Seat};
use erlmcp_shards::fleet::{self, BootError, FleetConfig, ShardPlace};
use erlmcp_shards::io::ConnId;
use erlmcp_shards::io::listen::ListenOptions;
use erlmcp_shards::io::uring::UringConfig;
use erlmcp_shards::net::{Exchange, Headers, Net, PipeKind, TimerKey};
use erlmcp_shards::service::Service;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// It runs an engine.
    static HAS_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Allocations of all threads that run engines.
static OF_ENGINES: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: passes everything on to the system's allocator unchanged; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        if HAS_ENGINE.try_with(Cell::get) == Ok(true) {
            OF_ENGINES.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Answers each request with the number of allocations of its thread so far.
struct Confessing;

impl Service for Confessing {
    fn handle_request<N: Net>(&mut self, net: &mut N, to: Exchange, _: &Head<'_>, _: &[u8]) {
        let body = ALLOCATIONS.with(Cell::get).to_be_bytes();
        let headers = Headers { content_type: Some("application/json"), ..Headers::default() };
        net.respond(to, 200, headers, &body);
    }
    fn handle_pipe_message<N: Net>(&mut self, _: &mut N, _: ConnId, _: &[u8]) {}
    fn handle_gone<N: Net>(&mut self, _: &mut N, _: Exchange) {}
    fn handle_pipe_open<N: Net>(&mut self, _: &mut N, _: ConnId, _: PipeKind) {}
    fn handle_pipe_oversize<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_eof<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_closed<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_mail<N: Net>(&mut self, _: &mut N, _: EngineMail) {}
    fn handle_timer<N: Net>(&mut self, _: &mut N, _: TimerKey) {}
    fn handle_drain<N: Net>(&mut self, _: &mut N, _: u64) {}
    fn is_idle(&self) -> bool {
        true
    }
}

/// One request, one answer; the allocations its body names.
fn ask(client: &mut TcpStream) -> u64 {
    client
        .write_all(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 21\r\n\r\n\
              {\"jsonrpc\":\"2.0\"    }",
        )
        .expect("writes");
    let mut answer = [0; 1024];
    let mut len = 0;
    loop {
        match client.read(&mut answer[len..]).expect("reads") {
            0 => panic!("closed after {}", answer[..len].escape_ascii()),
            bytes => len += bytes,
        }
        let head_end = answer[..len].windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(body) = head_end.and_then(|end| answer[..len].get(end + 4..end + 12)) {
            return body.try_into().map(u64::from_be_bytes).expect("eight bytes");
        }
    }
}

fn places(shards: usize) -> FleetConfig {
    FleetConfig {
        node: 0,
        shards: vec![ShardPlace::default(); shards],
        http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tcp: None,
        mesh: None,
        limits: Limits::default(),
        listen: ListenOptions::default(),
        ring: UringConfig { capacity: 256, buffers: 64, ..UringConfig::default() },
    }
}

#[test]
fn answering_a_request_allocates_nothing() {
    let fleet = match fleet::start(places(1), |_| Confessing) {
        Ok(fleet) => fleet,
        Err(BootError::Kernel(missing)) => return println!("skipped: {missing}"),
        Err(err) => panic!("{err}"),
    };
    let addr = fleet.addresses().http.expect("is served");
    let mut clients: Vec<_> = (0..8).map(|_| TcpStream::connect(addr).expect("connects")).collect();
    // Queues, pool and wheel reach the size they need.
    for _ in 0..200 {
        for client in &mut clients {
            ask(client);
        }
    }
    let before = ask(&mut clients[0]);
    for _ in 0..500 {
        for client in &mut clients {
            ask(client);
        }
    }
    let after = ask(&mut clients[0]);
    assert_eq!(after - before, 0, "allocations in 4,000 requests");
    fleet.abort();
    fleet.join().expect("no panic");
}

const SECRET: &[u8] = b"of this test alone";

/// A client of two shards' engines, and the session it has opened.
struct Caller {
    stream: TcpStream,
    session: String,
    at: SessionToken,
}

impl Caller {
    fn open(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).expect("connects");
        let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
        let request = post("", hello);
        let mut answer = [0; 4096];
        let len = exchange(&mut stream, &request, &mut answer);
        let head = String::from_utf8_lossy(&answer[..len]).to_lowercase();
        let at = head.find("mcp-session-id: ").expect("a session") + "mcp-session-id: ".len();
        let text = std::str::from_utf8(&answer[at..len]).expect("is text");
        let session = text.lines().next().expect("a line").trim().to_owned();
        let at = Keyring::new(SECRET).open_session(&session).expect("our own");
        Self { stream, session, at }
    }

    /// A ping in a session, whoever opened it.
    fn ping(session: &str) -> Vec<u8> {
        let fields = format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n");
        post(&fields, r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#)
    }
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One request and its whole answer.
fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> usize {
    stream.write_all(request).expect("writes");
    let mut len = 0;
    loop {
        match stream.read(&mut answer[len..]).expect("reads") {
            0 => panic!("closed after {}", answer[..len].escape_ascii()),
            bytes => len += bytes,
        }
        // A body of ours is one JSON object.
        if answer[..len].ends_with(b"}") {
            return len;
        }
    }
}

#[test]
fn a_request_for_a_session_of_another_shard_allocates_nothing_on_either() {
    let catalog = erlmcp_catalog::demo().expect("is whole").into_handle();
    let runner = Arc::new(ThreadRunner::new(1).expect("a thread"));
    let config = Arc::new(EngineConfig {
        limits: Limits::default(),
        access: Arc::new(Access::new(&[], &[]).expect("no names")),
        keys: Arc::new(Keyring::new(SECRET)),
        epoch: 1,
        lookout: None,
        cluster: None,
    });
    let make = move |seat: fleet::ShardSeat| {
        // Made on the shard's own thread.
        HAS_ENGINE.with(|has| has.set(true));
        let place = Seat { at: seat.at, shards: seat.count };
        Engine::new(place, config.clone(), catalog.clone(), runner.clone(), Arc::new(|| {}))
    };
    let fleet = match fleet::start(places(2), make) {
        Ok(fleet) => fleet,
        Err(BootError::Kernel(missing)) => return println!("skipped: {missing}"),
        Err(err) => panic!("{err}"),
    };
    let addr = fleet.addresses().http.expect("is served");
    // A session lives on the shard of the connection that opened it; the kernel deals connections out.
    let mut one = Caller::open(addr);
    let other = (0..64).map(|_| Caller::open(addr)).find(|other| other.at.shard != one.at.shard);
    let other = other.expect("64 connections on one of two shards");
    let ping = Caller::ping(&other.session);
    let mut answer = [0; 4096];
    let mut pings = |count: u32| {
        for _ in 0..count {
            let len = exchange(&mut one.stream, &ping, &mut answer);
            assert!(answer[..len].ends_with(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#));
        }
    };
    // Queues, pools and tables reach the size they need.
    pings(500);
    let before = OF_ENGINES.load(Ordering::Relaxed);
    pings(2000);
    assert_eq!(OF_ENGINES.load(Ordering::Relaxed) - before, 0, "allocations in 2,000 requests");
    fleet.abort();
    fleet.join().expect("no panic");
}
