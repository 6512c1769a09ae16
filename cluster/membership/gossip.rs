//! What is made of what other members say.

use super::message::{Body, Claim, MEMBERS_MAX, Message, RECORDS_MAX, Record, Status};
use super::peer::Peer;
use super::{CLAIMS_MAX, EXILE_MS, Membership, Output};
use crate::Millis;
use crate::link::Identity;

impl Membership {
    /// A link to a node that has proven who it is. `false`: we have one already.
    pub(super) fn meet(&mut self, who: &Identity, now: Millis) -> bool {
        let claim = Claim { incarnation: 0, epoch: who.epoch, status: Status::Alive };
        match self.peers.get(&who.node) {
            Some(peer) if peer.link.is_some() => return false,
            // A new run, so the old one is gone. It will be told, and then speak for itself.
            Some(peer) if peer.record.claim.epoch != who.epoch && !peer.is_dead() => {
                self.bury(who.node, now);
            }
            Some(_) => {}
            None => {
                let record = Record { node: who.node, claim, addresses: who.addresses.clone() };
                self.believe(record, now);
                self.news.insert(who.node);
            }
        }
        let Some(peer) = self.peers.get_mut(&who.node) else { return false };
        (peer.link, peer.linked, peer.broken) = (Some(who.epoch), now, None);
        let mut records = vec![self.me.clone()];
        if peer.record.claim != claim {
            records.push(peer.record.clone());
        }
        if peer.record.claim.epoch == who.epoch {
            peer.heard = Some(now);
        }
        self.refresh();
        self.send(who.node, Body::Records(records));
        self.send(who.node, Body::Heartbeat(self.digest));
        true
    }

    pub(super) fn hear(&mut self, from: u16, message: Message, now: Millis) {
        self.hear_of_sender(from, message.claim, now);
        match message.body {
            Body::Heartbeat(digest) => {
                if self.is_stale {
                    self.refresh();
                }
                if digest != self.digest {
                    self.compare_notes(from);
                }
            }
            Body::Summary(lines) => self.answer_summary(from, &lines, now),
            Body::Want(nodes) => {
                let records = nodes.iter().filter_map(|node| self.record(*node)).collect();
                self.send_records(from, records);
            }
            Body::Records(records) => {
                for record in records {
                    if record.node == from {
                        self.hear_address(&record, now);
                    }
                    self.absorb(record, now);
                }
            }
            Body::Ask(runs) => self.answer_ask(from, runs, now),
            Body::Vouch(runs) => self.hear_vouched(&runs, now),
        }
    }

    /// The sender lives, whatever it says; and it says how it fares.
    fn hear_of_sender(&mut self, from: u16, claim: Claim, now: Millis) {
        let suspect_ms = self.suspect_ms();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let known = peer.record.claim;
        if peer.link.is_none() {
            self.dials.hasten(from, now);
        }
        if claim.epoch != known.epoch {
            return; // Its record will tell, addresses and all.
        }
        self.is_stale |= peer.is_suspect(now, suspect_ms);
        peer.heard = Some(now);
        if known < claim {
            let record = Record { claim, ..peer.record.clone() };
            self.believe(record, now);
        } else if known.status == Status::Dead && !peer.warned {
            peer.warned = true;
            let record = peer.record.clone();
            self.send_records(from, vec![record]);
        }
    }

    /// A new run of a dead node may listen elsewhere, and its claim be the lesser one until it is told of the old run's.
    /// To be told it has to be dialled.
    fn hear_address(&mut self, record: &Record, now: Millis) {
        if let Some(peer) = self.peers.get(&record.node)
            && peer.is_dead()
            && peer.link.is_none()
            && peer.record.claim.epoch != record.claim.epoch
            && let Some(address) = record.addresses.first()
        {
            self.dials.add(*address, record.node, now);
        }
    }

    /// Says what we believe to one whose digest differs from ours. It answers with what it knows better.
    fn compare_notes(&mut self, with: u16) {
        let Some(peer) = self.peers.get_mut(&with) else { return };
        if peer.link.is_none() || peer.compared || self.compares_left == 0 {
            return;
        }
        peer.compared = true;
        self.compares_left -= 1;
        let known = self.peers.values().map(|peer| (peer.record.node, peer.record.claim));
        let lines = known.chain([(self.me.node, self.me.claim)]).take(MEMBERS_MAX).collect();
        self.send(with, Body::Summary(lines));
    }

    fn answer_summary(&mut self, from: u16, lines: &[(u16, Claim)], now: Millis) {
        let theirs = |node| lines.iter().find(|(other, _)| *other == node).map(|(_, claim)| *claim);
        let mine = self.peers.values().map(|peer| &peer.record).chain([&self.me]);
        let better = mine.filter(|record| match theirs(record.node) {
            Some(claim) => claim < record.claim,
            None => record.claim.status != Status::Dead,
        });
        let better: Vec<Record> = better.cloned().collect();
        let mut wanted = Vec::new();
        for (node, claim) in lines {
            match self.record(*node) {
                Some(known) if *claim <= known.claim => {}
                Some(known) if claim.epoch == known.claim.epoch || *node == self.me.node => {
                    self.absorb(Record { claim: *claim, ..known }, now);
                }
                None if claim.status == Status::Dead => {}
                _ => wanted.push(*node),
            }
        }
        self.send_records(from, better);
        if !wanted.is_empty() && !self.lacks_link(from) {
            self.send(from, Body::Want(wanted));
        }
    }

    fn send_records(&mut self, to: u16, records: Vec<Record>) {
        if self.lacks_link(to) {
            return;
        }
        for records in records.chunks(RECORDS_MAX) {
            self.send(to, Body::Records(records.to_vec()));
        }
    }

    fn answer_ask(&mut self, from: u16, runs: Vec<(u16, u32)>, now: Millis) {
        let suspect_ms = self.suspect_ms();
        let mut vouched = Vec::new();
        let mut records = Vec::new();
        for (node, epoch) in runs {
            let Some(peer) = self.peers.get(&node) else { continue };
            let claim = peer.record.claim;
            if claim.epoch != epoch || peer.is_dead() {
                records.push(peer.record.clone());
            } else if peer.is_heard(now, suspect_ms) {
                let ago = now.saturating_sub(peer.heard.unwrap_or_default());
                vouched.push((node, epoch, u32::try_from(ago).unwrap_or(u32::MAX)));
            }
        }
        self.send_records(from, records);
        if !vouched.is_empty() && !self.lacks_link(from) {
            self.send(from, Body::Vouch(vouched));
        }
    }

    fn hear_vouched(&mut self, runs: &[(u16, u32, u32)], now: Millis) {
        for (node, epoch, ago) in runs {
            if let Some(peer) = self.peers.get_mut(node)
                && peer.record.claim.epoch == *epoch
                && !peer.is_dead()
            {
                peer.vouched = peer.vouched.max(now.saturating_sub(u64::from(*ago)));
                self.is_stale = true;
            }
        }
    }

    /// Weighs a claim that somebody made.
    fn absorb(&mut self, record: Record, now: Millis) {
        if record.node == self.me.node {
            return self.hear_of_me(record.claim);
        }
        let suspect_ms = self.suspect_ms();
        match self.peers.get_mut(&record.node) {
            None if record.claim.status == Status::Dead => {}
            None => self.believe(record, now),
            Some(peer) if record.claim <= peer.record.claim => {}
            Some(peer)
                if record.claim.status == Status::Dead
                    && !peer.is_dead()
                    && peer.is_heard(now, suspect_ms) =>
            {
                // We know better. Only the node itself can overrule the claim, so it shall hear of it.
                if !peer.warned {
                    peer.warned = true;
                    self.counters.disbelieved += 1;
                    self.send_records(record.node, vec![record]);
                }
            }
            Some(_) => self.believe(record, now),
        }
    }

    /// Makes a claim ours, and does what follows from it.
    pub(super) fn believe(&mut self, record: Record, now: Millis) {
        let (node, claim) = (record.node, record.claim);
        if !self.peers.contains_key(&node) && !self.make_room() {
            self.counters.left_out += 1;
            return;
        }
        self.is_stale = true;
        let address = record.addresses.first().copied();
        let peer = self.peers.entry(node).or_insert_with(|| Peer::new(record.clone(), now));
        let before = std::mem::replace(&mut peer.record, record).claim;
        let (was_dead, is_dead) = (before.status == Status::Dead, peer.is_dead());
        let is_other_run = before.epoch != claim.epoch;
        if is_dead || is_other_run {
            // All links with a run that is gone have to go, whoever's they are.
            let epoch = if is_other_run { before.epoch } else { claim.epoch };
            if peer.link == Some(epoch) {
                peer.link = None;
                self.dials.handle_unlinked(node, now, &mut self.dice);
            }
            if !was_dead || is_other_run {
                peer.dead = now;
                self.outputs.push_back(Output::Cut { node, epoch });
            }
        }
        if !is_dead && (was_dead || is_other_run) {
            (peer.heard, peer.learned, peer.vouched, peer.broken) = (None, now, 0, None);
        }
        if let Some(address) = address {
            if is_other_run {
                self.dials.remove(node);
            }
            if !is_dead || is_other_run {
                self.dials.add(address, node, now);
            }
        }
    }

    /// Room for one more node, by forgetting who is dead for longest.
    fn make_room(&mut self) -> bool {
        if self.peers.len() + 1 < MEMBERS_MAX {
            return true;
        }
        let dead = self.peers.values().filter(|peer| peer.is_dead() && peer.link.is_none());
        let Some(node) = dead.min_by_key(|peer| peer.dead).map(|peer| peer.record.node) else {
            return false;
        };
        self.peers.remove(&node);
        self.dials.remove(node);
        true
    }

    /// Somebody makes a claim about us. If it is news to us, it is wrong.
    fn hear_of_me(&mut self, claim: Claim) {
        if claim <= self.me.claim || self.is_silent() {
            return;
        }
        if claim.epoch != self.me.claim.epoch && claim.status != Status::Dead {
            let (rival, claims) = self.rival;
            self.rival = (claim.epoch, if rival == claim.epoch { claims + 1 } else { 1 });
            if CLAIMS_MAX <= self.rival.1 {
                return self.go_into_exile();
            }
        }
        self.counters.refuted += 1;
        self.me.claim.incarnation = claim.incarnation.saturating_add(1);
        self.is_stale = true;
        self.news.insert(self.me.node);
    }

    /// A run that answers every claim of ours with one of its own is no memory: two nodes have one number. One of
    /// them has to keep quiet until an operator has seen to it.
    fn go_into_exile(&mut self) {
        let now = self.awake.now();
        self.counters.same_number += 1;
        self.rival = (0, 0);
        self.exile = Some(now + EXILE_MS);
        self.dials.postpone(now + EXILE_MS);
        for (node, peer) in std::mem::take(&mut self.peers) {
            self.dials.remove(node);
            if !peer.is_dead() {
                self.outputs.push_back(Output::Cut { node, epoch: peer.record.claim.epoch });
            }
        }
        self.news.clear();
        self.is_stale = true;
    }
}

/// Reads what a fuzzer thinks a member could say: it is refused, or says the same when written and read again; and a
/// machine that hears it keeps its bounds.
pub fn fuzz_message(data: &[u8]) {
    let Ok(message) = Message::read(data) else { return };
    assert_eq!(Message::read(&message.write()).as_ref(), Ok(&message));
    let address = |node: u16| std::net::SocketAddr::from(([127, 0, 0, 1], node));
    let who = |node| Identity { node, epoch: 7, shard: 0, addresses: vec![address(node)] };
    let (me, seeds) = (who(1), vec![address(2)]);
    let config = super::MembershipConfig { me, seeds, heartbeat_ms: 200, node_timeout_ms: 1500 };
    let mut membership = Membership::new(config, 0, 1);
    membership.handle_timeout(0);
    assert!(membership.handle_linked(1, address(2), &who(2)));
    for now in (2..4_000).step_by(150) {
        assert_eq!(membership.handle_message(now, 2, data), Ok(()));
        membership.handle_timeout(now);
        assert!(membership.backlog() <= super::OUTPUTS_MAX + 2 * MEMBERS_MAX);
        while let Some(output) = membership.poll() {
            if let Output::Send { bytes, .. } = output {
                assert!(Message::read(&bytes).is_ok(), "what we say can be read");
            }
        }
        let members = &membership.view().members;
        assert!(members.len() <= MEMBERS_MAX && members.is_sorted_by_key(|member| member.node));
    }
}
