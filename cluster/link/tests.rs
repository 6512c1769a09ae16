//! Both ends of a handshake, and those who are none.

use super::*;
use crate::frame::{LENGTH_BYTES, NONCE_BYTES};

const OLD: &str = "the secret of last year";
const NEW: &str = "the secret of this year";

/// An end of a handshake, and what it made of it.
struct End {
    machine: Handshake,
    waiting: Vec<u8>,
    view: View,
    refusal: Option<Refusal>,
}

fn identity(node: u16, epoch: u32) -> Identity {
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 9100)); 2];
    Identity { node, epoch, shard: 1, addresses }
}

fn secrets(lines: &[&str]) -> Arc<Secrets> {
    Arc::new(Secrets::parse(lines.join("\n").as_bytes()).expect("secrets"))
}

type Begin = fn(Millis, Arc<Identity>, Arc<Secrets>, Nonce) -> Handshake;

fn end(begin: Begin, who: Identity, lines: &[&str]) -> End {
    let nonce = [who.node as u8; NONCE_BYTES];
    end_with(begin, who, lines, nonce)
}

fn end_with(begin: Begin, who: Identity, lines: &[&str], nonce: Nonce) -> End {
    let view = View::alone(who.node, who.epoch, 1);
    let machine = begin(0, Arc::new(who), secrets(lines), nonce);
    End { machine, waiting: Vec::new(), view, refusal: None }
}

impl End {
    /// Whether it would hear more.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        if self.refusal.is_none() {
            self.waiting.extend_from_slice(bytes);
            match self.machine.handle_bytes(&self.waiting, &self.view) {
                Ok(consumed) => drop(self.waiting.drain(..consumed)),
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
        self.refusal.is_none()
    }

    fn say(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.machine.poll_transmit(&mut out);
        out
    }

    fn outcome(&self) -> Result<Option<u16>, Refusal> {
        match self.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(self.machine.peer().map(|peer| peer.node)),
        }
    }
}

/// Lets them talk, byte by byte, until both are silent.
fn talk(dialler: &mut End, dialled: &mut End) {
    loop {
        let (there, back) = (dialler.say(), dialled.say());
        if there.is_empty() && back.is_empty() {
            return;
        }
        for (bytes, end) in [(there, &mut *dialled), (back, &mut *dialler)] {
            // Who has refused closes, and hears nothing more.
            bytes.chunks(1).take_while(|byte| end.hear(byte)).count();
        }
    }
}

/// What becomes of a handshake between node 1 (who dials) and node 2, seen from either end.
#[track_caller]
fn check(mut dialler: End, mut dialled: End, expect: Result<(), Refused>) {
    talk(&mut dialler, &mut dialled);
    match expect {
        Ok(()) => {
            assert_eq!((dialler.outcome(), dialled.outcome()), (Ok(Some(2)), Ok(Some(1))));
            assert!(dialler.waiting.is_empty() && dialled.waiting.is_empty());
        }
        Err(why) => {
            let (one, other) = (dialler.outcome(), dialled.outcome());
            let both = [one, other].map(|end| end.expect_err("no link").why);
            assert_eq!(both, [why; 2]);
            let by_peer = [one, other].map(|end| end.is_err_and(|refusal| refusal.by_peer));
            assert_ne!(by_peer[0], by_peer[1], "one end refuses, the other is told");
        }
    }
}

fn pair(ours: &[&str], theirs: &[&str]) -> (End, End) {
    let dialler = end(Handshake::dial, identity(1, 10), ours);
    (dialler, end(Handshake::accept, identity(2, 20), theirs))
}

#[test]
fn two_who_share_a_secret_become_a_link_in_any_state_of_a_rotation() {
    for ours in [&[OLD][..], &[OLD, NEW], &[NEW, OLD], &[NEW]] {
        for theirs in [&[OLD][..], &[OLD, NEW], &[NEW, OLD], &[NEW]] {
            let (dialler, dialled) = pair(ours, theirs);
            let shared = ours.iter().any(|secret| theirs.contains(secret));
            check(dialler, dialled, if shared { Ok(()) } else { Err(Refused::Secret) });
        }
    }
}

#[test]
fn who_was_dialled_is_told_all_of_who_dialled_and_the_reverse() {
    let (mut dialler, mut dialled) = pair(&[OLD], &[OLD]);
    talk(&mut dialler, &mut dialled);
    assert_eq!(dialler.machine.peer(), Some(&identity(2, 20)));
    assert_eq!(dialled.machine.peer(), Some(&identity(1, 10)));
}

#[test]
fn a_node_that_dials_itself_is_told_so_and_so_is_a_second_one_with_its_number() {
    for (epoch, why) in [(20, Refused::Itself), (21, Refused::SameNumber)] {
        let dialler = end_with(Handshake::dial, identity(2, epoch), &[OLD], [99; NONCE_BYTES]);
        check(dialler, end(Handshake::accept, identity(2, 20), &[OLD]), Err(why));
    }
}

#[test]
fn a_second_run_of_a_living_node_is_refused_by_either_end() {
    for (state, refused) in [
        (State::Alive, true),
        (State::Leaving, true),
        (State::Suspect, false),
        (State::Dead, false),
    ] {
        for by_dialler in [true, false] {
            let (mut dialler, mut dialled) = pair(&[OLD], &[OLD]);
            let (end, node) = if by_dialler { (&mut dialler, 2) } else { (&mut dialled, 1) };
            let mut member = View::alone(node, 5, 1).members.remove(0);
            member.state = state;
            end.view.members.push(member);
            end.view.members.sort_by_key(|member| member.node);
            let expect = if refused { Err(Refused::SameNumber) } else { Ok(()) };
            // The link of who was dialled stands before who dialled refuses; then it is told, on the link.
            if by_dialler && refused {
                talk(&mut dialler, &mut dialled);
                assert_eq!(dialler.outcome().map_err(|it| it.why), Err(Refused::SameNumber));
            } else {
                check(dialler, dialled, expect);
            }
        }
    }
}

#[test]
fn words_of_another_handshake_are_a_replay() {
    let (mut dialler, mut dialled) = pair(&[OLD], &[OLD]);
    let hello = dialler.say();
    dialled.hear(&hello);
    dialler.hear(&dialled.say());
    let proof = dialler.say();
    // The same words once more, to the same node, which now has another nonce.
    let mut again = end_with(Handshake::accept, identity(2, 20), &[OLD], [77; NONCE_BYTES]);
    again.hear(&hello);
    again.say();
    again.hear(&proof);
    assert_eq!(again.outcome(), Err(Refusal { why: Refused::Replay, by_peer: false }));
    // And to the one that it was meant for, twice.
    dialled.hear(&proof);
    assert_eq!(dialled.outcome(), Ok(Some(1)));
    dialled.hear(&proof);
    assert_eq!(dialled.waiting, proof, "no longer the handshake's business");
}

#[test]
fn an_echo_of_our_own_words_is_a_replay() {
    let (mut dialler, _) = pair(&[OLD], &[OLD]);
    let mut echo = Vec::new();
    Frame::Challenge { version: VERSION, nonce: dialler.machine.nonce }.write(&mut echo);
    dialler.hear(&echo);
    assert_eq!(dialler.outcome(), Err(Refusal { why: Refused::Replay, by_peer: false }));
}

#[test]
fn every_changed_bit_of_a_proof_or_a_welcome_is_refused() {
    let (mut dialler, mut dialled) = pair(&[OLD], &[OLD]);
    dialled.hear(&dialler.say());
    dialler.hear(&dialled.say());
    let proof = dialler.say();
    dialled.hear(&proof);
    let welcome = dialled.say();
    for (original, is_proof) in [(&proof, true), (&welcome, false)] {
        for bit in LENGTH_BYTES * 8..original.len() * 8 {
            let (mut dialler, mut dialled) = pair(&[OLD], &[OLD]);
            dialled.hear(&dialler.say());
            dialler.hear(&dialled.say());
            dialler.say();
            let mut forged = original.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let end = if is_proof { &mut dialled } else { &mut dialler };
            end.hear(&forged);
            assert_eq!(end.machine.peer(), None, "bit {bit}, proof: {is_proof}");
        }
    }
}

#[test]
fn another_version_garbage_and_too_much_are_refused_at_once() {
    let mut later = Vec::new();
    Frame::Hello { version: VERSION + 1, nonce: [4; NONCE_BYTES] }.write(&mut later);
    let mut letter = Vec::new();
    Frame::Member(b"let me in").write(&mut letter);
    let bound = (HELLO_BYTES_MAX as u32).to_be_bytes();
    let beyond = (HELLO_BYTES_MAX as u32 + 1).to_be_bytes();
    for (bytes, why) in [
        (&later[..], Some(Refused::Version)),
        (&letter[..], Some(Refused::Malformed)),
        (b"GET / HTTP/1.1\r\n\r\n", Some(Refused::Oversize)),
        (&[0, 0, 0, 2, 255, 255], Some(Refused::Malformed)),
        (&beyond, Some(Refused::Oversize)),
        (&bound, None),
    ] {
        let (_, mut dialled) = pair(&[OLD], &[OLD]);
        dialled.hear(bytes);
        assert_eq!(dialled.refusal.map(|it| it.why), why, "{}", bytes.escape_ascii());
        let told = frame::read(&dialled.say(), 100).is_ok_and(
            |it| matches!(it, Parsed::Complete(Frame::Refuse(told), _) if Some(told) == why),
        );
        assert_eq!(told, why.is_some(), "the other end is told why");
    }
}

#[test]
fn a_handshake_has_its_time_and_a_link_has_all_the_time() {
    let (mut dialler, mut dialled) = pair(&[OLD], &[OLD]);
    let due = dialler.machine.poll_timeout();
    assert_eq!(due, HANDSHAKE_MS_MAX);
    assert_eq!(dialler.machine.handle_timeout(due - 1), Ok(()));
    let late = Refusal { why: Refused::Late, by_peer: false };
    assert_eq!(dialler.machine.handle_timeout(due), Err(late));
    let (mut dialler, _) = pair(&[OLD], &[OLD]);
    talk(&mut dialler, &mut dialled);
    assert_eq!(dialler.machine.handle_timeout(due), Ok(()));
}

#[test]
fn an_identity_has_at_least_one_address_and_no_more_than_fit() {
    for (count, fits) in [(0, false), (1, true), (ADDRESSES_MAX, true), (ADDRESSES_MAX + 1, false)]
    {
        let (mut dialler, mut dialled) =
            pair(&[OLD, NEW, "a third secret, just as long", "and a fourth one of them"], &[OLD]);
        // The longest address there is.
        let address = SocketAddr::from(([0xffff; 8], u16::MAX));
        let who = Identity { addresses: vec![address; count], ..identity(1, u32::MAX) };
        dialler.machine.me = Arc::new(who);
        talk(&mut dialler, &mut dialled);
        assert_eq!(dialled.machine.peer().is_some(), fits, "{count} addresses");
    }
}
