//! HTTP: who may call which path with which method, and the status gates before a message is looked at
//! (digest b.8, b.9, b.11, b.12). All statuses are decided before the first byte.

use erlmcp_protocol::http::{
    CORS_ALLOW_HEADERS, CORS_ALLOW_METHODS, Denied, Field, Head, Method as HttpMethod, is_json,
};
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{self, Era, HeaderField, Params, Refusal, RpcError, errors};
use erlmcp_protocol::ws;

use super::Engine;
use super::caller::Takes;
use super::out::{self, Answer, Place};
use super::task_methods::looks_after_tasks;
use crate::net::{Exchange, Headers, Net};

/// Seconds a browser may keep a preflight's answer.
const CORS_MAX_AGE: &str = "600";
/// Longest `Host` that is remembered, bytes: that of a domain name and a port (RFC 1035 §2.3.4).
const HOST_BYTES_KEPT: usize = 255 + 6;
/// Bytes of requested headers a preflight may name.
const CORS_REQUEST_BYTES_MAX: usize = 4096;

/// Seconds after which a refused client may come back, at least; up to twice as much is added at random.
const RETRY_AFTER_SECONDS: u32 = 1;
/// The same for streams, milliseconds, and how much is added at random.
const RETRY_MS_MIN: u32 = 250;
const RETRY_MS_SPREAD: u32 = 1000;
const DRAINING: &str = "The server is draining; retry in a moment";

impl Engine {
    pub(super) fn http_request<N: Net>(
        &mut self,
        net: &mut N,
        to: Exchange,
        head: &Head<'_>,
        body: &[u8],
    ) {
        match self.may_call(head) {
            Ok(None) => {}
            Ok(Some(origin)) => net.allow_origin(to, origin),
            Err(denied) => {
                net.counters().error(denied.reason());
                let headers = Headers { content_type: Some("text/plain"), ..Headers::default() };
                return net.respond(to, 403, headers, denied.to_string().as_bytes());
            }
        }
        match (head.path, head.method) {
            ("/mcp" | "/sse" | "/messages", HttpMethod::Options) => preflight(net, to, head),
            ("/mcp", HttpMethod::Post) => self.post(net, to, head, body),
            ("/mcp", HttpMethod::Get) => self.get(net, to, head),
            ("/mcp", HttpMethod::Delete) => self.delete(net, to, head),
            ("/mcp", _) => not_allowed(net, to, "POST, GET, DELETE, OPTIONS"),
            ("/sse", HttpMethod::Get) => self.open_sse(net, to, head),
            ("/sse", _) => not_allowed(net, to, "GET, OPTIONS"),
            ("/messages", HttpMethod::Post) => self.post_message(net, to, head, body),
            ("/messages", _) => not_allowed(net, to, "POST, OPTIONS"),
            ("/mcp/ws", HttpMethod::Get) => self.upgrade(net, to, head),
            ("/mcp/ws", _) => not_allowed(net, to, "GET"),
            ("/health", HttpMethod::Get | HttpMethod::Head) => self.health(net, to),
            ("/health", _) => not_allowed(net, to, "GET, HEAD"),
            _ => {
                net.counters().error("path_unknown");
                let headers = Headers { content_type: Some("text/plain"), ..Headers::default() };
                let text = "no such path: MCP is served at /mcp, /sse, /messages and /mcp/ws";
                net.respond(to, 404, headers, text.as_bytes());
            }
        }
    }

    /// Judges `Origin` and `Host`. Nearly all requests of a shard name the same host, so the last one that was
    /// allowed is remembered: that costs a comparison of bytes.
    fn may_call<'h>(&mut self, head: &Head<'h>) -> Result<Option<&'h str>, Denied> {
        let Field::One(host) = head.host else { return self.config.access.check(head) };
        if head.origin.is_absent() && host == &*self.allowed_host {
            return Ok(None);
        }
        let verdict = self.config.access.check(head)?;
        if host.len() <= HOST_BYTES_KEPT && host != &*self.allowed_host {
            self.allowed_host = host.into();
        }
        Ok(verdict)
    }

    fn health<N: Net>(&mut self, net: &mut N, to: Exchange) {
        let headers = Headers { content_type: Some(out::JSON), ..Headers::default() };
        if self.is_leaving() {
            net.respond(to, 503, headers, br#"{"status":"draining"}"#);
        } else {
            net.respond(to, 200, headers, br#"{"status":"ok"}"#);
        }
    }

    fn post<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>, body: &[u8]) {
        let place = self.here(to);
        if !is_json(&head.content_type) {
            net.counters().error("content_type");
            let error = errors::invalid_request("Content-Type must be application/json");
            return self.refuse(net, place, None, &Refusal::new(415, error));
        }
        let accepts = head.accepts();
        let takes = Takes { json: accepts.json, sse: accepts.sse };
        if !takes.json && !takes.sse {
            net.counters().error("accept");
            let why = "Accept must admit application/json or text/event-stream";
            return self.refuse(net, place, None, &Refusal::new(406, errors::invalid_request(why)));
        }
        let token = self.named_session(head);
        if let Some(token) = &token
            && self.pass_on(net, place, head, takes, token, body)
        {
            return;
        }
        let mut params = Params::default();
        let (message, read) = match mcp::parse_message(body, &mut params) {
            Ok(read) => read,
            Err(malformed) => {
                net.counters().error("malformed_message");
                let refusal = Refusal::bad_request(malformed.error);
                return self.refuse(net, place, malformed.id.as_deref(), &refusal);
            }
        };
        net.counters().messages_in += 1;
        // Responses and cancellations still pass, and what looks after tasks: work in flight needs them.
        let is_new_work = match &message {
            Message::Request { method, .. } => !looks_after_tasks(method),
            Message::Batch(_) => true,
            Message::Notification { .. } | Message::Response { .. } => false,
        };
        // A session may have an owner that does not leave.
        let may_follow = !head.mcp_session_id.is_absent() && self.may_follow();
        if is_new_work && !may_follow && self.refuse_while_draining(net, to) {
            return;
        }
        let id = message.request_id();
        if let Err(error) = read {
            return self.refuse(net, place, id, &Refusal::bad_request(error));
        }
        let version = header_field(head.mcp_protocol_version);
        match mcp::http_era(&message, Some(&params), &version) {
            Ok(Era::Modern) if is_new_work && self.refuse_while_draining(net, to) => {}
            Ok(Era::Modern) => self.modern_post(net, place, head, takes, &message, &params),
            Ok(Era::Legacy) => {
                self.legacy_post(net, place, head, takes, token, &message, &params, body);
            }
            Err(refusal) => self.refuse(net, place, id, &refusal),
        }
    }

    /// While draining only what is in flight goes on; the client is told when to come back, and where is up
    /// to the load balancer.
    pub(super) fn refuse_while_draining<N: Net>(&mut self, net: &mut N, to: Exchange) -> bool {
        if self.is_leaving() {
            net.counters().error("refused_draining");
            self.refuse_busy(net, to, DRAINING);
        }
        self.is_leaving()
    }

    /// The same for an exchange anywhere, whose session is here.
    pub(super) fn refuse_leaving<N: Net>(&mut self, net: &mut N, place: Place) {
        if place.at == self.me() {
            self.refuse_while_draining(net, place.exchange);
            return;
        }
        net.counters().error("refused_draining");
        let retry_after = Some(retry_after(net));
        let mut text = self.take_scratch();
        let error = RpcError::new(mcp::codes::INTERNAL_ERROR, DRAINING);
        jsonrpc::write_error(&mut text, None, &error);
        let answer = Answer { status: 503, body: &text, retry_after, ..Answer::default() };
        out::respond(net, self.me(), place, answer);
        self.put_scratch(text);
    }

    /// 503 with a jittered `Retry-After`: a crowd that was refused together must not return together.
    pub(super) fn refuse_busy<N: Net>(&mut self, net: &mut N, to: Exchange, why: &'static str) {
        let error = RpcError::new(mcp::codes::INTERNAL_ERROR, why);
        self.refuse_retryable(net, to, None, &error);
    }

    /// The same with an error of the caller's.
    pub(super) fn refuse_retryable<N: Net>(
        &mut self,
        net: &mut N,
        to: Exchange,
        id: Option<&str>,
        error: &RpcError,
    ) {
        let retry_after = Some(retry_after(net));
        let mut text = self.take_scratch();
        jsonrpc::write_error(&mut text, id, error);
        let headers = Headers {
            content_type: Some(out::JSON),
            retry_after,
            close: true,
            ..Headers::default()
        };
        net.respond(to, 503, headers, &text);
        self.put_scratch(text);
    }

    /// Answers an exchange with an error before anything was run.
    pub(super) fn refuse<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        id: Option<&str>,
        refusal: &Refusal,
    ) {
        let Refusal { status, error } = refusal;
        net.counters().request("refused", crate::stats::OutcomeKind::RpcError);
        let mut text = self.take_scratch();
        jsonrpc::write_error(&mut text, id, error);
        let answer = Answer { status: *status, body: &text, ..Answer::default() };
        out::respond(net, self.me(), place, answer);
        self.put_scratch(text);
    }

    fn upgrade<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>) {
        if self.refuse_while_draining(net, to) {
            return;
        }
        let accept = ws::check_handshake(
            head.method == HttpMethod::Get,
            !head.http_1_0,
            head.connection_upgrade,
            head.upgrade.as_str(),
            head.ws_version.as_str(),
            head.ws_key.as_str(),
        );
        match accept {
            Ok(key) => {
                // RFC 6455 §11.3.4: the list may come in several fields.
                let mut fields = head
                    .fields()
                    .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
                    .filter_map(|(_, value)| std::str::from_utf8(value).ok());
                let chosen = fields.find_map(|offered| ws::select_subprotocol(Some(offered)));
                net.upgrade(to, key.as_str(), chosen);
            }
            Err(error) => {
                net.counters().error("websocket_handshake");
                let headers = Headers {
                    content_type: Some("text/plain"),
                    extra: error.fields(),
                    ..Headers::default()
                };
                net.respond(to, error.status(), headers, error.to_string().as_bytes());
            }
        }
    }
}

/// Seconds a refused client is told to wait: one to three, at random.
pub(super) fn retry_after<N: Net>(net: &mut N) -> u32 {
    let mut random = [0; 1];
    net.random(&mut random);
    RETRY_AFTER_SECONDS + u32::from(random[0]) % (2 * RETRY_AFTER_SECONDS + 1)
}

/// Milliseconds after which the client of a stream that we ended may come back: a quarter of a second and up to one more.
pub(super) fn retry_ms<N: Net>(net: &mut N) -> u32 {
    let mut random = [0; 2];
    net.random(&mut random);
    RETRY_MS_MIN + u32::from(u16::from_le_bytes(random)) % RETRY_MS_SPREAD
}

/// The same field, as the MCP rules see it.
pub(super) fn header_field(field: Field<'_>) -> HeaderField<'_> {
    match field {
        Field::Absent => HeaderField::Absent,
        Field::One(value) => HeaderField::One(value),
        Field::Many => HeaderField::Many,
    }
}

/// Digest b.12: answered before anything else is asked. `Mcp-Param-*` fields are named back, as a browser
/// must have them confirmed one by one.
fn preflight<N: Net>(net: &mut N, to: Exchange, head: &Head<'_>) {
    let mut allowed = String::from(CORS_ALLOW_HEADERS);
    let requested = head.field("access-control-request-headers");
    for name in requested.as_str().unwrap_or_default().split(',').map(str::trim) {
        let is_param = name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("mcp-param-"));
        let is_token =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if is_param && is_token && allowed.len() + name.len() < CORS_REQUEST_BYTES_MAX {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
    }
    let extra = [
        ("Access-Control-Allow-Methods", CORS_ALLOW_METHODS),
        ("Access-Control-Allow-Headers", allowed.as_str()),
        ("Access-Control-Max-Age", CORS_MAX_AGE),
    ];
    net.respond(to, 204, Headers { extra: &extra, ..Headers::default() }, b"");
}

fn not_allowed<N: Net>(net: &mut N, to: Exchange, allow: &'static str) {
    net.counters().error("method_not_allowed");
    net.respond(to, 405, Headers { allow: Some(allow), ..Headers::default() }, b"");
}

/// Digest b.8: GET and DELETE do not exist in the modern era.
pub(super) fn is_modern_header(head: &Head<'_>) -> bool {
    header_field(head.mcp_protocol_version)
        .as_text()
        .and_then(mcp::Version::parse)
        .is_some_and(mcp::Version::is_modern)
}

/// 405 for the methods the modern era has dropped.
pub(super) fn refuse_modern_method<N: Net>(net: &mut N, to: Exchange) {
    not_allowed(net, to, "POST");
}
