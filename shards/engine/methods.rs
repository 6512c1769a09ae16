//! What was asked, once the era's gate is passed: lists, reads, calls, prompts, completion. The same code
//! serves both eras; where their answers differ, [`Caller::version`] decides.

use std::sync::Arc;

use erlmcp_catalog::{ListKind, TraceContext};
use erlmcp_protocol::jsonrpc::Raw;
use erlmcp_protocol::mcp::{
    self, CacheScope, HeaderField, InputResponses, Key as ParamKey, Method, Params, RpcError,
    codes, errors,
};
use serde_json::{Map, Value, json};

use super::Engine;
use super::caller::Caller;
use super::calls::{Invocation, Target};
use crate::net::Net;
use crate::stats::OutcomeKind;

/// How tools look up `Mcp-Param-*` headers; `None` where there are no headers to check.
pub type HeaderLookup<'l> = Option<&'l dyn Fn(&str) -> HeaderField<'l>>;

/// An error of a request, with the HTTP status the modern era gives it.
pub struct Failure {
    pub status: u16,
    pub error: RpcError,
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        // Digest b.8: what is wrong after the envelope passed travels in a 200.
        Self { status: 200, error }
    }
}

impl Failure {
    pub fn new(status: u16, error: RpcError) -> Self {
        Self { status, error }
    }
}

impl Engine {
    /// Serves a method that both eras have; answers it now or later.
    pub(super) fn serve<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
        headers: HeaderLookup<'_>,
    ) {
        let served = match caller.method {
            Method::ToolsList => self.list(net, caller, params, ListKind::Tools),
            Method::PromptsList => self.list(net, caller, params, ListKind::Prompts),
            Method::ResourcesList => self.list(net, caller, params, ListKind::Resources),
            Method::ResourceTemplatesList => self.list(net, caller, params, ListKind::Templates),
            Method::ToolsCall => self.call_tool(net, caller, params, headers),
            Method::PromptsGet => self.get_prompt(net, caller, params),
            Method::ResourcesRead => self.read_resource(net, caller, params),
            Method::Complete => self.complete(net, caller, params),
            other => Err(self.not_offered(caller, other)),
        };
        if let Err(Failure { status, error }) = served {
            self.answer_error(net, caller, status, &error);
        }
    }

    /// -32601, with 404 in the modern era (digest b.8).
    fn not_offered(&self, caller: &Caller<'_>, method: Method) -> Failure {
        let status = if caller.version.is_modern() { 404 } else { 200 };
        Failure::new(status, errors::method_not_found(method.as_str()))
    }

    /// A capability is a promise, both ways (digest b.4).
    fn require(&self, caller: &Caller<'_>, offered: bool) -> Result<(), Failure> {
        if offered { Ok(()) } else { Err(self.not_offered(caller, caller.method)) }
    }

    fn list<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
        kind: ListKind,
    ) -> Result<(), Failure> {
        let snapshot = self.snapshot.clone();
        let (key, offered) = match kind {
            ListKind::Tools => ("tools", snapshot.has_tools()),
            ListKind::Prompts => ("prompts", snapshot.has_prompts()),
            ListKind::Resources => ("resources", snapshot.has_resources()),
            ListKind::Templates => ("resourceTemplates", snapshot.has_resources()),
        };
        self.require(caller, offered)?;
        let scope = snapshot.fingerprint();
        let offset = match params.optional(ParamKey::Cursor, &params.cursor)? {
            None => 0,
            Some(cursor) => self
                .config
                .keys
                .open_cursor(kind as u8, scope, cursor)
                .ok_or_else(errors::invalid_cursor)?,
        };
        let (items, next) = snapshot
            .list(kind, caller.version, offset, self.config.limits.page_size)
            .ok_or_else(errors::invalid_cursor)?;
        let next = next.map(|offset| self.config.keys.seal_cursor(kind as u8, scope, offset));
        let (ttl, version) = (self.config.limits.list_ttl_ms, caller.version);
        let info = version.is_modern().then(|| snapshot.server_info_json());
        self.answer(net, caller, OutcomeKind::Ok, |out| {
            let next = next.as_deref();
            mcp::write_list_page(out, key, items, next, version, ttl, CacheScope::Public, info);
        });
        Ok(())
    }

    fn call_tool<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
        headers: HeaderLookup<'_>,
    ) -> Result<(), Failure> {
        self.require(caller, self.snapshot.has_tools())?;
        let name = params.require(ParamKey::Name, &params.name)?;
        let tool = self.snapshot.tool(name).cloned().ok_or_else(|| errors::unknown_tool(name))?;
        let missing = missing_capabilities(tool.requires(), &caller.client);
        if !missing.is_empty() {
            if caller.version.is_modern() {
                return Err(Failure::new(400, errors::missing_capability(&missing)));
            }
            let text = format!("This tool needs a client that declares {}", missing.join(", "));
            let outcome = erlmcp_catalog::Outcome::Tool(erlmcp_catalog::failed(text));
            self.answer_outcome(net, caller, &outcome, &Target::Tool(tool));
            return Ok(());
        }
        let arguments = arguments(params)?;
        if let (Some(lookup), false) = (headers, tool.header_params().is_empty()) {
            mcp::check_header_params(tool.header_params(), &arguments, lookup)
                .map_err(|error| Failure::new(400, error))?;
        }
        let name = tool.shared_name();
        self.invoke_target(net, caller, params, Target::Tool(tool), name, arguments)
    }

    fn get_prompt<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        self.require(caller, self.snapshot.has_prompts())?;
        let name = params.require(ParamKey::Name, &params.name)?;
        let prompt =
            self.snapshot.prompt(name).cloned().ok_or_else(|| errors::unknown_prompt(name))?;
        let arguments = arguments(params)?;
        self.invoke_target(
            net,
            caller,
            params,
            Target::Prompt(prompt),
            Arc::from(name.as_ref()),
            arguments,
        )
    }

    fn read_resource<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        self.require(caller, self.snapshot.has_resources())?;
        let uri = params.require(ParamKey::Uri, &params.uri)?;
        let found = self
            .snapshot
            .resource(uri)
            .ok_or_else(|| errors::resource_not_found(caller.version, uri))?;
        let target = Target::Resource(found);
        self.invoke_target(net, caller, params, target, Arc::from(uri.as_ref()), Value::Null)
    }

    fn invoke_target<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
        target: Target,
        name: Arc<str>,
        arguments: Value,
    ) -> Result<(), Failure> {
        let again = match params.arguments {
            Some(raw) if !arguments.is_null() => raw.get(),
            _ if arguments.is_null() => "null",
            _ => "{}",
        };
        let mut invocation = Invocation {
            target,
            name,
            arguments,
            responses: InputResponses::new(),
            state: None,
            rounds: 0,
            trace: trace_context(params),
            again,
        };
        // Digest c.11: only the modern era retries with responses; older peers' stray members are ignored.
        if caller.version.is_modern() {
            self.resume_state(net, caller, params, &mut invocation)?;
        }
        self.invoke(net, caller, invocation);
        Ok(())
    }

    /// Takes up `inputResponses` and `requestState` of a retry.
    fn resume_state<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
        invocation: &mut Invocation<'_>,
    ) -> Result<(), Failure> {
        if let Some(raw) = params.optional(ParamKey::InputResponses, &params.input_responses)? {
            let map: Map<String, Value> = parse(raw)?;
            if map.values().any(|value| !value.is_object()) {
                return Err(
                    errors::invalid_params("inputResponses must be an object of objects").into()
                );
            }
            invocation.responses = map;
        }
        if let Some(text) = params.optional(ParamKey::RequestState, &params.request_state)? {
            let purpose = purpose(caller.method, &invocation.name, invocation.again);
            let now = net.unix_ms();
            let opened = self.config.keys.open_state(text, &purpose, now);
            let Ok(payload) = opened else {
                net.counters().error("request_state_refused");
                return Err(errors::invalid_state().into());
            };
            let sealed: SealedState =
                serde_json::from_slice(&payload).map_err(|_| errors::invalid_state())?;
            invocation.state = Some(sealed.state);
            invocation.rounds = sealed.rounds;
        }
        Ok(())
    }

    /// Seals a handler's state for its way through the client.
    pub(super) fn seal_state<N: Net>(
        &self,
        net: &mut N,
        state: &Value,
        rounds: u32,
        purpose: &[u8],
    ) -> Result<String, RpcError> {
        let payload = json!({ "rounds": rounds, "state": state }).to_string();
        let mut nonce = [0; erlmcp_protocol::seal::NONCE_BYTES];
        net.random(&mut nonce);
        let expires = net.unix_ms() + self.config.limits.request_state_ttl_ms;
        self.config.keys.seal_state(nonce, purpose, expires, payload.as_bytes()).map_err(|_| {
            net.counters().error("request_state_too_large");
            RpcError::new(codes::INTERNAL_ERROR, "The handler's state is too large to seal")
        })
    }

    fn complete<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        self.require(caller, self.snapshot.has_completions())?;
        let reference: Value = parse(params.require(ParamKey::Ref, &params.reference)?)?;
        let argument: Value = parse(params.require(ParamKey::Argument, &params.argument)?)?;
        let context: Option<Value> = match params.optional(ParamKey::Context, &params.context)? {
            Some(raw) => Some(parse(raw)?),
            None => None,
        };
        let snapshot = self.snapshot.clone();
        let completion = snapshot.complete(&reference, &argument, context.as_ref())?;
        let info = caller.version.is_modern().then(|| snapshot.server_info_json());
        self.answer(net, caller, OutcomeKind::Ok, |out| {
            mcp::write_completion(out, &completion, caller.version, info);
        });
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct SealedState {
    rounds: u32,
    state: Value,
}

/// What a request state is bound to: the method, the name or URI, and the arguments, whatever their order
/// (digest c.11: a state given for one call must not open another).
pub fn purpose(method: Method, name: &str, arguments: &str) -> Vec<u8> {
    // Through a value, so that the order of members does not matter.
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    let arguments = arguments.to_string();
    let mut purpose = Vec::with_capacity(64 + arguments.len());
    for part in [method.as_str(), name, &arguments] {
        purpose.extend_from_slice(&(part.len() as u64).to_le_bytes());
        purpose.extend_from_slice(part.as_bytes());
    }
    purpose
}

/// Kept for the handler (digest b.3); most requests have none, and pay nothing.
fn trace_context(params: &Params<'_>) -> Option<Box<TraceContext>> {
    let mcp::Meta { traceparent, tracestate, baggage, .. } = &params.meta;
    if traceparent.is_none() && tracestate.is_none() && baggage.is_none() {
        return None;
    }
    let owned = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    Some(Box::new(TraceContext {
        traceparent: owned(traceparent),
        tracestate: owned(tracestate),
        baggage: owned(baggage),
    }))
}

fn arguments(params: &Params<'_>) -> Result<Value, RpcError> {
    match params.optional(ParamKey::Arguments, &params.arguments)? {
        Some(raw) => parse(raw),
        None => Ok(Value::Object(Map::new())),
    }
}

/// Reads one of the params whole.
pub fn parse<T: serde::de::DeserializeOwned>(raw: &Raw<'_>) -> Result<T, RpcError> {
    serde_json::from_str(raw.get())
        .map_err(|error| errors::invalid_params(format!("params cannot be read: {error}")))
}

fn missing_capabilities(
    needed: &mcp::ClientCapabilities,
    client: &mcp::ClientCapabilities,
) -> Vec<&'static str> {
    [
        (needed.roots, client.roots, "roots"),
        (needed.sampling, client.sampling, "sampling"),
        (needed.sampling_tools, client.sampling_tools, "sampling.tools"),
        (needed.sampling_context, client.sampling_context, "sampling.context"),
        (needed.elicitation_form, client.elicitation_form, "elicitation"),
        (needed.elicitation_url, client.elicitation_url, "elicitation.url"),
        (needed.tasks, client.tasks, mcp::TASKS_EXTENSION),
    ]
    .into_iter()
    .filter_map(|(needed, has, path)| (needed && !has).then_some(path))
    .collect()
}

/// The name of an input method's capability, for -32021.
pub fn capability_of(method: mcp::InputMethod) -> &'static str {
    match method {
        mcp::InputMethod::ElicitForm => "elicitation",
        mcp::InputMethod::ElicitUrl => "elicitation.url",
        mcp::InputMethod::Sample => "sampling",
        mcp::InputMethod::Roots => "roots",
    }
}
