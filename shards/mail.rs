//! Letters between shards, and from any other thread to a shard. Lives: made once at boot by [`Mailroom`].
//!
//! A shard's [`Inbox`] has one bounded lane per sending shard (up to 63; beyond that lanes are shared) and
//! one for all foreign threads, so a flooding sender fills only its own lane. A bitmap says which lanes have
//! mail: looking into an empty inbox costs one load, however many shards there are.
//!
//! Waking a sleeper needs a doorbell, and a doorbell costs a syscall, so it is rung only when needed:
//!
//! ```text
//! receiver                               sender
//!   parked = true                          push into the lane
//!   mail in the bitmap? stay awake         set the lane's bit
//!   else wait for a completion             was parked? clear it, ring the bell
//! ```
//!
//! Invariants: both sides write their own flag before they read the other's, all four accesses `SeqCst`, so
//! at least one of them sees the other: either the receiver stays awake or the sender rings. A bit is cleared
//! before its lane is emptied, never after, so a letter pushed meanwhile sets it again.
//! Refused: one shared queue per shard (contended tail; one slow producer starves the rest); an unbounded
//! queue (full is a normal answer: the sender is told and counts).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Letters all lanes of one inbox hold together, before the per-lane bounds below.
pub const INBOX_LETTERS: usize = 8192;
/// Letters one lane holds at least.
pub const LANE_LETTERS_MIN: usize = 64;
/// Letters one lane holds at most; the foreign lane always has this many.
pub const LANE_LETTERS_MAX: usize = 1024;

/// All inboxes of the process; taken apart at boot, one piece to each thread.
pub struct Mailroom<M> {
    inboxes: Vec<Option<Inbox<M>>>,
    posts: Vec<Option<Post<M>>>,
    foreign: Vec<ForeignPost<M>>,
}

/// Where a shard sends from: owned by one shard, one lane into every inbox.
pub struct Post<M> {
    lanes: Vec<(Sender<M>, Arc<Door>)>,
    /// Shards that were found gone.
    gone: Vec<u16>,
    bit: u64,
    full: u64,
}

/// Where a shard's mail arrives: owned by one shard.
pub struct Inbox<M> {
    /// The last one is the foreign lane.
    lanes: Vec<Receiver<M>>,
    door: Arc<Door>,
    /// Lanes we know to have mail; their bits in the door are already cleared.
    known: u64,
    next: usize,
}

/// Posts into one shard's inbox from any thread that is not a shard.
pub struct ForeignPost<M> {
    lane: Sender<M>,
    door: Arc<Door>,
    bell: Arc<dyn Fn(u16) + Send + Sync>,
    to: u16,
}

/// The two words a sender and a sleeping receiver share; on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Door {
    /// One bit per lane with mail. Writers: senders set, the receiver clears.
    waiting: AtomicU64,
    /// The receiver sleeps or is about to. Writers: the receiver sets, whoever wakes it clears.
    parked: AtomicBool,
}

impl<M> Mailroom<M> {
    /// Inboxes for `shards` shards. `bell` wakes the given shard out of its ring from a foreign thread (in
    /// production [`crate::io::bells::Bells::ring`]).
    pub fn new(shards: u16, bell: impl Fn(u16) + Send + Sync + 'static) -> Self {
        let bell: Arc<dyn Fn(u16) + Send + Sync> = Arc::new(bell);
        let lanes = usize::from(shards).clamp(1, LANES_MAX);
        let letters = (INBOX_LETTERS / lanes).clamp(LANE_LETTERS_MIN, LANE_LETTERS_MAX);
        let mut room = Self { inboxes: Vec::new(), posts: Vec::new(), foreign: Vec::new() };
        for shard in 0..usize::from(shards) {
            let bit = 1 << (shard % lanes);
            room.posts.push(Some(Post { lanes: Vec::new(), gone: Vec::new(), bit, full: 0 }));
        }
        for to in 0..shards {
            let door = Arc::new(Door::default());
            let (senders, mut receivers): (Vec<_>, Vec<_>) =
                (0..lanes).map(|_| bounded(letters)).unzip();
            for (from, post) in room.posts.iter_mut().flatten().enumerate() {
                post.lanes.push((senders[from % lanes].clone(), door.clone()));
            }
            let (lane, receiver) = bounded(LANE_LETTERS_MAX);
            receivers.push(receiver);
            room.foreign.push(ForeignPost { lane, door: door.clone(), bell: bell.clone(), to });
            room.inboxes.push(Some(Inbox { lanes: receivers, door, known: 0, next: 0 }));
        }
        room
    }

    /// The two ends that belong to one shard. `None` when already taken or there is no such shard.
    pub fn take(&mut self, shard: u16) -> Option<(Post<M>, Inbox<M>)> {
        let post = self.posts.get_mut(usize::from(shard))?.take()?;
        let inbox = self.inboxes.get_mut(usize::from(shard))?.take()?;
        Some((post, inbox))
    }

    /// A handle for threads that are not shards. `None` when there is no such shard.
    pub fn foreign(&self, shard: u16) -> Option<ForeignPost<M>> {
        self.foreign.get(usize::from(shard)).cloned()
    }
}

impl<M> Post<M> {
    /// Sends to another shard (or oneself). `Ok(true)`: the receiver sleeps, ring its bell
    /// ([`crate::io::Io::ring_bell`]) before this turn ends. `Err`: its lane is full, or there is no such
    /// shard, or it is gone; the letter comes back and is counted in [`Post::full`].
    pub fn send(&mut self, to: u16, letter: M) -> Result<bool, M> {
        let Some((lane, door)) = self.lanes.get(usize::from(to)) else {
            self.full += 1;
            return Err(letter);
        };
        match push(lane, door, self.bit, letter) {
            Ok(ring) => Ok(ring),
            Err(TrySendError::Full(letter)) => {
                self.full += 1;
                Err(letter)
            }
            Err(TrySendError::Disconnected(letter)) => {
                self.full += 1;
                if !self.gone.contains(&to) {
                    self.gone.push(to);
                }
                Err(letter)
            }
        }
    }

    /// Whether the last letter to this shard came back because nobody is there any more.
    pub fn is_gone(&self, to: u16) -> bool {
        self.gone.contains(&to)
    }

    /// Letters that found no room.
    pub fn full(&self) -> u64 {
        self.full
    }

    /// How many shards can be written to.
    pub fn shards(&self) -> u16 {
        self.lanes.len() as u16
    }
}

impl<M> Inbox<M> {
    /// Takes up to `budget` letters, a few from each lane in turn. Returns how many; `budget` of them means
    /// there may be more.
    pub fn drain(&mut self, budget: usize, mut read: impl FnMut(M)) -> usize {
        if self.door.waiting.load(Ordering::Relaxed) != 0 {
            self.known |= self.door.waiting.swap(0, Ordering::SeqCst);
        }
        let mut taken = 0;
        while self.known != 0 && taken < budget {
            let lane = next_set(self.known, self.next);
            self.next = lane + 1;
            for _ in 0..LANE_BATCH.min(budget - taken) {
                let Ok(letter) = self.receiver(lane).try_recv() else {
                    self.known &= !(1 << lane);
                    break;
                };
                taken += 1;
                read(letter);
            }
        }
        taken
    }

    /// Declares that this shard is about to sleep. `false`: there is mail, do not. After `true` every sender
    /// rings; call [`Inbox::unpark`] as soon as the shard is awake for whatever reason.
    pub fn park(&mut self) -> bool {
        if self.known != 0 {
            return false;
        }
        self.door.parked.store(true, Ordering::SeqCst);
        if self.door.waiting.load(Ordering::SeqCst) != 0 {
            self.unpark();
            return false;
        }
        true
    }

    /// The shard is awake: nobody needs to ring.
    pub fn unpark(&mut self) {
        self.door.parked.store(false, Ordering::SeqCst);
    }

    fn receiver(&self, lane: usize) -> &Receiver<M> {
        if lane == FOREIGN_BIT as usize {
            &self.lanes[self.lanes.len() - 1]
        } else {
            &self.lanes[lane]
        }
    }
}

impl<M> ForeignPost<M> {
    /// Sends, and wakes the shard if it sleeps (one eventfd write). `Err`: full or gone, the letter comes
    /// back.
    pub fn send(&self, letter: M) -> Result<(), M> {
        let pushed = push(&self.lane, &self.door, 1 << FOREIGN_BIT, letter);
        if pushed.map_err(TrySendError::into_inner)? {
            (self.bell)(self.to);
        }
        Ok(())
    }

    /// The shard this one writes to.
    pub fn shard(&self) -> u16 {
        self.to
    }
}

// Derived `Clone` would ask for `M: Clone`.
impl<M> Clone for ForeignPost<M> {
    fn clone(&self) -> Self {
        Self {
            lane: self.lane.clone(),
            door: self.door.clone(),
            bell: self.bell.clone(),
            to: self.to,
        }
    }
}

/// Pushes, raises the lane's flag, and says whether this caller is the one to ring.
fn push<M>(lane: &Sender<M>, door: &Door, bit: u64, letter: M) -> Result<bool, TrySendError<M>> {
    lane.try_send(letter)?;
    door.waiting.fetch_or(bit, Ordering::SeqCst);
    // The plain load first: the swap would pull the line away from a busy receiver for nothing.
    Ok(door.parked.load(Ordering::SeqCst) && door.parked.swap(false, Ordering::SeqCst))
}

/// The first set bit at or after `from`, wrapping round. `bits` must not be 0.
fn next_set(bits: u64, from: usize) -> usize {
    let from = from as u32 % u64::BITS;
    (bits.rotate_right(from).trailing_zeros() + from) as usize % u64::BITS as usize
}

/// Letters taken from one lane before the next one gets its turn.
const LANE_BATCH: usize = 16;
const FOREIGN_BIT: u32 = 63;
const LANES_MAX: usize = FOREIGN_BIT as usize;

#[cfg(test)]
mod tests;
