use super::*;

#[test]
fn a_tiny_buffer_ring_loses_no_byte() {
    let tiny = UringConfig { buffers: 2, buffer_bytes: 16, ..config() };
    let Some((io, addr)) = listening(tiny) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    let mut clients: Vec<TcpStream> = (0..8).map(|_| connect(addr)).collect();
    turn_until(&mut echo, |echo| echo.open() == 8);
    for client in &mut clients {
        client.write_all(&text(4_000)).expect("room for 4 KB");
    }
    let mut got = vec![Vec::new(); 8];
    turn_until(&mut echo, |_| {
        for (client, got) in clients.iter_mut().zip(&mut got) {
            read_some(client, got);
        }
        got.iter().all(|got| got.len() == 4_000)
    });
    assert!(got.iter().all(|got| *got == text(4_000)));
    assert!(0 < echo.tally.no_buffers, "two buffers were enough?");
    assert_eq!(echo.io.stats().enobufs, echo.tally.no_buffers);
}

#[test]
fn a_full_table_ends_the_accept_and_keeps_what_is_there() {
    let Some((mut io, addr)) = listening(UringConfig { capacity: 3, ..config() }) else { return };
    assert_eq!(io.capacity(), 3);
    io.accept(0);
    let mut clients: Vec<TcpStream> = (0..4).map(|_| connect(addr)).collect();
    let out = completions_until(&mut io, |done| matches!(done, Completion::AcceptEnded { .. }));
    let mut slots: Vec<u32> = Vec::new();
    for completion in &out {
        match completion {
            Completion::Accepted { slot, .. } => slots.push(*slot),
            other => {
                assert_eq!(*other, Completion::AcceptEnded { listener: 0, errno: libc::ENFILE })
            }
        }
    }
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
    // Not armed again by the ring: nothing more happens although nobody waits in vain for a slot.
    let mut out = Vec::new();
    io.turn(Some(20), &mut out);
    assert_eq!(out, []);
    // Room again, accepted again.
    io.close(ConnId { slot: 1, generation: 1 });
    io.accept(0);
    clients.push(connect(addr));
    let out = completions_until(&mut io, |done| matches!(done, Completion::Accepted { .. }));
    assert_eq!(
        out,
        [Completion::Closed { slot: 1 }, Completion::Accepted { listener: 0, slot: 1 }]
    );
}

#[test]
fn a_full_table_adopts_nothing() {
    let Some(mut io) = ring(
        UringConfig { capacity: 1, ..config() },
        Vec::new(),
        0,
        Bells::new(1).expect("an eventfd"),
    ) else {
        return;
    };
    let pair = || std::os::unix::net::UnixStream::pair().expect("a pair");
    let ((first, _keep), (second, _keep_too)) = (pair(), pair());
    assert_eq!(io.adopt(first.into()).expect("room for one"), 0);
    let err = io.adopt(second.into()).expect_err("full");
    assert_eq!(err.raw_os_error(), Some(libc::ENFILE));
}

#[test]
fn accepting_stops_starts_and_ends() {
    let Some((mut io, addr)) = listening(config()) else { return };
    let is_end = |done: &Completion| matches!(done, Completion::AcceptEnded { .. });
    io.accept(0);
    io.accept_stop(0);
    let stopped = [Completion::AcceptEnded { listener: 0, errno: libc::ECANCELED }];
    assert_eq!(completions_until(&mut io, is_end), stopped);

    let _waiting = connect(addr); // the kernel's queue has it
    let mut out = Vec::new();
    io.turn(Some(20), &mut out);
    assert_eq!(out, [], "nobody accepts");

    io.accept(0);
    let accepted = |done: &Completion| matches!(done, Completion::Accepted { .. });
    assert_eq!(completions_until(&mut io, accepted).len(), 1);

    io.listener_close(0);
    assert_eq!(completions_until(&mut io, is_end), stopped);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    io.accept(0); // ignored: there is no such listener
    io.turn(Some(20), &mut out);
    assert_eq!(out, []);
}

#[test]
fn a_small_submission_queue_is_submitted_in_between() {
    let Some((io, addr)) = listening(UringConfig { sq_entries: 4, ..config() }) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    let mut clients: Vec<TcpStream> = (0..40).map(|_| connect(addr)).collect();
    turn_until(&mut echo, |echo| echo.open() == 40);
    for client in &mut clients {
        check_echoes(&mut echo, client, &text(300));
    }
    assert!(0 < echo.io.stats().sq_full, "{:?}", echo.io.stats());
}

#[test]
fn an_overflown_completion_queue_loses_nothing() {
    let small = UringConfig { sq_entries: 4, cq_entries: 8, ..config() };
    let Some((io, addr)) = listening(small) else { return };
    let mut echo = Echo::new(io);
    echo.io.accept(0);
    let mut clients: Vec<TcpStream> = (0..60).map(|_| connect(addr)).collect();
    turn_until(&mut echo, |echo| echo.open() == 60);
    for _ in 0..5 {
        for client in &mut clients {
            client.write_all(&text(700)).expect("room");
        }
        let mut got = vec![Vec::new(); 60];
        turn_until(&mut echo, |_| {
            for (client, got) in clients.iter_mut().zip(&mut got) {
                read_some(client, got);
            }
            got.iter().all(|got| got.len() == 700)
        });
    }
    let stats = echo.io.stats();
    println!("{stats:?}");
    assert_eq!(stats.cq_dropped, 0);
}

#[test]
fn more_descriptors_than_the_limit_are_refused_at_once() {
    if probe().is_err() {
        return println!("skipped: no io_uring");
    }
    let config = UringConfig { capacity: u32::MAX / 2, ..config() };
    let bells = Bells::new(1).expect("an eventfd");
    assert!(Uring::new(&config, Vec::new(), 0, bells).is_err());
}

#[test]
fn an_odd_number_of_buffers_is_refused() {
    if probe().is_err() {
        return println!("skipped: no io_uring");
    }
    for buffers in [0, 3, 40_000] {
        let config = UringConfig { buffers, ..config() };
        let bells = Bells::new(1).expect("an eventfd");
        let err = Uring::new(&config, Vec::new(), 0, bells).err().expect("refused");
        assert_eq!(err.kind(), ErrorKind::InvalidInput, "{buffers}");
    }
}
