//! What the threads of a load know, what they are told, and what they tell.

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::kind::Mix;
use super::pulse::{Clock, Window};
use super::roam::Place;
use super::say::Say;
use super::target::{Sources, Target};

/// What all threads of a load know.
#[derive(Debug)]
pub struct Plan {
    /// The time.
    pub clock: Clock,
    /// Whom to talk to; at least one.
    pub targets: Vec<Target>,
    /// Where from.
    pub sources: Sources,
    /// What to say to each of them.
    pub says: Vec<Say>,
    /// Who says it.
    pub mix: Mix,
    /// Whether clients call once when they arrive.
    pub greets: bool,
    /// Cores to run on, in turns; empty leaves it to the kernel.
    pub cores: Vec<usize>,
    /// Rings of each thread.
    pub rings: u16,
    /// Descriptors of each ring.
    pub ring_capacity: u32,
    /// Connections ever begun, for source addresses.
    pub dials: AtomicU32,
    /// When the last update was published.
    pub published_us: AtomicU64,
}

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// So many clients shall be there; no more than so many new connections a second.
    Open { clients: u32, per_s: Option<f64> },
    /// What callers shall do from now on.
    Work(Work),
    /// So many listeners stop reading.
    Deafen(u32),
    /// They read again.
    Hear,
    /// Everyone leaves.
    Close,
    /// Tell a [`Census`].
    Count,
    /// Sessions are used from such a place from now on; tell a [`Roamed`].
    Roam(Place),
}

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Nothing.
    Rest,
    /// Each calls, waits for the answer, calls again.
    Closed,
    /// Calls at a fixed rate, from this time on, over whichever connection has waited longest.
    Rate { from_us: u64, per_s: f64 },
    /// Each connects, calls once, leaves, comes back.
    Churn,
}

/// What a worker tells.
#[derive(Debug)]
pub enum Report {
    /// A window is over.
    Window(u64, Box<Window>),
    /// Something went wrong; only the first few are told.
    Fault(String),
    /// As asked.
    Census(Census),
    /// As asked.
    Roamed(Roamed),
}

/// The clients that are there, looked at one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// Ready and connected, by kind.
    pub ready: [u64; 6],
    /// The same, by target.
    pub targets: Vec<u64>,
    /// The longest time since one of them was used or heard from, microseconds.
    pub unused_us_max: u64,
}

/// How many connections use a session at the place that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roamed {
    /// Those that do.
    pub placed: u64,
    /// Those for whom nobody is at such a place, or whose session does not say where it lives.
    pub left: u64,
    /// Those that wait for an answer; while there are any nothing was changed.
    pub busy: u64,
}
