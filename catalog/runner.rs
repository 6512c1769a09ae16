//! Who runs what must not run on a shard: blocking functions, child processes, futures.
//!
//! The process (`src/`) implements this on glommio; [`ThreadRunner`] serves tests and small embedders.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A future that stays on the executor that made it.
pub type LocalFuture = Pin<Box<dyn Future<Output = ()> + 'static>>;

/// Work that may block.
pub type BlockingJob = Box<dyn FnOnce() + Send + 'static>;

/// Work that makes a future where it will run.
pub type FutureJob = Box<dyn FnOnce() -> LocalFuture + Send + 'static>;

/// The queue of the runner is full; the caller is told to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

/// Runs work off the shards. Callable from any thread; never blocks.
pub trait Runner: Send + Sync {
    /// Runs a job on a thread that may block.
    fn spawn_blocking(&self, job: BlockingJob) -> Result<(), Overloaded>;
    /// Runs a future on the control plane's executor.
    fn spawn_future(&self, job: FutureJob) -> Result<(), Overloaded>;
    /// A timer for futures started by [`Runner::spawn_future`] (call it inside them).
    fn sleep(&self, duration: Duration) -> LocalFuture;
}
