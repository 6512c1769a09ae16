//! What a fuzzer makes happen to an owner: members, links and letters in any order, true and false.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Copied, Replicas, Say, Standing};
use crate::letter::route::Token;
use crate::view::{Member, State, View};
use crate::{SessionName, Spot};

/// Other nodes, from 2 on.
const OTHERS: u16 = 5;
const SESSIONS: u8 = 8;
const COPIES: usize = 2;

/// Each pair of bytes is something that happens, and to whom. What is counted stays right, queues stay short, and when
/// all nodes are there at last and keep what they are told, each session is safe.
pub fn fuzz_replicas(data: &[u8]) {
    let mut replicas = Replicas::new(COPIES, view(0)).paced(3);
    let mut now = 1;
    replicas.handle_time(now);
    for pair in data.chunks_exact(2) {
        let (what, arg) = (pair[0], pair[1]);
        let node = 2 + u16::from(what >> 4) % (OTHERS + 1);
        let (name, rev) = (name(arg % SESSIONS), u32::from(arg / SESSIONS));
        match what & 15 {
            0 => {
                let at = Spot { node: 1, shard: 0 };
                let token = Token { at, epoch: 1, slot: 0, generation: 0, name };
                replicas.insert(token, rev % 3);
            }
            1 => replicas.changed(&name),
            2 => replicas.appended(&name, |to, _, _| u16::from(arg) % 2 == to.node % 2),
            3 => replicas.remove(&name),
            4 => replicas.handle_kept(node, &name, rev),
            5 => replicas.handle_not_kept(node, &name, rev),
            6 => replicas.handle_missing(node, &name),
            7 => replicas.handle_oversize(node, &name, rev),
            8 => replicas.handle_view(&view(arg)),
            9 if view(0).member(node).is_some() => replicas.handle_up(node),
            10 => replicas.handle_lost(node),
            11 => replicas.handle_drained(node),
            12 => replicas.handle_timeout(),
            13 => replicas.release(&name),
            14 => {
                now += u64::from(arg % 3);
                replicas.handle_time(now);
                replicas.visit();
            }
            _ => {
                for refused in (0..arg % 8).rev() {
                    let Some(say) = replicas.poll() else { break };
                    if refused == 0 && 128 < arg {
                        replicas.refused(say);
                    }
                }
            }
        }
        check(&replicas, data.len());
    }
    calm(&mut replicas, now);
}

fn check(replicas: &Replicas, happened: usize) {
    assert_eq!(replicas.copied().iter().sum::<usize>(), replicas.len());
    // Each event of the input queues a session's copy and whereabouts for each node at most, or the ends of a round.
    assert!(replicas.waiting() <= usize::from(OTHERS) * (2 * happened + 4 * usize::from(SESSIONS)));
    assert!((0..SESSIONS).all(|number| replicas.keepers(&name(number)).len() <= COPIES));
}

/// Everyone is there, and keeps what it is told.
fn calm(replicas: &mut Replicas, mut now: u64) {
    replicas.handle_view(&view(0));
    (2..2 + OTHERS).for_each(|node| replicas.handle_up(node));
    // Two looks for whoever was refused, and one to see that nothing is left.
    for look in 0..3 {
        for _ in 0..100 {
            now += 1;
            replicas.handle_time(now);
            replicas.visit();
            while let Some(say) = replicas.poll() {
                if let Say::Copy { to, name, rev, .. } = say {
                    replicas.handle_kept(to.node, &name, rev);
                }
            }
        }
        assert!(!replicas.is_walking(), "a walk that does not end");
        if look < 2 {
            replicas.handle_timeout();
        }
    }
    for number in 0..SESSIONS {
        // One that was too large is looked at again when it changes.
        replicas.changed(&name(number));
        while let Some(Say::Copy { to, name, rev, .. }) = replicas.poll() {
            replicas.handle_kept(to.node, &name, rev);
        }
        if let Some(rev) = replicas.rev(&name(number)) {
            assert_eq!(replicas.standing(&name(number), rev), Standing::Safe);
            assert_eq!(replicas.keepers(&name(number)).len(), COPIES);
        }
    }
    assert_eq!(replicas.copied()[Copied::All as usize], replicas.len());
    assert_eq!((replicas.behind_since(), replicas.poll()), (None, None));
}

/// A bit of `gone` for each other node.
fn view(gone: u8) -> Arc<View> {
    let member = |node: u16| Member {
        node,
        epoch: 1,
        incarnation: 0,
        state: match node {
            2.. if gone >> (node - 2) & 1 == 1 => State::Dead,
            _ => State::Alive,
        },
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], node))],
    };
    Arc::new(View { me: 1, version: 1, members: (1..2 + OTHERS).map(member).collect() })
}

fn name(number: u8) -> SessionName {
    [number.wrapping_mul(37); 16]
}
