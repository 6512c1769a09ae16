//! One link: from the first byte to the last.

use std::net::SocketAddr;

use erlmcp_cluster::Spot;
use erlmcp_cluster::frame::{self, Frame, FrameError, Nonce, Parsed};
use erlmcp_cluster::link::{Handshake, Refusal};
use erlmcp_cluster::membership::DialFailed;

use super::callers::Call;
use super::{ACCEPTED_MAX, ACCEPTED_PER_SPOT_MAX, Act, Dialling, LEAD, Mesh, Role};
use crate::io::{ConnId, Millis};
use crate::message::Mail;
use crate::net::LinkEvent;

/// One link.
pub(super) struct Link {
    pub id: ConnId,
    pub side: Side,
    /// Until the other end has proven who it is.
    greeting: Option<Box<Handshake>>,
    pub peer: Option<Peer>,
    /// The other end has said `Frame::Open`.
    is_welcome: bool,
    /// Letters travel on it.
    pub is_open: bool,
    /// A letter found no room since it last had plenty.
    pub is_short: bool,
    pub end: End,
    heard_at: Millis,
}

/// Who opened it, and what is known of the other end's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// We did, and send letters on it.
    Dialled {
        target: SocketAddr,
        /// A follower's attempt.
        call: Option<Call>,
    },
    /// The other end did, and we hear letters on it.
    Accepted { from: Option<SocketAddr> },
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub node: u16,
    pub epoch: u32,
    pub shard: u16,
}

/// Whether we ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// No.
    Not,
    /// Yes, because of what came or did not go.
    Ours,
    /// Yes, and all shards know.
    Told,
}

/// What the next bytes of a link are.
pub(crate) enum Read<'i> {
    /// Not yet something.
    Partial,
    /// So many were the mesh's own.
    Consumed(usize),
    /// A letter, and how many bytes it took.
    Letter { to: u16, from: Spot, bytes: &'i [u8], used: usize },
    /// Nothing any more.
    Broken,
}

impl Mesh {
    /// A connection that was asked for stands; `None` when nobody asked.
    pub(crate) fn handle_connected(&mut self, now: Millis, token: u32, id: ConnId, nonce: Nonce) {
        let Some(Dialling { target, call }) = self.dials.remove(&token) else {
            return self.acts.push_back(Act::Cut(id));
        };
        let greeting = Handshake::dial(now, self.me.clone(), self.secrets.clone(), nonce);
        self.begin(now, id, Side::Dialled { target, call }, greeting);
    }

    /// It does not.
    pub(crate) fn handle_connect_failed(&mut self, now: Millis, token: u32, errno: i32) {
        let Some(Dialling { target, call }) = self.dials.remove(&token) else { return };
        let why = match errno {
            libc::ECONNREFUSED => DialFailed::ConnectionRefused,
            _ => DialFailed::Unreachable,
        };
        self.fail_dial(now, target, call, why);
    }

    /// Somebody connected.
    pub(crate) fn handle_accepted(
        &mut self,
        now: Millis,
        id: ConnId,
        from: Option<SocketAddr>,
        nonce: Nonce,
    ) {
        let is_accepted = |link: &&Link| matches!(link.side, Side::Accepted { .. });
        if self.is_closing() || ACCEPTED_MAX <= self.links.values().filter(is_accepted).count() {
            self.refuse(now, from, "full");
            return self.acts.push_back(Act::Cut(id));
        }
        let greeting = Handshake::accept(now, self.me.clone(), self.secrets.clone(), nonce);
        self.begin(now, id, Side::Accepted { from }, greeting);
    }

    fn begin(&mut self, now: Millis, id: ConnId, side: Side, mut greeting: Handshake) {
        let mut bytes = Vec::new();
        greeting.poll_transmit(&mut bytes);
        if !bytes.is_empty() {
            self.acts.push_back(Act::Write { link: id, bytes });
        }
        let link = Link {
            id,
            side,
            greeting: Some(Box::new(greeting)),
            peer: None,
            is_welcome: false,
            is_open: false,
            is_short: false,
            end: End::Not,
            heard_at: now,
        };
        self.links.insert(id.slot, link);
    }

    /// The handshake's time is over.
    pub(crate) fn handle_link_due(&mut self, now: Millis, id: ConnId) {
        let Some(greeting) = self.link_mut(id).and_then(|link| link.greeting.as_mut()) else {
            return;
        };
        if let Err(refusal) = greeting.handle_timeout(now) {
            self.refuse_greeting(now, id, refusal);
        }
    }

    /// What the next bytes of a link are.
    pub(crate) fn read<'i>(&mut self, now: Millis, id: ConnId, input: &'i [u8]) -> Read<'i> {
        if input.is_empty() {
            return Read::Partial;
        }
        let bytes_max = self.frame_bytes_max;
        let Some(link) = self.links.get_mut(&id.slot).filter(|link| link.id == id) else {
            return Read::Broken;
        };
        let Some(peer) = link.peer else { return self.greet(now, id, input) };
        let is_news = std::mem::replace(&mut link.heard_at, now) != now;
        if is_news {
            self.hear(now, peer);
        }
        let Some(link) = self.links.get_mut(&id.slot) else { return Read::Broken };
        let (frame, used) = match frame::read(input, bytes_max) {
            Ok(Parsed::Partial(_)) => return Read::Partial,
            Ok(Parsed::Complete(frame, used)) => (frame, used),
            Err(FrameError::TooLarge) => return self.cut(now, id, "frame_oversize"),
            Err(FrameError::Malformed) => return self.cut(now, id, "frame_malformed"),
        };
        let is_dialled = matches!(link.side, Side::Dialled { .. });
        match frame {
            Frame::Letter { to, from, bytes } => {
                let speaker = Spot { node: peer.node, shard: peer.shard };
                if is_dialled || !link.is_open || from != speaker {
                    return self.cut(now, id, "forged");
                }
                self.stats.letters_in += 1;
                Read::Letter { to, from, bytes, used }
            }
            Frame::Member(bytes) if peer.shard == LEAD => match &mut self.role {
                Role::Lead(members) => {
                    let heard = members.handle_message(now, peer.node, bytes);
                    self.run_lead(now);
                    if heard.is_err() {
                        return self.cut(now, id, "member_malformed");
                    }
                    Read::Consumed(used)
                }
                Role::Follower(_) => self.cut(now, id, "forged"),
            },
            Frame::Open if is_dialled => {
                link.is_welcome = true;
                self.try_open(id.slot);
                Read::Consumed(used)
            }
            // It has heard who we are, and cannot have us.
            Frame::Refuse(why) => {
                link.end = End::Ours;
                let address = link.address();
                self.stats.refused_by_peers += 1;
                self.refusals.note_theirs(now, address, why.name());
                self.acts.push_back(Act::Cut(id));
                Read::Broken
            }
            _ => self.cut(now, id, "forged"),
        }
    }

    /// There is something to be read, and it is our fault that it is not: who said it lives.
    pub(crate) fn handle_unread(&mut self, now: Millis, id: ConnId) {
        if let Some(peer) = self.link_mut(id).and_then(|link| link.peer) {
            self.hear(now, peer);
        }
    }

    /// Somebody lives; if it is another run than the one that is known, that says nothing about the latter.
    fn hear(&mut self, now: Millis, peer: Peer) {
        let Role::Lead(members) = &mut self.role else { return };
        if members.view().member(peer.node).is_some_and(|member| member.epoch == peer.epoch) {
            members.handle_heard(now, peer.node);
            self.run_lead(now);
        }
    }

    fn greet<'i>(&mut self, now: Millis, id: ConnId, input: &[u8]) -> Read<'i> {
        let view = self.view.clone();
        let Some(link) = self.link_mut(id) else { return Read::Broken };
        let Some(greeting) = &mut link.greeting else { return Read::Broken };
        match greeting.handle_bytes(input, &view) {
            Err(refusal) => {
                self.refuse_greeting(now, id, refusal);
                Read::Broken
            }
            Ok(used) => {
                let mut bytes = Vec::new();
                greeting.poll_transmit(&mut bytes);
                let is_done = greeting.peer().is_some();
                if !bytes.is_empty() {
                    self.acts.push_back(Act::Write { link: id, bytes });
                }
                if is_done && !self.establish(now, id) {
                    return Read::Broken;
                }
                if used == 0 { Read::Partial } else { Read::Consumed(used) }
            }
        }
    }

    /// The handshake is done. `false`: the link is not wanted.
    fn establish(&mut self, now: Millis, id: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&id.slot) else { return false };
        let Some(greeting) = link.greeting.take() else { return false };
        let Some(identity) = greeting.peer() else { return false };
        let peer = Peer { node: identity.node, epoch: identity.epoch, shard: identity.shard };
        link.peer = Some(peer);
        match (link.side, &mut self.role) {
            (Side::Accepted { .. }, _) => self.crowd_out(id, peer),
            (Side::Dialled { target, .. }, Role::Lead(_)) if peer.shard != LEAD => {
                return self.turn_away(now, id, target);
            }
            (Side::Dialled { target, .. }, Role::Lead(members)) => {
                if !members.handle_linked(now, target, identity) {
                    self.links.remove(&id.slot);
                    self.acts.push_back(Act::Cut(id));
                    return false;
                }
                self.own(peer.node, id);
                self.run_lead(now);
            }
            (Side::Dialled { target, call }, Role::Follower(callers)) => {
                if !call.is_some_and(|call| callers.handle_linked(call, peer)) {
                    return self.turn_away(now, id, target);
                }
                self.own(peer.node, id);
            }
        }
        self.try_open(id.slot);
        true
    }

    /// A shard needs one link to us. Older ones beyond a few are of a life it does not remember.
    fn crowd_out(&mut self, newest: ConnId, peer: Peer) {
        let is_like = |link: &&mut Link| {
            let is_accepted = matches!(link.side, Side::Accepted { .. });
            is_accepted && link.peer == Some(peer) && link.id != newest && link.end == End::Not
        };
        let mut older: Vec<&mut Link> = self.links.values_mut().filter(is_like).collect();
        older.sort_by_key(|link| link.heard_at);
        let surplus = (older.len() + 1).saturating_sub(ACCEPTED_PER_SPOT_MAX);
        for link in older.into_iter().take(surplus) {
            link.end = End::Ours;
            self.acts.push_back(Act::Cut(link.id));
        }
    }

    /// Letters may travel once both ends see each other among the living.
    pub(super) fn try_open(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(&slot) else { return };
        let Some(peer) = link.peer.filter(|_| !link.is_open && link.end == End::Not) else {
            return;
        };
        if self.view.home(peer.node, peer.epoch).is_none() {
            return;
        }
        let link_id = link.id;
        match link.side {
            Side::Accepted { .. } => {
                link.is_open = true;
                self.stats.links_in += 1;
                let mut bytes = Vec::new();
                Frame::Open.write(&mut bytes);
                self.acts.push_back(Act::Write { link: link_id, bytes });
            }
            Side::Dialled { .. } if link.is_welcome => {
                link.is_open = true;
                self.stats.links_out += 1;
                let early = self.early.take(peer.node);
                if !early.is_empty() {
                    self.acts.push_back(Act::Write { link: link_id, bytes: early });
                }
                self.acts.push_back(Act::Tell { node: peer.node, event: LinkEvent::Up });
                if let Role::Follower(callers) = &mut self.role {
                    callers.handle_up(peer.node);
                }
            }
            Side::Dialled { .. } => {}
        }
    }

    /// A link is no more, for whatever reason. Told once.
    pub(crate) fn handle_ended(&mut self, now: Millis, id: ConnId) {
        if self.link_mut(id).is_none() {
            return;
        }
        let Some(link) = self.links.remove(&id.slot) else { return };
        let Some(peer) = link.peer else {
            if let Side::Dialled { target, call } = link.side {
                let why = match link.end {
                    End::Not => DialFailed::Unreachable,
                    End::Ours | End::Told => DialFailed::Handshake,
                };
                self.fail_dial(now, target, call, why);
            }
            return;
        };
        let is_dialled = matches!(link.side, Side::Dialled { .. });
        if link.is_open {
            let count =
                if is_dialled { &mut self.stats.links_out } else { &mut self.stats.links_in };
            *count -= 1;
        }
        // What was on its way may be lost, and answers with it: everybody who waits must know.
        if link.is_open && link.end != End::Told && !self.is_closing() {
            let node = peer.node;
            self.stats.links_lost += 1;
            self.acts.push_back(Act::Tell { node, event: LinkEvent::Lost });
            self.mail_others(|| Mail::Lost { node });
        }
        if is_dialled && self.own.get(&peer.node) == Some(&id) {
            self.own.remove(&peer.node);
            self.handle_unlinked(now, peer.node, link.end != End::Not);
        }
    }

    /// What came is not what a member says: ends the link.
    fn cut<'i>(&mut self, now: Millis, id: ConnId, reason: &'static str) -> Read<'i> {
        let Some(link) = self.link_mut(id) else { return Read::Broken };
        link.end = End::Ours;
        let address = link.address();
        self.refuse(now, address, reason);
        self.acts.push_back(Act::Cut(id));
        Read::Broken
    }

    fn refuse_greeting(&mut self, now: Millis, id: ConnId, refusal: Refusal) {
        let Some(link) = self.link_mut(id) else { return };
        link.end = End::Ours;
        let address = link.address();
        if let Some(greeting) = &mut link.greeting {
            let mut bytes = Vec::new();
            greeting.poll_transmit(&mut bytes);
            if !bytes.is_empty() {
                self.acts.push_back(Act::Write { link: id, bytes });
            }
        }
        if refusal.by_peer {
            self.stats.refused_by_peers += 1;
            self.refusals.note_theirs(now, address, refusal.why.name());
        } else {
            self.refuse(now, address, refusal.why.name());
        }
        self.acts.push_back(Act::Finish(id));
    }

    /// This is our link to that node from now on; one that nobody wanted any more goes.
    fn own(&mut self, node: u16, id: ConnId) {
        if let Some(old) = self.own.insert(node, id) {
            self.give_up(old);
        }
    }

    /// Another shard was wanted there: as good as a handshake that failed.
    fn turn_away(&mut self, now: Millis, id: ConnId, target: SocketAddr) -> bool {
        self.refuse(now, Some(target), "wrong_peer");
        if let Some(link) = self.link_mut(id) {
            link.peer = None;
            link.end = End::Ours;
        }
        self.acts.push_back(Act::Cut(id));
        false
    }

    /// A link has no room for what must be said on it.
    pub(crate) fn give_up(&mut self, id: ConnId) {
        if let Some(link) = self.link_mut(id)
            && link.end == End::Not
        {
            link.end = End::Ours;
            self.acts.push_back(Act::Cut(id));
        }
    }

    /// Counts a refusal, and tells the operator, but not for ever.
    pub(super) fn refuse(
        &mut self,
        now: Millis,
        address: Option<SocketAddr>,
        reason: &'static str,
    ) {
        self.stats.refuse(reason);
        self.refusals.note_ours(now, address, reason);
    }
}

impl Link {
    fn address(&self) -> Option<SocketAddr> {
        match self.side {
            Side::Dialled { target, .. } => Some(target),
            Side::Accepted { from } => from,
        }
    }
}
