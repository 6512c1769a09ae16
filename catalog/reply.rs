//! The answer of a call that left its shard.

use std::sync::Arc;

use erlmcp_protocol::mcp::{LogLevel, RpcError, codes};
use serde_json::Value;

use crate::call::{CallEvent, Change, ReplySink, Step};
use crate::step::{IntoStep, failed};

/// The one answer to a deferred call; complete it from any thread.
///
/// Dropped without an answer (a panic, a runner that gave up) it answers with an internal error; dropped
/// before the work had even begun, with "busy". The client is never left waiting.
pub struct Reply {
    sink: Option<Arc<dyn ReplySink>>,
    /// Set until the work begins: what "busy" looks like to this caller.
    waiting: Option<Kind>,
}

/// What a call is of, which decides the shape of "busy".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `tools/call`: a result the model can react to.
    Tool,
    /// `prompts/get` or `resources/read`: a protocol error.
    Other,
}

impl Reply {
    pub(crate) fn new(sink: Arc<dyn ReplySink>, waiting: Option<Kind>) -> Reply {
        Reply { sink: Some(sink), waiting }
    }

    /// The work starts now: from here on a drop is a fault, not a full queue.
    pub(crate) fn begin(&mut self) {
        self.waiting = None;
    }

    /// Answers with whatever a tool handler may return; `false` when nobody listens any more.
    pub fn done(self, answer: impl IntoStep) -> bool {
        self.step(answer.into_step())
    }

    /// Answers with a step. [`Step::Later`] is no answer and becomes an internal error.
    pub fn step(mut self, step: Step) -> bool {
        match step {
            Step::Later => false,
            step => self.sink.take().is_some_and(|sink| sink.send(CallEvent::Step(step))),
        }
    }

    /// Reports progress.
    pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<String>) {
        self.emit(CallEvent::Progress { progress, total, message });
    }

    /// Writes a log message.
    pub fn log(&self, level: LogLevel, logger: Option<&str>, data: Value) {
        self.emit(CallEvent::Log { level, logger: logger.map(str::to_owned), data });
    }

    /// Tells every subscriber of a change.
    pub fn publish(&self, change: Change) {
        self.emit(CallEvent::Publish(change));
    }

    /// Hands over one event that is not the answer.
    pub fn emit(&self, event: CallEvent) {
        if let Some(sink) = &self.sink {
            sink.send(event);
        }
    }

    /// Whether the caller has gone or cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.is_cancelled())
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.send(CallEvent::Step(self.waiting.map_or_else(internal_error, busy)));
        }
    }
}

/// What a caller hears when a handler broke: nothing of our insides (digest f).
pub(crate) fn internal_error() -> Step {
    Step::Error(RpcError::new(codes::INTERNAL_ERROR, "Internal error"))
}

/// What a caller hears when there is no room for its work.
pub(crate) fn busy(kind: Kind) -> Step {
    const BUSY: &str = "The server is busy; retry in a moment";
    match kind {
        Kind::Tool => failed(BUSY).into_step(),
        Kind::Other => Step::Error(RpcError::new(codes::INTERNAL_ERROR, BUSY)),
    }
}
