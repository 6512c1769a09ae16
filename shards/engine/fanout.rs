//! Changes, from where they happen to everyone who waits for them: first to every shard (and by one of them to
//! other nodes, `relays`), then to the streams and sessions of each. What a shard says is encoded once and stamped per stream.

use std::sync::Arc;

use erlmcp_catalog::Change;
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::mcp::write_json_str;

use super::listens::{ListenOut, News, Subscriber};
use super::modern::stamp;
use super::out;
use super::slots::Key;
use super::{Engine, EngineMail};
use crate::message::{Announcement, Mail};
use crate::net::{Net, TimerKey};

/// How often a stream that lags is looked at again, milliseconds.
const LAG_RETRY_MS: u64 = 50;

/// The notification of a change, in the parts that all its readers share.
struct Notice {
    /// For legacy readers, whole.
    plain: Vec<u8>,
    /// For listen streams: up to the stamp.
    head: Vec<u8>,
    /// For listen streams: after the stamp.
    tail: Vec<u8>,
}

impl Notice {
    fn new(news: &News) -> Self {
        let change = match news {
            News::Change(change) => change,
            News::Task { members, .. } => return Self::of_task(members),
        };
        let method = match change {
            Change::Tools => "notifications/tools/list_changed",
            Change::Prompts => "notifications/prompts/list_changed",
            Change::Resources => "notifications/resources/list_changed",
            Change::Resource(_) => "notifications/resources/updated",
        };
        let (mut plain, mut params) = (Vec::new(), Vec::new());
        let mut tail = Vec::new();
        if let Change::Resource(uri) = change {
            params.extend_from_slice(b"{\"uri\":");
            write_json_str(&mut params, uri);
            params.push(b'}');
            tail.push(b',');
            tail.extend_from_slice(&params[1..params.len() - 1]);
        }
        jsonrpc::write_notification(&mut plain, method, &params);
        let head = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"#);
        tail.insert(0, b'}');
        tail.extend_from_slice(b"}}");
        Self { plain, head: head.into_bytes(), tail }
    }

    fn of_task(members: &[u8]) -> Self {
        let head = r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"_meta":{"#;
        let mut tail = Vec::with_capacity(members.len() + 4);
        tail.extend_from_slice(b"},");
        tail.extend_from_slice(members);
        tail.extend_from_slice(b"}}");
        Self { plain: Vec::new(), head: head.into(), tail }
    }

    fn stamped(&self, out: &mut Vec<u8>, id: &str) {
        out.clear();
        out.extend_from_slice(&self.head);
        stamp(out, id);
        out.extend_from_slice(&self.tail);
    }
}

impl Engine {
    /// Tells every shard of changes that happened here.
    pub(super) fn announce<N: Net>(&mut self, net: &mut N, changes: Vec<Change>) {
        let announcement = Announcement { snapshot: None, changes: changes.into() };
        for shard in (0..self.seat.shards).filter(|shard| *shard != self.me().shard) {
            let mail = Mail::Engine(EngineMail::Announce(announcement.clone()));
            net.mail_surely(shard, mail);
        }
        self.announced(net, &announcement);
    }

    /// Tells this shard's subscribers.
    pub(super) fn announced<N: Net>(&mut self, net: &mut N, announcement: &Announcement) {
        // News may overtake each other; what is served now is what counts. Most news change no list, and a
        // shard's own copy of a catalog is not made for nothing.
        if announcement.snapshot.is_some() {
            let latest = self.context.catalog.snapshot();
            if !Arc::ptr_eq(&latest, &self.source) {
                self.snapshot = latest.for_shard();
                self.source = latest;
            }
        }
        for change in announcement.changes.iter() {
            self.fan_out(net, change);
            self.relay(net, change);
        }
    }

    pub(super) fn fan_out<N: Net>(&mut self, net: &mut N, change: &Change) {
        let news = News::Change(change.clone());
        let notice = Notice::new(&news);
        let mut text = Vec::with_capacity(notice.head.len() + notice.tail.len() + 64);
        for subscriber in self.listens.interested(change) {
            match subscriber {
                Subscriber::Listen(key) => self.notify_listen(net, key, &news, &notice, &mut text),
                Subscriber::Session(key) => {
                    net.counters().notifications_out += 1;
                    net.counters().messages_out += 1;
                    self.send_to_session(net, Some(key), &notice.plain);
                }
            }
        }
        // Digest (j): lists are everybody's business who has shaken hands.
        if !matches!(change, Change::Resource(_)) {
            let sessions: Vec<Key> =
                self.sessions.iter().filter(|(_, s)| s.negotiated).map(|(key, _)| key).collect();
            for key in sessions {
                net.counters().notifications_out += 1;
                net.counters().messages_out += 1;
                self.send_to_session(net, Some(key), &notice.plain);
            }
        }
    }

    /// Tells this shard's subscribers of a task, wherever it lives.
    pub(super) fn fan_out_task<N: Net>(&mut self, net: &mut N, id: Box<str>, members: Arc<[u8]>) {
        let interested = self.listens.interested_in_task(&id);
        let news = News::Task { id, members };
        for key in interested {
            self.tell_listen(net, key, &news);
        }
    }

    /// Tells one subscriber.
    pub(super) fn tell_listen<N: Net>(&mut self, net: &mut N, key: Key, news: &News) {
        self.notify_listen(net, key, news, &Notice::new(news), &mut Vec::new());
    }

    fn notify_listen<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        news: &News,
        notice: &Notice,
        text: &mut Vec<u8>,
    ) {
        let pause = self.config.limits.outbox_pause_bytes;
        let Some(listen) = self.listens.get_mut(key) else { return };
        let conn = match listen.out {
            ListenOut::Http(place) => place.exchange.conn,
            ListenOut::Pipe(conn) => conn,
        };
        // A reader that lags gets each change once, when it reads again: what it needs is to refetch, and
        // that does not depend on how often something changed.
        if net.backlog(conn) > pause {
            if let Some(waiting) = listen.lagging.iter_mut().find(|w| w.is_about_the_same(news)) {
                *waiting = news.clone();
                return net.counters().error("notification_coalesced");
            }
            if listen.lagging.is_empty() {
                if self.lagging.is_empty() {
                    let at = net.now() + LAG_RETRY_MS;
                    net.timer(at, TimerKey::Sweep);
                }
                self.lagging.push(key);
            }
            return listen.lagging.push(news.clone());
        }
        notice.stamped(text, &listen.id);
        let out = listen.out;
        net.counters().notifications_out += 1;
        net.counters().messages_out += 1;
        match out {
            ListenOut::Http(place) => {
                out::write(net, self.me(), place, &out::event(text, None));
            }
            ListenOut::Pipe(conn) => out::pipe(net, conn, text),
        }
    }

    /// Looks again at the streams that lag.
    pub(super) fn sweep_lagging<N: Net>(&mut self, net: &mut N) {
        let mut text = Vec::new();
        for key in std::mem::take(&mut self.lagging) {
            let Some(listen) = self.listens.get_mut(key) else { continue };
            for news in std::mem::take(&mut listen.lagging) {
                let notice = Notice::new(&news);
                self.notify_listen(net, key, &news, &notice, &mut text);
            }
        }
    }
}
