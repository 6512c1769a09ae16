//! Threads for work that blocks: a bounded queue, threads that come when needed and go when idle.
//!
//! Why our own and not glommio's `spawn_blocking`: that one is called on the executor, so each job would cross
//! two threads more; its pool has a fixed number of threads, and its caller waits when the queue is full
//! instead of being told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use erlmcp_catalog::runner::{BlockingJob, Overloaded};

/// Threads at most.
pub const THREADS_MAX: usize = 64;
/// Jobs waiting for a thread at most; the next one is refused.
pub const QUEUE_MAX: usize = 4096;
/// A thread without work leaves after this.
const IDLE_LEAVE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Pool {
    jobs: Sender<BlockingJob>,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Receiver<BlockingJob>,
    /// Threads that exist.
    threads: AtomicUsize,
    /// Jobs queued or running: a thread is missing when they outnumber the threads.
    load: AtomicUsize,
}

impl Pool {
    /// No threads yet.
    pub fn new() -> Self {
        let (jobs, queue) = bounded(QUEUE_MAX);
        let shared = Shared { queue, threads: AtomicUsize::new(0), load: AtomicUsize::new(0) };
        Self { jobs, shared: Arc::new(shared) }
    }

    /// Queues a job and sees to it that somebody takes it. Never blocks.
    pub fn push(&self, job: BlockingJob) -> Result<(), Overloaded> {
        let load = self.shared.load.fetch_add(1, Ordering::AcqRel) + 1;
        // The thread comes before the job: if none can be had the job is refused, not stranded.
        if !self.ensure_thread(load) || self.jobs.try_send(job).is_err() {
            self.shared.load.fetch_sub(1, Ordering::AcqRel);
            return Err(Overloaded);
        }
        Ok(())
    }

    /// Threads that exist now.
    #[cfg(test)]
    fn threads(&self) -> usize {
        self.shared.threads.load(Ordering::Relaxed)
    }

    /// Whether at least one thread will look at the queue.
    fn ensure_thread(&self, load: usize) -> bool {
        let threads = &self.shared.threads;
        let grown = threads.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now < load.min(THREADS_MAX)).then_some(now + 1)
        });
        let Ok(before) = grown else { return true };
        let shared = self.shared.clone();
        let name = format!("blocking-{before}");
        let spawned = std::thread::Builder::new().name(name).spawn(move || shared.work());
        if spawned.is_err() {
            // Out of threads. Those that exist will get to it; without any the job cannot be taken.
            return 1 < threads.fetch_sub(1, Ordering::AcqRel);
        }
        true
    }
}

impl Shared {
    fn work(&self) {
        loop {
            match self.queue.recv_timeout(IDLE_LEAVE) {
                Ok(job) => {
                    // A job that panics drops its reply, which tells the caller; the thread goes on.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                    self.load.fetch_sub(1, Ordering::AcqRel);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.threads.fetch_sub(1, Ordering::AcqRel);
                    // A job may have counted on this thread just before it left: come back for it.
                    if self.queue.is_empty() || !self.rejoin() {
                        return;
                    }
                }
            }
        }
        self.threads.fetch_sub(1, Ordering::AcqRel);
    }

    fn rejoin(&self) -> bool {
        self.threads
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now < THREADS_MAX).then_some(now + 1)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_job_after_another_needs_few_threads_and_many_at_once_need_many() {
        let pool = Pool::new();
        let (done, is_done) = bounded::<()>(0);
        for _ in 0..THREADS_MAX {
            let done = done.clone();
            pool.push(Box::new(move || done.send(()).unwrap())).unwrap();
        }
        assert_eq!(pool.threads(), THREADS_MAX);
        for _ in 0..THREADS_MAX {
            is_done.recv().unwrap();
        }
    }

    #[test]
    fn a_full_queue_refuses_and_recovers() {
        let pool = Pool::new();
        let (hold, held) = bounded::<()>(0);
        let (done, is_done) = bounded(THREADS_MAX + QUEUE_MAX);
        let mut taken = 0;
        let push = || {
            let (held, done) = (held.clone(), done.clone());
            pool.push(Box::new(move || {
                let _ = held.recv();
                done.send(()).unwrap();
            }))
        };
        while push().is_ok() {
            taken += 1;
            assert!(taken <= THREADS_MAX + QUEUE_MAX);
        }
        assert!(QUEUE_MAX <= taken, "{taken}");
        drop(hold);
        for _ in 0..taken {
            is_done.recv().unwrap();
        }
        push().unwrap();
        is_done.recv().unwrap();
    }

    #[test]
    fn a_panicking_job_leaves_the_pool_whole() {
        let pool = Pool::new();
        let (done, is_done) = bounded(1);
        for _ in 0..2 * THREADS_MAX {
            pool.push(Box::new(|| std::panic::resume_unwind(Box::new("planned")))).unwrap();
        }
        pool.push(Box::new(move || done.send(()).unwrap())).unwrap();
        is_done.recv().unwrap();
    }
}
