//! A legacy client over Streamable HTTP: one session, connections to any shard. Requests, subscriptions, a
//! GET stream, server requests answered from another connection, streams resumed after they broke, DELETE.

use std::collections::VecDeque;

use serde_json::Value;

use super::http::{Event, Seen, parse};
use super::ledger::{Expect, Heard, Ledger};
use super::say::{Asking, Era, cancelled, http, initialize, initialized, sampled};
use super::talk::{Lanes, Talk};
use super::world::{Dice, World};

const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];
/// The GET stream that belongs to no request.
const STANDALONE: &str = "0-";

#[derive(Debug)]
enum Job {
    Initialize(String),
    /// A notification or a response: 202.
    Say(Value),
    Ask(Box<Ask>),
    /// Requests of one batch, answered together.
    Batch(Vec<String>),
    /// The GET stream.
    Get,
    Delete,
    /// A request after DELETE.
    AfterDelete,
}

/// A request and its stream.
#[derive(Debug)]
struct Ask {
    id: String,
    /// The last event heard, which is where to go on.
    last: Option<String>,
    is_resumed: bool,
}

enum Todo {
    Ask(Asking),
    Subscribe(String),
    Publish(String),
    Cancel(Asking),
    Batch(Vec<Asking>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    New,
    Initializing,
    Open,
    Deleting,
    Deleted,
    Over,
}

pub struct Session {
    lanes: Lanes<Job>,
    ledger: Ledger,
    phase: Phase,
    version: &'static str,
    token: String,
    todo: Vec<Todo>,
    /// Notifications and responses to be posted.
    to_say: VecDeque<Value>,
    /// Requests to be cancelled once they are known to run.
    to_cancel: Vec<String>,
    /// Broken streams to come back to.
    to_resume: Vec<Ask>,
    /// URIs whose subscription was answered → published.
    subscribing: Vec<(String, String)>,
    published: Vec<String>,
    publishing: Vec<(String, String)>,
    has_get: bool,
    get_last: Option<String>,
    /// What the GET stream carried may be lost.
    has_lost_get: bool,
    /// Something else is.
    has_lost: bool,
    deletes: bool,
    is_winding_down: bool,
}

impl Session {
    pub fn new(number: usize, dice: &mut Dice) -> Self {
        let version = VERSIONS[dice.below(VERSIONS.len())];
        let mut todo: Vec<Todo> =
            (0..1 + dice.below(5)).map(|_| Todo::Ask(Asking::any(dice))).collect();
        for subscription in 0..dice.below(3) {
            todo.push(Todo::Subscribe(format!("test://template/{number}.{subscription}/data")));
        }
        if dice.percent(50) {
            todo.push(Todo::Ask(Asking::sampling(Era::Legacy, "Where to")));
        }
        if dice.percent(30) {
            todo.push(Todo::Cancel(Asking::wait(400, dice.percent(60))));
        }
        if version == "2025-03-26" && dice.percent(60) {
            todo.push(Todo::Batch(vec![Asking::echo(dice), Asking::wait(30, false)]));
        }
        if version == "2025-11-25" && dice.percent(40) {
            let text = "Reconnection test completed: the client came back for its answer";
            let expect = Expect::Text(text.into());
            todo.push(Todo::Ask(Asking::tool("test_reconnection", serde_json::json!({}), expect)));
        }
        Self {
            // One for the GET stream, one for a request that asks, one to answer on.
            lanes: Lanes::new(3 + dice.below(3)),
            ledger: Ledger::default(),
            phase: Phase::New,
            version,
            token: String::new(),
            todo,
            to_say: VecDeque::new(),
            to_cancel: Vec::new(),
            to_resume: Vec::new(),
            subscribing: Vec::new(),
            published: Vec::new(),
            publishing: Vec::new(),
            has_get: false,
            get_last: None,
            has_lost_get: false,
            has_lost: false,
            deletes: dice.percent(70),
            is_winding_down: false,
        }
    }

    /// Starts something on a free connection, if there is something to start.
    fn start(&mut self, world: &World, dice: &mut Dice) {
        let is_done = self.todo.is_empty() && self.is_quiet();
        let Some(lane) = self.lanes.free(world, dice) else { return };
        let fields = [("Mcp-Session-Id", &*self.token), ("MCP-Protocol-Version", self.version)];
        let post = |body: &Value| http("POST", "/mcp", &fields, &body.to_string());
        let (bytes, job) = match self.phase {
            Phase::New => {
                let id = self.ledger.next_id(dice);
                self.ledger.asked(&id, Expect::Member("serverInfo"), false);
                self.phase = Phase::Initializing;
                let hello = initialize(&id, self.version).to_string();
                (http("POST", "/mcp", &[], &hello), Job::Initialize(id.to_string()))
            }
            Phase::Open if !self.has_get && dice.percent(30) => {
                self.has_get = true;
                let mut fields = fields.to_vec();
                fields.extend(self.get_last.as_deref().map(|last| ("Last-Event-ID", last)));
                (http("GET", "/mcp", &fields, ""), Job::Get)
            }
            Phase::Open if !self.to_say.is_empty() => {
                let Some(message) = self.to_say.pop_front() else { return };
                (post(&message), Job::Say(message))
            }
            Phase::Open if !self.to_resume.is_empty() => {
                let Some(ask) = self.to_resume.pop() else { return };
                let mut fields = fields.to_vec();
                fields.extend(ask.last.as_deref().map(|last| ("Last-Event-ID", last)));
                (http("GET", "/mcp", &fields, ""), Job::Ask(Box::new(ask)))
            }
            Phase::Open if !self.todo.is_empty() => {
                let todo = self.todo.swap_remove(dice.below(self.todo.len()));
                if let Todo::Batch(askings) = todo {
                    let mut batch = vec![initialized()];
                    let mut ids = Vec::new();
                    for asking in askings {
                        let id = self.ledger.next_id(dice);
                        self.ledger.asked(&id, asking.expect.clone(), false);
                        batch.push(asking.message(Era::Legacy, &id));
                        ids.push(id.to_string());
                    }
                    lane.http.wire.say(&post(&Value::Array(batch)));
                    lane.job = Some(Job::Batch(ids));
                    return;
                }
                let id = self.ledger.next_id(dice);
                let text = id.to_string();
                let mut is_cancelled = false;
                let asking = match todo {
                    Todo::Batch(_) => return,
                    Todo::Ask(asking) => asking,
                    Todo::Subscribe(uri) => {
                        let params = serde_json::json!({ "uri": uri });
                        self.subscribing.push((text.clone(), uri));
                        let (method, expect) = ("resources/subscribe", Expect::Nothing);
                        Asking { method, params, expect, tracked: false }
                    }
                    Todo::Publish(uri) => {
                        let asking = Asking::publish(&uri);
                        self.publishing.push((text.clone(), uri));
                        asking
                    }
                    Todo::Cancel(asking) => {
                        is_cancelled = true;
                        // Now, or once it is known to run.
                        if asking.tracked {
                            self.to_cancel.push(text.clone());
                        } else {
                            self.to_say.push_back(cancelled(&id));
                        }
                        asking
                    }
                };
                self.ledger.asked(&id, asking.expect.clone(), asking.tracked);
                if is_cancelled {
                    self.ledger.excuse(&text);
                }
                let ask = Ask { id: text, last: None, is_resumed: false };
                (post(&asking.message(Era::Legacy, &id)), Job::Ask(Box::new(ask)))
            }
            Phase::Open if is_done && self.deletes => {
                self.phase = Phase::Deleting;
                (http("DELETE", "/mcp", &fields, ""), Job::Delete)
            }
            Phase::Deleted => {
                self.phase = Phase::Over;
                (post(&initialized()), Job::AfterDelete)
            }
            _ => return,
        };
        lane.http.wire.say(&bytes);
        lane.job = Some(job);
    }

    /// Everything asked is answered, everything to be said is said, all news were heard.
    fn is_quiet(&self) -> bool {
        let all_heard =
            self.has_lost_get || self.published.iter().all(|uri| 0 < self.ledger.updates(uri));
        let is_busy = |job: &Job| !matches!(job, Job::Get);
        self.ledger.is_settled()
            && self.to_say.is_empty()
            && self.to_resume.is_empty()
            && !self.lanes.all.iter().any(|lane| lane.job.as_ref().is_some_and(is_busy))
            && (self.published.is_empty() || all_heard)
    }

    fn hear_event(&mut self, job: &mut Job, event: Event) {
        assert_eq!(event.kind, "message");
        let id = event.id.expect("events of sessions have ids");
        match job {
            Job::Ask(ask) => {
                assert!(!id.starts_with(STANDALONE), "{id} on the stream of {}", ask.id);
                assert!(ask.last.is_none() || follows(&id, ask.last.as_deref()), "{id}: {ask:?}");
                ask.last = Some(id);
            }
            Job::Get => {
                assert!(id.starts_with(STANDALONE), "{id} on the GET stream");
                assert!(follows(&id, self.get_last.as_deref()), "{id} after {:?}", self.get_last);
                self.get_last = Some(id);
            }
            other => panic!("an event for {other:?}"),
        }
        if event.data.is_empty() {
            return; // Only there to have an id.
        }
        let message = parse(&event.data);
        match (self.ledger.hear(&message), job) {
            (Heard::Request(request), Job::Ask(_)) => {
                // The call was cancelled or resumed meanwhile: one answer more does no harm.
                self.to_say.push_back(sampled(&request));
            }
            (Heard::Notice, Job::Ask(ask)) => {
                if let Some(index) = self.to_cancel.iter().position(|id| *id == ask.id) {
                    self.to_cancel.swap_remove(index);
                    self.to_say.push_back(cancelled(&parse(&ask.id)));
                }
            }
            (Heard::Notice, _) => {}
            (Heard::Answer(id), Job::Ask(ask)) => {
                assert_eq!(id, ask.id);
                self.follow_up(&id);
            }
            (heard, job) => panic!("{heard:?} for {job:?}"),
        }
    }

    /// What becomes possible once this request is answered.
    fn follow_up(&mut self, id: &str) {
        if let Some(index) = self.subscribing.iter().position(|(asked, _)| asked == id) {
            let (_, uri) = self.subscribing.swap_remove(index);
            self.todo.push(Todo::Publish(uri));
        }
        if let Some(index) = self.publishing.iter().position(|(asked, _)| asked == id) {
            let (_, uri) = self.publishing.swap_remove(index);
            self.published.push(uri);
        }
    }

    /// Looks at what came for a job; gives it back while it is not over.
    fn hear(&mut self, mut job: Job, seen: Seen) -> Option<Job> {
        match (&mut job, seen) {
            (_, Seen::Whole { status: 503, .. }) if self.is_winding_down => {
                self.lose(job, true);
            }
            (Job::Initialize(id), Seen::Whole { status: 200, session, body }) => {
                let answered = self.ledger.hear(&parse(&body));
                assert!(matches!(answered, Heard::Answer(answered) if answered == *id));
                self.token = session.expect("a session has an id");
                self.phase = Phase::Open;
                self.to_say.push_back(initialized());
                return None;
            }
            (Job::Say(_), Seen::Whole { status, body, .. }) => assert_eq!(status, 202, "{body}"),
            (Job::Ask(ask), Seen::Whole { status, body, .. }) if ask.is_resumed => {
                // Evicted; or cancelled, and nothing came after what was heard.
                assert!(matches!(status, 204 | 400), "{status} {body} {:?}", self.phase);
                self.has_lost |= !self.ledger.is_excused(&ask.id);
                self.ledger.excuse(&ask.id);
            }
            (Job::Ask(ask), Seen::Whole { status, body, .. }) => {
                assert_eq!(status, 200, "{body}");
                let answered = self.ledger.hear(&parse(&body));
                assert!(matches!(answered, Heard::Answer(answered) if answered == ask.id));
                let id = ask.id.clone();
                self.follow_up(&id);
            }
            (Job::Batch(ids), Seen::Whole { status, body, .. }) => {
                assert_eq!(status, 200, "{body}");
                let answers = parse(&body);
                for answer in answers.as_array().expect("a batch is answered by one") {
                    let answered = self.ledger.hear(answer);
                    assert!(matches!(answered, Heard::Answer(id) if ids.contains(&id)));
                }
                assert!(ids.iter().all(|id| self.ledger.is_answered(id)), "{body}");
            }
            (Job::Get, Seen::Whole { status, body, .. }) => {
                // As many GET streams as may be: the server has not seen the others go. Or DELETE was faster.
                let is_deleted = status == 404 && Phase::Deleting <= self.phase;
                assert!(matches!(status, 409 | 204) || is_deleted, "{status} {body}");
                self.has_get = false;
                self.has_lost_get |= !is_deleted;
            }
            (Job::Delete, Seen::Whole { status, body, .. }) => {
                assert_eq!(status, 204, "{body}");
                self.phase = Phase::Deleted;
            }
            (Job::AfterDelete, Seen::Whole { status, body, .. }) => {
                assert_eq!(status, 404, "{body}");
            }
            (Job::Ask(_) | Job::Get, Seen::Open { session: None }) => return Some(job),
            (_, Seen::Event(event)) => {
                self.hear_event(&mut job, event);
                return Some(job);
            }
            (Job::Ask(ask), Seen::End) => {
                let is_cancelled = self.ledger.is_excused(&ask.id);
                if !self.ledger.is_answered(&ask.id) && !is_cancelled {
                    let missing = self.ledger.missing();
                    assert!(ask.last.is_some(), "{ask:?} ended unanswered: {missing:#?}");
                    let Job::Ask(mut ask) = job else { return None };
                    ask.is_resumed = true;
                    self.to_resume.push(*ask);
                }
            }
            (Job::Get, Seen::End) => {
                assert!(
                    Phase::Deleting <= self.phase || self.is_winding_down,
                    "the GET stream ended by itself"
                );
                self.has_get = false;
            }
            (job, seen) => panic!("{seen:?} for {job:?}"),
        }
        None
    }

    /// Now and then a client gives a connection up although nothing is wrong with it, and comes back for the
    /// rest of its stream before the server has noticed.
    fn maybe_abandon(&mut self, index: usize, dice: &mut Dice) {
        let lane = &mut self.lanes.all[index];
        let has_id = match &lane.job {
            Some(Job::Ask(ask)) => ask.last.is_some() && !self.ledger.is_answered(&ask.id),
            Some(Job::Get) => self.get_last.is_some(),
            _ => false,
        };
        if !has_id || self.phase != Phase::Open || self.is_winding_down || 0 < dice.below(50) {
            return;
        }
        lane.http.wire.leave(dice);
        match lane.job.take() {
            Some(Job::Ask(mut ask)) => {
                ask.is_resumed = true;
                self.to_resume.push(*ask);
            }
            _ => self.has_get = false,
        }
    }

    /// The connection ended, or the server refused, before this was done.
    fn lose(&mut self, job: Job, is_refused: bool) {
        self.has_lost = true;
        match job {
            Job::Initialize(id) => {
                self.ledger.excuse(&id);
                self.phase = Phase::Over;
            }
            // The server may have heard it: a second answer to the same request does no harm.
            Job::Say(message) if !is_refused => self.to_say.push_back(message),
            Job::Ask(mut ask) => match ask.last {
                Some(_) if !self.ledger.is_answered(&ask.id) && !is_refused => {
                    ask.is_resumed = true;
                    self.to_resume.push(*ask);
                }
                _ => self.ledger.excuse(&ask.id),
            },
            Job::Batch(ids) => ids.iter().for_each(|id| self.ledger.excuse(id)),
            Job::Get => {
                self.has_get = false;
                self.has_lost_get = true;
            }
            Job::Delete | Job::AfterDelete => self.phase = Phase::Over,
            Job::Say(_) => {}
        }
    }
}

/// Whether an event comes after another of its stream.
fn follows(id: &str, last: Option<&str>) -> bool {
    let number =
        |id: &str| id.split_once('-').map(|(_, seq)| seq.parse::<u32>().expect("a number"));
    last.and_then(number) < number(id)
}

impl Talk for Session {
    fn go_on(&mut self, world: &World, dice: &mut Dice) {
        if dice.percent(40) && !(self.is_winding_down && self.phase < Phase::Open) {
            self.start(world, dice);
        }
        for index in 0..self.lanes.all.len() {
            let lane = &mut self.lanes.all[index];
            lane.http.go_on(dice);
            while let Some(seen) = self.lanes.all[index].http.next() {
                let job = self.lanes.all[index].job.take();
                let job = job.unwrap_or_else(|| panic!("nobody waits for {seen:?}"));
                self.lanes.all[index].job = self.hear(job, seen);
            }
            self.maybe_abandon(index, dice);
            let lane = &mut self.lanes.all[index];
            if let Some(job) = lane.job.take_if(|_| lane.http.is_dead()) {
                self.lose(job, false);
            }
        }
        self.lanes.bury();
    }

    fn is_over(&self) -> bool {
        match self.phase {
            _ if self.is_winding_down => self.ledger.is_settled(),
            Phase::Open => self.todo.is_empty() && self.is_quiet() && !self.deletes,
            // Its streams ended with it, unless the DELETE was lost.
            Phase::Over => {
                let has_ended = self.lanes.all.iter().all(|lane| lane.job.is_none());
                self.ledger.is_settled() && (has_ended || self.has_lost)
            }
            _ => false,
        }
    }

    fn is_complete(&self) -> bool {
        let news = |uri: &String| self.ledger.updates(uri) == 1;
        self.ledger.is_settled()
            && self.published.iter().all(news)
            && !self.has_lost_get
            && !self.has_lost
    }

    fn wind_down(&mut self) {
        self.is_winding_down = true;
        self.ledger.takes_refusals = true;
        self.todo.clear();
        self.deletes = false;
    }

    fn leave(&mut self, dice: &mut Dice) {
        self.lanes.leave(dice);
    }

    fn running(&self) -> Vec<String> {
        let mut running = self.ledger.running();
        // What was given up can only be heard on a new connection, and a draining server takes none.
        let is_heard = |id: &String| {
            self.lanes.all.iter().any(
                |lane| matches!(&lane.job, Some(Job::Ask(ask)) if ask.id == *id && !ask.is_resumed),
            )
        };
        running.retain(is_heard);
        running
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
