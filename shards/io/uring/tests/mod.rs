//! The real kernel, over loopback. Every test is skipped, saying why, where io_uring is not available.

mod connecting;
mod connections;
mod limits;
mod waking;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::*;
use crate::io::echo::Echo;
use crate::io::listen;
use crate::io::probe::probe;

/// Small sizes; a test enlarges what it needs.
fn config() -> UringConfig {
    UringConfig {
        sq_entries: 64,
        cq_entries: 1024,
        capacity: 256,
        buffers: 64,
        buffer_bytes: 256,
        no_sqarray: true,
    }
}

/// A ring with one listener on a free port. `None` when this host has no io_uring.
fn listening(config: UringConfig) -> Option<(Uring, SocketAddr)> {
    let bells = Bells::new(1).expect("an eventfd");
    let claim = listen::claim("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = listen::bind(claim.addr(), &Default::default()).expect("a listener");
    Some((ring(config, vec![listener], 0, bells)?, claim.addr()))
}

fn ring(
    config: UringConfig,
    listeners: Vec<OwnedFd>,
    shard: u16,
    bells: Arc<Bells>,
) -> Option<Uring> {
    match probe() {
        Ok(features) => {
            let config = UringConfig { no_sqarray: features.no_sqarray, ..config };
            Some(Uring::new(&config, listeners, shard, bells).expect("a ring"))
        }
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).expect("connects");
    client.set_nodelay(true).expect("nodelay");
    client.set_nonblocking(true).expect("nonblocking");
    client
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 % 251) as u8).collect()
}

/// Turns until `done`; a shard that gets nowhere fails the test instead of hanging it.
#[track_caller]
fn turn_until(echo: &mut Echo<Uring>, mut done: impl FnMut(&mut Echo<Uring>) -> bool) {
    for _ in 0..TURNS_MAX {
        if done(echo) {
            return;
        }
        echo.turn(Some(10));
    }
    panic!("not done after {TURNS_MAX} turns: {:?} {:?}", echo.tally, echo.io.stats());
}

/// Reads what is there; `true` at the end of the stream.
fn read_some(client: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut piece = [0; 4096];
    loop {
        match client.read(&mut piece) {
            Ok(0) => return true,
            Ok(len) => into.extend_from_slice(&piece[..len]),
            Err(err) if err.kind() == ErrorKind::WouldBlock => return false,
            Err(err) => panic!("client: {err}"),
        }
    }
}

/// Sends `bytes` and gets them back.
#[track_caller]
fn check_echoes(echo: &mut Echo<Uring>, client: &mut TcpStream, bytes: &[u8]) {
    let (mut sent, mut got) = (0, Vec::new());
    turn_until(echo, |_| {
        match client.write(&bytes[sent..]) {
            Ok(len) => sent += len,
            Err(err) if err.kind() == ErrorKind::WouldBlock => {}
            Err(err) => panic!("client: {err}"),
        }
        assert!(!read_some(client, &mut got), "closed by the server");
        got.len() == bytes.len()
    });
    assert_eq!(got, bytes);
}

/// What `io` completes until a completion satisfies `last`, that one included.
#[track_caller]
fn completions_until(io: &mut Uring, last: impl Fn(&Completion) -> bool) -> Vec<Completion> {
    let mut out = Vec::new();
    for _ in 0..TURNS_MAX {
        if out.iter().any(&last) {
            return out;
        }
        io.turn(Some(10), &mut out);
    }
    panic!("it never came: {out:?}");
}

const TURNS_MAX: usize = 3_000;
