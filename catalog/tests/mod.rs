//! Behaviour of a served catalog, seen from where the shard stands.

mod api;
mod builtin;
mod exec;
mod file;
mod lists;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use erlmcp_protocol::mcp::{
    ClientCapabilities, Content, InputResponses, RpcError, ToolResult, Version,
};
use serde_json::Value;

use crate::{
    Call, CallEvent, Catalog, Context, Handle, MakeSink, Outcome, ReplySink, Step, ThreadRunner,
};

/// Long enough that only a hang reaches it; it decides no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the shard is to a catalog: it makes calls and takes their events.
pub(crate) struct Stage {
    pub handle: Handle,
    context: Arc<Context>,
    pub version: Version,
    pub client: ClientCapabilities,
    pub responses: InputResponses,
    pub state: Option<Value>,
    sinks: Arc<Sinks>,
    mail: Receiver<CallEvent>,
}

struct Sinks {
    sender: Sender<CallEvent>,
    cancelled: Arc<AtomicBool>,
}

struct Sink {
    sender: Sender<CallEvent>,
    cancelled: Arc<AtomicBool>,
}

impl MakeSink for Sinks {
    fn sink(&self, _: u64) -> Arc<dyn ReplySink> {
        let (sender, cancelled) = (self.sender.clone(), Arc::clone(&self.cancelled));
        Arc::new(Sink { sender, cancelled })
    }
}

impl ReplySink for Sink {
    fn send(&self, event: CallEvent) -> bool {
        self.sender.send(event).is_ok()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Stage {
    pub fn new(catalog: Catalog) -> Stage {
        Stage::over(catalog.into_handle())
    }

    pub fn over(handle: Handle) -> Stage {
        let (sender, mail) = unbounded();
        let sinks = Arc::new(Sinks { sender, cancelled: Arc::default() });
        let context = Arc::new(Context {
            catalog: handle.clone(),
            runner: Arc::new(ThreadRunner::new(4).expect("threads")),
            sinks: Arc::clone(&sinks) as Arc<dyn MakeSink>,
        });
        let all = ClientCapabilities {
            roots: true,
            sampling: true,
            elicitation_form: true,
            ..ClientCapabilities::default()
        };
        Stage {
            handle,
            context,
            version: Version::V2026_07_28,
            client: all,
            responses: InputResponses::new(),
            state: None,
            sinks,
            mail,
        }
    }

    pub fn replace_runner(&mut self, runner: Arc<dyn crate::Runner>) {
        let Context { catalog, sinks, .. } = &*self.context;
        let (catalog, sinks) = (catalog.clone(), Arc::clone(sinks));
        self.context = Arc::new(Context { catalog, runner, sinks });
    }

    pub fn cancel(&self) {
        self.sinks.cancelled.store(true, Ordering::Relaxed);
    }

    pub fn call(&self, name: &str, arguments: Value) -> Call {
        let context = Arc::clone(&self.context);
        Call::new(context, 1, name, arguments, self.version, self.client)
            .resumed(self.responses.clone(), self.state.clone())
    }

    /// Calls a tool without waiting for an answer that comes later.
    #[track_caller]
    pub fn start(&self, name: &str, arguments: Value) -> (Vec<CallEvent>, Step) {
        let tool = Arc::clone(self.handle.snapshot().tool(name).expect("no such tool"));
        let mut call = self.call(name, arguments);
        let step = tool.run(&mut call);
        (call.events, step)
    }

    /// Waits for the answer of a call that was started.
    pub fn wait(&self) -> (Vec<CallEvent>, Step) {
        let mut events = Vec::new();
        loop {
            match self.mail.recv_timeout(PATIENCE).expect("no answer ever came") {
                CallEvent::Step(step) => return (events, step),
                event => events.push(event),
            }
        }
    }

    /// Calls a tool and waits for its answer, wherever it runs.
    #[track_caller]
    pub fn tool(&self, name: &str, arguments: Value) -> (Vec<CallEvent>, Step) {
        let (mut events, step) = self.start(name, arguments);
        if step != Step::Later {
            return (events, step);
        }
        let (later, step) = self.wait();
        events.extend(later);
        let tool = Arc::clone(self.handle.snapshot().tool(name).expect("no such tool"));
        (events, tool.check(step))
    }

    #[track_caller]
    pub fn prompt(&self, name: &str, arguments: Value) -> Step {
        let prompt = Arc::clone(self.handle.snapshot().prompt(name).expect("no such prompt"));
        prompt.run(&mut self.call(name, arguments))
    }

    pub fn read(&self, uri: &str) -> Option<Step> {
        let found = self.handle.snapshot().resource(uri)?;
        let step = found.run(&mut self.call(uri, Value::Null));
        Some(if step == Step::Later { found.check(self.wait().1) } else { step })
    }
}

/// The result of a tool, failed or not.
#[track_caller]
pub(crate) fn result(step: Step) -> ToolResult {
    match step {
        Step::Done(Outcome::Tool(result)) => result,
        step => panic!("not a tool result: {step:?}"),
    }
}

/// The one text of a successful result.
#[track_caller]
pub(crate) fn said(step: Step) -> String {
    let result = result(step);
    assert!(!result.is_error, "failed: {:?}", result.content);
    match result.content.as_slice() {
        [Content::Text(text)] => text.clone(),
        content => panic!("not one text: {content:?}"),
    }
}

/// The one text of a failed result.
#[track_caller]
pub(crate) fn failure(step: Step) -> String {
    let result = result(step);
    assert!(result.is_error, "did not fail: {:?}", result.content);
    match result.content.as_slice() {
        [Content::Text(text)] => text.clone(),
        content => panic!("not one text: {content:?}"),
    }
}

#[track_caller]
pub(crate) fn error(step: Step) -> RpcError {
    match step {
        Step::Error(error) => error,
        step => panic!("not a protocol error: {step:?}"),
    }
}
