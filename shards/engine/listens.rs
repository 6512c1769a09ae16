//! Who wants to hear of what: `subscriptions/listen` streams of this shard and the resource subscriptions of
//! its legacy sessions, indexed by what they wait for.

use std::collections::HashMap;
use std::sync::Arc;

use erlmcp_catalog::Change;
use erlmcp_cluster::Set;
use erlmcp_cluster::interest::{Wanted, topic};

use super::out::Place;
use super::slots::{Key, Slots};
use crate::io::ConnId;

/// Where a listen stream's messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenOut {
    /// The SSE response of a POST.
    Http(Place),
    /// A pipe, between other messages.
    Pipe(ConnId),
}

/// What a listen stream accepted (digest c.10: requested ∩ offered).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `toolsListChanged`.
    pub tools: bool,
    /// `promptsListChanged`.
    pub prompts: bool,
    /// `resourcesListChanged`.
    pub resources: bool,
    /// `resourceSubscriptions`.
    pub uris: Box<[Box<str>]>,
    /// `taskIds`.
    pub tasks: Box<[Box<str>]>,
}

/// What a listen stream can hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A list or a resource has changed.
    Change(Change),
    /// A task has changed.
    Task {
        /// Its id.
        id: Box<str>,
        /// The members of its DetailedTask, without braces.
        members: Arc<[u8]>,
    },
}

impl News {
    /// Whether whoever hears one of them need not hear the other.
    pub fn is_about_the_same(&self, other: &News) -> bool {
        match (self, other) {
            (News::Change(one), News::Change(other)) => one == other,
            (News::Task { id: one, .. }, News::Task { id: other, .. }) => one == other,
            _ => false,
        }
    }
}

/// One `subscriptions/listen` stream.
#[derive(Debug)]
pub struct Listen {
    /// Where it goes.
    pub out: ListenOut,
    /// The raw id of the listen request; stamped on every message.
    pub id: Box<str>,
    /// What it hears.
    pub filter: Filter,
    /// News that wait until its reader reads again; of each subject the last, so bounded by the filter.
    pub lagging: Vec<News>,
}

/// A subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subscriber {
    /// A listen stream.
    Listen(Key),
    /// A legacy session.
    Session(Key),
}

/// The index.
#[derive(Default)]
pub struct Listens {
    slots: Slots<Listen>,
    tools: Set<Key>,
    prompts: Set<Key>,
    resources: Set<Key>,
    by_uri: HashMap<Box<str>, Set<Subscriber>>,
    by_task: HashMap<Box<str>, Set<Key>>,
    /// The same resources, as other nodes are told; nothing while there are none.
    wanted: Option<Box<Wanted>>,
}

impl Listens {
    /// What other nodes are told of it, if there are any.
    pub fn wanted(&mut self) -> Option<&mut Wanted> {
        self.wanted.as_deref_mut()
    }

    /// There are other nodes: from now on they are told.
    pub fn join(&mut self) -> &mut Wanted {
        let uris = self.by_uri.keys();
        self.wanted.get_or_insert_with(|| {
            let mut wanted = Wanted::default();
            uris.for_each(|uri| wanted.want(topic(uri)));
            Box::new(wanted)
        })
    }

    /// How many listen streams are open.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many resources somebody waits for.
    pub fn uris(&self) -> usize {
        self.by_uri.len()
    }

    /// All of them.
    pub fn keys(&self) -> Vec<Key> {
        self.slots.keys()
    }

    /// One of them.
    pub fn get(&self, key: Key) -> Option<&Listen> {
        self.slots.get(key)
    }

    /// One of them.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Listen> {
        self.slots.get_mut(key)
    }

    /// Registers a listen stream.
    pub fn insert(&mut self, listen: Listen) -> Key {
        let key = self.slots.next_key();
        for (wanted, set) in [
            (listen.filter.tools, &mut self.tools),
            (listen.filter.prompts, &mut self.prompts),
            (listen.filter.resources, &mut self.resources),
        ] {
            if wanted {
                set.insert(key);
            }
        }
        for uri in &listen.filter.uris {
            self.subscribe(uri, Subscriber::Listen(key));
        }
        for id in &listen.filter.tasks {
            self.by_task.entry(id.clone()).or_default().insert(key);
        }
        self.slots.insert(listen)
    }

    /// Forgets a listen stream.
    pub fn remove(&mut self, key: Key) -> Option<Listen> {
        let listen = self.slots.remove(key)?;
        for set in [&mut self.tools, &mut self.prompts, &mut self.resources] {
            set.remove(&key);
        }
        for uri in &listen.filter.uris {
            self.unsubscribe(uri, Subscriber::Listen(key));
        }
        for id in &listen.filter.tasks {
            if let Some(set) = self.by_task.get_mut(id) {
                set.remove(&key);
                if set.is_empty() {
                    self.by_task.remove(id);
                }
            }
        }
        Some(listen)
    }

    /// All tasks somebody waits for.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.by_task.keys().map(|id| &**id)
    }

    /// Whether anyone here waits for this task.
    pub fn is_task_heard(&self, id: &str) -> bool {
        self.by_task.contains_key(id)
    }

    /// Everyone here who waits for this task.
    pub fn interested_in_task(&self, id: &str) -> Vec<Key> {
        self.by_task.get(id).map(|set| set.iter().copied().collect()).unwrap_or_default()
    }

    /// Adds a subscriber of a resource; idempotent.
    pub fn subscribe(&mut self, uri: &str, who: Subscriber) {
        match self.by_uri.get_mut(uri) {
            Some(set) => {
                set.insert(who);
            }
            None => {
                self.by_uri.insert(uri.into(), Set::from_iter([who]));
                if let Some(wanted) = &mut self.wanted {
                    wanted.want(topic(uri));
                }
            }
        }
    }

    /// Removes a subscriber of a resource; idempotent.
    pub fn unsubscribe(&mut self, uri: &str, who: Subscriber) {
        let Some(set) = self.by_uri.get_mut(uri) else { return };
        set.remove(&who);
        if set.is_empty() {
            self.by_uri.remove(uri);
            if let Some(wanted) = &mut self.wanted {
                wanted.forget(topic(uri));
            }
        } else if set.capacity() > 64 && set.len() * 4 < set.capacity() {
            set.shrink_to_fit();
        }
    }

    /// Everyone who waits for this change (legacy sessions hear of lists without asking: not in here).
    pub fn interested(&self, change: &Change) -> Vec<Subscriber> {
        let listens = |set: &Set<Key>| set.iter().map(|key| Subscriber::Listen(*key)).collect();
        match change {
            Change::Tools => listens(&self.tools),
            Change::Prompts => listens(&self.prompts),
            Change::Resources => listens(&self.resources),
            Change::Resource(uri) => self
                .by_uri
                .get(uri.as_str())
                .map(|set| set.iter().copied().collect())
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(filter: Filter) -> Listen {
        let conn = ConnId { slot: 0, generation: 0 };
        Listen { out: ListenOut::Pipe(conn), id: "1".into(), filter, lagging: Vec::new() }
    }

    #[test]
    fn only_who_asked_hears_of_a_change() {
        let mut listens = Listens::default();
        let tools = listens.insert(listen(Filter { tools: true, ..Filter::default() }));
        let uri =
            listens.insert(listen(Filter { uris: ["a://x".into()].into(), ..Filter::default() }));
        assert_eq!(listens.interested(&Change::Tools), [Subscriber::Listen(tools)]);
        assert_eq!(listens.interested(&Change::Prompts), []);
        assert_eq!(
            listens.interested(&Change::Resource("a://x".into())),
            [Subscriber::Listen(uri)]
        );
        assert_eq!(listens.interested(&Change::Resource("a://y".into())), []);
    }

    #[test]
    fn a_removed_stream_leaves_nothing_behind() {
        let mut listens = Listens::default();
        let uris = ["a://x".into(), "a://y".into()].into();
        let tasks = ["t".into(), "u".into()].into();
        let lists = Filter { tools: true, prompts: true, resources: true, ..Filter::default() };
        let key = listens.insert(listen(Filter { uris, tasks, ..lists }));
        assert_eq!(listens.interested_in_task("u"), [key]);
        assert!(listens.remove(key).is_some());
        assert!(listens.remove(key).is_none());
        assert!(listens.by_uri.is_empty() && listens.tools.is_empty());
        assert!(listens.prompts.is_empty() && listens.resources.is_empty());
        assert!(!listens.is_task_heard("t") && listens.by_task.is_empty());
    }

    #[test]
    fn subscribing_twice_is_subscribing_once() {
        let mut listens = Listens::default();
        let who = Subscriber::Session(Key { slot: 1, generation: 0 });
        listens.subscribe("a://x", who);
        listens.subscribe("a://x", who);
        assert_eq!(listens.interested(&Change::Resource("a://x".into())), [who]);
        listens.unsubscribe("a://x", who);
        assert_eq!(listens.interested(&Change::Resource("a://x".into())), []);
    }
}
