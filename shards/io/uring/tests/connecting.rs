use std::thread;

use super::*;

/// Connects to `target` and waits for the outcome.
#[track_caller]
fn check(io: &mut Uring, target: SocketAddr, source: Option<&str>) -> Result<u32, i32> {
    let source = source.map(|text| text.parse().expect("an address"));
    io.connect(7, target, source, None);
    let out = completions_until(io, |one| matches!(one, Completion::Connected { .. }));
    match out[..] {
        [Completion::Connected { token: 7, result }] => result,
        _ => panic!("{out:?}"),
    }
}

fn connecting() -> Option<Uring> {
    let io = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd"))?;
    if !io.can_connect() {
        println!("skipped: this kernel cannot bind in a ring");
        return None;
    }
    Some(io)
}

#[test]
fn a_connection_is_opened_from_the_source_that_was_asked_for() {
    let Some(mut io) = connecting() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let target = listener.local_addr().expect("an address");
    let mut peers = Vec::new();
    for source in [None, Some("127.7.7.7:0")] {
        let slot = check(&mut io, target, source).expect("connects");
        let (mut peer, from) = listener.accept().expect("a connection");
        let expect = source.map_or("127.0.0.1", |text| text.strip_suffix(":0").unwrap());
        assert_eq!(from.ip().to_string(), expect);
        let id = ConnId { slot, generation: 1 };
        io.recv(id);
        io.send(id, b"hello".to_vec(), 0);
        let mut got = [0; 5];
        io.turn(None, &mut Vec::new());
        peer.read_exact(&mut got).expect("five bytes");
        peer.write_all(&got).expect("room");
        let out = completions_until(&mut io, |one| matches!(one, Completion::Received { .. }));
        for completion in out {
            if let Completion::Received { chunk, .. } = completion {
                assert_eq!(io.bytes(&chunk), b"hello");
                io.recycle(chunk);
            }
        }
        peers.push(peer);
    }
}

#[test]
fn a_failed_connect_says_why_and_leaves_no_descriptor_behind() {
    let Some(mut io) = connecting() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let target = listener.local_addr().expect("an address");
    let refused = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        gone.local_addr().expect("an address")
    };
    for _ in 0..2 * config().capacity {
        assert_eq!(check(&mut io, refused, None), Err(libc::ECONNREFUSED));
        // TEST-NET-1 (RFC 5737) is no address of this host.
        assert_eq!(check(&mut io, target, Some("192.0.2.1:0")), Err(libc::EADDRNOTAVAIL));
    }
}

#[test]
fn a_full_table_is_said_and_a_closed_connection_makes_room() {
    let Some(mut io) = connecting() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let target = listener.local_addr().expect("an address");
    let slots: Vec<u32> = (0..config().capacity)
        .map(|_| {
            let slot = check(&mut io, target, None).expect("connects");
            drop(listener.accept());
            slot
        })
        .collect();
    assert_eq!(check(&mut io, target, None), Err(libc::ENFILE));
    let id = ConnId { slot: slots[3], generation: 9 };
    io.recv(id);
    completions_until(&mut io, |one| matches!(one, Completion::RecvEnded { .. }));
    io.close(id);
    completions_until(&mut io, |one| matches!(one, Completion::Closed { .. }));
    assert_eq!(check(&mut io, target, None), Ok(slots[3]));
}

#[test]
fn many_connects_at_once_all_arrive_even_when_the_queue_is_shorter_than_their_chains() {
    const COUNT: u32 = 200;
    let Some(mut io) = connecting() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let target = listener.local_addr().expect("an address");
    // As many as the backlog of the standard library takes without being accepted, and then some.
    let accepting = thread::spawn(move || {
        (0..COUNT).map(|_| listener.accept().expect("a connection").0).collect::<Vec<_>>()
    });
    for token in 0..COUNT {
        let source = Some("127.9.9.9:0".parse().expect("an address"));
        io.connect(token, target, source, if token % 2 == 0 { None } else { Some(60_000) });
    }
    let mut came = vec![false; COUNT as usize];
    let mut out = Vec::new();
    for _ in 0..TURNS_MAX {
        io.turn(Some(10), &mut out);
        for completion in out.drain(..) {
            let Completion::Connected { token, result } = completion else { continue };
            result.expect("connects");
            assert!(!std::mem::replace(&mut came[token as usize], true), "{token} came twice");
        }
        if came.iter().all(|came| *came) {
            break;
        }
    }
    assert!(came.iter().all(|came| *came), "{came:?}");
    assert_eq!(accepting.join().expect("accepts").len(), COUNT as usize);
}

#[test]
fn a_ring_that_signals_wakes_the_one_that_sleeps() {
    let bells = Bells::new(2).expect("eventfds");
    let Some(mut sleeper) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    let Some(mut other) = ring(config(), Vec::new(), 1, bells) else { return };
    other.signal(0).expect("an eventfd");
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let slot = other.adopt(ours.into()).expect("adopts");
    let id = ConnId { slot, generation: 1 };
    other.recv(id);
    let mut out = Vec::new();
    for _ in 0..3 {
        // Both are quiet: whatever was signalled before is heard.
        other.turn(None, &mut out);
        sleeper.turn(None, &mut out);
        other.turn(None, &mut out);
        sleeper.turn(None, &mut out);
        out.clear();
        theirs.write_all(b"x").expect("room");
        completions_until(&mut sleeper, |one| matches!(one, Completion::Bell));
        other.turn(None, &mut out);
        let [Completion::Received { chunk, .. }] = &out[..] else { panic!("{out:?}") };
        assert_eq!(other.bytes(chunk), b"x");
        for completion in out.drain(..) {
            if let Completion::Received { chunk, .. } = completion {
                other.recycle(chunk);
            }
        }
    }
}

#[test]
fn a_connection_that_takes_too_long_is_given_up() {
    let Some(mut io) = connecting() else { return };
    // Nobody accepts, and the kernel keeps what it cannot queue waiting for an answer.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = listener.expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("binds");
    listener.listen(0).expect("listens");
    let target = listener.local_addr().expect("an address").as_socket().expect("of the internet");
    let mut given_up = 0;
    for token in 0..4 {
        io.connect(token, target, None, Some(50));
        let out = completions_until(&mut io, |one| matches!(one, Completion::Connected { .. }));
        let is_late = |one: &Completion| match one {
            Completion::Connected { token: said, result } => {
                assert_eq!(*said, token);
                *result == Err(libc::ETIMEDOUT)
            }
            _ => false,
        };
        given_up += out.iter().filter(|one| is_late(one)).count();
    }
    assert!(0 < given_up, "a backlog of nothing took four connections");
}

#[test]
fn a_listener_that_remembers_knows_who_called() {
    use crate::io::listen::{ListenOptions, bind};
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let addr: SocketAddr = host.parse().expect("an address");
        let Ok(socket) = bind(addr, &ListenOptions::default()) else {
            println!("skipped: no IPv6 here");
            continue;
        };
        let target = std::net::TcpListener::from(socket.try_clone().expect("a copy"));
        let target = target.local_addr().expect("an address");
        let bells = Bells::new(1).expect("an eventfd");
        let Some(mut io) = ring(config(), vec![socket], 0, bells) else { return };
        io.remember_callers(0);
        for _ in 0..3 {
            io.accept(0);
            let client = std::net::TcpStream::connect(target).expect("connects");
            let out = completions_until(&mut io, |one| {
                matches!(one, Completion::AcceptEnded { listener: 0, errno: 0 })
            });
            let slot = out.iter().find_map(|one| match one {
                Completion::Accepted { listener: 0, slot } => Some(*slot),
                _ => None,
            });
            let slot = slot.expect("a connection");
            assert_eq!(io.caller(slot), Some(client.local_addr().expect("an address")));
            assert_eq!(io.caller(slot), None, "asked once");
        }
    }
}
