//! The way into the executor from other threads: a bounded queue and a waker.
//!
//! Invariants: at most [`FUTURES_MAX`] futures are queued or running, so memory is bounded whatever handlers
//! do; at most one wake is on its way (the waker is taken, not cloned), because glommio counts the wakers of a
//! task in 16 bits and panics in the *waking* thread when they overflow. That thread may be a shard.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use erlmcp_catalog::runner::{FutureJob, LocalFuture, Overloaded};

/// Futures queued and running at once; the next one is refused.
pub const FUTURES_MAX: usize = 65_536;
/// Jobs started before others get a turn.
const START_BUDGET: usize = 256;

/// See the module.
pub struct FutureQueue {
    jobs: (Sender<FutureJob>, Receiver<FutureJob>),
    /// The executor's, while it waits.
    waker: Mutex<Option<Waker>>,
    /// Queued and running.
    live: Arc<AtomicUsize>,
    closed: AtomicBool,
}

impl FutureQueue {
    /// Empty.
    pub fn new() -> Self {
        Self {
            jobs: bounded(FUTURES_MAX),
            waker: Mutex::new(None),
            live: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Hands a job to the executor. Never blocks.
    pub fn push(&self, job: FutureJob) -> Result<(), Overloaded> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Overloaded);
        }
        // The place is taken before the job is queued, so that the sum never exceeds the bound.
        let Some(place) = Place::take(&self.live) else { return Err(Overloaded) };
        match self.jobs.0.try_send(job) {
            Ok(()) => {
                // Now the queued job holds the place; `run` takes it over.
                std::mem::forget(place);
                self.wake();
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Overloaded),
        }
    }

    /// Ends [`FutureQueue::run`]; whatever is queued or running is dropped with the executor.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    /// Starts jobs as they come, until closed. Runs on the executor, once.
    pub async fn run(&self) {
        loop {
            match poll_fn(|context| self.poll_next(context)).await {
                Next::Closed => return,
                Next::Jobs(jobs) => {
                    for job in jobs {
                        let place = Place { live: self.live.clone() };
                        // A job that panics while it makes its future is as dead as one whose future panics.
                        if let Ok(future) = catch_unwind(AssertUnwindSafe(job)) {
                            let guarded = Guarded { future, _place: place };
                            glommio::spawn_local(guarded).detach();
                        }
                    }
                    glommio::executor().yield_task_queue_now().await;
                }
            }
        }
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(next) = self.next() {
            return Poll::Ready(next);
        }
        *self.waker_slot() = Some(context.waker().clone());
        // Somebody may have pushed between the look and the waker: look again.
        self.next().map_or(Poll::Pending, Poll::Ready)
    }

    fn next(&self) -> Option<Next> {
        if self.closed.load(Ordering::Acquire) {
            return Some(Next::Closed);
        }
        let jobs: Vec<FutureJob> = self.jobs.1.try_iter().take(START_BUDGET).collect();
        (!jobs.is_empty()).then_some(Next::Jobs(jobs))
    }

    fn wake(&self) {
        let waker = self.waker_slot().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker_slot(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next {
    Closed,
    Jobs(Vec<FutureJob>),
}

/// One of the [`FUTURES_MAX`] places; given back when dropped.
struct Place {
    live: Arc<AtomicUsize>,
}

impl Place {
    fn take(live: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self { live: live.clone() };
        // On refusal the drop of `place` undoes the addition.
        (place.live.fetch_add(1, Ordering::Relaxed) < FUTURES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handler's future whose panic ends it and nothing else: glommio would unwind through the executor.
struct Guarded {
    future: LocalFuture,
    _place: Place,
}

impl Future for Guarded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let future = &mut self.future;
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(()),
        }
    }
}
