use super::*;
use crate::io::RecvEnd;
use std::os::unix::net::UnixStream;
use std::thread;

#[test]
fn bytes_come_back_over_loopback() {
    let Some((io, addr)) = listening(config()) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(addr)).collect();
    for len in [1, 255, 256, 257, 5_000] {
        for client in &mut clients {
            check_echoes(&mut echo, client, &text(len));
        }
    }
    let stats = echo.io.stats();
    assert_eq!(echo.tally.accepted, 20);
    assert_eq!((stats.late, stats.cq_dropped, stats.enter_errors), (0, 0, 0), "{stats:?}");
    clients.clear();
    turn_until(&mut echo, |echo| echo.open() == 0);
}

#[test]
fn a_few_syscalls_serve_many_echoes() {
    const CLIENTS: usize = 64;
    const ROUNDS: usize = 30;
    let Some((io, addr)) = listening(config()) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(addr)).collect();
    turn_until(&mut echo, |echo| echo.open() == CLIENTS);
    let before = echo.io.stats().enters;
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client.write_all(b"ping").expect("room for four bytes");
        }
        let mut got = vec![Vec::new(); CLIENTS];
        turn_until(&mut echo, |_| {
            for (client, got) in clients.iter_mut().zip(&mut got) {
                read_some(client, got);
            }
            got.iter().all(|got| got == b"ping")
        });
    }
    let enters = echo.io.stats().enters - before;
    println!("{enters} syscalls for {} echoes", CLIENTS * ROUNDS);
    assert!((enters as usize) < CLIENTS * ROUNDS, "{enters} syscalls");
}

#[test]
fn a_big_send_to_a_slow_reader_arrives_intact() {
    const BYTES: usize = 4 << 20;
    let Some((mut io, addr)) = listening(config()) else { return };
    io.accept(0);
    let reader = thread::spawn(move || {
        let mut client = TcpStream::connect(addr).expect("connects");
        let mut got = Vec::new();
        let mut piece = vec![0; 10_007];
        while got.len() < BYTES {
            let len = client.read(&mut piece).expect("bytes");
            assert_ne!(len, 0, "closed after {} bytes", got.len());
            got.extend_from_slice(&piece[..len]);
            thread::yield_now();
        }
        got
    });
    let out = completions_until(&mut io, |done| matches!(done, Completion::Accepted { .. }));
    let Completion::Accepted { slot, .. } = out[0] else { panic!("{out:?}") };
    let id = ConnId { slot, generation: 77 };
    let skipped = 5;
    io.send(id, [vec![0; skipped], text(BYTES)].concat(), skipped);
    let mut out = completions_until(&mut io, |done| matches!(done, Completion::Sent { .. }));
    let Some(Completion::Sent { id: whose, buffer, result }) = out.pop() else { panic!() };
    assert_eq!((whose, result), (id, Ok(BYTES)));
    assert_eq!(buffer.len(), skipped + BYTES, "the buffer comes home");
    assert_eq!(reader.join().expect("reader"), text(BYTES));
}

#[test]
fn slots_are_used_again_and_again() {
    let Some((io, addr)) = listening(UringConfig { capacity: 2, ..config() }) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    for round in 0..200 {
        let mut client = connect(addr);
        check_echoes(&mut echo, &mut client, format!("round {round}").as_bytes());
        drop(client);
        turn_until(&mut echo, |echo| echo.open() == 0);
    }
    assert_eq!((echo.tally.closed, echo.io.stats().late), (200, 0));
}

#[test]
fn a_late_completion_is_counted_and_dropped() {
    let Some((io, addr)) = listening(config()) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    let mut client = connect(addr);
    turn_until(&mut echo, |echo| echo.open() == 1);
    let id = echo.conns.iter().flatten().map(|conn| conn.id).next().expect("one is open");
    for op in [Op::Recv, Op::Send, Op::Close] {
        let nop = opcode::Nop::new().build();
        echo.io.push(&nop.user_data(pack(op, id.generation + 1, id.slot)));
    }
    check_echoes(&mut echo, &mut client, b"still there");
    assert_eq!((echo.io.stats().late, echo.tally.late), (2, 0));
    assert_eq!(echo.tally.closed, 0);
}

#[test]
fn closed_is_told_before_the_slot_is_given_away_again() {
    let Some((mut io, addr)) = listening(UringConfig { capacity: 1, ..config() }) else { return };
    io.accept(0);
    let _first = connect(addr);
    completions_until(&mut io, |done| matches!(done, Completion::Accepted { .. }));
    io.accept_stop(0);
    completions_until(&mut io, |done| matches!(done, Completion::AcceptEnded { .. }));
    let _second = connect(addr);
    // One submission closes the only slot and accepts into it.
    io.close(ConnId { slot: 0, generation: 1 });
    io.accept(0);
    let mut out = completions_until(&mut io, |done| matches!(done, Completion::Accepted { .. }));
    io.turn(None, &mut out);
    let expect = [Completion::Closed { slot: 0 }, Completion::Accepted { listener: 0, slot: 0 }];
    assert_eq!(out, expect);
}

/// The kernel has a worker thread do the shutdown, which looks the slot up when it gets to it. Closed before
/// that, the FIN met whoever had the slot by then.
#[test]
fn a_fin_never_meets_the_next_connection_of_its_slot() {
    let Some((mut io, addr)) = listening(UringConfig { capacity: 1, ..config() }) else { return };
    let mut client = connect(addr);
    io.accept(0);
    for generation in 1..=2_000 {
        let id = ConnId { slot: 0, generation };
        completions_until(&mut io, |done| matches!(done, Completion::Accepted { .. }));
        io.send(id, vec![b'x'], 0);
        let mut out = completions_until(&mut io, |done| matches!(done, Completion::Sent { .. }));
        let sent = out.iter().find(|done| matches!(done, Completion::Sent { .. }));
        let is_whole = matches!(sent, Some(Completion::Sent { result: Ok(1), .. }));
        assert!(is_whole, "connection {generation}: {sent:?}");
        io.accept_stop(0);
        while !out.iter().any(|done| matches!(done, Completion::AcceptEnded { .. })) {
            io.turn(Some(10), &mut out);
        }
        let next = connect(addr);
        drop(std::mem::replace(&mut client, next));
        io.shutdown_write(id);
        io.close(id);
        completions_until(&mut io, |done| matches!(done, Completion::Closed { .. }));
        io.accept(0);
    }
}

#[test]
fn shutdown_wakes_what_is_pending() {
    let Some(mut io) = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")) else {
        return;
    };
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let id = ConnId { slot: io.adopt(ours.into()).expect("a slot"), generation: 3 };
    io.recv(id);
    io.send(id, vec![0; 8 << 20], 0); // more than the other end buffers, and it does not read
    let mut out = Vec::new();
    io.turn(None, &mut out);
    assert_eq!(out, []);
    io.shutdown(id);
    let (mut ended, mut sent) = (false, false);
    for _ in 0..TURNS_MAX {
        io.turn(Some(10), &mut out);
        for completion in out.drain(..) {
            match completion {
                Completion::RecvEnded { why, .. } => ended = why == RecvEnd::Cancelled,
                Completion::Sent { result, .. } => sent = result != Ok(8 << 20),
                other => panic!("{other:?}"),
            }
        }
        if ended && sent {
            break;
        }
    }
    assert!(ended && sent);
    io.close(id);
    assert_eq!(
        completions_until(&mut io, |done| matches!(done, Completion::Closed { .. })),
        [Completion::Closed { slot: id.slot }]
    );
}

#[test]
fn a_reset_by_the_peer_ends_receive_and_send() {
    let Some((mut io, addr)) = listening(config()) else { return };
    io.accept(0);
    let client = connect(addr);
    completions_until(&mut io, |done| matches!(done, Completion::Accepted { .. }));
    let id = ConnId { slot: 0, generation: 5 };
    io.recv(id);
    io.send(id, vec![0; 32 << 20], 0); // more than both socket buffers hold
    io.turn(None, &mut Vec::new());
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(client);
    let mut out = Vec::new();
    let both = |out: &[Completion]| {
        out.iter().any(|done| matches!(done, Completion::RecvEnded { .. }))
            && out.iter().any(|done| matches!(done, Completion::Sent { .. }))
    };
    for _ in 0..TURNS_MAX {
        if both(&out) {
            break;
        }
        io.turn(Some(10), &mut out);
    }
    for completion in &out {
        match completion {
            Completion::RecvEnded { why, .. } => {
                // Whichever of the two the kernel tells first takes the error with it.
                assert!(matches!(why, RecvEnd::Error(libc::ECONNRESET) | RecvEnd::Eof), "{why:?}");
            }
            Completion::Sent { result, .. } => assert_ne!(*result, Ok(32 << 20)),
            other => panic!("{other:?}"),
        }
    }
    assert!(both(&out), "{out:?}");
}

#[test]
fn after_fin_the_server_still_receives() {
    let Some(mut io) = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")) else {
        return;
    };
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let id = ConnId { slot: io.adopt(ours.into()).expect("a slot"), generation: 0 };
    io.recv(id);
    io.shutdown_write(id);
    io.turn(None, &mut Vec::new());
    theirs.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // Not a bare read: the worker that shuts down is started on this thread, which may interrupt it.
    assert_eq!(theirs.read_to_end(&mut Vec::new()).expect("FIN"), 0);
    theirs.write_all(b"last words").expect("written");
    let out = completions_until(&mut io, |done| matches!(done, Completion::Received { .. }));
    for completion in out {
        if let Completion::Received { chunk, .. } = completion {
            assert_eq!(io.bytes(&chunk), b"last words");
            io.recycle(chunk);
        }
    }
}

#[test]
fn an_adopted_socket_is_a_connection_like_any_other() {
    let Some(io) = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")) else {
        return;
    };
    let mut echo = Echo::new(io);
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    theirs.set_nonblocking(true).expect("nonblocking");
    let slot = echo.io.adopt(ours.into()).expect("a slot");
    echo.adopt(slot);
    theirs.write_all(b"hello").expect("written");
    let mut got = [0; 5];
    turn_until(&mut echo, |_| theirs.read_exact(&mut got).is_ok());
    assert_eq!(&got, b"hello");
    drop(theirs);
    turn_until(&mut echo, |echo| echo.open() == 0);
}

#[test]
fn what_is_not_a_socket_is_not_adopted() {
    let Some(mut io) = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")) else {
        return;
    };
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let err = io.adopt(reader.into()).expect_err("a pipe");
    assert_eq!(err.raw_os_error(), Some(libc::ENOTSOCK));
}

#[test]
fn dropping_a_ring_lets_go_of_everything() {
    let bells = Bells::new(1).expect("an eventfd");
    let Some(mut io) = ring(config(), Vec::new(), 0, bells.clone()) else { return };
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let id = ConnId { slot: io.adopt(ours.into()).expect("a slot"), generation: 0 };
    io.recv(id);
    io.send(id, vec![1; 8 << 20], 0);
    io.turn(None, &mut Vec::new());
    drop(io);
    // Another descriptor of the ring is alive in the bells; the socket must be closed all the same.
    theirs.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).expect("the end");
    assert!(rest.len() < 8 << 20);
    bells.ring(0);
}

#[test]
#[should_panic(expected = "in flight already")]
fn two_sends_at_once_are_a_bug_of_ours() {
    let Some(mut io) = ring(config(), Vec::new(), 0, Bells::new(1).expect("an eventfd")) else {
        panic!("a send is in flight already, or would be");
    };
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let id = ConnId { slot: io.adopt(ours.into()).expect("a slot"), generation: 0 };
    io.send(id, vec![1; 8 << 20], 0);
    io.send(id, vec![2], 0);
}
