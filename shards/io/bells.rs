//! The doorbells of all shards: how a thread wakes another one out of its ring. Lives: one per process, made
//! at boot, shared by every ring. View: any thread.
//!
//! A shard rings another with MSG_RING through its own ring (no extra syscall: it leaves with the turn's
//! submission). A foreign thread has no ring and writes the shard's eventfd, which is armed in its ring.
//! A shard whose ring is not built yet is reached through its eventfd too: the write waits there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::event::{EventfdFlags, eventfd};

/// One bell per shard.
#[derive(Debug)]
pub struct Bells {
    shards: Vec<Bell>,
}

#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    /// A second descriptor of the shard's ring. Written once by the shard itself, when its ring stands.
    ring: OnceLock<OwnedFd>,
}

impl Bells {
    /// Bells for `shards` shards; costs one descriptor each, two once the shard runs.
    pub fn new(shards: u16) -> io::Result<Arc<Self>> {
        // Blocking on purpose: the ring arms a read of it, and a nonblocking one would answer EAGAIN.
        let bell = || -> io::Result<Bell> {
            Ok(Bell { event: eventfd(0, EventfdFlags::CLOEXEC)?, ring: OnceLock::new() })
        };
        let shards = (0..shards).map(|_| bell()).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { shards }))
    }

    /// Wakes a shard from any thread, with one write. A shard that does not exist is not there to be woken.
    pub fn ring(&self, shard: u16) {
        if let Some(bell) = self.shards.get(usize::from(shard)) {
            // A write fails only when the counter is full, and then the bell has rung 2^64 times unheard.
            let _ = rustix::io::write(&bell.event, &1u64.to_ne_bytes());
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    pub(super) fn event(&self, shard: u16) -> Option<BorrowedFd<'_>> {
        self.shards.get(usize::from(shard)).map(|bell| bell.event.as_fd())
    }

    pub(super) fn ring_of(&self, shard: u16) -> Option<BorrowedFd<'_>> {
        self.shards.get(usize::from(shard))?.ring.get().map(AsFd::as_fd)
    }

    /// Publishes the ring of a shard; `false` when it already has one.
    pub(super) fn hang(&self, shard: u16, ring: OwnedFd) -> bool {
        self.shards.get(usize::from(shard)).is_some_and(|bell| bell.ring.set(ring).is_ok())
    }
}
