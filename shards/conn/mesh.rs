//! Links to other nodes, as connections of this table: their bytes, their letters, and what the mesh wants done.
//!
//! A link is no client's connection: it is not counted among them, not refused for their number, and what waits to
//! be sent on it has a bound of its own. Where letters for other shards find a full inbox nothing more is read from
//! links, so that the sender feels it.

use std::net::SocketAddr;
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::frame;
use erlmcp_cluster::letter::{Letter, Urgency};
use erlmcp_cluster::link::{CONNECT_MS_MAX, HANDSHAKE_MS_MAX};
use erlmcp_cluster::secret::Secrets;
use erlmcp_cluster::view::View;

use super::feed::Step;
use super::record::{Conn, Flag, NEVER, Speaks, Stage};
use super::{Conns, Due, Notice};
use crate::io::{ConnId, Io, Millis};
use crate::mesh::{Act, Mesh, MeshSeat, MeshStats, Read, SLOTS_MAX};
use crate::message::Mail;
use crate::net::Net;
use crate::service::Service;

/// Letters of one link that are read in one turn; the rest waits for the next.
pub(super) const LETTERS_PER_TURN: usize = 256;

/// What a shard with a mesh has beyond its connections.
pub(crate) struct Meshed {
    pub(super) mesh: Mesh,
    /// Connections to open in this turn.
    dials: Vec<(u32, SocketAddr)>,
    /// Something has happened to the mesh since it was last asked what it wants.
    is_stirred: bool,
    /// When the earliest valid reminder fires.
    wheel_at: Millis,
    /// Slots of links, closing ones included.
    slots: u32,
    /// Version of the view that went to each shard ahead of the last letter sent on to it.
    shown: Vec<u64>,
}

impl Conns {
    /// Joins the mesh.
    pub(crate) fn join(&mut self, seat: MeshSeat) {
        let mut seed = [0; 8];
        self.random.fill(&mut seed);
        let seed = u64::from_be_bytes(seed);
        let mesh = Mesh::new(seat, self.limits.message_bytes_max, self.now, seed);
        let (dials, wheel_at, slots) = (Vec::new(), NEVER, 0);
        let shown = vec![0; usize::from(mesh.shards())];
        let meshed = Meshed { mesh, dials, is_stirred: true, wheel_at, slots, shown };
        self.meshed = Some(Box::new(meshed));
        self.run_mesh();
    }

    /// Whether this shard is in a mesh.
    pub(crate) fn is_meshed(&self) -> bool {
        self.meshed.is_some()
    }

    /// Slots of clients, closing ones included.
    pub(crate) fn clients(&self) -> u32 {
        self.occupied - self.meshed.as_ref().map_or(0, |meshed| meshed.slots)
    }

    /// Somebody connected to the mesh listener.
    pub(crate) fn handle_caller(&mut self, slot: u32, from: Option<SocketAddr>) {
        let id = self.open_link(slot);
        let mut nonce = [0; frame::NONCE_BYTES];
        self.random.fill(&mut nonce);
        let now = self.now;
        let is_crowded = self.meshed.as_ref().is_some_and(|meshed| SLOTS_MAX < meshed.slots);
        match self.mesh() {
            Some(mesh) if is_crowded => {
                mesh.handle_crowd(now, from);
                self.end(id);
            }
            Some(mesh) => mesh.handle_accepted(now, id, from, nonce),
            None => self.end(id),
        }
    }

    /// A connection that we asked for stands, or does not.
    pub(crate) fn handle_connected(&mut self, token: u32, result: Result<u32, i32>) {
        let now = self.now;
        match result {
            Ok(slot) => {
                let id = self.open_link(slot);
                let mut nonce = [0; frame::NONCE_BYTES];
                self.random.fill(&mut nonce);
                match self.mesh() {
                    Some(mesh) => mesh.handle_connected(now, token, id, nonce),
                    None => self.end(id),
                }
            }
            Err(errno) => {
                if let Some(mesh) = self.mesh() {
                    mesh.handle_connect_failed(now, token, errno);
                }
            }
        }
    }

    fn open_link(&mut self, slot: u32) -> ConnId {
        let id = self.occupy(slot, Speaks::Mesh);
        if let Some(meshed) = &mut self.meshed {
            meshed.slots += 1;
        }
        self.set_due(id, self.now.saturating_add(HANDSHAKE_MS_MAX));
        id
    }

    /// The slot of a link is free.
    pub(super) fn free_link(&mut self) {
        if let Some(meshed) = &mut self.meshed {
            meshed.slots -= 1;
        }
    }

    /// The only deadline of a link: that of its handshake.
    pub(super) fn handle_link_due(&mut self, id: ConnId) {
        let now = self.now;
        if let Some(mesh) = self.mesh() {
            mesh.handle_link_due(now, id);
        }
    }

    /// A link is no more.
    pub(super) fn handle_link_ended(&mut self, id: ConnId) {
        let now = self.now;
        if let Some(mesh) = self.mesh() {
            mesh.handle_ended(now, id);
        }
    }

    /// Bytes of a link were sent.
    pub(super) fn handle_link_sent(&mut self, id: ConnId, bytes: usize) {
        let waiting = self.get(id).map_or(0, Conn::backlog);
        if let Some(mesh) = self.mesh() {
            mesh.handle_sent(id, bytes, waiting);
        }
    }

    /// Bytes of a link arrived.
    pub(super) fn handle_link_heard(&mut self, bytes: usize) {
        if let Some(meshed) = &mut self.meshed {
            meshed.mesh.stats.bytes_in += bytes as u64;
        }
    }

    /// Reads at most one frame, and has its letter served or sent on.
    pub(super) fn step_mesh<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        input: &[u8],
    ) -> Step {
        let now = self.now;
        let Some(meshed) = &mut self.meshed else { return Step::Consumed(input.len()) };
        let read = meshed.mesh.read(now, id, input);
        meshed.is_stirred |= meshed.mesh.has_acts() || matches!(read, Read::Consumed(_));
        match read {
            Read::Partial => Step::Partial(0..input.len()),
            Read::Consumed(used) => Step::Consumed(used),
            Read::Broken => Step::Consumed(input.len()),
            Read::Letter { to, from, bytes, used } => {
                if to == meshed.mesh.spot().shard {
                    self.serve_letter(service, from, bytes);
                } else if to < meshed.mesh.shards() {
                    meshed.mesh.stats.letters_relayed += 1;
                    self.show_view(to);
                    self.mail_surely(to, Mail::Letter { from, bytes: bytes.into() });
                } else {
                    meshed.mesh.stats.drop_letter("nowhere");
                }
                Step::Consumed(used)
            }
        }
    }

    /// A shard that is sent a letter must know who says it. The first shard's word of that comes on another lane,
    /// and may come later.
    fn show_view(&mut self, to: u16) {
        let Some(meshed) = &mut self.meshed else { return };
        let view = meshed.mesh.view();
        let Some(shown) = meshed.shown.get_mut(usize::from(to)) else { return };
        if *shown < view.version {
            *shown = view.version;
            let view = view.clone();
            self.mail_surely(to, Mail::View(view));
        }
    }

    /// A letter for this shard.
    pub(crate) fn serve_letter<S: Service>(&mut self, service: &mut S, from: Spot, bytes: &[u8]) {
        match Letter::read(bytes) {
            Some(letter) => service.handle_letter(self, from, letter),
            None => {
                if let Some(meshed) = &mut self.meshed {
                    meshed.mesh.stats.drop_letter("malformed");
                }
            }
        }
    }

    /// See [`Net::post`].
    pub(super) fn post_letter(&mut self, to: Spot, letter: &Letter<'_>) -> bool {
        let Some(meshed) = self.meshed.as_deref_mut() else {
            self.counters.error("letter_without_link");
            return false;
        };
        let mesh = &mut meshed.mesh;
        let urgency = letter.urgency();
        let (from, room, bytes_max) = (mesh.spot(), mesh.room(urgency), mesh.frame_bytes_max());
        let Some(id) = mesh.route(to.node) else {
            if urgency == Urgency::Reply {
                let mut out = Vec::new();
                let bytes = frame::write_letter(&mut out, to.shard, from, |out| letter.write(out));
                let fits = bytes - frame::LENGTH_BYTES <= bytes_max;
                if fits && mesh.hold(self.now, to.node, out) {
                    self.run_mesh();
                    return true;
                }
            }
            if let Some(meshed) = self.meshed.as_deref_mut() {
                meshed.mesh.stats.drop_letter("no_link");
            }
            return false;
        };
        let Some(conn) = self.get(id).filter(|conn| conn.stage == Stage::Open) else {
            // It has just ended; the mesh will hear of it.
            return false;
        };
        // Checked before a letter, so that one larger than the room gets through an empty link.
        if room <= conn.backlog() {
            self.refuse_letter(id, urgency);
            return false;
        }
        let out = self.outbox(id);
        let start = out.len();
        let bytes = frame::write_letter(out, to.shard, from, |out| letter.write(out));
        let is_too_large = bytes_max < bytes - frame::LENGTH_BYTES;
        if is_too_large {
            out.truncate(start);
        }
        if let Some(meshed) = self.meshed.as_deref_mut() {
            let stats = &mut meshed.mesh.stats;
            if is_too_large { stats.drop_letter("too_large") } else { stats.letters_out += 1 }
        }
        !is_too_large
    }

    fn refuse_letter(&mut self, id: ConnId, urgency: Urgency) {
        let Some(mesh) = self.mesh() else { return };
        mesh.handle_short(id, urgency);
        if urgency == Urgency::Reply {
            mesh.give_up(id);
        }
    }

    /// The mesh, to be told something that it may want to act upon.
    fn mesh(&mut self) -> Option<&mut Mesh> {
        let meshed = self.meshed.as_deref_mut()?;
        meshed.is_stirred = true;
        Some(&mut meshed.mesh)
    }

    /// Does what the mesh wants done.
    pub(super) fn run_mesh(&mut self) {
        let Some(meshed) = self.meshed.as_deref_mut().filter(|meshed| meshed.is_stirred) else {
            return;
        };
        meshed.is_stirred = false;
        while let Some(act) = self.meshed.as_mut().and_then(|meshed| meshed.mesh.poll()) {
            match act {
                Act::Dial { token, target } => {
                    if let Some(meshed) = &mut self.meshed {
                        meshed.dials.push((token, target));
                    }
                }
                Act::Write { link, bytes } => self.write_link(link, &bytes),
                Act::Cut(link) => self.end(link),
                Act::Finish(link) => self.finish(link),
                Act::Mail { shard, mail } => self.mail_surely(shard, mail),
                Act::Tell { node, event } => self.notices.push_back(Notice::Link(node, event)),
                Act::TellView => self.notices.push_back(Notice::View),
            }
        }
        let Some(meshed) = &mut self.meshed else { return };
        let due = meshed.mesh.poll_timeout();
        if due < meshed.wheel_at {
            meshed.wheel_at = due;
            self.wheel.insert(due, Due::Mesh);
        }
    }

    /// The mesh's own words; they are few, so a link without room for them is stuck.
    fn write_link(&mut self, link: ConnId, bytes: &[u8]) {
        let Some(conn) = self.get(link).filter(|conn| conn.stage == Stage::Open) else { return };
        let waiting = conn.backlog();
        let Some(mesh) = self.mesh() else { return };
        if 2 * mesh.room(Urgency::Reply) < waiting {
            return mesh.give_up(link);
        }
        self.outbox(link).extend_from_slice(bytes);
    }

    /// A reminder set for `at` fired.
    pub(crate) fn handle_mesh_due(&mut self, at: Millis) {
        let now = self.now;
        let is_it = self.meshed.as_ref().is_some_and(|meshed| meshed.wheel_at == at);
        let unread = if is_it && !self.unsent.is_empty() { self.links() } else { Vec::new() };
        for id in unread {
            let is_unread = self.get(id).is_some_and(|conn| conn.input_bytes() != 0);
            if let Some(mesh) = self.mesh().filter(|_| is_unread) {
                mesh.handle_unread(now, id);
            }
        }
        let Some(meshed) = self.meshed.as_mut().filter(|_| is_it) else { return };
        meshed.wheel_at = NEVER;
        meshed.is_stirred = true;
        if meshed.mesh.poll_timeout() <= now {
            meshed.mesh.handle_timeout(now);
        }
        self.run_mesh();
    }

    /// Asks the ring for the connections that the mesh wants.
    pub(super) fn dial<I: Io>(&mut self, io: &mut I) {
        let Some(meshed) = &mut self.meshed else { return };
        for (token, target) in meshed.dials.drain(..) {
            let source = meshed.mesh.source(target);
            io.connect(token, target, source, Some(CONNECT_MS_MAX));
        }
    }

    /// Mail that waited for room has left: links are read again.
    pub(super) fn wake_links(&mut self) {
        for id in self.links() {
            self.wake(id);
        }
    }

    fn links(&self) -> Vec<ConnId> {
        self.meshed.as_ref().map_or_else(Vec::new, |meshed| meshed.mesh.links().collect())
    }

    /// The peer of a link has said everything.
    pub(super) fn after_link(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        let waits = conn.input_bytes() != 0 && !self.unsent.is_empty();
        if !conn.flags.has(Flag::Ready) && !waits {
            self.end(id);
        }
    }

    /// Mail for the mesh.
    pub(crate) fn handle_mesh_mail(&mut self, mail: MeshMail) {
        let now = self.now;
        let Some(mesh) = self.mesh() else { return };
        match mail {
            MeshMail::View(view) => mesh.handle_view(now, view),
            MeshMail::Lost(node) => mesh.handle_lost(node),
            MeshMail::Cut(node, epoch) => mesh.handle_cut(node, epoch),
            MeshMail::Idle(shard, is_idle) => mesh.handle_idle(now, shard, is_idle),
            MeshMail::Farewell => mesh.close(),
            MeshMail::Secrets(secrets) => mesh.handle_secrets(secrets),
        }
    }

    /// This node takes nothing new from now on, and its peers know.
    pub(crate) fn leave_mesh(&mut self) {
        let now = self.now;
        if let Some(mesh) = self.mesh() {
            mesh.leave(now);
        }
    }

    /// Says whether this shard, which drains, has anything left to do. `true`: the links are closed.
    pub(crate) fn part_from_mesh(&mut self, is_idle: bool) -> bool {
        let now = self.now;
        let Some(meshed) = &mut self.meshed else { return true };
        meshed.mesh.report_idle(now, is_idle);
        meshed.is_stirred = true;
        let is_closing = meshed.mesh.is_closing();
        let is_closed = is_closing && meshed.slots == 0;
        self.run_mesh();
        is_closed
    }

    /// Whether links are no longer accepted.
    pub(crate) fn is_mesh_closing(&self) -> bool {
        self.meshed.as_ref().is_none_or(|meshed| meshed.mesh.is_closing())
    }

    /// What is counted of the links.
    pub(crate) fn mesh_stats(&self) -> Option<MeshStats> {
        let meshed = self.meshed.as_ref()?;
        let mut stats = meshed.mesh.stats();
        let waiting = |id: ConnId| self.get(id).map_or(0, Conn::backlog) as u64;
        stats.queue_bytes = meshed.mesh.links().map(waiting).sum();
        Some(stats)
    }

    /// The view of this shard.
    pub(super) fn mesh_view(&self) -> Option<Arc<View>> {
        self.meshed.as_ref().map(|meshed| meshed.mesh.view().clone())
    }
}

/// What other shards and threads say to the mesh of a shard; see [`Mail`].
pub(crate) enum MeshMail {
    View(Arc<View>),
    Lost(u16),
    Cut(u16, u32),
    Idle(u16, bool),
    Farewell,
    Secrets(Arc<Secrets>),
}
