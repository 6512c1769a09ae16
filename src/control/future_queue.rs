//! The way into the executor from other threads: a bounded queue and a waker.
//!
//! Invariants: at most [`FUTURES_MAX`] futures are queued or running, so memory is bounded whatever handlers
//! do; at most one wake is on its way (the waker is taken, not cloned), because glommio counts the wakers of a
//! task in 16 bits and panics in the *waking* thread when they overflow. That thread may be a shard; what runs
//! can be dropped: glommio forgets waiting tasks when an executor ends and never drops them, so their sockets
//! and replies would stay open. Hence the table of [`Slot`]s, emptied before the executor ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
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
                if self.closed.load(Ordering::Acquire) {
                    // Closed since the look above: nobody will start it, so nobody may wait for it.
                    self.drop_queued();
                }
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
                Next::Closed => {
                    self.drop_queued();
                    let slots = RUNNING.with_borrow_mut(std::mem::take);
                    for slot in slots.into_values() {
                        // Out of the cell before it is dropped: its drop may run anything.
                        let future = slot.borrow_mut().take();
                        drop(future);
                    }
                    // The kernel hears of cancelled reads and accepts in the next round.
                    glommio::executor().yield_task_queue_now().await;
                    return;
                }
                Next::Jobs(jobs) => {
                    for job in jobs {
                        let place = Place { live: self.live.clone() };
                        // A job that panics while it makes its future is as dead as one whose future panics.
                        if let Ok(future) = catch_unwind(AssertUnwindSafe(job)) {
                            spawn(Box::pin(async move {
                                let _place = place;
                                future.await;
                            }));
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

    fn drop_queued(&self) {
        self.jobs.1.try_iter().for_each(drop);
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

/// Where a running future lies; empty once it ended or was dropped.
type Slot = Rc<RefCell<Option<LocalFuture>>>;

thread_local! {
    /// What runs on this thread's executor.
    static RUNNING: RefCell<HashMap<u64, Slot>> = RefCell::default();
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Runs a future on this thread's executor until it ends or the executor does.
pub fn spawn(future: LocalFuture) {
    let number = NEXT.get();
    NEXT.set(number + 1);
    let slot: Slot = Rc::new(RefCell::new(Some(future)));
    RUNNING.with_borrow_mut(|running| running.insert(number, slot.clone()));
    glommio::spawn_local(Guarded { slot, number }).detach();
}

/// A future whose panic ends it and nothing else: glommio would unwind through the executor.
struct Guarded {
    slot: Slot,
    number: u64,
}

impl Future for Guarded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let poll = match self.slot.borrow_mut().as_mut() {
            Some(future) => catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
                .unwrap_or(Poll::Ready(())),
            None => Poll::Ready(()),
        };
        if poll.is_ready() {
            RUNNING.with_borrow_mut(|running| running.remove(&self.number));
            let future = self.slot.borrow_mut().take();
            drop(future);
        }
        poll
    }
}
