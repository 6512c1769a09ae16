//! A [`Runner`] that runs what it was given when the test says so, on a clock that only the test moves.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use erlmcp_catalog::runner::{BlockingJob, FutureJob, LocalFuture};
use erlmcp_catalog::{Overloaded, Runner};

use super::wire::Clock;

/// Work that waits until the world runs it.
pub struct Jobs {
    clock: Clock,
    queued: Mutex<Queued>,
}

#[derive(Default)]
struct Queued {
    blocking: Vec<BlockingJob>,
    futures: Vec<FutureJob>,
    /// Deadlines of those asleep.
    alarms: Vec<u64>,
    refusing: bool,
}

impl Jobs {
    pub fn new(clock: Clock) -> Self {
        Self { clock, queued: Mutex::default() }
    }

    fn queued(&self) -> std::sync::MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything is refused as too much.
    pub fn refuse(&self) {
        self.queued().refusing = true;
    }

    /// Runs all blocking work, each piece on a thread of its own, and polls all futures once.
    pub fn run(&self, alive: &mut Vec<LocalFuture>) {
        let (blocking, futures) = {
            let mut queued = self.queued();
            (std::mem::take(&mut queued.blocking), std::mem::take(&mut queued.futures))
        };
        for job in blocking {
            std::thread::spawn(job).join().expect("jobs catch their panics");
        }
        alive.extend(futures.into_iter().map(|make| make()));
        let mut context = Context::from_waker(Waker::noop());
        alive.retain_mut(|future| future.as_mut().poll(&mut context).is_pending());
    }

    /// When the next sleeper wakes.
    pub fn next_alarm(&self) -> Option<u64> {
        let now = self.clock.load(Ordering::Relaxed);
        let mut queued = self.queued();
        queued.alarms.retain(|at| *at > now);
        queued.alarms.iter().min().copied()
    }
}

impl Runner for Jobs {
    fn spawn_blocking(&self, job: BlockingJob) -> Result<(), Overloaded> {
        let mut queued = self.queued();
        if queued.refusing {
            return Err(Overloaded);
        }
        queued.blocking.push(job);
        Ok(())
    }

    fn spawn_future(&self, job: FutureJob) -> Result<(), Overloaded> {
        let mut queued = self.queued();
        if queued.refusing {
            return Err(Overloaded);
        }
        queued.futures.push(job);
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> LocalFuture {
        let at = self.clock.load(Ordering::Relaxed) + duration.as_millis() as u64;
        self.queued().alarms.push(at);
        Box::pin(Sleep { at, clock: Arc::clone(&self.clock) })
    }
}

struct Sleep {
    at: u64,
    clock: Clock,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.clock.load(Ordering::Relaxed) < self.at { Poll::Pending } else { Poll::Ready(()) }
    }
}
