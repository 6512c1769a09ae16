//! A whole fleet on the real kernel over loopback. Skipped where io_uring is forbidden, and says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::common::wire::{Response, frame, get, parse_response, post, take_frames, text, upgrade};
use crate::common::{Echo, echo};
use erlmcp_protocol::http::Head;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::fleet::{self, BootError, Fleet, FleetConfig, ShardPlace};
use erlmcp_shards::io::listen::ListenOptions;
use erlmcp_shards::io::uring::UringConfig;
use erlmcp_shards::io::{ConnId, Millis};
use erlmcp_shards::net::{Exchange, Net, PipeKind, TimerKey};
use erlmcp_shards::service::Service;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(shards: usize) -> FleetConfig {
    FleetConfig {
        node: 0,
        shards: vec![ShardPlace::default(); shards],
        http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tcp: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        mesh: None,
        limits: Limits::default(),
        listen: ListenOptions::default(),
        ring: UringConfig { capacity: 1024, buffers: 64, ..UringConfig::default() },
    }
}

/// Boots an echo on so many shards; `None` where the kernel forbids it.
fn boot(config: FleetConfig) -> Option<Fleet> {
    match fleet::start(config, |_seat| Echo::new(Rc::default())) {
        Ok(fleet) => Some(fleet),
        Err(BootError::Kernel(missing)) => {
            println!("skipped: {missing}");
            None
        }
        Err(err) => panic!("{err}"),
    }
}

fn dial(addr: Option<SocketAddr>) -> TcpStream {
    let stream = TcpStream::connect(addr.expect("is served")).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("sets");
    stream
}

/// Reads until `done` is satisfied with what arrived so far.
fn read_until(stream: &mut impl Read, mut done: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while !done(&bytes) {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            // A machine that was stopped and continued interrupts reads that have a timeout.
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => panic!("{err} after {:?}", bytes.escape_ascii().to_string()),
        }
    }
    bytes
}

fn ask(stream: &mut TcpStream, request: &[u8]) -> Response {
    stream.write_all(request).expect("writes");
    let bytes = read_until(stream, |bytes| parse_response(bytes).is_some());
    parse_response(&bytes).expect("an answer").0
}

fn active(fleet: &Fleet) -> u64 {
    let snapshots = fleet.snapshots(PATIENCE);
    snapshots.iter().flat_map(|snapshot| snapshot.counters.connections_active).sum()
}

#[test]
fn http_lines_and_websockets_are_served_by_all_shards() {
    let Some(fleet) = boot(config(2)) else { return };
    let addresses = fleet.addresses();
    let mut clients: Vec<TcpStream> = (0..40).map(|_| dial(addresses.http)).collect();
    let body = echo::big(100_000);
    for client in &mut clients {
        assert_eq!(ask(client, &post("/echo", b"hello")).body, b"hello");
        assert_eq!(ask(client, &post("/later", b"again")).body, b"again");
        assert_eq!(ask(client, &get("/nowhere")).status, 404);
    }
    assert_eq!(ask(&mut clients[0], &post("/echo", &body)).body, body);
    assert!(ask(&mut clients[1], &get("/stream?3")).body.ends_with(b"data: end\n\n"));

    let mut lines = dial(addresses.tcp);
    lines.write_all(b"one\ntwo\n").expect("writes");
    assert_eq!(read_until(&mut lines, |bytes| bytes.ends_with(b"two\n")), b"one\ntwo\n");
    lines.write_all(b"last").expect("writes");
    lines.shutdown(Shutdown::Write).expect("half closes");
    assert_eq!(read_until(&mut lines, |_| false), b"last\n");

    let mut ws = dial(addresses.http);
    assert_eq!(ask(&mut ws, &upgrade()).status, 101);
    ws.write_all(&[text(b"hi"), frame(9, true, b"p")].concat()).expect("writes");
    let mut bytes = read_until(&mut ws, |bytes| bytes.ends_with(b"p"));
    assert_eq!(take_frames(&mut bytes), [(1, b"hi".to_vec()), (10, b"p".to_vec())]);

    let snapshots = fleet.snapshots(PATIENCE);
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|snapshot| snapshot.counters.connections_total[0] != 0));
    assert_eq!(active(&fleet), 41);
    drop((clients, ws));
    let deadline = Instant::now() + PATIENCE;
    while active(&fleet) != 0 {
        assert!(Instant::now() < deadline, "connections are left");
        std::thread::yield_now();
    }
    for snapshot in fleet.snapshots(PATIENCE) {
        let lent = snapshot.ring.iter().find(|(name, _)| *name == "buffers_lent");
        assert_eq!(lent, Some(&("buffers_lent", 0)), "shard {}", snapshot.shard);
    }
    fleet.abort();
    assert_eq!(fleet.join().expect("no panic").accepted, 42);
}

#[test]
fn a_drained_fleet_finishes_what_it_has_and_ends() {
    let Some(fleet) = boot(config(2)) else { return };
    let addresses = fleet.addresses();
    let (mut busy, mut idle, mut lines) =
        (dial(addresses.http), dial(addresses.http), dial(addresses.tcp));
    assert_eq!(ask(&mut idle, &post("/echo", b"x")).status, 200);
    lines.write_all(b"hello\n").expect("writes");
    read_until(&mut lines, |bytes| bytes.ends_with(b"\n"));
    busy.write_all(&post("/later", b"last words")).expect("writes");
    while fleet.snapshots(PATIENCE).iter().map(|one| one.counters.bytes_in).sum::<u64>() < 100 {
        std::thread::yield_now();
    }
    fleet.drain(60_000);
    let bytes = read_until(&mut busy, |_| false);
    assert_eq!(parse_response(&bytes).expect("an answer").0.body, b"last words");
    assert_eq!(read_until(&mut idle, |_| false), b"");
    assert_eq!(read_until(&mut lines, |_| false), b"");
    drop((busy, idle, lines));
    assert_eq!(fleet.join().expect("no panic").cut, 0);
    assert!(TcpStream::connect(addresses.http.expect("was served")).is_err());
}

#[test]
fn an_adopted_socket_is_served_as_lines() {
    let Some(fleet) = boot(FleetConfig { http: None, tcp: None, ..config(1) }) else { return };
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    assert!(fleet.adopt(theirs.into()).is_ok());
    ours.set_read_timeout(Some(PATIENCE)).expect("sets");
    ours.write_all(b"hello\nbig 300000\n").expect("writes");
    let expect = [b"hello\n".to_vec(), echo::big(300_000), b"\n".to_vec()].concat();
    let found = read_until(&mut ours, |bytes| expect.len() <= bytes.len());
    assert!(found == expect);
    assert_eq!(fleet.snapshots(PATIENCE)[0].counters.connections_active, [0, 0, 0, 1]);
    ours.shutdown(Shutdown::Write).expect("half closes");
    assert_eq!(read_until(&mut ours, |_| false), b"");
    drop(ours);
    fleet.drain(60_000);
    fleet.join().expect("no panic");
}

#[test]
fn a_full_shard_refuses_politely_on_the_real_kernel_too() {
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let Some(fleet) = boot(FleetConfig { limits, ..config(1) }) else { return };
    let addr = fleet.addresses().http;
    let mut served: Vec<TcpStream> = (0..3).map(|_| dial(addr)).collect();
    for client in &mut served {
        assert_eq!(ask(client, &post("/echo", b"x")).status, 200);
    }
    for _ in 0..20 {
        let mut refused = dial(addr);
        // It may be let go before it has said all; its answer arrives all the same.
        let _ = refused.write_all(&post("/echo", &echo::big(1_000)));
        let bytes = read_until(&mut refused, |bytes| parse_response(bytes).is_some());
        assert_eq!(parse_response(&bytes).expect("an answer").0.status, 503);
    }
    fleet.abort();
    fleet.join().expect("no panic");
}

#[test]
fn a_boot_that_fails_says_why_and_leaves_nothing_behind() {
    for core in [1_000, 9_999] {
        let mut impossible = config(2);
        impossible.shards[1].core = Some(core);
        match fleet::start(impossible, |_| Echo::new(Rc::default())) {
            Err(BootError::Pin(1, named)) => assert_eq!(named, core),
            Err(BootError::Kernel(missing)) => return println!("skipped: {missing}"),
            Err(err) => panic!("{err}"),
            Ok(_) => panic!("booted on a core that is not there"),
        }
    }
    let Some(fleet) = boot(config(1)) else { return };
    let taken = FleetConfig { http: fleet.addresses().http, ..config(1) };
    match fleet::start(taken, |_| Echo::new(Rc::default())) {
        Err(BootError::Listen(err)) => assert!(err.to_string().contains("ss -ltnp"), "{err}"),
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("two fleets on one port"),
    }
    match fleet::start(config(0), |_| Echo::new(Rc::default())) {
        Err(BootError::ShardCount(0)) => {}
        _ => panic!("a fleet of no shards"),
    }
    match fleet::start(config(2), |seat| {
        assert!(seat.at.shard == 0, "this service cannot be made");
        Echo::new(Rc::default())
    }) {
        Err(BootError::Panicked(1, what)) => assert_eq!(what, "this service cannot be made"),
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("booted without a service"),
    }
    drop(fleet);
}

/// Panics at the first request.
struct Fragile;

impl Service for Fragile {
    fn handle_request<N: Net>(&mut self, _: &mut N, _: Exchange, _: &Head<'_>, _: &[u8]) {
        panic!("as the test wants it");
    }
    fn handle_gone<N: Net>(&mut self, _: &mut N, _: Exchange) {}
    fn handle_pipe_open<N: Net>(&mut self, _: &mut N, _: ConnId, _: PipeKind) {}
    fn handle_pipe_message<N: Net>(&mut self, _: &mut N, _: ConnId, _: &[u8]) {}
    fn handle_pipe_oversize<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_eof<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_closed<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_mail<N: Net>(&mut self, _: &mut N, _: EngineMail) {}
    fn handle_timer<N: Net>(&mut self, _: &mut N, _: TimerKey) {}
    fn handle_drain<N: Net>(&mut self, _: &mut N, _: Millis) {}
    fn is_idle(&self) -> bool {
        true
    }
}

#[test]
fn a_shard_that_panics_takes_the_fleet_down_and_is_named() {
    let fleet = match fleet::start(config(2), |_| Fragile) {
        Ok(fleet) => fleet,
        Err(err) => return println!("skipped: {err}"),
    };
    let mut client = dial(fleet.addresses().http);
    client.write_all(&get("/")).expect("writes");
    let panicked = fleet.join().expect_err("a shard panicked");
    assert_eq!(panicked.message, "as the test wants it");
}
