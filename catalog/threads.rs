//! A runner made of plain threads, for tests and small embedders.
//!
//! A bounded pool runs what blocks; one more thread runs all futures and their timers. Refused: a thread per
//! future, because futures are mostly asleep.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::runner::{BlockingJob, FutureJob, LocalFuture, Overloaded, Runner};

/// Blocking jobs that may wait for a thread.
const BLOCKING_QUEUE_MAX: usize = 1024;
/// Futures that may be alive.
const FUTURES_MAX: usize = 65_536;

/// Runs work on threads of its own. Dropping it lets the threads finish what they were given and end;
/// futures still asleep are dropped.
pub struct ThreadRunner {
    jobs: Sender<BlockingJob>,
    shared: Arc<Shared>,
}

impl ThreadRunner {
    /// Starts `threads` threads for blocking work (at least one) and one for futures.
    pub fn new(threads: usize) -> std::io::Result<ThreadRunner> {
        let (jobs, queue) = bounded::<BlockingJob>(BLOCKING_QUEUE_MAX);
        for _ in 0..threads.max(1) {
            let queue = queue.clone();
            thread::Builder::new().name("catalog-blocking".into()).spawn(move || {
                for job in queue {
                    // The job's own reply answers for a panic; the thread must outlive it.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })?;
        }
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("catalog-futures".into()).spawn(move || {
            // Made here, because the futures in it never leave this thread.
            Executor { shared: theirs, tasks: HashMap::new() }.run();
        })?;
        Ok(ThreadRunner { jobs, shared })
    }
}

impl Drop for ThreadRunner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Runner for ThreadRunner {
    fn spawn_blocking(&self, job: BlockingJob) -> Result<(), Overloaded> {
        self.jobs.try_send(job).map_err(|_| Overloaded)
    }

    fn spawn_future(&self, job: FutureJob) -> Result<(), Overloaded> {
        let mut state = self.shared.lock();
        if FUTURES_MAX <= state.alive {
            return Err(Overloaded);
        }
        state.alive += 1;
        state.spawned.push_back(job);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> LocalFuture {
        let deadline = Instant::now().checked_add(duration);
        Box::pin(Sleep { shared: Arc::clone(&self.shared), deadline, timer: None })
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    spawned: VecDeque<FutureJob>,
    ready: VecDeque<u64>,
    /// By deadline; the number keeps equal deadlines apart.
    timers: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
    alive: usize,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

struct Executor {
    shared: Arc<Shared>,
    tasks: HashMap<u64, (LocalFuture, Waker)>,
}

/// What one look at the shared state gave us to do.
struct Work {
    spawned: VecDeque<FutureJob>,
    ready: VecDeque<u64>,
    due: Vec<Waker>,
}

impl Executor {
    fn run(mut self) {
        while let Some(work) = self.next_work() {
            for waker in work.due {
                waker.wake();
            }
            for job in work.spawned {
                match catch_unwind(AssertUnwindSafe(job)) {
                    Ok(future) => self.adopt(future),
                    Err(_) => self.shared.lock().alive -= 1,
                }
            }
            for task in work.ready {
                self.poll(task);
            }
        }
    }

    /// Sleeps until there is something to do; `None` when the runner is gone.
    fn next_work(&self) -> Option<Work> {
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let later = state.timers.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut state.timers, later);
            if !(due.is_empty() && state.spawned.is_empty() && state.ready.is_empty()) {
                return Some(Work {
                    spawned: std::mem::take(&mut state.spawned),
                    ready: std::mem::take(&mut state.ready),
                    due: due.into_values().collect(),
                });
            }
            state = match state.timers.keys().next() {
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(&(deadline, _)) => {
                    let wait = self.shared.changed.wait_timeout(state, deadline - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn adopt(&mut self, future: LocalFuture) {
        let task = self.shared.lock().number();
        let waker = Waker::from(Arc::new(TaskWaker { shared: Arc::clone(&self.shared), task }));
        self.tasks.insert(task, (future, waker));
        self.poll(task);
    }

    fn poll(&mut self, task: u64) {
        let Some((future, waker)) = self.tasks.get_mut(&task) else { return };
        let mut context = Context::from_waker(waker);
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        if !matches!(poll, Ok(Poll::Pending)) {
            self.tasks.remove(&task);
            self.shared.lock().alive -= 1;
        }
    }
}

struct TaskWaker {
    shared: Arc<Shared>,
    task: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.shared.lock().ready.push_back(self.task);
        self.shared.changed.notify_one();
    }
}

struct Sleep {
    shared: Arc<Shared>,
    /// `None` is further away than the clock reaches.
    deadline: Option<Instant>,
    timer: Option<(Instant, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let timer = *self.timer.get_or_insert_with(|| (deadline, state.number()));
        state.timers.insert(timer, context.waker().clone());
        shared.changed.notify_one();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.shared.lock().timers.remove(&timer);
        }
    }
}
