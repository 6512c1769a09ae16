//! The handshake of a link between two nodes: before anything else is said, each has proven to the other that it
//! knows the cluster's secret, and said who it is.
//!
//! ```text
//! dialler                                   dialled
//!   Hello { version, nonce d }       →
//!                                    ←      Challenge { version, nonce a }
//!   Proof { a, identity, MACs }      →        MAC over "dialler", version, d, a, identity
//!                                    ←      Welcome { identity, MAC }   over "dialled", version, d, a, both identities
//! ```
//! Who dials proves first, so a stranger who dials us learns nothing to guess the secret by. It proves every secret it
//! has and the other end picks one that it has too: during a rotation any order of nodes works. Nonces make each
//! handshake unlike all others; the labels make an echo of our own words worthless. Absent: encryption, and MACs on
//! later frames. The mesh is for loopback or a network of one's own.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::frame::{self, Frame, FrameError, HELLO_BYTES_MAX, Nonce, Parsed};
use crate::secret::Secrets;
use crate::view::{State, View};

#[cfg(test)]
mod tests;

/// What both ends of a link must speak.
pub const VERSION: u16 = 1;
/// A handshake takes no longer than this, at either end.
pub const HANDSHAKE_MS_MAX: Millis = 5_000;
/// A connection that is not there after this counts as failed. Kernels would try for minutes.
pub const CONNECT_MS_MAX: Millis = 1_000;
/// Shards of a node that others can link with.
pub const ADDRESSES_MAX: usize = 256;

/// Who dialled speaks: so that no words of one end can pass for the other's, nor for another version's.
const DIALLER: &[u8] = b"erlmcp-shard mesh 1: dialler";
const DIALLED: &[u8] = b"erlmcp-shard mesh 1: dialled";

/// Who an end of a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its node's number.
    pub node: u16,
    /// Which run of the node: differs at every boot.
    pub epoch: u32,
    /// Which of its shards.
    pub shard: u16,
    /// Where each shard of the node listens for links; as many as it has shards.
    pub addresses: Vec<SocketAddr>,
}

/// Why there is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Refused {
    /// No secret in common.
    Secret,
    /// Another version of the protocol.
    Version,
    /// Words of another handshake.
    Replay,
    /// A frame beyond the bound of a handshake.
    Oversize,
    /// No frame, or not the one whose turn it was.
    Malformed,
    /// It took longer than [`HANDSHAKE_MS_MAX`].
    Late,
    /// Two living nodes with the same number.
    SameNumber,
    /// A node dialled itself: its own address is among its peers.
    Itself,
}

/// A handshake's end without a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Refused,
    /// It was the other end that refused, and it could be anybody who says so.
    pub by_peer: bool,
}

/// One handshake. Give it the time and what arrives, send what it transmits; when it refuses, send that too, then
/// close. Once [`Handshake::peer`] is there, the bytes that were not consumed belong to the link.
#[derive(Debug)]
pub struct Handshake {
    me: Arc<Identity>,
    secrets: Arc<Secrets>,
    nonce: Nonce,
    step: Step,
    due: Millis,
    out: Vec<u8>,
}

#[derive(Debug)]
enum Step {
    /// Who dialled waits for the challenge.
    Dialled,
    /// Who dialled waits for the welcome to this nonce.
    Proven(Nonce),
    /// Who was dialled waits for the hello.
    Listening,
    /// Who was dialled waits for the proof; the dialler's nonce.
    Challenged(Nonce),
    /// The link is up.
    Established(Identity),
    Refused,
}

impl Handshake {
    /// Of who dials. `nonce` comes from a CSPRNG and is used for nothing else.
    pub fn dial(now: Millis, me: Arc<Identity>, secrets: Arc<Secrets>, nonce: Nonce) -> Self {
        let mut out = Vec::new();
        Frame::Hello { version: VERSION, nonce }.write(&mut out);
        Self { me, secrets, nonce, step: Step::Dialled, due: now + HANDSHAKE_MS_MAX, out }
    }

    /// Of who was dialled.
    pub fn accept(now: Millis, me: Arc<Identity>, secrets: Arc<Secrets>, nonce: Nonce) -> Self {
        let due = now + HANDSHAKE_MS_MAX;
        Self { me, secrets, nonce, step: Step::Listening, due, out: Vec::new() }
    }

    /// Takes what has arrived and says how much of it was the handshake's. `view` tells who lives: a second run of a
    /// living node is refused.
    pub fn handle_bytes(&mut self, input: &[u8], view: &View) -> Result<usize, Refusal> {
        let mut consumed = 0;
        while self.peer().is_none() {
            match frame::read(&input[consumed..], HELLO_BYTES_MAX) {
                Ok(Parsed::Partial(_)) => break,
                Ok(Parsed::Complete(frame, bytes)) => {
                    consumed += bytes;
                    self.handle_frame(&frame, view)?;
                }
                Err(FrameError::TooLarge) => return Err(self.refuse(Refused::Oversize)),
                Err(FrameError::Malformed) => return Err(self.refuse(Refused::Malformed)),
            }
        }
        Ok(consumed)
    }

    /// Ends a handshake that takes too long.
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), Refusal> {
        if self.due <= now && self.peer().is_none() {
            return Err(self.refuse(Refused::Late));
        }
        Ok(())
    }

    /// Appends what is to be sent.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    /// When [`Handshake::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Millis {
        self.due
    }

    /// Who the other end is, once that is proven.
    pub fn peer(&self) -> Option<&Identity> {
        match &self.step {
            Step::Established(peer) => Some(peer),
            _ => None,
        }
    }

    fn handle_frame(&mut self, frame: &Frame<'_>, view: &View) -> Result<(), Refusal> {
        let step = std::mem::replace(&mut self.step, Step::Refused);
        let next = match (step, frame) {
            (_, Frame::Refuse(why)) => return Err(Refusal { why: *why, by_peer: true }),
            (Step::Listening, Frame::Hello { version, nonce }) => self.hear_hello(*version, nonce),
            (Step::Dialled, Frame::Challenge { version, nonce }) => {
                self.hear_challenge(*version, nonce)
            }
            (Step::Challenged(dialler), Frame::Proof { nonce, identity, macs }) => {
                self.hear_proof(&dialler, nonce, identity, macs, view)
            }
            (Step::Proven(challenge), Frame::Welcome { identity, mac }) => {
                self.hear_welcome(&challenge, identity, mac, view)
            }
            _ => Err(Refused::Malformed),
        };
        self.step = next.map_err(|why| self.refuse(why))?;
        Ok(())
    }

    fn hear_hello(&mut self, version: u16, nonce: &Nonce) -> Result<Step, Refused> {
        self.check_greeting(version, nonce)?;
        Frame::Challenge { version: VERSION, nonce: self.nonce }.write(&mut self.out);
        Ok(Step::Challenged(*nonce))
    }

    fn hear_challenge(&mut self, version: u16, nonce: &Nonce) -> Result<Step, Refused> {
        self.check_greeting(version, nonce)?;
        let identity = self.me.bytes();
        let macs = self.secrets.macs(&[DIALLER, &self.nonce, nonce, &identity]);
        Frame::Proof { nonce: *nonce, identity: &identity, macs }.write(&mut self.out);
        Ok(Step::Proven(*nonce))
    }

    fn hear_proof(
        &mut self,
        dialler: &Nonce,
        nonce: &Nonce,
        identity: &[u8],
        macs: &[[u8; 32]],
        view: &View,
    ) -> Result<Step, Refused> {
        if *nonce != self.nonce {
            return Err(Refused::Replay);
        }
        let said = [DIALLER, &dialler[..], &self.nonce, identity];
        let secret = self.secrets.verify(&said, macs).ok_or(Refused::Secret)?;
        let peer = self.admit(identity, view)?;
        let mine = self.me.bytes();
        let said = [DIALLED, &dialler[..], &self.nonce, identity, &mine];
        let mac = self.secrets.mac(secret, &said).ok_or(Refused::Secret)?;
        Frame::Welcome { identity: &mine, mac }.write(&mut self.out);
        Ok(Step::Established(peer))
    }

    fn hear_welcome(
        &mut self,
        challenge: &Nonce,
        identity: &[u8],
        mac: &[u8; 32],
        view: &View,
    ) -> Result<Step, Refused> {
        let mine = self.me.bytes();
        let said = [DIALLED, &self.nonce[..], challenge, &mine, identity];
        self.secrets.verify(&said, &[*mac]).ok_or(Refused::Secret)?;
        Ok(Step::Established(self.admit(identity, view)?))
    }

    fn check_greeting(&self, version: u16, nonce: &Nonce) -> Result<(), Refused> {
        if version != VERSION {
            return Err(Refused::Version);
        }
        // Only an echo of our own words has our nonce in it.
        if *nonce == self.nonce { Err(Refused::Replay) } else { Ok(()) }
    }

    /// Who it is, if there may be a link with it.
    fn admit(&self, identity: &[u8], view: &View) -> Result<Identity, Refused> {
        let peer = Identity::read(identity).ok_or(Refused::Malformed)?;
        admit(&self.me, &peer, view)?;
        Ok(peer)
    }

    fn refuse(&mut self, why: Refused) -> Refusal {
        self.step = Step::Refused;
        Frame::Refuse(why).write(&mut self.out);
        Refusal { why, by_peer: false }
    }
}

/// Whether there may be a link between these two: not with oneself, nor with a second run of a living node. A run that
/// is suspected makes room for the next one.
pub fn admit(me: &Identity, peer: &Identity, view: &View) -> Result<(), Refused> {
    if peer.node == me.node {
        let is_itself = peer.epoch == me.epoch;
        return Err(if is_itself { Refused::Itself } else { Refused::SameNumber });
    }
    let lives = |state| matches!(state, State::Alive | State::Leaving);
    match view.member(peer.node) {
        Some(member) if member.epoch != peer.epoch && lives(member.state) => {
            Err(Refused::SameNumber)
        }
        _ => Ok(()),
    }
}

impl Identity {
    fn bytes(&self) -> Vec<u8> {
        // Serializing plain data into memory cannot fail.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((identity, [])) if (1..=ADDRESSES_MAX).contains(&identity.addresses.len()) => {
                Some(identity)
            }
            _ => None,
        }
    }
}

impl Refused {
    /// Every reason.
    pub const ALL: [Refused; 8] = [
        Refused::Secret,
        Refused::Version,
        Refused::Replay,
        Refused::Oversize,
        Refused::Malformed,
        Refused::Late,
        Refused::SameNumber,
        Refused::Itself,
    ];

    /// What it is counted under.
    pub fn name(self) -> &'static str {
        match self {
            Refused::Secret => "secret",
            Refused::Version => "version",
            Refused::Replay => "replay",
            Refused::Oversize => "oversize",
            Refused::Malformed => "malformed",
            Refused::Late => "late",
            Refused::SameNumber => "same_number",
            Refused::Itself => "itself",
        }
    }
}

/// Plays either end against what a fuzzer says: it never becomes a link, and pieces are heard like the whole.
pub fn fuzz_handshake(data: &[u8]) {
    let Some((role, data)) = data.split_first() else { return };
    let Ok(secrets) = Secrets::parse(b"nobody will guess this one") else { return };
    let address = SocketAddr::from(([127, 0, 0, 1], 9100));
    let me = Identity { node: 1, epoch: 7, shard: 0, addresses: vec![address] };
    let (me, secrets, view) = (Arc::new(me), Arc::new(secrets), View::alone(1, 7, 1));
    let play = |piece: usize| {
        let begin = if role % 2 == 0 { Handshake::dial } else { Handshake::accept };
        let mut handshake = begin(0, me.clone(), secrets.clone(), [5; frame::NONCE_BYTES]);
        let (mut waiting, mut said) = (Vec::new(), Vec::new());
        for piece in data.chunks(piece) {
            waiting.extend_from_slice(piece);
            let heard = handshake.handle_bytes(&waiting, &view);
            handshake.poll_transmit(&mut said);
            assert!(handshake.peer().is_none(), "nobody knows the secret");
            match heard {
                Ok(consumed) => drop(waiting.drain(..consumed)),
                Err(refusal) => return (said, Some(refusal)),
            }
        }
        (said, None)
    };
    assert_eq!(play(data.len().max(1)), play(1));
}
