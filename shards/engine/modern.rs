//! The modern era (2026-07-28): every request carries all it needs, any shard serves it, nothing is kept but
//! what is running and what listens.

use std::collections::BTreeSet;

use erlmcp_protocol::http::Head;
use erlmcp_protocol::jsonrpc::{self, Kind, Message};
use erlmcp_protocol::mcp::{
    self, CacheScope, HeaderField, Key as ParamKey, META_PREFIX, Method, ModernHeaders, Params,
    RpcError, Version, errors,
};

use super::caller::{CallOut, Caller, Takes};
use super::gate::header_field;
use super::listens::{Filter, Listen, ListenOut};
use super::methods::Failure;
use super::out::{self, Answer, Place};
use super::slots::Key;
use super::task_methods::require_tasks;
use super::{Engine, Waiter};
use crate::net::Net;
use crate::stats::OutcomeKind;

/// Bytes of a URI or id that may be subscribed to.
const SUBJECT_BYTES_MAX: usize = 8 * 1024;

impl Engine {
    pub(super) fn modern_post<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
        takes: Takes,
        message: &Message<'_>,
        params: &Params<'_>,
    ) {
        let Message::Request { id, method, .. } = message else {
            // Digest b.8: accepted and dropped. Acting on a posted `notifications/cancelled` would let one
            // caller cancel another's call by guessing an id (c.9).
            let accepted = Answer { status: 202, ..Answer::default() };
            return out::respond(net, self.me(), place, accepted);
        };
        let headers = ModernHeaders {
            protocol_version: header_field(head.mcp_protocol_version),
            method: header_field(head.mcp_method),
            name: header_field(head.mcp_name),
        };
        if let Err(refusal) = mcp::check_modern(method, params, Some(&headers)) {
            net.counters().error("modern_gate");
            return self.refuse(net, place, Some(id.raw()), &refusal);
        }
        let out = CallOut::Modern { place, open: false };
        let caller = self.modern_caller(net, out, takes, id.raw(), method, params);
        let lookup = |name: &str| -> HeaderField<'_> {
            header_field(head.field(&format!("Mcp-Param-{name}")))
        };
        self.modern_request(net, &caller, params, Some(&lookup));
    }

    /// A caller whose envelope passed the gate.
    pub(super) fn modern_caller<'m, N: Net>(
        &self,
        net: &N,
        out: CallOut,
        takes: Takes,
        id: &'m str,
        method: &str,
        params: &Params<'m>,
    ) -> Caller<'m> {
        Caller {
            out,
            takes,
            id,
            method: Method::parse(method),
            version: Version::V2026_07_28,
            client: params.meta.client_capabilities.map(|(_, client)| client).unwrap_or_default(),
            session: None,
            progress_token: params.meta.progress_token,
            log_level: params.meta.log_level.and_then(Result::ok),
            started_us: net.micros(),
        }
    }

    pub(super) fn modern_request<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
        headers: super::methods::HeaderLookup<'_>,
    ) {
        match caller.method {
            Method::Discover => self.discover(net, caller),
            Method::Listen => {
                if let Err(Failure { status, error }) = self.listen(net, caller, params) {
                    self.answer_error(net, caller, status, &error);
                }
            }
            Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => {
                if let Err(Failure { status, error }) = self.task_method(net, caller, params) {
                    self.answer_error(net, caller, status, &error);
                }
            }
            _ => self.serve(net, caller, params, headers),
        }
    }

    fn discover<N: Net>(&mut self, net: &mut N, caller: &Caller<'_>) {
        let snapshot = self.snapshot.clone();
        let ttl = self.config.limits.list_ttl_ms;
        self.answer(net, caller, OutcomeKind::Ok, |out| {
            let capabilities = snapshot.capabilities_json(Version::V2026_07_28);
            let info = Some(snapshot.server_info_json());
            mcp::write_discover(
                out,
                capabilities,
                snapshot.instructions(),
                ttl,
                CacheScope::Public,
                info,
            );
        });
    }

    /// `subscriptions/listen` (digest c.10).
    fn listen<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        let raw = params.require(ParamKey::Notifications, &params.notifications)?;
        let mut filter = self.accepted_filter(net, caller, raw)?;
        if !caller.takes.sse {
            let why = "subscriptions/listen answers with text/event-stream; Accept must admit it";
            return Err(Failure::new(406, errors::invalid_request(why)));
        }
        let (out, on_pipe) = match caller.out {
            CallOut::Modern { place, .. } => (ListenOut::Http(place), 0),
            CallOut::Pipe(conn) => (ListenOut::Pipe(conn), self.pipes.listens(conn)),
            _ => return Err(errors::internal_error().into()),
        };
        if on_pipe >= self.config.limits.subscriptions_max as usize
            || self.listens.len() >= self.config.limits.listens_max as usize
        {
            net.counters().error("listens_full");
            let error =
                RpcError::new(mcp::codes::INTERNAL_ERROR, "Too many subscriptions; end one first");
            return Err(error.into());
        }
        self.watch_tasks(net, &mut filter);
        let acknowledgement = acknowledgement(caller.id, &filter);
        // Registered before the acknowledgement is queued: nothing can fall in between, and nothing can
        // overtake it, for this thread writes both.
        let tasks = filter.tasks.clone();
        let key =
            self.listens.insert(Listen { out, id: caller.id.into(), filter, lagging: Vec::new() });
        self.count_request(net, caller, OutcomeKind::Ok);
        net.counters().messages_out += 1;
        match out {
            ListenOut::Http(place) => {
                self.waiters.insert(place, Waiter::Listen(key));
                out::open(net, self.me(), place, &out::event(&acknowledgement, None));
            }
            ListenOut::Pipe(conn) => {
                self.pipes.add_listen(conn, key);
                net.counters().streams_active += 1; // Of HTTP streams their connection keeps count.
                out::pipe(net, conn, &acknowledgement);
            }
        }
        self.tell_tasks(net, key, &tasks);
        Ok(())
    }

    /// Requested ∩ offered; what is false, unknown or empty is left out.
    fn accepted_filter<N: Net>(
        &self,
        net: &N,
        caller: &Caller<'_>,
        raw: &jsonrpc::Raw<'_>,
    ) -> Result<Filter, Failure> {
        let mut filter = Filter::default();
        for (name, value) in raw.members() {
            match name.as_ref() {
                "toolsListChanged" => {
                    filter.tools = flag(&name, value)? && self.snapshot.has_tools()
                }
                "promptsListChanged" => {
                    filter.prompts = flag(&name, value)? && self.snapshot.has_prompts();
                }
                "resourcesListChanged" => {
                    filter.resources = flag(&name, value)? && self.snapshot.has_resources();
                }
                "resourceSubscriptions" => {
                    let uris = self.subjects(&name, value)?;
                    if self.snapshot.has_resources() {
                        filter.uris = uris;
                    }
                }
                "taskIds" if self.snapshot.has_tasks() => {
                    require_tasks(caller)?;
                    filter.tasks = self.accepted_tasks(net, self.subjects(&name, value)?);
                }
                _ => {}
            }
        }
        Ok(filter)
    }

    /// The URIs or ids that are subscribed to, each once.
    fn subjects(&self, name: &str, value: jsonrpc::Raw<'_>) -> Result<Box<[Box<str>]>, RpcError> {
        let wrong = || {
            let why = format!("notifications.{name} must be an array of strings, not too long");
            errors::invalid_params(why)
        };
        if value.kind() != Kind::Array {
            return Err(wrong());
        }
        let mut uris = BTreeSet::new();
        for item in value.items() {
            let uri =
                item.as_str().filter(|uri| uri.len() <= SUBJECT_BYTES_MAX).ok_or_else(wrong)?;
            uris.insert(Box::from(uri.as_ref()));
            if uris.len() > self.config.limits.subscriptions_max as usize {
                let why = format!("Too many {name} in one request");
                return Err(errors::invalid_params(why));
            }
        }
        Ok(uris.into_iter().collect())
    }

    /// Ends a listen stream from our side: its result, then the end (digest c.10.7), over HTTP before `last`.
    pub(super) fn end_listen<N: Net>(&mut self, net: &mut N, key: Key, last: &[u8]) {
        let Some(listen) = self.listens.remove(key) else { return };
        let mut result = Vec::with_capacity(160);
        result.extend_from_slice(br#"{"resultType":"complete","_meta":{"#);
        stamp(&mut result, &listen.id);
        result.extend_from_slice(b"}}");
        let mut text = self.take_scratch();
        jsonrpc::write_result(&mut text, &listen.id, &result);
        net.counters().messages_out += 1;
        match listen.out {
            ListenOut::Http(place) => {
                self.waiters.remove(&place);
                out::end(net, self.me(), place, &[&*out::event(&text, None), last].concat());
            }
            ListenOut::Pipe(conn) => {
                self.pipes.remove_listen(conn, key);
                net.counters().streams_active -= 1;
                out::pipe(net, conn, &text);
            }
        }
        self.put_scratch(text);
    }
}

/// `"io.modelcontextprotocol/subscriptionId":<id>`.
pub(super) fn stamp(out: &mut Vec<u8>, id: &str) {
    out.push(b'"');
    out.extend_from_slice(META_PREFIX.as_bytes());
    out.extend_from_slice(b"subscriptionId\":");
    out.extend_from_slice(id.as_bytes());
}

fn flag(name: &str, value: jsonrpc::Raw<'_>) -> Result<bool, RpcError> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(errors::invalid_params(format!("notifications.{name} must be a boolean"))),
    }
}

/// `notifications/subscriptions/acknowledged`, with what was accepted.
fn acknowledgement(id: &str, filter: &Filter) -> Vec<u8> {
    let mut params = Vec::with_capacity(160);
    params.extend_from_slice(br#"{"_meta":{"#);
    stamp(&mut params, id);
    params.extend_from_slice(br#"},"notifications":{"#);
    let start = params.len();
    let key = |params: &mut Vec<u8>, name: &str| {
        if params.len() > start {
            params.push(b',');
        }
        mcp::write_json_str(params, name);
        params.push(b':');
    };
    for (accepted, name) in [
        (filter.tools, "toolsListChanged"),
        (filter.prompts, "promptsListChanged"),
        (filter.resources, "resourcesListChanged"),
    ] {
        if accepted {
            key(&mut params, name);
            params.extend_from_slice(b"true");
        }
    }
    for (subjects, name) in [(&filter.uris, "resourceSubscriptions"), (&filter.tasks, "taskIds")] {
        if subjects.is_empty() {
            continue;
        }
        key(&mut params, name);
        for (index, subject) in subjects.iter().enumerate() {
            params.push(if index == 0 { b'[' } else { b',' });
            mcp::write_json_str(&mut params, subject);
        }
        params.push(b']');
    }
    params.extend_from_slice(b"}}");
    let mut text = Vec::with_capacity(params.len() + 80);
    jsonrpc::write_notification(&mut text, "notifications/subscriptions/acknowledged", &params);
    text
}
