//! The links of one shard to the shards of other nodes. Lives: in the shard's connection table. View: shard.
//!
//! Links carry letters in one direction. Shard `i` of a node dials shard `i mod n` of every other node of `n` shards
//! and says what it has to say on that link; what it hears comes on links that it accepted. So every shard has its
//! own, no thread is a bottleneck, and what one shard tells another node arrives in order. Letters for another shard
//! of this node go on as mail. The first shard, the lead, has the membership machine; its links carry that too, and
//! its view of the cluster goes to all shards.
//!
//! A link's life: connect → handshake → both ends see each other as living members (the dialled one says so with
//! `Frame::Open`) → letters. A link that breaks after that may have lost letters, so all shards are told.
//!
//! No socket and no clock here: feed it what happened, then do what [`Mesh::poll`] says until it has nothing more to
//! say, and wake it at [`Mesh::poll_timeout`].

mod callers;
mod config;
mod drain;
mod early;
mod link;
mod refusals;
mod stats;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::frame::{self, Frame};
use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::link::Identity;
use erlmcp_cluster::membership::{DialFailed, Membership, MembershipConfig, Output, Unlinked};
use erlmcp_cluster::secret::Secrets;
use erlmcp_cluster::view::{Member, State, View};

use self::callers::{Call, Callers};
pub use self::config::{MeshConfig, MeshSeat, QUEUE_BYTES_MAX};
use self::early::Early;
pub(crate) use self::link::Read;
use self::link::{End, Link, Peer};
use self::refusals::Refusals;
pub use self::stats::MeshStats;
use crate::io::{ConnId, Millis};
use crate::message::Mail;
use crate::net::LinkEvent;

/// Links of other nodes that a shard accepts; more are closed. Strangers are among them until their handshake fails.
pub(crate) const ACCEPTED_MAX: usize = 4 * 64;
/// Slots of links, ours and those that are closing among them; what comes beyond is closed at once.
pub(crate) const SLOTS_MAX: u32 = 2 * ACCEPTED_MAX as u32;
/// Links of one shard of another node that are kept. It needs one; a second may be on its way.
const ACCEPTED_PER_SPOT_MAX: usize = 2;
/// The lead shard's number.
const LEAD: u16 = 0;

/// What the shard must do for its links.
pub(crate) enum Act {
    /// Open a connection.
    Dial { token: u32, target: SocketAddr },
    /// Send these bytes.
    Write { link: ConnId, bytes: Vec<u8> },
    /// End the link at once.
    Cut(ConnId),
    /// End it when what is queued was sent.
    Finish(ConnId),
    /// Send this to a shard of this node. It must arrive.
    Mail { shard: u16, mail: Mail },
    /// Tell the service.
    Tell { node: u16, event: LinkEvent },
    /// Tell the service of the view.
    TellView,
}

/// See the module.
pub(crate) struct Mesh {
    me: Arc<Identity>,
    config: Arc<MeshConfig>,
    secrets: Arc<Secrets>,
    view: Arc<View>,
    /// By slot.
    links: BTreeMap<u32, Link>,
    /// Links that we dialled and whose handshake is done, by node.
    own: BTreeMap<u16, ConnId>,
    dials: BTreeMap<u32, Dialling>,
    next_token: u32,
    role: Role,
    frame_bytes_max: usize,
    refusals: Refusals,
    acts: VecDeque<Act>,
    drain: drain::Drain,
    early: Early,
    pub(crate) stats: MeshStats,
}

/// Who decides what is dialled.
enum Role {
    /// The first shard: the members' machine.
    Lead(Box<Membership>),
    /// The others: what the view says.
    Follower(Callers),
}

/// A connection that was asked for.
struct Dialling {
    target: SocketAddr,
    /// A follower's attempt.
    call: Option<Call>,
}

impl Mesh {
    /// A shard that knows nobody yet. `frame_bytes_max` bounds a frame, `seed` spreads what shards would otherwise do
    /// all at once.
    pub(crate) fn new(seat: MeshSeat, message_bytes_max: usize, now: Millis, seed: u64) -> Self {
        let MeshSeat { me, config } = seat;
        let role = if me.shard == LEAD {
            // One list of peers may serve all nodes: who is on it need not dial itself.
            let is_other = |seed: &&SocketAddr| !me.addresses.contains(seed);
            let members = MembershipConfig {
                me: (*me).clone(),
                seeds: config.seeds.iter().filter(is_other).copied().collect(),
                heartbeat_ms: config.heartbeat_ms,
                node_timeout_ms: config.node_timeout_ms,
            };
            Role::Lead(Box::new(Membership::new(members, now, seed)))
        } else {
            Role::Follower(Callers::new(me.shard, seed))
        };
        let member = Member {
            node: me.node,
            epoch: me.epoch,
            incarnation: 0,
            state: State::Alive,
            addresses: me.addresses.clone(),
        };
        let view = View { me: me.node, version: 0, members: vec![member] };
        let shards = me.addresses.len();
        let mut mesh = Self {
            secrets: config.secrets.clone(),
            view: Arc::new(view),
            links: BTreeMap::new(),
            own: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_token: 0,
            role,
            frame_bytes_max: frame::frame_bytes_max(message_bytes_max),
            refusals: Refusals::default(),
            acts: VecDeque::from([Act::TellView]),
            drain: drain::Drain::new(shards),
            early: Early::default(),
            stats: MeshStats::default(),
            me,
            config,
        };
        mesh.run_lead(now);
        mesh
    }

    /// Where this shard is.
    pub(crate) fn spot(&self) -> Spot {
        Spot { node: self.me.node, shard: self.me.shard }
    }

    /// Who is in the cluster, as far as this shard was told.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Shards of this node.
    pub(crate) fn shards(&self) -> u16 {
        self.me.addresses.len() as u16
    }

    /// Where our connections come from: what we listen on, so that others know us by it.
    pub(crate) fn source(&self, target: SocketAddr) -> Option<SocketAddr> {
        let listen = self.config.listen;
        let is_usable = !listen.ip().is_unspecified() && listen.is_ipv4() == target.is_ipv4();
        is_usable.then(|| SocketAddr::new(listen.ip(), 0))
    }

    /// The link on which letters go to a node.
    pub(crate) fn route(&self, node: u16) -> Option<ConnId> {
        let id = *self.own.get(&node)?;
        let link = self.links.get(&id.slot)?;
        (link.is_open && link.end == End::Not).then_some(link.id)
    }

    /// Somebody connected, and there is no slot left to hear them out.
    pub(crate) fn handle_crowd(&mut self, now: Millis, from: Option<SocketAddr>) {
        self.refuse(now, from, "full");
    }

    /// All links, those that have not proven anything among them.
    pub(crate) fn links(&self) -> impl Iterator<Item = ConnId> {
        self.links.values().map(|link| link.id)
    }

    /// Bytes that may be queued before a letter of this urgency is refused.
    pub(crate) fn room(&self, urgency: Urgency) -> usize {
        let all = self.config.queue_bytes_max;
        match urgency {
            Urgency::Sync => all / 4,
            Urgency::Request => all / 2,
            Urgency::Reply => all,
        }
    }

    /// The bound of a frame, its length not counted.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// A letter found no room.
    pub(crate) fn handle_short(&mut self, id: ConnId, urgency: Urgency) {
        self.stats.drop_letter(match urgency {
            Urgency::Sync => "sync",
            Urgency::Request => "request",
            Urgency::Reply => "reply",
        });
        if let Some(link) = self.link_mut(id) {
            link.is_short = true;
        }
    }

    /// So many bytes of a link were sent; so many still wait.
    pub(crate) fn handle_sent(&mut self, id: ConnId, bytes: usize, waiting: usize) {
        self.stats.bytes_out += bytes as u64;
        let enough = self.room(Urgency::Sync) / 2;
        let Some(link) = self.link_mut(id) else { return };
        if link.is_short && waiting <= enough {
            link.is_short = false;
            if let Some(node) = link.peer.map(|peer| peer.node).filter(|_| link.is_open) {
                self.acts.push_back(Act::Tell { node, event: LinkEvent::Drained });
            }
        }
    }

    /// The lead has told of a new view.
    pub(crate) fn handle_view(&mut self, now: Millis, view: Arc<View>) {
        if self.view.version < view.version {
            self.change_view(now, view);
        }
    }

    /// Ends all links with a run of a node. Each shard does, so nobody needs to be told.
    pub(crate) fn handle_cut(&mut self, node: u16, epoch: u32) {
        let mut was_open = false;
        for link in self.links.values_mut() {
            let is_it = |peer: Peer| (peer.node, peer.epoch) == (node, epoch);
            if link.peer.is_some_and(is_it) && link.end != End::Told {
                was_open |= link.is_open;
                link.end = End::Told;
                self.acts.push_back(Act::Cut(link.id));
            }
        }
        if was_open {
            self.acts.push_back(Act::Tell { node, event: LinkEvent::Lost });
        }
    }

    /// Another shard has lost a link.
    pub(crate) fn handle_lost(&mut self, node: u16) {
        self.acts.push_back(Act::Tell { node, event: LinkEvent::Lost });
    }

    /// An answer for which there is no link yet. `false`: there will be none, and everybody is told.
    pub(crate) fn hold(&mut self, now: Millis, node: u16, frame: Vec<u8>) -> bool {
        if self.is_closing() || self.view.peers().all(|member| member.node != node) {
            return false;
        }
        if !self.early.has_room() {
            self.break_with(node);
            return false;
        }
        self.early.push(now, node, frame);
        true
    }

    /// Ends all links of this node with another, so that both know that answers are lost.
    fn break_with(&mut self, node: u16) {
        self.early.take(node);
        let Some(epoch) = self.view.member(node).map(|member| member.epoch) else { return };
        self.stats.drop_letter("no_link");
        self.handle_cut(node, epoch);
        self.mail_others(|| Mail::Cut { node, epoch });
    }

    /// Handshakes from now on prove these.
    pub(crate) fn handle_secrets(&mut self, secrets: Arc<Secrets>) {
        self.secrets = secrets;
    }

    /// It is [`Mesh::poll_timeout`], or later.
    pub(crate) fn handle_timeout(&mut self, now: Millis) {
        while let Some(node) = self.early.overdue(now) {
            self.break_with(node);
        }
        match &mut self.role {
            Role::Lead(members) => {
                members.handle_timeout(now);
                self.run_lead(now);
            }
            Role::Follower(callers) => {
                let due = callers.handle_timeout(now);
                due.into_iter().for_each(|(call, target)| self.dial(target, Some(call)));
            }
        }
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Whether there is something to be done.
    pub(crate) fn has_acts(&self) -> bool {
        !self.acts.is_empty()
    }

    /// What is counted, and who is in the cluster.
    pub(crate) fn stats(&self) -> MeshStats {
        let members = match &self.role {
            Role::Lead(members) => Some(members.counters()),
            Role::Follower(_) => None,
        };
        MeshStats { members, ..self.stats.clone() }
    }

    /// When to call [`Mesh::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Millis {
        let role = match &self.role {
            _ if self.is_closing() => return Millis::MAX,
            Role::Lead(members) => members.poll_timeout(),
            Role::Follower(callers) => callers.poll_timeout(),
        };
        role.min(self.early.poll_timeout())
    }

    fn dial(&mut self, target: SocketAddr, call: Option<Call>) {
        if self.is_closing() {
            return;
        }
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        self.dials.insert(token, Dialling { target, call });
        self.stats.dials += 1;
        self.acts.push_back(Act::Dial { token, target });
    }

    /// An attempt of ours led to no link.
    fn fail_dial(&mut self, now: Millis, target: SocketAddr, call: Option<Call>, why: DialFailed) {
        self.stats.dials_failed += u64::from(why != DialFailed::Handshake);
        match &mut self.role {
            Role::Lead(members) => {
                members.handle_dial_failed(now, target, why);
                self.run_lead(now);
            }
            Role::Follower(callers) => {
                if let Some(call) = call {
                    callers.handle_failed(now, call, why == DialFailed::Handshake);
                }
            }
        }
    }

    /// Does what the members' machine says.
    fn run_lead(&mut self, now: Millis) {
        while let Role::Lead(members) = &mut self.role
            && let Some(output) = members.poll()
        {
            match output {
                Output::Send { to, bytes } => {
                    // Without a link the machine knows or will know; it says it again.
                    if let Some(link) = self.own.get(&to).copied() {
                        let mut out = Vec::new();
                        Frame::Member(&bytes).write(&mut out);
                        self.acts.push_back(Act::Write { link, bytes: out });
                    }
                }
                Output::Dial(target) => self.dial(target, None),
                Output::Cut { node, epoch } => {
                    self.handle_cut(node, epoch);
                    self.mail_others(|| Mail::Cut { node, epoch });
                }
                Output::View => {
                    let view = members.view().clone();
                    self.mail_others(|| Mail::View(view.clone()));
                    self.change_view(now, view);
                }
            }
        }
    }

    fn change_view(&mut self, now: Millis, view: Arc<View>) {
        let before = std::mem::replace(&mut self.view, view);
        self.acts.push_back(Act::TellView);
        for member in before.peers() {
            if self.view.home(member.node, member.epoch).is_none() {
                // Its letters are no longer those of a member; it must come in again by the front door.
                let node = member.node;
                self.handle_cut(node, member.epoch);
                self.early.take(node);
                self.acts.push_back(Act::Tell { node, event: LinkEvent::Lost });
            }
        }
        let slots: Vec<u32> = self.links.keys().copied().collect();
        for slot in slots {
            self.try_open(slot);
        }
        let due = match &mut self.role {
            Role::Follower(callers) => callers.handle_view(now, &self.view),
            Role::Lead(_) => return,
        };
        due.into_iter().for_each(|(call, target)| self.dial(target, Some(call)));
    }

    fn mail_others(&mut self, mail: impl Fn() -> Mail) {
        for shard in (0..self.shards()).filter(|shard| *shard != self.me.shard) {
            self.acts.push_back(Act::Mail { shard, mail: mail() });
        }
    }

    fn link_mut(&mut self, id: ConnId) -> Option<&mut Link> {
        self.links.get_mut(&id.slot).filter(|link| link.id == id)
    }

    /// A standing link of ours is no more.
    fn handle_unlinked(&mut self, now: Millis, node: u16, was_ours: bool) {
        match &mut self.role {
            Role::Lead(members) => {
                let why = if was_ours { Unlinked::Cut } else { Unlinked::Broken };
                members.handle_unlinked(now, node, why);
                self.run_lead(now);
            }
            Role::Follower(callers) => callers.handle_unlinked(now, node),
        }
    }
}
