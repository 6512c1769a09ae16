//! Slow work of handlers, run off the shards: futures on the control plane's executor, blocking jobs on threads.

use std::sync::Arc;
use std::time::Duration;

use erlmcp_catalog::runner::{BlockingJob, FutureJob, LocalFuture, Overloaded, Runner};

use super::future_queue::FutureQueue;
use super::pool::Pool;

/// [`Runner`] on glommio. Callable from any thread; never blocks.
pub struct GlommioRunner {
    futures: Arc<FutureQueue>,
    pool: Pool,
}

impl GlommioRunner {
    pub(super) fn new(futures: Arc<FutureQueue>) -> Self {
        Self { futures, pool: Pool::new() }
    }
}

impl Runner for GlommioRunner {
    fn spawn_blocking(&self, job: BlockingJob) -> Result<(), Overloaded> {
        self.pool.push(job)
    }

    fn spawn_future(&self, job: FutureJob) -> Result<(), Overloaded> {
        self.futures.push(job)
    }

    fn sleep(&self, duration: Duration) -> LocalFuture {
        Box::pin(async move {
            glommio::timer::Timer::new(duration).await;
        })
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
