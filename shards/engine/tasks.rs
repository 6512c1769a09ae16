//! The tasks of a shard (extension `io.modelcontextprotocol/tasks`, digest c.15): calls that go on after
//! their caller was given an id.
//!
//! Invariants: a task lives exactly until its time is over, however it ends, so what its sealed id says of that
//! is true; a working task has one call in the table of calls, which names it; a task that waits for its client
//! has none, and holds up nothing; what all tasks keep stays within `tasks_bytes_max`.
//! Refused: dropping an ended task to make room (a client may come for its result until the last moment).

use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_protocol::mcp::{
    InputRequest, InputResponses, TaskDetail, TaskHead, TaskStatus, write_task_members,
};
use erlmcp_protocol::seal::SessionToken;
use serde_json::Value;

use super::calls::CallRecord;
use super::slots::{Key, Slots};
use crate::config::Limits;

/// Bytes of what a handler says of its progress that are kept.
const MESSAGE_BYTES_MAX: usize = 512;

/// Where a task stands, with what goes with it.
pub enum State {
    /// This call runs.
    Working(Key),
    /// Its call waits for answers.
    InputRequired(Box<Parked>),
    /// JSON of its result.
    Completed(Box<[u8]>),
    /// JSON of its error.
    Failed(Box<[u8]>),
    /// By its client.
    Cancelled,
}

/// A call that waits for the answers of its client.
pub struct Parked {
    /// The call, out of its table.
    pub record: CallRecord,
    /// What was not answered yet, under the keys of the wire.
    pub open: Vec<InputRequest>,
    /// What was, under the handler's keys.
    pub responses: InputResponses,
    /// The handler's state.
    pub state: Option<Value>,
}

/// A shard with subscribers of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watcher {
    /// Which.
    pub at: Spot,
    /// There was no way to tell it of the last change.
    pub missed: bool,
}

/// One task.
pub struct Task {
    /// Its sealed id.
    pub id: Box<str>,
    /// The random part of the id.
    pub random: [u8; 16],
    /// Where it stands.
    pub state: State,
    /// What its handler said last of its progress.
    pub message: Option<Box<str>>,
    /// When it was made.
    pub created_unix_ms: u64,
    /// When it changed last.
    pub updated_unix_ms: u64,
    /// How long it lives.
    pub ttl_ms: u64,
    /// How often its client should look.
    pub poll_interval_ms: u64,
    /// Other shards with subscribers of it.
    pub watchers: Vec<Watcher>,
    /// What it keeps.
    bytes: usize,
}

impl Task {
    /// A task at its beginning.
    pub fn new(id: Box<str>, random: [u8; 16], now_unix_ms: u64, ttl_ms: u64) -> Self {
        Self {
            id,
            random,
            state: State::Cancelled,
            message: None,
            created_unix_ms: now_unix_ms,
            updated_unix_ms: now_unix_ms,
            ttl_ms,
            poll_interval_ms: 0,
            watchers: Vec::new(),
            bytes: 0,
        }
    }

    /// A shard has subscribers of it.
    pub fn add_watcher(&mut self, at: Spot, told: bool) {
        match self.watchers.iter_mut().find(|watcher| watcher.at == at) {
            Some(watcher) => watcher.missed = !told,
            None => self.watchers.push(Watcher { at, missed: !told }),
        }
    }

    /// Its status on the wire.
    pub fn status(&self) -> TaskStatus {
        match self.state {
            State::Working(_) => TaskStatus::Working,
            State::InputRequired(_) => TaskStatus::InputRequired,
            State::Completed(_) => TaskStatus::Completed,
            State::Failed(_) => TaskStatus::Failed,
            State::Cancelled => TaskStatus::Cancelled,
        }
    }

    /// What a client is told in every state.
    pub fn head(&self) -> TaskHead<'_> {
        TaskHead {
            id: &self.id,
            status: self.status(),
            message: self.message.as_deref(),
            created_unix_ms: self.created_unix_ms,
            updated_unix_ms: self.updated_unix_ms,
            ttl_ms: self.ttl_ms,
            poll_interval_ms: self.poll_interval_ms,
        }
    }

    /// Writes all there is to say, without braces.
    pub fn write_members(&self, out: &mut Vec<u8>) {
        let detail = match &self.state {
            State::Working(_) | State::Cancelled => TaskDetail::None,
            State::InputRequired(parked) => TaskDetail::Requests(&parked.open),
            State::Completed(json) => TaskDetail::Result(json),
            State::Failed(json) => TaskDetail::Error(json),
        };
        write_task_members(out, &self.head(), detail);
    }

    /// The same, to be shared by all who are told.
    pub fn members(&self) -> Arc<[u8]> {
        let mut out = Vec::with_capacity(512);
        self.write_members(&mut out);
        out.into()
    }

    /// Takes note of what the handler says of its progress.
    pub fn say(&mut self, message: &str, now_unix_ms: u64) {
        let mut end = message.len().min(MESSAGE_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        self.message = Some(message[..end].into());
        self.updated_unix_ms = now_unix_ms;
    }
}

/// All tasks of a shard.
#[derive(Default)]
pub struct Tasks {
    slots: Slots<Task>,
    bytes: usize,
}

impl Tasks {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether one more fits, which keeps so many bytes.
    pub fn has_room(&self, limits: &Limits, bytes: usize) -> bool {
        self.len() < limits.tasks_max as usize && self.bytes + bytes <= limits.tasks_bytes_max
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        self.slots.keys()
    }

    /// All tasks.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.slots.iter_mut()
    }

    /// The key of the next task.
    pub fn next_key(&self) -> Key {
        self.slots.next_key()
    }

    /// Stores a task.
    pub fn insert(&mut self, task: Task) -> Key {
        self.slots.insert(task)
    }

    /// The task, if it lives.
    pub fn get(&self, key: Key) -> Option<&Task> {
        self.slots.get(key)
    }

    /// The task, if it lives.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Task> {
        self.slots.get_mut(key)
    }

    /// The living task that an id names.
    pub fn find(&self, at: &SessionToken) -> Option<Key> {
        let key = Key { slot: at.slot, generation: at.generation };
        self.slots.get(key).filter(|task| task.random == at.random).map(|_| key)
    }

    /// Sets how much a task keeps; `false`, and nothing changes, if that is too much.
    pub fn charge(&mut self, key: Key, bytes: usize, bytes_max: usize) -> bool {
        let Some(task) = self.slots.get_mut(key) else { return false };
        let total = self.bytes - task.bytes + bytes;
        let fits = total <= bytes_max || bytes <= task.bytes;
        if fits {
            (self.bytes, task.bytes) = (total, bytes);
        }
        fits
    }

    /// How much a task keeps.
    pub fn charged(&self, key: Key) -> usize {
        self.slots.get(key).map_or(0, |task| task.bytes)
    }

    /// Forgets a task.
    pub fn remove(&mut self, key: Key) -> Option<Task> {
        let task = self.slots.remove(key)?;
        self.bytes -= task.bytes;
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task::new("id".into(), [1; 16], 0, 1000)
    }

    #[test]
    fn what_tasks_keep_is_bounded_together() {
        let limits = Limits { tasks_max: 2, tasks_bytes_max: 100, ..Limits::default() };
        let mut tasks = Tasks::default();
        assert!(tasks.has_room(&limits, 100) && !tasks.has_room(&limits, 101));
        let first = tasks.insert(task());
        assert!(tasks.charge(first, 60, limits.tasks_bytes_max));
        assert!(tasks.has_room(&limits, 40) && !tasks.has_room(&limits, 41));
        let second = tasks.insert(task());
        assert!(!tasks.has_room(&limits, 0), "two are enough");
        assert!(!tasks.charge(second, 41, limits.tasks_bytes_max));
        assert!(tasks.charge(second, 40, limits.tasks_bytes_max));
        assert!(tasks.charge(first, 10, limits.tasks_bytes_max));
        assert!(tasks.charge(second, 90, limits.tasks_bytes_max));
        assert!(tasks.remove(second).is_some() && tasks.remove(second).is_none());
        assert!(tasks.has_room(&limits, 90) && !tasks.has_room(&limits, 91));
    }

    #[test]
    fn only_the_very_task_is_found() {
        let mut tasks = Tasks::default();
        let key = tasks.insert(task());
        let at = |slot, generation, random| SessionToken {
            node: 0,
            shard: 0,
            slot,
            generation,
            epoch: 0,
            random,
        };
        assert_eq!(tasks.find(&at(key.slot, key.generation, [1; 16])), Some(key));
        assert_eq!(tasks.find(&at(key.slot, key.generation, [2; 16])), None);
        assert_eq!(tasks.find(&at(key.slot, key.generation + 1, [1; 16])), None);
        assert_eq!(tasks.find(&at(key.slot + 1, key.generation, [1; 16])), None);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut task = task();
        task.say(&"ä".repeat(400), 7);
        assert_eq!(task.message.as_deref().map(str::len), Some(MESSAGE_BYTES_MAX));
        task.say(&format!("x{}", "ä".repeat(400)), 8);
        assert_eq!(task.message.as_deref().map(str::len), Some(MESSAGE_BYTES_MAX - 1));
        assert_eq!(task.updated_unix_ms, 8);
    }
}
