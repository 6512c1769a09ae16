//! What a handler sees and what it may answer.
//!
//! A handler is a function of a [`Call`] to a [`Step`]. It runs on the shard and must be quick; a slow one
//! takes [`Call::defer`], returns [`Step::Later`] and completes the [`Reply`] from any thread. The builder's
//! `blocking` and `future` handlers are made of exactly that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use erlmcp_protocol::mcp::{
    ClientCapabilities, InputRequest, InputResponses, LogLevel, PromptResult, ResourceContents,
    RpcError, ToolResult, Version,
};
use serde_json::Value;

use crate::Handle;
use crate::runner::Runner;

/// What a handler returns.
#[derive(Debug)]
pub enum Step {
    /// Finished.
    Done(Outcome),
    /// Cannot go on before the client answers; the handler is called again with the responses and `state`.
    NeedInput(NeedInput),
    /// The [`Reply`] taken with [`Call::defer`] will answer.
    Later,
    /// A protocol error: the request itself was wrong or cannot be served.
    Error(RpcError),
}

/// A finished call.
#[derive(Debug)]
pub enum Outcome {
    /// Of `tools/call`.
    Tool(ToolResult),
    /// Of `prompts/get`.
    Prompt(PromptResult),
    /// Of `resources/read`; never empty.
    Resource(Vec<ResourceContents>),
}

/// One round of questions to the client (digest c.11).
#[derive(Debug, Default)]
pub struct NeedInput {
    /// What is asked; may be empty if `state` is given (ask the client to retry).
    pub requests: Vec<InputRequest>,
    /// Comes back in [`Call::state`] on the retry; sealed on its way through a modern client.
    pub state: Option<Value>,
}

/// Something that happens while a call runs.
#[derive(Debug)]
pub enum CallEvent {
    /// Progress for the request's token, if it had one.
    Progress {
        /// Strictly increasing.
        progress: f64,
        /// When known.
        total: Option<f64>,
        /// What is being done.
        message: Option<String>,
    },
    /// A log message.
    Log {
        /// Severity.
        level: LogLevel,
        /// Which part speaks.
        logger: Option<String>,
        /// Any JSON.
        data: Value,
    },
    /// A change that subscribers should hear of.
    Publish(Change),
    /// End this request's SSE stream now, without an answer; the client resumes it (2025-11-25 polling).
    /// Ignored where that cannot be done.
    DropStream {
        /// The `retry:` hint in milliseconds.
        retry_ms: u32,
    },
    /// The handler's own answer.
    Step(Step),
}

/// A change of the catalog or of a resource, told to every subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
    /// The resource with this URI.
    Resource(String),
}

/// Where the events of a deferred call go. Implemented by the shard: a bounded channel and a doorbell.
pub trait ReplySink: Send + Sync {
    /// Hands over one event; callable from any thread, never blocks. `false` when it could not be taken.
    fn send(&self, event: CallEvent) -> bool;
}

/// Makes the sink of a deferred call; most calls never need one.
pub type Defer<'c> = &'c dyn Fn() -> Arc<dyn ReplySink>;

/// One call of a handler. Owned, so that it can travel to another thread (see [`Call::detach`]).
pub struct Call {
    /// The tool's or prompt's name, or the resource's URI.
    pub name: String,
    /// Arguments, already valid against the input schema (tools); strings by name (prompts); template
    /// variables (resources).
    pub arguments: Value,
    /// Responses of the client to the last [`NeedInput`]; empty on the first round.
    pub responses: InputResponses,
    /// The state of the last [`NeedInput`].
    pub state: Option<Value>,
    /// The revision this client speaks.
    pub version: Version,
    /// What this client can do.
    pub client: ClientCapabilities,
    /// Events of an inline call, in order; the shard takes them after the step.
    pub events: Vec<CallEvent>,
    /// Where events go once the call was deferred.
    pub(crate) sink: Option<Arc<dyn ReplySink>>,
    /// Set when the caller has gone or cancelled.
    pub(crate) cancelled: Option<Arc<AtomicBool>>,
    /// The running catalog, to change it.
    pub(crate) catalog: Handle,
    /// Who runs slow work.
    pub(crate) runner: Arc<dyn Runner>,
}

impl Call {
    /// Whether the caller has gone or cancelled; long work should look now and then.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Reports progress (only sent if the request carried a progress token).
    pub fn progress(&mut self, progress: f64, total: Option<f64>, message: Option<String>) {
        self.emit(CallEvent::Progress { progress, total, message });
    }

    /// Writes a log message (only sent if the client asked for that level).
    pub fn log(&mut self, level: LogLevel, logger: Option<&str>, data: Value) {
        self.emit(CallEvent::Log { level, logger: logger.map(str::to_owned), data });
    }

    /// Tells every subscriber of a change.
    pub fn publish(&mut self, change: Change) {
        self.emit(CallEvent::Publish(change));
    }

    /// Hands over one event.
    pub fn emit(&mut self, event: CallEvent) {
        match &self.sink {
            Some(sink) => {
                sink.send(event);
            }
            None => self.events.push(event),
        }
    }

    /// The running catalog, to add or remove tools, resources and prompts.
    pub fn catalog(&self) -> &Handle {
        &self.catalog
    }

    /// Who runs slow work.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }
}
