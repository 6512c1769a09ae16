//! Tools: how they are written, and how they are run.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use erlmcp_protocol::mcp::{
    ClientCapabilities, HeaderParam, RpcError, ToolResult, Version, codes, header_params,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::call::{Call, Outcome, Step};
use crate::error::{CatalogError, check_name};
use crate::exec::{CONCURRENCY_MAX_DEFAULT, Exec};
use crate::offload::{self, Asynchronous, Blocking, Gate, Inline, guard};
use crate::reply::{Kind, internal_error};
use crate::schema::{self, Schema};
use crate::step::{IntoStep, failed};
use crate::wire::{Annotations, Icon, Since, ToolWire, per_version};

/// A tool as its author writes it. One of [`Tool::handler`], [`Tool::blocking`], [`Tool::future`] or
/// [`Tool::exec`] says what it does; [`crate::Builder::build`] reports a tool that says none.
pub struct Tool {
    name: String,
    title: Option<String>,
    description: Option<String>,
    icons: Vec<Icon>,
    input: Option<Value>,
    derived_input: Option<Value>,
    output: Option<Value>,
    annotations: Option<Annotations>,
    meta: Option<Value>,
    requires: ClientCapabilities,
    concurrency_max: Option<u32>,
    timeout: Option<Duration>,
    task: Option<TaskSupport>,
    task_ttl: Option<Duration>,
    poll_interval: Option<Duration>,
    body: Option<Body>,
}

/// Whether a tool's calls can become tasks (extension `io.modelcontextprotocol/tasks`): the call is
/// answered with an id at once, and the client comes back for the result. Only clients that declare
/// the extension are given tasks; others, and all legacy ones, wait for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSupport {
    /// A call that is not answered at once becomes a task.
    Optional,
    /// Every call becomes a task. A client without the extension cannot call the tool.
    Required,
}

/// How a tool's calls become tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskHints {
    /// Which calls do.
    pub support: TaskSupport,
    /// How long a task is kept from its creation on, milliseconds, if the tool says; the server's limit
    /// may be less.
    pub ttl_ms: Option<u64>,
    /// How long a client should wait between two looks, milliseconds.
    pub poll_interval_ms: u64,
}

/// What a client is told to wait between two looks at a task, unless its tool says otherwise.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

enum Body {
    Inline(Inline),
    Blocking(Blocking),
    Future(Asynchronous),
    Exec(Exec),
}

impl Tool {
    /// A tool of this name: 1–128 of `A–Z a–z 0–9 _ - .`, unique in its catalog.
    pub fn new(name: impl Into<String>) -> Tool {
        Tool {
            name: name.into(),
            title: None,
            description: None,
            icons: Vec::new(),
            input: None,
            derived_input: None,
            output: None,
            annotations: None,
            meta: None,
            requires: ClientCapabilities::default(),
            concurrency_max: None,
            timeout: None,
            task: None,
            task_ttl: None,
            poll_interval: None,
            body: None,
        }
    }

    /// The name people see.
    pub fn title(mut self, title: impl Into<String>) -> Tool {
        self.title = Some(title.into());
        self
    }

    /// What it does and when to use it, for the model.
    pub fn description(mut self, description: impl Into<String>) -> Tool {
        self.description = Some(description.into());
        self
    }

    /// One more icon.
    pub fn icon(mut self, icon: Icon) -> Tool {
        self.icons.push(icon);
        self
    }

    /// The schema of its arguments, instead of the one derived from the handler's argument type.
    /// The root must be `"type": "object"`; 2020-12 unless `$schema` says otherwise.
    pub fn input_schema(mut self, schema: Value) -> Tool {
        self.input = Some(schema);
        self
    }

    /// The schema of its `structuredContent`; every successful result is held to it.
    pub fn output_schema(mut self, schema: Value) -> Tool {
        self.output = Some(schema);
        self
    }

    /// The same, derived from a type. Answer with [`crate::Json`].
    pub fn output<T: JsonSchema>(self) -> Tool {
        self.output_schema(schema::derive::<T>())
    }

    /// Hints for clients.
    pub fn annotations(mut self, annotations: Annotations) -> Tool {
        self.annotations = Some(annotations);
        self
    }

    /// `_meta` of the tool in lists, an object (2025-06-18 and later).
    pub fn meta(mut self, meta: Value) -> Tool {
        self.meta = Some(meta);
        self
    }

    /// What a client must be able to do before this tool can be called at all.
    pub fn requires(mut self, capabilities: ClientCapabilities) -> Tool {
        self.requires = capabilities;
        self
    }

    /// How many calls may be off the shards at once; one more is told to retry. Only for
    /// [`Tool::blocking`], [`Tool::future`] and [`Tool::exec`]: inline calls are never concurrent on a shard.
    pub fn concurrency_max(mut self, calls: u32) -> Tool {
        self.concurrency_max = Some(calls);
        self
    }

    /// How long a call may take: a future is dropped then, a program killed. A blocking function cannot be
    /// taken back and must keep its own time.
    pub fn timeout(mut self, timeout: Duration) -> Tool {
        self.timeout = Some(timeout);
        self
    }

    /// Lets calls become tasks. The handler stays as it is. What it asks the client before it left the
    /// shard is asked before there is a task; what it asks later is asked by the task.
    pub fn task(mut self, support: TaskSupport) -> Tool {
        self.task = Some(support);
        self
    }

    /// How long a task is kept from its creation on, if that is less than what the server allows.
    pub fn task_ttl(mut self, ttl: Duration) -> Tool {
        self.task_ttl = Some(ttl);
        self
    }

    /// How long a client should wait between two looks at a task; a second unless said.
    pub fn poll_interval(mut self, interval: Duration) -> Tool {
        self.poll_interval = Some(interval);
        self
    }

    /// A quick function, run on the shard: a microsecond is fine, a millisecond is not.
    pub fn handler<A, R, F>(mut self, handler: F) -> Tool
    where
        A: DeserializeOwned + JsonSchema,
        R: IntoStep,
        F: Fn(A, &mut Call) -> R + Send + Sync + 'static,
    {
        self.derived_input = Some(schema::derive::<A>());
        self.body = Some(Body::Inline(Box::new(move |call| match parse(call) {
            Ok(arguments) => handler(arguments, call).into_step(),
            Err(step) => step,
        })));
        self
    }

    /// A function that may block, run on a thread of the runner.
    pub fn blocking<A, R, F>(mut self, handler: F) -> Tool
    where
        A: DeserializeOwned + JsonSchema,
        R: IntoStep,
        F: Fn(A, Call) -> R + Send + Sync + 'static,
    {
        self.derived_input = Some(schema::derive::<A>());
        self.body = Some(Body::Blocking(Arc::new(move |mut call| match parse(&mut call) {
            Ok(arguments) => handler(arguments, call).into_step(),
            Err(step) => step,
        })));
        self
    }

    /// An asynchronous function, run on the runner's executor.
    pub fn future<A, Fut, F>(mut self, handler: F) -> Tool
    where
        A: DeserializeOwned + JsonSchema,
        Fut: Future<Output: IntoStep> + 'static,
        F: Fn(A, Call) -> Fut + Send + Sync + 'static,
    {
        self.derived_input = Some(schema::derive::<A>());
        self.body = Some(Body::Future(Arc::new(move |mut call| match parse(&mut call) {
            Ok(arguments) => {
                let work = handler(arguments, call);
                Box::pin(async move { work.await.into_step() })
            }
            Err(step) => Box::pin(std::future::ready(step)),
        })));
        self
    }

    /// A program, started once per call.
    pub fn exec(mut self, program: Exec) -> Tool {
        self.body = Some(Body::Exec(program));
        self
    }

    /// Checks and compiles everything once, so that a call cannot meet a broken tool.
    pub(crate) fn finish(self) -> Result<ServedTool, CatalogError> {
        let name = self.name.clone();
        self.serve().map_err(|reason| CatalogError::item("tool", &name, reason))
    }

    fn serve(self) -> Result<ServedTool, String> {
        check_name(&self.name)?;
        let given = self.input.or(self.derived_input).unwrap_or(Value::Bool(true));
        let input_schema = schema::as_input(given);
        if !schema::is_object(&input_schema) {
            return Err("the root of the input schema must be \"type\": \"object\"".into());
        }
        let input = Schema::compile(&input_schema).map_err(|err| format!("input schema: {err}"))?;
        let header_params = header_params(&input_schema)?;
        let output = match &self.output {
            Some(schema) => {
                Some(Schema::compile(schema).map_err(|err| format!("output schema: {err}"))?)
            }
            None => None,
        };
        if self.meta.as_ref().is_some_and(|meta| !meta.is_object()) {
            return Err("`_meta` must be an object".into());
        }
        let task = match self.task {
            Some(support) => Some(task_hints(support, self.task_ttl, self.poll_interval)?),
            None if self.task_ttl.or(self.poll_interval).is_some() => {
                return Err("it has hints for tasks, but does not run as one".into());
            }
            None => None,
        };
        let mut requires = self.requires;
        requires.tasks |= self.task == Some(TaskSupport::Required);
        let gate = Gate::new(self.concurrency_max);
        let handler = match self.body.ok_or("it has no handler")? {
            Body::Inline(handler) => handler,
            Body::Blocking(handler) => offload::blocking(Kind::Tool, gate, handler),
            Body::Future(handler) => offload::asynchronous(Kind::Tool, gate, self.timeout, handler),
            Body::Exec(program) => {
                let program = match self.timeout {
                    Some(timeout) => program.timeout(timeout),
                    None => program,
                };
                program.check()?;
                let calls = self.concurrency_max.unwrap_or(CONCURRENCY_MAX_DEFAULT);
                let gate = Gate::new(Some(calls));
                offload::blocking(Kind::Tool, gate, Arc::new(move |call| program.run(call)))
            }
        };
        let json = per_version(|version| {
            let since = Since(version);
            let fits = |schema: &&Value| version.is_modern() || schema::is_object(schema);
            let wire = ToolWire {
                name: &self.name,
                title: since.title(self.title.as_deref()),
                description: self.description.as_deref(),
                icons: since.icons(&self.icons),
                input_schema: &input_schema,
                output_schema: since.when(Version::V2025_06_18, self.output.as_ref().filter(fits)),
                annotations: since.when(Version::V2025_03_26, self.annotations),
                meta: since.when(Version::V2025_06_18, self.meta.as_ref()),
            };
            serde_json::to_vec(&wire).unwrap_or_default()
        });
        let compiled = Compiled { requires, task, header_params, input, output, handler, json };
        Ok(ServedTool { compiled: Arc::new(compiled), name: self.name.into() })
    }
}

fn task_hints(
    support: TaskSupport,
    ttl: Option<Duration>,
    poll_interval: Option<Duration>,
) -> Result<TaskHints, String> {
    let whole_ms = |duration: Duration| match u64::try_from(duration.as_millis()) {
        Ok(ms @ 1..) => Ok(ms),
        _ => Err("a hint for tasks must be at least a millisecond, and some time within reach"),
    };
    let ttl_ms = ttl.map(whole_ms).transpose()?;
    let poll_interval_ms = whole_ms(poll_interval.unwrap_or(POLL_INTERVAL))?;
    Ok(TaskHints { support, ttl_ms, poll_interval_ms })
}

/// The arguments as the handler's type. They are moved, not copied: a resumed call is a new [`Call`].
fn parse<A: DeserializeOwned>(call: &mut Call) -> Result<A, Step> {
    serde_json::from_value(call.arguments.take())
        .map_err(|err| failed(format_args!("Invalid arguments: {err}")).into_step())
}

/// The arguments of a tool that takes none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// A tool as it is served: checked, compiled, its list entries serialised.
pub struct ServedTool {
    compiled: Arc<Compiled>,
    /// Goes into every call; a copy of this shard's own, like everything that is counted per call.
    name: Arc<str>,
}

struct Compiled {
    requires: ClientCapabilities,
    task: Option<TaskHints>,
    header_params: Vec<HeaderParam>,
    input: Schema,
    output: Option<Schema>,
    handler: Inline,
    json: [Vec<u8>; Version::COUNT],
}

impl ServedTool {
    /// The same tool with a reference count of its own (see [`crate::Snapshot::for_shard`]).
    pub(crate) fn for_shard(&self) -> ServedTool {
        ServedTool { compiled: Arc::clone(&self.compiled), name: Arc::from(&*self.name) }
    }

    pub(crate) fn json(&self) -> &[Vec<u8>; Version::COUNT] {
        &self.compiled.json
    }

    /// The name it is called by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, to be held by a call.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// What a client must be able to do before this tool can be called at all.
    pub fn requires(&self) -> &ClientCapabilities {
        &self.compiled.requires
    }

    /// How its calls become tasks; `None`: they do not.
    pub fn task(&self) -> Option<&TaskHints> {
        self.compiled.task.as_ref()
    }

    /// Arguments that modern clients mirror as headers; most tools have none.
    pub fn header_params(&self) -> &[HeaderParam] {
        &self.compiled.header_params
    }

    /// Runs one round: arguments are held to the schema, a panic is caught, a result is checked.
    ///
    /// Arguments that break the schema become an `isError` result in every revision (digest a.4), so that
    /// the model can correct itself; arguments that are not an object are a protocol error.
    pub fn run(&self, call: &mut Call) -> Step {
        if call.arguments.is_null() {
            call.arguments = Value::Object(Map::new());
        }
        if !call.arguments.is_object() {
            return Step::Error(RpcError::new(
                codes::INVALID_PARAMS,
                "params.arguments must be an object",
            ));
        }
        if let Err(violation) = self.compiled.input.check(&call.arguments) {
            return failed(format_args!("Invalid arguments: {violation}")).into_step();
        }
        let step = guard(|| (self.compiled.handler)(call));
        self.check(step)
    }

    /// Holds a successful result to the output schema (also to be used on a deferred answer).
    pub fn check(&self, step: Step) -> Step {
        match (&step, &self.compiled.output) {
            (Step::Done(Outcome::Tool(result)), Some(schema)) if !conforms(schema, result) => {
                internal_error()
            }
            (Step::Done(Outcome::Prompt(_) | Outcome::Resource(_)), _) => internal_error(),
            _ => step,
        }
    }
}

/// Digest c.2: a declared output schema binds successful results; errors carry no structured content.
fn conforms(schema: &Schema, result: &ToolResult) -> bool {
    let structured = result.structured.as_ref();
    result.is_error || structured.is_some_and(|value| schema.check(value).is_ok())
}
