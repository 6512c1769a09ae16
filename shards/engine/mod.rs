//! The MCP engine of one shard: sessions, calls, streams, subscriptions. No socket, no clock: it is fed
//! requests and messages, and speaks through [`crate::net::Net`].
//!
//! The path of a call: `gate` (HTTP status gates) or `pipes` → `modern` or `legacy` (which era's rules) →
//! `methods` (what was asked) → `calls` (a handler's steps; `emit` what it says meanwhile, `rounds` what it asks)
//! → `replies` (one message) → `out` (bytes to where the caller waits). A call
//! that becomes a task is answered at once, and lives on in `tasks`.

mod adopt;
mod answers;
mod aways;
mod batch;
mod caller;
mod calls;
mod departure;
mod emit;
mod fanout;
mod forwards;
mod gate;
mod gets;
mod handover;
mod handshake;
mod held;
mod http_sse;
mod legacy;
mod links;
mod listens;
mod methods;
mod modern;
mod operator;
mod out;
mod pace;
mod pipes;
mod record;
mod relays;
mod replicate;
mod replies;
mod rounds;
mod sessions;
mod slots;
mod streams;
mod task_calls;
mod task_methods;
mod tasks;
mod unread;
mod visits;
mod whereabouts;
mod withheld;

use std::sync::Arc;

use erlmcp_catalog::{Change, Context, Handle, Runner, Snapshot};
use erlmcp_cluster::interest::Relay;
use erlmcp_cluster::letter::route::Token;
use erlmcp_cluster::letter::{Letter, Order};
use erlmcp_cluster::view::View;
use erlmcp_cluster::{SessionName, Spot, Table};
use erlmcp_protocol::http::{Access, Head};
use erlmcp_protocol::seal::{Keyring, SessionToken};

pub use answers::{Answers, Wake};
pub use forwards::{Envelopes, Forward};
pub use held::Held;
pub use out::{Place, ReplyOp};
use slots::{Key, Slots};
use streams::ReplayBounds;

use crate::config::{ClusterLimits, Limits};
use crate::io::{ConnId, Millis};
use crate::lookout::Lookout;
use crate::message::Announcement;
use crate::net::{Exchange, LinkEvent, Net, PipeKind, TimerKey};
use crate::service::Service;

/// What engines say to each other.
pub enum EngineMail {
    /// A request for a session that lives here; the connection is elsewhere.
    Forward(Box<Forward>),
    /// A forward of ours comes back: what it names is elsewhere.
    Elsewhere {
        /// Who says so.
        from: u16,
        /// Where.
        to: Spot,
        /// What was asked.
        forward: Box<Forward>,
    },
    /// The other shard's answer to a forward, for an exchange of ours.
    Reply {
        /// Whose.
        from: u16,
        /// Our exchange.
        exchange: Exchange,
        /// What to write.
        op: ReplyOp,
        /// The box of an earlier forward, for the next one.
        envelope: Option<Box<Forward>>,
    },
    /// The other shard's answer to a forward, for a pipe of ours.
    PipeReply {
        /// Whose.
        from: u16,
        /// The request of our pipe.
        exchange: Exchange,
        /// The message.
        message: Vec<u8>,
    },
    /// The client of a forwarded exchange has gone.
    Gone(Place),
    /// That shard has subscribers of these tasks of ours.
    Watch {
        /// Who.
        watcher: u16,
        /// Which.
        tasks: Vec<SessionToken>,
    },
    /// A task of another shard has changed: tell our subscribers.
    TaskNews {
        /// Its id.
        id: Box<str>,
        /// The members of the DetailedTask, without braces.
        members: Arc<[u8]>,
    },
    /// Another node owns a session that the receiver made.
    Claim {
        /// Which.
        name: SessionName,
        /// How often it has changed its owner.
        term: u32,
        /// Who says so.
        by: Spot,
    },
    /// A session of the sender is another node's now: the receiver is the one that is asked for it.
    Moved {
        /// What its id says.
        token: Token,
        /// How often it has changed its owner.
        term: u32,
        /// Who owns it.
        owner: Spot,
        /// Which run of the owner's node.
        epoch: u32,
    },
    /// Something changed on this node: tell our subscribers, and who cares elsewhere.
    Announce(Announcement),
    /// Something changed on another node: tell our subscribers.
    Relayed(Change),
    /// Deferred calls have answered: look into the answers queue.
    Answers,
    /// How this node fares, for all others. To the node's first shard only.
    Publish(Box<[u8]>),
    /// An operator wants something of another node. To this node's first shard only.
    Order {
        /// Of which.
        node: u16,
        /// What.
        order: Order,
        /// Whether it left for there.
        left: crossbeam_channel::Sender<bool>,
    },
    /// Seal with these keys from now on: the cluster's secret has changed.
    Keys(Arc<Keyring>),
    /// This node will drain: say so to whoever asks how it is, and serve as before.
    Notice,
}

/// What every engine of a process has in common.
#[derive(Clone)]
pub struct EngineConfig {
    /// Limits.
    pub limits: Limits,
    /// Which origins and hosts may call.
    pub access: Arc<Access>,
    /// Seals session ids, states and cursors.
    pub keys: Arc<Keyring>,
    /// Differs at every boot: ids of an earlier life are unknown, not confused.
    pub epoch: u32,
    /// Who outside the shards wants to hear of the cluster.
    pub lookout: Option<Arc<dyn Lookout>>,
    /// How sessions survive their node; `None`: they do not.
    pub cluster: Option<ClusterLimits>,
}

/// Which shard an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Its node and number.
    pub at: Spot,
    /// How many there are on this node.
    pub shards: u16,
}

/// Who waits behind an exchange, so that a client's leaving finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Call(Key),
    Listen(Key),
    /// A GET or request stream of this session.
    Stream(Key),
    /// The stream that *is* this HTTP+SSE session.
    Sse(Key),
    Batch(Key),
}

/// The engine.
pub struct Engine {
    seat: Seat,
    config: Arc<EngineConfig>,
    bounds: ReplayBounds,
    /// Who is in the cluster.
    view: Arc<View>,
    /// What is known of sessions beyond those served here; `None` without a cluster.
    keeping: Option<Box<replicate::Keeping>>,
    /// What is served, as this shard's own copy.
    snapshot: Arc<Snapshot>,
    /// Whose copy it is.
    source: Arc<Snapshot>,
    context: Arc<Context>,
    answers: Arc<Answers>,
    sessions: sessions::Sessions,
    calls: Slots<calls::CallRecord>,
    batches: Slots<batch::Batch>,
    tasks: tasks::Tasks,
    listens: listens::Listens,
    pipes: pipes::Pipes,
    waiters: Table<Place, Waiter>,
    legacy: unread::Legacy,
    /// The `Host` of the last request that was allowed.
    allowed_host: Box<[u8]>,
    aways: aways::Aways,
    /// Who elsewhere wants to hear of what happens here.
    relay: Relay,
    interest_timer: bool,
    /// Listen streams whose readers do not keep up.
    lagging: Vec<Key>,
    /// Reused for every message that is written; grows to the largest and is cut back.
    scratch: Vec<u8>,
    /// It will leave soon.
    has_notice: bool,
    /// It leaves.
    departure: Option<Box<departure::Departure>>,
}

/// A scratch buffer that grew beyond this is given back after use, bytes.
const SCRATCH_KEPT_BYTES: usize = 256 * 1024;

impl Engine {
    /// An engine that serves the catalog. `wake` rings this shard's doorbell from any thread.
    pub fn new(
        seat: Seat,
        config: Arc<EngineConfig>,
        catalog: Handle,
        runner: Arc<dyn Runner>,
        wake: Wake,
    ) -> Self {
        let limits = &config.limits;
        let bounds = ReplayBounds {
            events_max: limits.replay_events_max,
            bytes_max: limits.replay_bytes_max,
            ttl_ms: limits.replay_ttl_ms,
        };
        let view = Arc::new(View::alone(seat.at.node, config.epoch, seat.shards));
        let keeping = config.cluster.as_ref().map(|cluster| {
            let session_bytes_max = limits.replay_bytes_max;
            Box::new(replicate::Keeping::new(cluster, view.clone(), session_bytes_max))
        });
        let answers = Arc::new(Answers::new(wake));
        let source = catalog.snapshot();
        let snapshot = source.for_shard();
        let context = Arc::new(Context { catalog, runner, sinks: answers.clone() });
        Self {
            seat,
            config,
            bounds,
            view,
            keeping,
            snapshot,
            source,
            context,
            answers,
            sessions: Default::default(),
            calls: Slots::default(),
            batches: Slots::default(),
            tasks: Default::default(),
            listens: Default::default(),
            pipes: Default::default(),
            waiters: Table::default(),
            legacy: unread::Legacy::default(),
            allowed_host: Box::default(),
            aways: Table::default(),
            relay: Relay::default(),
            interest_timer: false,
            lagging: Vec::new(),
            scratch: Vec::new(),
            has_notice: false,
            departure: None,
        }
    }

    /// This shard.
    fn me(&self) -> Spot {
        self.seat.at
    }

    /// An exchange of this shard.
    fn here(&self, exchange: Exchange) -> Place {
        Place { at: self.me(), epoch: self.config.epoch, exchange }
    }

    /// Takes the scratch buffer, empty.
    fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch
    }

    /// Gives it back.
    fn put_scratch(&mut self, scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH_KEPT_BYTES {
            self.scratch = scratch;
        }
    }

    /// After whatever happened: others hear of what has changed.
    fn tell_others<N: Net>(&mut self, net: &mut N) {
        self.say_wants(net);
        self.say_sessions(net);
    }

    fn handle_gone_place<N: Net>(&mut self, net: &mut N, place: Place) {
        match self.waiters.remove(&place) {
            None => {
                let is_mine = place.at == self.me();
                if let Some(away) = is_mine.then(|| self.aways.remove(&place.exchange)).flatten() {
                    self.tell_gone(net, away.at, place);
                }
                self.held_gone(place);
            }
            Some(Waiter::Call(key)) => self.caller_gone(net, key, place),
            Some(Waiter::Listen(key)) => drop(self.listens.remove(key)),
            Some(Waiter::Stream(session)) => self.stream_gone(net, session, place),
            Some(Waiter::Sse(session)) => self.end_session(net, session),
            Some(Waiter::Batch(key)) => {
                self.batches.remove(key);
            }
        }
    }
}

impl Service for Engine {
    fn handle_request<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>, body: &[u8]) {
        self.http_request(net, to, head, body);
        self.tell_others(net);
    }

    fn handle_gone<N: Net>(&mut self, net: &mut N, to: Exchange) {
        let place = self.here(to);
        self.handle_gone_place(net, place);
        self.tell_others(net);
    }

    fn handle_pipe_open<N: Net>(&mut self, _net: &mut N, conn: ConnId, kind: PipeKind) {
        self.pipes.open(conn, kind);
    }

    fn handle_pipe_message<N: Net>(&mut self, net: &mut N, conn: ConnId, message: &[u8]) {
        self.pipe_message(net, conn, message);
        self.tell_others(net);
    }

    fn handle_pipe_oversize<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        self.pipe_oversize(net, conn);
    }

    fn handle_pipe_eof<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        self.pipe_eof(net, conn);
    }

    fn handle_pipe_closed<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        self.pipe_closed(net, conn);
        self.tell_others(net);
    }

    fn handle_mail<N: Net>(&mut self, net: &mut N, mail: EngineMail) {
        match mail {
            EngineMail::Forward(forward) => self.mailed_forward(net, forward),
            EngineMail::Elsewhere { from, to, forward } => {
                self.mailed_back(net, from, to, forward);
            }
            EngineMail::Reply { from, exchange, op, envelope } => {
                let from = Spot { shard: from, ..self.me() };
                self.replied(net, from, exchange, op.reply());
                net.was_read(op.into_text());
                envelope.into_iter().for_each(|envelope| net.envelopes().keep(envelope));
            }
            EngineMail::PipeReply { from, exchange, message } => {
                let from = Spot { shard: from, ..self.me() };
                self.pipe_replied(net, from, exchange, &message);
                net.was_read(message);
            }
            EngineMail::Gone(place) => self.handle_gone_place(net, place),
            EngineMail::Watch { watcher, tasks } => {
                let watcher = Spot { shard: watcher, ..self.me() };
                self.watched(net, watcher, &tasks, false);
            }
            EngineMail::Claim { name, term, by } => self.claimed(net, &name, term, by),
            EngineMail::Moved { token, term, owner, epoch } => {
                self.note_moved(net, owner, epoch, token, term);
            }
            EngineMail::TaskNews { id, members } => self.fan_out_task(net, id, members),
            EngineMail::Announce(announcement) => self.announced(net, &announcement),
            EngineMail::Relayed(change) => self.fan_out(net, &change),
            EngineMail::Answers => {}
            EngineMail::Publish(status) => self.publish(net, &status),
            EngineMail::Order { node, order, left } => {
                // Whoever asked may have stopped waiting.
                let _ = left.try_send(self.order(net, node, order));
            }
            EngineMail::Keys(keys) => self.keys_changed(keys),
            EngineMail::Notice => self.has_notice = true,
        }
        self.drain_answers(net);
        self.tell_others(net);
    }

    fn handle_letter<N: Net>(&mut self, net: &mut N, from: Spot, letter: Letter<'_>) {
        self.letter(net, from, letter);
        self.drain_answers(net);
        self.tell_others(net);
    }

    fn handle_link<N: Net>(&mut self, net: &mut N, node: u16, event: LinkEvent) {
        self.link(net, node, event);
        self.tell_others(net);
    }

    fn handle_view<N: Net>(&mut self, net: &mut N, view: &Arc<View>) {
        self.see(net, view);
        self.tell_others(net);
    }

    fn handle_timer<N: Net>(&mut self, net: &mut N, key: TimerKey) {
        match key {
            TimerKey::Call(slot, generation) => self.call_timer(net, Key { slot, generation }),
            TimerKey::Task(slot, generation) => self.task_timer(net, Key { slot, generation }),
            TimerKey::Session(slot, generation) => {
                self.session_timer(net, Key { slot, generation })
            }
            TimerKey::Departure => self.departure_timer(net),
            TimerKey::Replicas => self.replicas_timer(),
            TimerKey::Visit => self.visit_timer(net),
            TimerKey::Unkept => self.unkept_timer(net),
            TimerKey::Kept => self.kept_timer(net),
            TimerKey::Withheld => self.withheld_timer(net),
            TimerKey::Orphans => self.orphan_timer(net),
            TimerKey::Directory => self.directory_timer(net),
            TimerKey::Interest => self.interest_timer(net),
            TimerKey::Sweep => self.sweep_lagging(net),
        }
        self.tell_others(net);
    }

    fn handle_drain<N: Net>(&mut self, net: &mut N, until: Millis) {
        self.depart(net, until);
        self.tell_others(net);
    }

    fn sync_lag_ms(&self, now: Millis) -> Millis {
        self.keeping.as_ref().map_or(0, |keeping| keeping.lag_ms(now))
    }

    fn is_idle(&self) -> bool {
        let withheld = self.keeping.as_ref().map_or(0, |keeping| keeping.withheld.len());
        let is_quiet = self.calls.is_empty() && self.batches.is_empty() && withheld == 0;
        is_quiet && self.has_departed()
    }
}

/// When a call that has not answered gets its SSE response opened, so that keep-alives can flow.
fn commit_after(limits: &Limits) -> Millis {
    limits.stream_keepalive_ms
}

#[cfg(test)]
mod tests;
