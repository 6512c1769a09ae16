//! Requests for a session or task of another shard, here or on another node: sent by who holds the connection,
//! served by the owner, given back by who is not ([`erlmcp_cluster::letter::route`] says why).

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::route::{self, Ask, HOPS_MAX, Reply, Route, TaskAsk};
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::seal::SessionToken;
use erlmcp_protocol::sse;

use super::aways::{Away, Setback, Shown};
use super::caller::Takes;
use super::gate::{retry_after, retry_ms};
use super::out::{self, Answer, Place};
use super::whereabouts::Whereabouts;
use super::{Engine, EngineMail};
use crate::message::Mail;
use crate::net::{Exchange, Net};

/// Boxes that are kept at most: some 40 KiB.
const ENVELOPES_MAX: usize = 256;

/// Boxes of forwards that were served, for the next ones. Answers carry them back to where forwards come from.
#[derive(Default)]
pub struct Envelopes {
    #[allow(clippy::vec_box)] // The boxes are what is kept.
    spare: Vec<Box<Forward>>,
}

impl Envelopes {
    /// One to be filled, or sent back.
    pub fn take(&mut self) -> Option<Box<Forward>> {
        self.spare.pop()
    }

    /// One whose forward was served.
    pub fn keep(&mut self, envelope: Box<Forward>) {
        if self.spare.len() < ENVELOPES_MAX {
            self.spare.push(envelope);
        }
    }
}

/// A request on its way to whoever has what it names.
#[derive(Debug, Clone, Copy)]
pub struct Onward<'b> {
    /// Who waits.
    pub place: Place,
    /// Whose it is.
    pub token: SessionToken,
    /// How often it was sent.
    pub hops: u8,
    /// What is asked.
    pub ask: Ask<'b>,
}

impl<'b> Onward<'b> {
    /// A request that was not sent yet.
    pub fn new(place: Place, token: SessionToken, ask: Ask<'b>) -> Self {
        Self { place, token, hops: 0, ask }
    }

    fn from_letter(forward: route::Forward<'b>) -> Self {
        let route::Forward { origin, token, hops, ask } = forward;
        let token = from_letter(&token);
        Self { place: Place::from_origin(origin), token, hops, ask }
    }

    fn to_letter(self) -> route::Forward<'b> {
        let Onward { place, token, hops, ask } = self;
        route::Forward { origin: place.to_origin(), token: to_letter(&token), hops, ask }
    }

    /// Whether it begins something, rather than letting what runs finish.
    pub fn begins(&self) -> bool {
        match self.ask {
            Ask::Get { .. } => true,
            Ask::Post { body, .. } | Ask::Message { body } => {
                matches!(jsonrpc::parse(body), Ok(Message::Request { .. } | Message::Batch(_)))
            }
            Ask::Delete | Ask::Task { .. } => false,
        }
    }

    /// Its raw id, if it is a request.
    pub fn id(&self) -> Option<&'b str> {
        match self.ask {
            Ask::Post { body, .. } => match jsonrpc::parse(body) {
                Ok(Message::Request { id, .. }) => Some(id.raw()),
                _ => None,
            },
            Ask::Task { id, .. } => Some(id),
            Ask::Get { .. } | Ask::Delete | Ask::Message { .. } => None,
        }
    }
}

/// The same, in the mail of a node.
pub struct Forward {
    place: Place,
    token: SessionToken,
    hops: u8,
    asked: Asked,
    /// The message, if it is one.
    body: Vec<u8>,
}

enum Asked {
    Post { takes: route::Takes },
    Get { last_event_id: Option<Box<str>> },
    Delete,
    Message,
    Task { takes: route::Takes, on_pipe: bool, id: Box<str>, ask: TaskAsked },
}

enum TaskAsked {
    Get,
    Update(Box<str>),
    Cancel,
}

impl Forward {
    /// To be kept.
    pub fn new<N: Net>(net: &mut N, onward: Onward<'_>) -> Self {
        let Onward { place, token, hops, ask } = onward;
        let body = match ask {
            Ask::Post { body, .. } | Ask::Message { body } => net.text(body),
            Ask::Get { .. } | Ask::Delete | Ask::Task { .. } => Vec::new(),
        };
        let asked = match ask {
            Ask::Post { takes, .. } => Asked::Post { takes },
            Ask::Get { last_event_id } => {
                Asked::Get { last_event_id: last_event_id.map(Into::into) }
            }
            Ask::Delete => Asked::Delete,
            Ask::Message { .. } => Asked::Message,
            Ask::Task { takes, on_pipe, id, ask } => {
                let ask = match ask {
                    TaskAsk::Get => TaskAsked::Get,
                    TaskAsk::Update { answers } => TaskAsked::Update(answers.into()),
                    TaskAsk::Cancel => TaskAsked::Cancel,
                };
                Asked::Task { takes, on_pipe, id: id.into(), ask }
            }
        };
        Self { place, token, hops, asked, body }
    }

    /// As it goes on.
    pub fn onward(&self) -> Onward<'_> {
        let ask = match &self.asked {
            Asked::Post { takes } => Ask::Post { takes: *takes, body: &self.body },
            Asked::Get { last_event_id } => Ask::Get { last_event_id: last_event_id.as_deref() },
            Asked::Delete => Ask::Delete,
            Asked::Message => Ask::Message { body: &self.body },
            Asked::Task { takes, on_pipe, id, ask } => {
                let ask = match ask {
                    TaskAsked::Get => TaskAsk::Get,
                    TaskAsked::Update(answers) => TaskAsk::Update { answers },
                    TaskAsked::Cancel => TaskAsk::Cancel,
                };
                Ask::Task { takes: *takes, on_pipe: *on_pipe, id, ask }
            }
        };
        Onward { place: self.place, token: self.token, hops: self.hops, ask }
    }
}

impl Engine {
    // ---- At the connection ----

    /// Sends a request of this shard's to who has what it names, or answers that it cannot. `id`: that of a request, if it
    /// was read; what leaves this node must be.
    pub(super) fn forward<N: Net>(
        &mut self,
        net: &mut N,
        to: Spot,
        onward: Onward<'_>,
        id: Option<&str>,
    ) {
        let exchange = onward.place.exchange;
        let is_get = matches!(onward.ask, Ask::Get { last_event_id } if only_waits(last_event_id));
        let mut to = to;
        if let Err(setback) = self.send_onward(net, to, onward) {
            // A node that comes back does not have what others took over meanwhile, and its links may not stand yet.
            let other = self.directory_for(to, &onward);
            match other.filter(|other| self.send_onward(net, *other, onward).is_ok()) {
                Some(other) => to = other,
                None => {
                    net.counters().error(setback.reason());
                    let id = id.or_else(|| onward.id());
                    return self.refuse_retryable(net, exchange, id, &setback.error());
                }
            }
        }
        let (id, shown) = (id.map(Into::into), Shown::Nothing);
        self.aways.insert(exchange, Away { at: to, id, shown, is_get });
    }

    /// Who of this node may know better where a session is whose home cannot be reached.
    fn directory_for(&self, home: Spot, onward: &Onward<'_>) -> Option<Spot> {
        let moves = matches!(onward.ask, Ask::Post { .. } | Ask::Get { .. } | Ask::Delete);
        if !moves || self.keeping.is_none() || home.node == self.me().node {
            return None;
        }
        let shard = self.directory_shard(&onward.token.random);
        Some(Spot { shard, ..self.me() }).filter(|directory| *directory != self.me())
    }

    /// Sends it, or says why not.
    pub(super) fn send_onward<N: Net>(
        &mut self,
        net: &mut N,
        to: Spot,
        mut onward: Onward<'_>,
    ) -> Result<(), Setback> {
        if onward.hops >= HOPS_MAX {
            return Err(Setback::Moving);
        }
        onward.hops += 1;
        net.counters().forwards_out += 1;
        if to.node == self.me().node {
            let mail = EngineMail::Forward(Self::enclose(net, onward));
            let taken = net.mail(to.shard, Mail::Engine(mail));
            return taken.then_some(()).ok_or(Setback::ShardBusy);
        }
        let taken = net.post(to, &Letter::Route(Route::Forward(onward.to_letter())));
        taken.then_some(()).ok_or(Setback::NodeUnreachable(to.node))
    }

    /// A request of ours was given back: its session is elsewhere.
    fn given_back<N: Net>(&mut self, net: &mut N, from: Spot, to: Spot, onward: Onward<'_>) {
        let (me, exchange) = (self.me(), onward.place.exchange);
        let Some(away) = self.awaited(net, from, exchange) else { return };
        if to == me {
            self.aways.remove(&exchange);
            return self.forwarded(net, onward);
        }
        away.at = to;
        // Perhaps it was not read before, and is now to be answered should the other node be lost.
        if away.id.is_none() && to.node != me.node {
            away.id = onward.id().map(Into::into);
        }
        if let Err(setback) = self.send_onward(net, to, onward) {
            self.fail_away(net, exchange, setback);
        }
    }

    /// What waits for this shard's word. Nobody: the word is late.
    pub(super) fn awaited<N: Net>(
        &mut self,
        net: &mut N,
        from: Spot,
        of: Exchange,
    ) -> Option<&mut Away> {
        let away = self.aways.get_mut(&of).filter(|away| away.at == from);
        if away.is_none() {
            net.counters().error("reply_late");
        }
        away
    }

    /// Another shard says what to write to an exchange of ours.
    pub(super) fn replied<N: Net>(
        &mut self,
        net: &mut N,
        from: Spot,
        exchange: Exchange,
        reply: Reply<'_>,
    ) {
        let Some(away) = self.awaited(net, from, exchange) else {
            // It writes to a stream that nobody holds, and cannot know.
            if !reply.is_last() {
                self.tell_gone(net, from, self.here(exchange));
            }
            return;
        };
        if reply.is_last() {
            self.aways.remove(&exchange);
        } else {
            away.shown = Shown::Stream;
        }
        out::apply(net, exchange, reply);
    }

    /// Tells whoever serves it that the client of an exchange has gone.
    pub(super) fn tell_gone<N: Net>(&mut self, net: &mut N, at: Spot, place: Place) {
        if at.node == self.me().node {
            net.mail_surely(at.shard, Mail::Engine(EngineMail::Gone(place)));
        } else {
            net.post(at, &Letter::Route(Route::Gone(place.to_origin())));
        }
    }

    /// Tells a client that its answer will not come, and that it may ask again.
    pub(super) fn fail_away<N: Net>(&mut self, net: &mut N, exchange: Exchange, setback: Setback) {
        let Some(away) = self.aways.remove(&exchange) else { return };
        net.counters().error(setback.reason());
        let (id, error) = (away.id.as_deref(), setback.error());
        match away.shown {
            Shown::Nothing => self.refuse_retryable(net, exchange, id, &error),
            Shown::Stream => {
                let mut last = Vec::new();
                sse::write_retry(&mut last, retry_ms(net));
                if id.is_some() {
                    let mut text = self.take_scratch();
                    jsonrpc::write_error(&mut text, id, &error);
                    net.counters().messages_out += 1;
                    last.extend_from_slice(&out::event(&text, None));
                    self.put_scratch(text);
                }
                net.stream_end(exchange, &last);
            }
            Shown::Pipe => {
                let mut text = self.take_scratch();
                jsonrpc::write_error(&mut text, id, &error);
                net.counters().messages_out += 1;
                self.pipe_answered(net, exchange, &text);
                self.put_scratch(text);
            }
        }
    }

    // ---- At the owner ----

    /// A request that came by mail.
    pub(super) fn mailed_forward<N: Net>(&mut self, net: &mut N, forward: Box<Forward>) {
        self.forwarded(net, forward.onward());
        Self::keep_envelope(net, forward);
    }

    /// A request that came to this shard, from wherever: serves it, if what it names is here.
    pub(super) fn forwarded<N: Net>(&mut self, net: &mut N, onward: Onward<'_>) {
        let Onward { place, token, ask, .. } = onward;
        if let Ask::Task { takes, on_pipe, id, ask } = ask {
            return self.task_forwarded(net, place, &token, takes.into(), on_pipe, id, ask);
        }
        let streamable = !matches!(ask, Ask::Message { .. });
        let key = match self.locate(net, &token, streamable, true) {
            Whereabouts::Here(key) => key,
            Whereabouts::At(to) => return self.give_back(net, to, onward),
            Whereabouts::Moving => return self.refuse_moving(net, place, onward.id()),
            Whereabouts::Nowhere => return self.refuse_session(net, place, onward.id()),
        };
        // The connection's shard may have heard of the drain later than this one, or not yet.
        if self.is_leaving() {
            let is_dealt_with = match ask {
                Ask::Message { .. } if onward.begins() => {
                    self.refuse_leaving(net, place);
                    true
                }
                Ask::Message { .. } => false,
                _ => self.leaves_with(net, key, onward),
            };
            if is_dealt_with {
                return;
            }
        }
        match ask {
            Ask::Get { last_event_id } => self.session_get(net, place, key, last_event_id),
            Ask::Delete => self.session_delete(net, place, key),
            Ask::Message { body } => self.session_posted(net, place, key, body),
            Ask::Post { takes, body } => {
                self.session_forwarded(net, place, takes.into(), key, body);
            }
            Ask::Task { .. } => {}
        }
    }

    /// Gives a request back to who sent it: it belongs elsewhere.
    pub(super) fn give_back<N: Net>(&mut self, net: &mut N, to: Spot, onward: Onward<'_>) {
        let place = onward.place;
        if onward.hops >= HOPS_MAX {
            return self.refuse_moving(net, place, onward.id());
        }
        let me = self.me();
        if place.at == me {
            self.forward(net, to, onward, onward.id());
        } else if place.at.node == me.node {
            let forward = Self::enclose(net, onward);
            let mail = EngineMail::Elsewhere { from: me.shard, to, forward };
            net.mail_surely(place.at.shard, Mail::Engine(mail));
        } else {
            let forward = onward.to_letter();
            net.post(place.at, &Letter::Route(Route::Elsewhere { to, forward }));
        }
    }

    /// 503: a session that is on its way from one node to another.
    pub(super) fn refuse_moving<N: Net>(&mut self, net: &mut N, place: Place, id: Option<&str>) {
        net.counters().error(Setback::Moving.reason());
        let retry_after = Some(retry_after(net));
        let mut text = self.take_scratch();
        jsonrpc::write_error(&mut text, id, &Setback::Moving.error());
        let answer = Answer { status: 503, body: &text, retry_after, ..Answer::default() };
        out::respond(net, self.me(), place, answer);
        self.put_scratch(text);
    }

    // ---- Mail and letters ----

    /// A shard of this node gave a request back.
    pub(super) fn mailed_back<N: Net>(
        &mut self,
        net: &mut N,
        from: u16,
        to: Spot,
        forward: Box<Forward>,
    ) {
        let from = Spot { shard: from, ..self.me() };
        self.given_back(net, from, to, forward.onward());
        Self::keep_envelope(net, forward);
    }

    /// A request in the box of one that was served, if there is one.
    fn enclose<N: Net>(net: &mut N, onward: Onward<'_>) -> Box<Forward> {
        let forward = Forward::new(net, onward);
        match net.envelopes().take() {
            Some(mut envelope) => {
                *envelope = forward;
                envelope
            }
            None => Box::new(forward),
        }
    }

    fn keep_envelope<N: Net>(net: &mut N, mut forward: Box<Forward>) {
        net.was_read(std::mem::take(&mut forward.body));
        net.envelopes().keep(forward);
    }

    /// A letter about requests.
    pub(super) fn route_letter<N: Net>(&mut self, net: &mut N, from: Spot, letter: Route<'_>) {
        let (me, epoch) = (self.me(), self.config.epoch);
        let ours = |origin: &route::Origin| origin.at == me && origin.epoch == epoch;
        match letter {
            Route::Forward(forward) if forward.origin.at == from => {
                self.forwarded(net, Onward::from_letter(forward));
            }
            Route::Elsewhere { to, forward } if ours(&forward.origin) => {
                self.given_back(net, from, to, Onward::from_letter(forward));
            }
            Route::Reply { to, reply } if ours(&to) => {
                self.replied(net, from, Place::from_origin(to).exchange, reply);
            }
            Route::PipeReply { to, message } if ours(&to) => {
                self.pipe_replied(net, from, Place::from_origin(to).exchange, message);
            }
            Route::Gone(origin) if origin.at == from => {
                self.handle_gone_place(net, Place::from_origin(origin));
            }
            Route::Dropped(origins) => {
                for origin in origins.iter().filter(|origin| ours(origin)) {
                    let exchange = Place::from_origin(*origin).exchange;
                    if self.awaited(net, from, exchange).is_some() {
                        self.fail_away(net, exchange, Setback::NodeLost(from.node));
                    }
                }
            }
            Route::Watch { tasks, again } => {
                let tasks: Vec<SessionToken> = tasks.iter().map(from_letter).collect();
                self.watched(net, from, &tasks, again);
            }
            Route::TaskNews { id, members } => self.fan_out_task(net, id.into(), members.into()),
            // Of an earlier life, most likely.
            _ => net.counters().error("letter_unexpected"),
        }
    }
}

/// Whether a GET opens a stream that nothing ends, rather than going on with the stream of a request.
pub(super) fn only_waits(last_event_id: Option<&str>) -> bool {
    last_event_id.is_none_or(|id| id.starts_with("0-"))
}

/// The token as letters say it.
pub(super) fn to_letter(token: &SessionToken) -> route::Token {
    let SessionToken { node, shard, slot, generation, epoch, random } = *token;
    route::Token { at: Spot { node, shard }, epoch, slot, generation, name: random }
}

/// The inverse of [`to_letter`].
pub(super) fn from_letter(token: &route::Token) -> SessionToken {
    let route::Token { at: Spot { node, shard }, epoch, slot, generation, name } = *token;
    SessionToken { node, shard, slot, generation, epoch, random: name }
}

impl From<Takes> for route::Takes {
    fn from(Takes { json, sse }: Takes) -> Self {
        Self { json, sse }
    }
}

impl From<route::Takes> for Takes {
    fn from(route::Takes { json, sse }: route::Takes) -> Self {
        Self { json, sse }
    }
}
