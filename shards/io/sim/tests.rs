use super::*;
use crate::io::echo::Echo;
use crate::io::{Completion, ConnId, Io, RecvEnd};
use crate::mail::Mailroom;

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// Clients come, talk, half-close and must get back every byte.
#[track_caller]
fn check_echo(seed: u64, faults: Faults, clients: usize, bytes: usize) -> Tally {
    let net = SimNet::new(seed, faults);
    let mut echo = Echo::new(net.shard_with_buffers(1, 8, 4, 64));
    echo.io.accept(0);
    let mut got = vec![Vec::new(); clients];
    let mut done = 0;
    while done < clients {
        let wave = clients.min(done + 5);
        let ends: Vec<SimClient> = (done..wave).map(|_| net.connect(0, 0)).collect();
        for end in &ends {
            for part in text(bytes).chunks(bytes / 3 + 1) {
                end.send(part);
                echo.turn(None);
            }
            end.finish();
        }
        let mut turns = 0;
        while ends.iter().any(|end| end.end().is_none()) {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: does not finish");
            net.advance(1);
            echo.turn(Some(1));
        }
        for (end, got) in ends.iter().zip(&mut got[done..]) {
            got.extend(end.received());
            assert_eq!(end.end(), Some(End::Fin), "seed {seed}");
        }
        done = wave;
    }
    for got in got {
        assert_eq!(got, text(bytes), "seed {seed}");
    }
    assert_eq!(echo.io.open_slots(), 0, "seed {seed}");
    net.tally()
}

#[test]
fn a_perfect_world_echoes() {
    assert_eq!(check_echo(1, Faults::none(), 12, 200), Tally::default());
}

#[test]
fn pieces_of_every_size_arrive_whole() {
    for len in 1..70 {
        check_echo(2, Faults { chunk: ChunkLen::Fixed(len), ..Faults::none() }, 2, 150);
        check_echo(3, Faults { chunk: ChunkLen::Random(len), ..Faults::none() }, 2, 150);
    }
}

#[test]
fn a_rough_world_loses_no_byte() {
    let mut total = Tally::default();
    for seed in 0..60 {
        let tally = check_echo(seed, Faults::rough(), 10, 300);
        total.no_buffers += tally.no_buffers;
        total.rearms += tally.rearms;
        total.stalls += tally.stalls;
        total.accept_errors += tally.accept_errors;
        total.late += tally.late;
    }
    for (what, count) in [
        ("no buffers", total.no_buffers),
        ("rearms", total.rearms),
        ("stalls", total.stalls),
        ("accept errors", total.accept_errors),
        ("late completions", total.late),
    ] {
        assert!(0 < count, "{what} never happened");
    }
}

#[test]
fn a_wild_world_frees_every_slot() {
    for seed in 0..60 {
        let net = SimNet::new(seed, Faults::wild());
        let mut echo = Echo::new(net.shard(1, 4));
        echo.io.accept(0);
        let clients: Vec<SimClient> = (0..20).map(|_| net.connect(0, 0)).collect();
        for (index, client) in clients.iter().enumerate() {
            client.send(&text(500));
            match index % 4 {
                0 => client.finish(),
                1 => client.close(),
                2 => client.reset(),
                _ => client.stop_reading(),
            }
        }
        for turn in 0..3_000 {
            echo.turn(None);
            if turn == 1_500 {
                net.set_faults(Faults::none());
                clients.iter().for_each(SimClient::close);
                clients.iter().for_each(SimClient::resume_reading);
            }
        }
        assert_eq!(echo.io.open_slots(), 0, "seed {seed}");
        assert!(clients.iter().all(|client| client.end().is_some()), "seed {seed}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let net = SimNet::new(seed, Faults::wild());
        let mut echo = Echo::new(net.shard(1, 4));
        echo.io.accept(0);
        let clients: Vec<SimClient> = (0..8).map(|_| net.connect(0, 0)).collect();
        clients.iter().for_each(|client| client.send(&text(2_000)));
        let counts: Vec<usize> = (0..200).map(|_| echo.turn(None)).collect();
        (counts, net.tally())
    };
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}

#[test]
fn a_slow_reader_holds_its_own_send_only() {
    let net = SimNet::new(5, Faults::none());
    let mut echo = Echo::new(net.shard(1, 4));
    echo.io.accept(0);
    let (slow, quick) = (net.connect(0, 0), net.connect(0, 0));
    slow.stop_reading();
    slow.send(&text(300));
    quick.send(&text(300));
    (0..5).for_each(|_| _ = echo.turn(None));
    assert_eq!(slow.received(), b"");
    assert_eq!(quick.received(), text(300));
    slow.read_only(100);
    (0..5).for_each(|_| _ = echo.turn(None));
    assert_eq!(slow.received(), &text(300)[..100]);
    slow.resume_reading();
    echo.turn(None);
    assert_eq!(slow.received(), &text(300)[100..]);
}

#[test]
fn a_full_table_loses_the_connection_and_says_so() {
    let net = SimNet::new(1, Faults::none());
    let mut echo = Echo::new(net.shard(1, 2));
    echo.io.accept(0);
    let clients: Vec<SimClient> = (0..3).map(|_| net.connect(0, 0)).collect();
    echo.turn(None);
    assert_eq!(echo.tally.accept_ends, [libc::ENFILE]);
    assert_eq!(clients[2].end(), Some(End::Reset));
    assert!(clients[0].is_open() && clients[1].is_open());
}

#[test]
fn closing_with_unread_bytes_resets_as_the_kernel_does() {
    let net = SimNet::new(1, Faults::none());
    let mut io = net.shard(1, 2);
    io.accept(0);
    let client = net.connect(0, 0);
    client.send(b"unread");
    let slot = accepted(&mut io);
    io.close(ConnId { slot, generation: 1 });
    io.turn(None, &mut Vec::new());
    assert_eq!(client.end(), Some(End::Reset));
}

#[test]
fn a_listener_can_stop_start_and_close() {
    let net = SimNet::new(1, Faults::none());
    let mut io = net.shard(1, 2);
    let mut out = Vec::new();
    io.accept(0);
    io.accept_stop(0);
    let client = net.connect(0, 0);
    io.turn(None, &mut out);
    let stopped = Completion::AcceptEnded { listener: 0, errno: libc::ECANCELED };
    assert_eq!(out, [stopped]);
    assert!(!client.is_open());
    io.accept(0);
    accepted(&mut io);
    assert!(client.is_open());
    let waiting = net.connect(0, 0);
    io.listener_close(0);
    assert_eq!(waiting.end(), Some(End::Reset));
    assert_eq!(net.connect(0, 0).end(), Some(End::Reset));
    assert!(client.is_open(), "what was accepted stays");
}

#[test]
fn shards_of_one_world_wake_each_other_through_mailboxes() {
    let net = SimNet::new(9, Faults { stall: 40, ..Faults::none() });
    let (mut one, mut two) = (net.shard(0, 1), net.shard(0, 1));
    let mut room: Mailroom<u32> = Mailroom::new(2, net.foreign_bell());
    let (mut post, _inbox) = room.take(0).expect("shard 0");
    let (_post, mut inbox) = room.take(1).expect("shard 1");
    let foreign = room.foreign(1).expect("shard 1");
    let mut out = Vec::new();
    for number in 0..50 {
        assert!(inbox.park());
        if number % 2 == 0 {
            assert_eq!(post.send(1, number), Ok(true));
            one.ring_bell(1);
        } else {
            assert_eq!(foreign.send(number), Ok(()));
        }
        one.turn(None, &mut out);
        let rung = (0..100).any(|_| {
            two.turn(Some(10), &mut out);
            out.drain(..).any(|completion| completion == Completion::Bell)
        });
        assert!(rung, "seed {}", net.seed());
        inbox.unpark();
        let mut got = Vec::new();
        inbox.drain(10, |number| got.push(number));
        assert_eq!(got, [number]);
    }
}

#[test]
fn time_passes_only_when_told() {
    let net = SimNet::new(1, Faults::none());
    let mut io = net.shard(0, 1);
    let (now, unix) = (io.now(), io.unix_ms());
    net.advance(250);
    assert_eq!(io.now(), now, "read once per turn");
    io.turn(Some(10_000), &mut Vec::new());
    assert_eq!((io.now() - now, io.unix_ms() - unix), (250, 250));
}

/// A connection with generation 1 in its slot.
fn accepted(io: &mut SimIo) -> u32 {
    let mut out = Vec::new();
    io.turn(None, &mut out);
    let slot = out.iter().find_map(|completion| match completion {
        Completion::Accepted { slot, .. } => Some(*slot),
        _ => None,
    });
    slot.expect("a connection")
}

/// What a caller must not do, and what it then reads.
#[track_caller]
fn check_refused(complaint: &str, act: impl FnOnce(&mut SimIo, ConnId, &SimClient)) {
    let net = SimNet::new(42, Faults::none());
    let mut io = net.shard(1, 2);
    io.accept(0);
    let client = net.connect(0, 0);
    let id = ConnId { slot: accepted(&mut io), generation: 1 };
    let act = std::panic::AssertUnwindSafe(|| act(&mut io, id, &client));
    let panic = std::panic::catch_unwind(act).expect_err(complaint);
    let said = panic.downcast_ref::<String>().expect("a message");
    assert!(said.contains(complaint) && said.contains("seed 42"), "{said}");
}

#[test]
fn broken_obligations_panic_with_the_seed() {
    check_refused("two sends", |io, id, _| {
        io.send(id, vec![1], 0);
        io.send(id, vec![2], 0);
    });
    check_refused("no bytes", |io, id, _| io.send(id, vec![1], 1));
    check_refused("armed twice", |io, id, _| {
        io.recv(id);
        io.recv(id);
    });
    check_refused("listener 0 is armed twice", |io, _, _| io.accept(0));
    check_refused("receive armed", |io, id, _| {
        io.recv(id);
        io.close(id);
    });
    check_refused("send in flight", |io, id, client| {
        client.stop_reading();
        io.send(id, vec![1], 0);
        io.turn(None, &mut Vec::new());
        io.close(id);
    });
    check_refused("after close", |io, id, _| {
        io.close(id);
        io.recv(id);
    });
    check_refused("not open", |io, id, _| {
        io.close(id);
        io.turn(None, &mut Vec::new());
        io.shutdown(id);
    });
    check_refused("no such slot", |io, _, _| io.recv(ConnId { slot: 7, generation: 1 }));
    check_refused("stale", |io, id, _| {
        io.recv(id);
        io.recv_stop(ConnId { generation: 2, ..id });
    });
    check_refused("chunks are lent", |io, id, client| {
        client.send(b"x");
        io.recv(id);
        io.turn(None, &mut Vec::new());
        io.turn(None, &mut Vec::new());
    });
}

#[test]
fn a_reused_slot_needs_a_new_generation() {
    check_refused("not bumped", |io, id, _| {
        io.close(id);
        io.turn(None, &mut Vec::new());
        let (slot, _client) = io.adopt_client();
        assert_eq!(slot, id.slot, "seed 42 reuses it");
        io.recv(id);
    });
}

/// Two nodes of one shard each; the second listens at [`THERE`].
fn two_nodes(seed: u64, faults: Faults) -> (SimNet, Echo<SimIo>, Echo<SimIo>) {
    let net = SimNet::new(seed, faults);
    let here = Echo::new(net.node(1).shard(0, 8));
    let mut there = Echo::new(net.node(2).shard(1, 8));
    net.node(2).listen(0, 0, there_addr());
    there.io.accept(0);
    (net, here, there)
}

fn there_addr() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([10, 0, 0, 2], 7000))
}

/// Asks for a connection and waits for the outcome, for so many milliseconds.
fn dialled(
    net: &SimNet,
    io: &mut SimIo,
    within: Option<Millis>,
    ms: u64,
) -> Option<Result<u32, i32>> {
    io.connect(9, there_addr(), None, within);
    let mut out = Vec::new();
    for _ in 0..ms {
        net.advance(1);
        io.turn(Some(1), &mut out);
        for completion in out.drain(..) {
            if let Completion::Connected { token, result } = completion {
                assert_eq!(token, 9);
                return Some(result);
            }
        }
    }
    None
}

#[test]
fn what_one_node_says_to_another_comes_back_whole() {
    for (seed, faults) in (0..20).map(|seed| (seed, Faults::rough())).chain([(99, Faults::none())])
    {
        let (net, mut here, mut there) = two_nodes(seed, faults);
        let slot = dialled(&net, &mut here.io, None, 500).expect("an outcome").expect("connects");
        let id = ConnId { slot, generation: 1 };
        let said = text(900_000);
        here.io.send(id, said.clone(), 0);
        here.io.recv(id);
        let (mut heard, mut out) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            net.advance(1);
            here.io.turn(Some(1), &mut out);
            let mut rearm = false;
            for completion in out.drain(..) {
                match completion {
                    Completion::Received { id: whose, chunk } => {
                        if whose == id {
                            heard.extend_from_slice(here.io.bytes(&chunk));
                        }
                        here.io.recycle(chunk);
                    }
                    Completion::RecvEnded { id: whose, .. } => rearm |= whose == id,
                    _ => {}
                }
            }
            if rearm {
                here.io.recv(id);
            }
            there.turn(Some(1));
            if heard.len() == said.len() {
                break;
            }
        }
        assert!(heard == said, "seed {seed}: {} of {}", heard.len(), said.len());
    }
}

#[test]
fn nobody_listening_refuses_and_a_cut_network_says_nothing() {
    let (net, mut here, _there) = two_nodes(1, Faults::none());
    net.partition(&[1], &[2]);
    assert_eq!(dialled(&net, &mut here.io, Some(300), 299), None);
    assert_eq!(dialled(&net, &mut here.io, Some(300), 400), Some(Err(libc::ETIMEDOUT)));
    // The attempt before was older.
    net.heal();
    assert!(matches!(dialled(&net, &mut here.io, Some(300), 5), Some(Ok(_))));
    net.node(2).crash();
    assert_eq!(dialled(&net, &mut here.io, None, 5), Some(Err(libc::ECONNREFUSED)));
}

#[test]
fn the_end_of_a_process_resets_its_connections_once_its_network_is_there() {
    let (net, mut here, mut there) = two_nodes(1, Faults::none());
    let slot = dialled(&net, &mut here.io, None, 5).expect("an outcome").expect("connects");
    there.turn(None);
    here.io.recv(ConnId { slot, generation: 1 });
    net.partition(&[1], &[2]);
    net.node(2).crash();
    let mut out = Vec::new();
    here.io.turn(None, &mut out);
    assert_eq!(out, []);
    net.heal();
    here.io.turn(None, &mut out);
    let why = RecvEnd::Error(libc::ECONNRESET);
    assert_eq!(out, [Completion::RecvEnded { id: ConnId { slot, generation: 1 }, why }]);
}

#[test]
fn a_reader_on_another_node_that_does_not_read_is_felt() {
    let (net, mut here, mut there) = two_nodes(1, Faults::none());
    let slot = dialled(&net, &mut here.io, None, 5).expect("an outcome").expect("connects");
    here.io.send(ConnId { slot, generation: 1 }, text(1_000_000), 0);
    let mut out = Vec::new();
    for _ in 0..20 {
        net.advance(1);
        here.io.turn(None, &mut out);
    }
    assert_eq!(out, [], "more was said than sockets hold");
    for _ in 0..200 {
        net.advance(1);
        there.turn(None);
        here.io.turn(None, &mut out);
    }
    assert!(matches!(out[..], [Completion::Sent { result: Ok(1_000_000), .. }, ..]));
}
