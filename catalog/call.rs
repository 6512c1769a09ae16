//! What a handler sees and what it may answer.
//!
//! A handler is a function of a [`Call`] to a [`Step`]. It runs on the shard and must be quick; a slow one
//! takes [`Call::defer`], returns [`Step::Later`] and completes the [`Reply`] from any thread. The builder's
//! `blocking` and `future` handlers are made of exactly that.

use std::sync::Arc;

use erlmcp_protocol::mcp::{
    ClientCapabilities, InputRequest, InputResponses, LogLevel, PromptResult, ResourceContents,
    RpcError, ToolResult, Version,
};
use serde_json::Value;

use crate::Handle;
use crate::reply::{Kind, Reply};
use crate::runner::Runner;

/// What a handler returns.
#[derive(Debug, PartialEq)]
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
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Of `tools/call`.
    Tool(ToolResult),
    /// Of `prompts/get`.
    Prompt(PromptResult),
    /// Of `resources/read`; never empty.
    Resource(Vec<ResourceContents>),
}

/// One round of questions to the client (digest c.11).
#[derive(Debug, Default, PartialEq)]
pub struct NeedInput {
    /// What is asked; may be empty if `state` is given (ask the client to retry).
    pub requests: Vec<InputRequest>,
    /// Comes back in [`Call::state`] on the retry; sealed on its way through a modern client.
    pub state: Option<Value>,
}

/// Something that happens while a call runs.
#[derive(Debug, PartialEq)]
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
    /// A [`CallEvent::Step`] must always find room (reserve it when the sink is made): it comes once, last.
    fn send(&self, event: CallEvent) -> bool;

    /// Whether the caller has gone or cancelled.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Makes the sink of a deferred call. Most calls never need one, so that it costs them nothing.
pub trait MakeSink: Send + Sync {
    /// The sink for the call with this ticket. The shard chose the ticket when it made the [`Call`].
    fn sink(&self, ticket: u64) -> Arc<dyn ReplySink>;
}

/// What all calls of one shard have in common. One per shard: its reference count is touched by every call,
/// and a count shared between cores would be paid for by all of them.
pub struct Context {
    /// The running catalog.
    pub catalog: Handle,
    /// Who runs slow work.
    pub runner: Arc<dyn Runner>,
    /// Where deferred calls answer.
    pub sinks: Arc<dyn MakeSink>,
}

/// W3C trace context and baggage, as the request's `_meta` carried them (digest b.3). Not checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// `tracestate`.
    pub tracestate: Option<String>,
    /// `baggage`.
    pub baggage: Option<String>,
}

/// One call of a handler. Owned, so that it can travel to another thread (see [`Call::detach`]).
pub struct Call {
    /// The tool's or prompt's name, or the resource's URI.
    pub name: Arc<str>,
    /// Arguments, already valid against the input schema (tools); strings by name (prompts); template
    /// variables (resources). A typed handler has moved them out.
    pub arguments: Value,
    /// Responses of the client to the last [`NeedInput`]; empty on the first round.
    pub responses: InputResponses,
    /// The state of the last [`NeedInput`].
    pub state: Option<Value>,
    /// The revision this client speaks.
    pub version: Version,
    /// What this client can do.
    pub client: ClientCapabilities,
    /// Where this call stands in a distributed trace, if the client said so; hand it on to what you call.
    pub trace: Option<Box<TraceContext>>,
    /// Events of an inline call, in order; the shard takes them after the step and before its answer.
    pub events: Vec<CallEvent>,
    context: Arc<Context>,
    ticket: u64,
    /// Made when the call is deferred.
    sink: Option<Arc<dyn ReplySink>>,
    /// Whether events go to the sink (this call left its shard) or to `events`.
    detached: bool,
}

impl Call {
    /// A first-round call. `ticket` is given back to [`MakeSink::sink`] should the handler defer its answer.
    pub fn new(
        context: Arc<Context>,
        ticket: u64,
        name: impl Into<Arc<str>>,
        arguments: Value,
        version: Version,
        client: ClientCapabilities,
    ) -> Call {
        Call {
            name: name.into(),
            arguments,
            responses: InputResponses::new(),
            state: None,
            version,
            client,
            trace: None,
            events: Vec::new(),
            context,
            ticket,
            sink: None,
            detached: false,
        }
    }

    /// The same call on a later round.
    pub fn resumed(mut self, responses: InputResponses, state: Option<Value>) -> Call {
        self.responses = responses;
        self.state = state;
        self
    }

    /// The same call as part of a distributed trace.
    pub fn traced(mut self, trace: Option<Box<TraceContext>>) -> Call {
        self.trace = trace;
        self
    }

    /// Whether the caller has gone or cancelled; long work should look now and then. Always `false` inline.
    pub fn is_cancelled(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.is_cancelled())
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
            Some(sink) if self.detached => {
                sink.send(event);
            }
            _ => self.events.push(event),
        }
    }

    /// Promises an answer from elsewhere: return [`Step::Later`] and complete the reply from any thread.
    /// Events emitted on this `Call` still go out with the step; later ones through the [`Reply`].
    /// A reply dropped without an answer becomes an internal error.
    pub fn defer(&mut self) -> Reply {
        Reply::new(Arc::clone(self.open_sink()), None)
    }

    /// The same for work that has still to be queued: dropped before [`Reply::begin`] it answers "busy".
    pub(crate) fn defer_queued(&mut self, kind: Kind) -> Reply {
        Reply::new(Arc::clone(self.open_sink()), Some(kind))
    }

    /// Whether a reply was taken: something may be said about this call from elsewhere.
    pub fn is_deferred(&self) -> bool {
        self.sink.is_some()
    }

    /// Takes the call out of the shard's hands, so that it can move to another thread. What it emits from
    /// then on goes to the caller at once. Only meaningful together with [`Call::defer`].
    pub fn detach(&mut self) -> Call {
        let sink = Arc::clone(self.open_sink());
        Call {
            name: Arc::clone(&self.name),
            arguments: self.arguments.take(),
            responses: std::mem::take(&mut self.responses),
            state: self.state.take(),
            version: self.version,
            client: self.client,
            trace: self.trace.take(),
            events: Vec::new(),
            context: Arc::clone(&self.context),
            ticket: self.ticket,
            sink: Some(sink),
            detached: true,
        }
    }

    /// The running catalog, to add or remove tools, resources and prompts.
    pub fn catalog(&self) -> &Handle {
        &self.context.catalog
    }

    /// Who runs slow work.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.context.runner
    }

    fn open_sink(&mut self) -> &Arc<dyn ReplySink> {
        self.sink.get_or_insert_with(|| self.context.sinks.sink(self.ticket))
    }
}
