//! The running catalog: what is served now, who changes it, and who is told.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::call::Change;
use crate::catalog::{Catalog, Draft, changes, is_same};
use crate::error::CatalogError;
use crate::snapshot::Snapshot;

/// Told of every change, with the state after it; without changes if only the inside of an item differs. Called on the changing thread: hand it on and return.
pub type Listener = Box<dyn Fn(Arc<Snapshot>, &[Change]) + Send + Sync>;

/// The running catalog. Cheap to clone; one per process.
#[derive(Clone)]
pub struct Handle(Arc<Running>);

struct Running {
    /// Readers never wait; a shard keeps the `Arc` it loaded and takes the next one when it is told.
    snapshot: ArcSwap<Snapshot>,
    /// One update at a time, and listeners hear of updates in their order.
    writer: Mutex<()>,
    listeners: RwLock<Vec<Listener>>,
}

impl Handle {
    pub(crate) fn new(snapshot: Snapshot) -> Handle {
        Handle(Arc::new(Running {
            snapshot: ArcSwap::from_pointee(snapshot),
            writer: Mutex::new(()),
            listeners: RwLock::new(Vec::new()),
        }))
    }

    /// What is served now. Touches a count that all shards share: take it once and keep it, not per call.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Changes what is served, as one step: `Err` leaves everything as it was. Listeners are told which
    /// lists changed; they and `edit` must not update the catalog themselves.
    pub fn update(&self, edit: impl FnOnce(&mut Draft)) -> Result<(), CatalogError> {
        let _writing = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let mut draft = Draft::of(&before);
        edit(&mut draft);
        let items = draft.finish()?;
        if is_same(&before.items, &items) {
            return Ok(());
        }
        self.serve(&before, Snapshot::new(Arc::clone(&before.server), items, before.offers)?);
        Ok(())
    }

    /// Serves another catalog from now on, e.g. the file read anew. Listeners are told which lists changed.
    pub fn replace(&self, catalog: Catalog) -> Result<(), CatalogError> {
        let _writing = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let Snapshot { server, items, .. } = catalog.into_snapshot();
        // What was offered stays offered: a client that was told of prompts may ask for the empty list.
        self.serve(&before, Snapshot::new(server, items, before.offers)?);
        Ok(())
    }

    /// Under the writer's lock.
    fn serve(&self, before: &Snapshot, after: Snapshot) {
        let after = Arc::new(after);
        self.0.snapshot.store(Arc::clone(&after));
        self.tell(&after, &changes(before, &after));
    }

    /// Hears of every change from now on.
    pub fn listen(&self, listener: Listener) {
        self.0.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Tells subscribers of a change that did not come from [`Handle::update`], e.g. that a resource has
    /// new content. Callable from any thread.
    pub fn publish(&self, change: Change) {
        self.tell(&self.snapshot(), &[change]);
    }

    fn tell(&self, snapshot: &Arc<Snapshot>, changes: &[Change]) {
        for listener in self.0.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(Arc::clone(snapshot), changes);
        }
    }
}
