//! A [`Runner`] on virtual time: what it was given runs when the world turns, on the world's own thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use erlmcp_catalog::runner::{BlockingJob, FutureJob, LocalFuture};
use erlmcp_catalog::{Overloaded, Runner};

/// Work that waits for the world to turn.
pub struct Jobs {
    clock: Arc<AtomicU64>,
    queued: Mutex<Queued>,
}

#[derive(Default)]
struct Queued {
    blocking: Vec<BlockingJob>,
    futures: Vec<FutureJob>,
}

impl Jobs {
    pub fn new(clock: Arc<AtomicU64>) -> Self {
        Self { clock, queued: Mutex::default() }
    }

    /// Runs all blocking work and polls all futures once.
    pub fn run(&self, alive: &mut Vec<LocalFuture>) {
        let Queued { blocking, futures } = std::mem::take(&mut *self.queued());
        for job in blocking {
            job();
        }
        alive.extend(futures.into_iter().map(|make| make()));
        let mut context = Context::from_waker(Waker::noop());
        alive.retain_mut(|future| future.as_mut().poll(&mut context).is_pending());
    }

    fn queued(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner for Jobs {
    fn spawn_blocking(&self, job: BlockingJob) -> Result<(), Overloaded> {
        self.queued().blocking.push(job);
        Ok(())
    }

    fn spawn_future(&self, job: FutureJob) -> Result<(), Overloaded> {
        self.queued().futures.push(job);
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> LocalFuture {
        let at = self.clock.load(Ordering::Relaxed) + duration.as_millis() as u64;
        Box::pin(Sleep { at, clock: self.clock.clone() })
    }
}

struct Sleep {
    at: u64,
    clock: Arc<AtomicU64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.clock.load(Ordering::Relaxed) < self.at { Poll::Pending } else { Poll::Ready(()) }
    }
}
