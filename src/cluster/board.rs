//! Where the shards' news of the cluster is kept, and from where it is read.
//!
//! Written by the first shard, which must not wait: a view is swapped in, and a report that comes while somebody
//! reads is dropped, because the next is a second away. Reports are kept as bytes and read when somebody asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use erlmcp_cluster::letter::Order;
use erlmcp_cluster::view::View;
use erlmcp_shards::lookout::Lookout;

use super::report::{REPORT_BYTES_MAX, Report};

/// Nodes whose reports are kept, at most; far beyond what a full mesh can be.
const REPORTS_MAX: usize = 1024;

/// Something to look at, for who waits for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nudge {
    /// The cluster has changed.
    View(Arc<View>),
    /// That node passed on what an operator wants.
    Order(u16, Order),
}

/// What is known of the cluster. One per process, shared by the first shard and the control plane.
pub struct Board {
    me: u16,
    epoch: u32,
    /// Whom the configuration names.
    seeds: Vec<SocketAddr>,
    view: ArcSwap<View>,
    reports: Mutex<BTreeMap<u16, Heard>>,
    nudge: Box<dyn Fn(Nudge) + Send + Sync>,
}

struct Heard {
    at: Instant,
    bytes: Box<[u8]>,
}

/// One other node's last report.
pub struct LastReport {
    /// How long ago it came.
    pub age: Duration,
    /// What it said; `None` when it is of another format than ours.
    pub report: Option<Report>,
}

impl Board {
    /// Nothing known but this node. `nudge` is called by a shard: it must not wait.
    pub fn new(
        me: u16,
        epoch: u32,
        seeds: Vec<SocketAddr>,
        nudge: impl Fn(Nudge) + Send + Sync + 'static,
    ) -> Self {
        Self {
            me,
            epoch,
            seeds,
            view: ArcSwap::from_pointee(View::alone(me, epoch, 1)),
            reports: Mutex::default(),
            nudge: Box::new(nudge),
        }
    }

    /// This node's number.
    pub fn me(&self) -> u16 {
        self.me
    }

    /// Which run of it.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the configuration names this address.
    pub fn is_seed(&self, address: &SocketAddr) -> bool {
        self.seeds.contains(address)
    }

    /// How many other nodes the configuration names.
    pub fn seeds(&self) -> usize {
        self.seeds.len()
    }

    /// Who is in the cluster.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What other nodes said last.
    pub fn reports(&self, now: Instant) -> BTreeMap<u16, LastReport> {
        // Read after the lock is given back: the shard does not wait for it.
        let heard: Vec<(u16, Instant, Box<[u8]>)> = self
            .lock()
            .iter()
            .map(|(node, heard)| (*node, heard.at, heard.bytes.clone()))
            .collect();
        let last = |at: Instant, bytes: &[u8]| LastReport {
            age: now.saturating_duration_since(at),
            report: Report::read(bytes),
        };
        heard.into_iter().map(|(node, at, bytes)| (node, last(at, &bytes))).collect()
    }

    /// Forgets the reports of nodes that nobody knows any more.
    pub fn tidy(&self) {
        let view = self.view();
        self.lock().retain(|node, _| view.member(*node).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Heard>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookout for Board {
    fn handle_view(&self, view: &Arc<View>) {
        self.view.store(view.clone());
        (self.nudge)(Nudge::View(view.clone()));
    }

    fn handle_status(&self, from: u16, bytes: &[u8]) {
        let mut reports = match self.reports.try_lock() {
            Ok(reports) => reports,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let has_room = reports.len() < REPORTS_MAX || reports.contains_key(&from);
        if has_room && bytes.len() <= REPORT_BYTES_MAX {
            reports.insert(from, Heard { at: Instant::now(), bytes: bytes.into() });
        }
    }

    fn handle_order(&self, from: u16, order: Order) {
        (self.nudge)(Nudge::Order(from, order));
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
