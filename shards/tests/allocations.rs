//! Answering a small request allocates nothing, on the real kernel. A test binary of its own, because it
//! replaces the allocator; the `unsafe` here is that and no more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use erlmcp_protocol::http::Head;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::fleet::{self, BootError, FleetConfig, ShardPlace};
use erlmcp_shards::io::ConnId;
use erlmcp_shards::io::listen::ListenOptions;
use erlmcp_shards::io::uring::UringConfig;
use erlmcp_shards::net::{Exchange, Headers, Net, PipeKind, TimerKey};
use erlmcp_shards::service::Service;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes everything on to the system's allocator unchanged; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
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

#[test]
fn answering_a_request_allocates_nothing() {
    let config = FleetConfig {
        node: 0,
        shards: vec![ShardPlace::default()],
        http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tcp: None,
        mesh: None,
        limits: Limits::default(),
        listen: ListenOptions::default(),
        ring: UringConfig { capacity: 256, buffers: 64, ..UringConfig::default() },
    };
    let fleet = match fleet::start(config, |_| Confessing) {
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
