//! Handlers that leave the shard: blocking functions and futures, made of [`Call::defer`] and the runner.
//!
//! Invariants: a handler never unwinds into the shard or the runner; a permit lives exactly as long as the
//! work it admits; every deferred call is answered once.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::call::{Call, Step};
use crate::reply::{Kind, busy, internal_error};
use crate::runner::LocalFuture;
use crate::step::{IntoStep, failed};

/// What the shard calls: one inline function, whatever the handler was written as.
pub(crate) type Inline = Box<dyn Fn(&mut Call) -> Step + Send + Sync>;
/// A handler for a thread that may block.
pub(crate) type Blocking = Arc<dyn Fn(Call) -> Step + Send + Sync>;
/// A handler that makes a future where that future will run.
pub(crate) type Asynchronous =
    Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Step>>> + Send + Sync>;

/// Runs a handler; a panic becomes an internal error that says nothing of our insides.
pub(crate) fn guard(handler: impl FnOnce() -> Step) -> Step {
    catch_unwind(AssertUnwindSafe(handler)).unwrap_or_else(|_| internal_error())
}

/// How many calls of one tool may be off the shards at once.
#[derive(Clone)]
pub(crate) struct Gate {
    admitted: Arc<AtomicU32>,
    max: u32,
}

/// Leave to run; gives the place back when dropped.
pub(crate) struct Permit(Arc<AtomicU32>);

impl Gate {
    pub(crate) fn new(max: Option<u32>) -> Gate {
        Gate { admitted: Arc::new(AtomicU32::new(0)), max: max.unwrap_or(u32::MAX) }
    }

    /// A place, or `None` when all are taken.
    pub(crate) fn enter(&self) -> Option<Permit> {
        // Relaxed: the count guards no memory of its own; the runner's queue orders the work itself.
        self.admitted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < self.max).then_some(n + 1))
            .ok()
            .map(|_| Permit(Arc::clone(&self.admitted)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wraps a blocking handler. Its time limit is its own business: a thread cannot be taken back.
pub(crate) fn blocking(kind: Kind, gate: Gate, handler: Blocking) -> Inline {
    Box::new(move |call| {
        let Some(permit) = gate.enter() else { return busy(kind) };
        let mut reply = call.defer_queued(kind);
        let call_there = call.detach();
        let handler = Arc::clone(&handler);
        let job = Box::new(move || {
            reply.begin();
            let step = guard(|| handler(call_there));
            drop(permit); // Before the answer: who reads it may call again at once.
            reply.step(step);
        });
        // A refused job is dropped, and its reply with it, which says "busy".
        let _ = call.runner().spawn_blocking(job);
        Step::Later
    })
}

/// Wraps an asynchronous handler; at `timeout` its future is dropped and the caller told.
pub(crate) fn asynchronous(
    kind: Kind,
    gate: Gate,
    timeout: Option<Duration>,
    handler: Asynchronous,
) -> Inline {
    Box::new(move |call| {
        let Some(permit) = gate.enter() else { return busy(kind) };
        let mut reply = call.defer_queued(kind);
        let call_there = call.detach();
        let handler = Arc::clone(&handler);
        let runner = Arc::clone(call.runner());
        let job = Box::new(move || -> LocalFuture {
            reply.begin();
            Box::pin(async move {
                let work = async move { handler(call_there).await };
                let alarm = timeout.map(|limit| (runner.sleep(limit), limit));
                let step = limited(Box::pin(work), alarm).await;
                drop(permit);
                reply.step(step);
            })
        });
        let _ = call.runner().spawn_future(job);
        Step::Later
    })
}

/// The work's step, or the alarm's, or an internal error if the work panics: whichever comes first.
async fn limited(
    mut work: Pin<Box<dyn Future<Output = Step>>>,
    mut alarm: Option<(LocalFuture, Duration)>,
) -> Step {
    poll_fn(move |context| {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Ready(step)) => return Poll::Ready(step),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(internal_error()),
        }
        match &mut alarm {
            Some((sleep, limit)) => {
                sleep.as_mut().poll(context).map(|()| timed_out(*limit).into_step())
            }
            None => Poll::Pending,
        }
    })
    .await
}

/// What a caller hears whose work took too long.
pub(crate) fn timed_out(limit: Duration) -> erlmcp_protocol::mcp::ToolResult {
    failed(format_args!("Timed out after {} ms", limit.as_millis()))
}
