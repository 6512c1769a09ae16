//! Results and params as bytes, each for the revision its reader speaks (digest a.6, c.18): what is
//! absent is left out and never `null`; what an older revision does not know is left out or
//! replaced.

use serde_json::Value;

use super::{
    Completion, Content, InputMethod, InputRequest, LogLevel, PromptResult, ResourceBody,
    ResourceContents, Role, ToolResult, Version,
};
pub use crate::jsonrpc::{write_f64, write_json_str, write_value};

/// Values of one completion (digest c.5).
pub const COMPLETION_VALUES_MAX: usize = 100;

/// Who may keep a cached result (modern only; no access control).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScope {
    /// Anyone may share it across users.
    Public,
    /// Only within the same authorization.
    Private,
}

impl CacheScope {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            CacheScope::Public => "public",
            CacheScope::Private => "private",
        }
    }
}

/// What `tools/call` answers. `server_info`: JSON for `_meta`, only told to modern peers.
pub fn write_tool_result(
    out: &mut Vec<u8>,
    result: &ToolResult,
    version: Version,
    server_info: Option<&[u8]>,
) {
    let mut object = Object::complete(out, version);
    write_content_list(object.key("content"), &result.content, version);
    if let Some(structured) = structured_for(result, version) {
        write_value(object.key("structuredContent"), structured);
    }
    if result.is_error {
        object.key("isError").extend_from_slice(b"true");
    }
    object.end(version, server_info);
}

/// Digest c.2: not on errors; objects since 2025-06-18, any value since 2026-07-28.
fn structured_for(result: &ToolResult, version: Version) -> Option<&Value> {
    let structured = result.structured.as_ref().filter(|_| !result.is_error)?;
    let known = version.is_modern()
        || version >= Version::V2025_06_18 && matches!(structured, Value::Object(_));
    known.then_some(structured)
}

/// What `prompts/get` answers.
pub fn write_prompt_result(
    out: &mut Vec<u8>,
    result: &PromptResult,
    version: Version,
    server_info: Option<&[u8]>,
) {
    let mut object = Object::complete(out, version);
    if let Some(description) = &result.description {
        write_json_str(object.key("description"), description);
    }
    let out = object.key("messages");
    write_list(out, &result.messages, |out, message| {
        let role: &[u8] = match message.role {
            Role::User => br#"{"role":"user","content":"#,
            Role::Assistant => br#"{"role":"assistant","content":"#,
        };
        out.extend_from_slice(role);
        write_content(out, &message.content, version);
        out.push(b'}');
    });
    object.end(version, server_info);
}

/// What `resources/read` answers; the last three arguments are for modern peers only.
pub fn write_read_result(
    out: &mut Vec<u8>,
    contents: &[ResourceContents],
    version: Version,
    ttl_ms: u64,
    cache_scope: CacheScope,
    server_info: Option<&[u8]>,
) {
    let mut object = Object::complete(out, version);
    write_list(object.key("contents"), contents, write_resource);
    object.cache_hints(version, ttl_ms, cache_scope);
    object.end(version, server_info);
}

/// What `completion/complete` answers: the first [`COMPLETION_VALUES_MAX`] values.
pub fn write_completion(
    out: &mut Vec<u8>,
    completion: &Completion,
    version: Version,
    server_info: Option<&[u8]>,
) {
    let shown = completion.values.len().min(COMPLETION_VALUES_MAX);
    let has_more = completion.has_more || shown < completion.values.len();
    let mut object = Object::complete(out, version);
    let mut inner = Object::begin(object.key("completion"));
    write_list(inner.key("values"), &completion.values[..shown], |out, text| {
        write_json_str(out, text);
    });
    if let Some(total) = completion.total {
        write_u64(inner.key("total"), total);
    }
    if has_more {
        inner.key("hasMore").extend_from_slice(b"true");
    }
    inner.close();
    object.end(version, server_info);
}

/// Modern: the call needs the client's input first (digest c.11). One of the two must be there.
pub fn write_input_required(
    out: &mut Vec<u8>,
    requests: &[InputRequest],
    request_state: Option<&str>,
    server_info: Option<&[u8]>,
) {
    let version = Version::V2026_07_28;
    let mut object = Object::begin(out);
    object.key("resultType").extend_from_slice(br#""input_required""#);
    if !requests.is_empty() {
        write_input_requests(object.key("inputRequests"), requests);
    }
    if let Some(state) = request_state {
        write_json_str(object.key("requestState"), state);
    }
    object.end(version, server_info);
}

/// Modern: requests to the client as an object, each under its key.
pub(super) fn write_input_requests(out: &mut Vec<u8>, requests: &[InputRequest]) {
    let mut object = Object::begin(out);
    for request in requests {
        let mut entry = Object::begin(object.escaped_key(&request.key));
        write_json_str(entry.key("method"), request.method.as_str());
        if !request.params.is_null() {
            write_input_params(entry.key("params"), request, Version::V2026_07_28, None);
        }
        entry.close();
    }
    object.close();
}

/// The params of a request to the client, as its revision wants them: `mode` of a form is unknown
/// before 2025-11-25, and `elicitationId` of a url belongs to 2025-11-25 alone (`elicitation_id`,
/// unless the handler gave one). `null` params are written as `{}`.
pub fn write_input_params(
    out: &mut Vec<u8>,
    request: &InputRequest,
    version: Version,
    elicitation_id: Option<&str>,
) {
    const ID: &str = "elicitationId";
    let mut object = Object::begin(out);
    let elicits = matches!(request.method, InputMethod::ElicitForm | InputMethod::ElicitUrl);
    let with_id = request.method == InputMethod::ElicitUrl && version == Version::V2025_11_25;
    match request.method {
        InputMethod::ElicitForm if version >= Version::V2025_11_25 => {
            write_json_str(object.key("mode"), "form");
        }
        InputMethod::ElicitUrl => write_json_str(object.key("mode"), "url"),
        _ => {}
    }
    if let Some(id) = elicitation_id.filter(|_| with_id && request.params.get(ID).is_none()) {
        write_json_str(object.key(ID), id);
    }
    if let Value::Object(params) = &request.params {
        for (name, value) in params {
            if !(elicits && (name == "mode" || name == ID && !with_id)) {
                write_value(object.escaped_key(name), value);
            }
        }
    }
    object.close();
}

/// Params of `notifications/progress`. `token` is the raw token of the request.
pub fn write_progress(
    out: &mut Vec<u8>,
    token: &str,
    progress: f64,
    total: Option<f64>,
    message: Option<&str>,
    version: Version,
) {
    let mut object = Object::begin(out);
    object.key("progressToken").extend_from_slice(token.as_bytes());
    write_f64(object.key("progress"), progress);
    if let Some(total) = total {
        write_f64(object.key("total"), total);
    }
    if let Some(message) = message.filter(|_| version >= Version::V2025_03_26) {
        write_json_str(object.key("message"), message);
    }
    object.close();
}

/// Params of `notifications/message`.
pub fn write_log(out: &mut Vec<u8>, level: LogLevel, logger: Option<&str>, data: &Value) {
    let mut object = Object::begin(out);
    write_json_str(object.key("level"), level.as_str());
    if let Some(logger) = logger {
        write_json_str(object.key("logger"), logger);
    }
    write_value(object.key("data"), data);
    object.close();
}

/// One page of a list. `key` is `tools`, `prompts`, `resources` or `resourceTemplates`;
/// `items_json` are its objects with commas between; the last three arguments are for modern peers
/// only.
#[allow(clippy::too_many_arguments)] // One flat result; a struct would be spelled out at its one caller.
pub fn write_list_page(
    out: &mut Vec<u8>,
    key: &str,
    items_json: &[u8],
    next_cursor: Option<&str>,
    version: Version,
    ttl_ms: u64,
    cache_scope: CacheScope,
    server_info: Option<&[u8]>,
) {
    let mut object = Object::complete(out, version);
    let out = object.key(key);
    out.push(b'[');
    out.extend_from_slice(items_json);
    out.push(b']');
    if let Some(cursor) = next_cursor {
        write_json_str(object.key("nextCursor"), cursor);
    }
    object.cache_hints(version, ttl_ms, cache_scope);
    object.end(version, server_info);
}

/// What `server/discover` answers (modern). `capabilities`: JSON of the server's capabilities.
pub fn write_discover(
    out: &mut Vec<u8>,
    capabilities: &[u8],
    instructions: Option<&str>,
    ttl_ms: u64,
    cache_scope: CacheScope,
    server_info: Option<&[u8]>,
) {
    let version = Version::V2026_07_28;
    let mut object = Object::complete(out, version);
    // All of them, newest first: who shares no modern one with us learns that `initialize` will
    // work.
    write_list(object.key("supportedVersions"), &Version::ALL, |out, version| {
        write_json_str(out, version.as_str());
    });
    object.key("capabilities").extend_from_slice(capabilities);
    if let Some(instructions) = instructions {
        write_json_str(object.key("instructions"), instructions);
    }
    object.cache_hints(version, ttl_ms, cache_scope);
    object.end(version, server_info);
}

/// What `initialize` answers (legacy); `version` is the one agreed, see [`Version::negotiate`].
pub fn write_initialize(
    out: &mut Vec<u8>,
    version: Version,
    capabilities: &[u8],
    server_info: &[u8],
    instructions: Option<&str>,
) {
    let mut object = Object::begin(out);
    write_json_str(object.key("protocolVersion"), version.as_str());
    object.key("capabilities").extend_from_slice(capabilities);
    object.key("serverInfo").extend_from_slice(server_info);
    if let Some(instructions) = instructions {
        write_json_str(object.key("instructions"), instructions);
    }
    object.close();
}

/// A result that says nothing but that it is done: `{}` to legacy peers.
pub fn write_empty_result(out: &mut Vec<u8>, version: Version, server_info: Option<&[u8]>) {
    Object::complete(out, version).end(version, server_info);
}

/// One content block, as `version` knows it (digest c.18).
pub fn write_content(out: &mut Vec<u8>, content: &Content, version: Version) {
    match content {
        Content::Text(text) => write_text_block(out, text),
        Content::Image { data, mime_type } => write_media(out, "image", data, mime_type),
        Content::Audio { data, mime_type } if version >= Version::V2025_03_26 => {
            write_media(out, "audio", data, mime_type);
        }
        Content::Audio { mime_type, .. } => {
            let text = format!("[{mime_type} audio, which this protocol version cannot carry]");
            write_text_block(out, &text);
        }
        Content::Resource(resource) => {
            let mut object = Object::begin(out);
            write_json_str(object.key("type"), "resource");
            write_resource(object.key("resource"), resource);
            object.close();
        }
        Content::ResourceLink { uri, name, mime_type, description }
            if version >= Version::V2025_06_18 =>
        {
            let mut object = Object::begin(out);
            write_json_str(object.key("type"), "resource_link");
            write_json_str(object.key("uri"), uri);
            write_json_str(object.key("name"), name);
            if let Some(mime_type) = mime_type {
                write_json_str(object.key("mimeType"), mime_type);
            }
            if let Some(description) = description {
                write_json_str(object.key("description"), description);
            }
            object.close();
        }
        Content::ResourceLink { uri, name, .. } => {
            write_text_block(out, &format!("{name}: {uri}"));
        }
    }
}

fn write_content_list(out: &mut Vec<u8>, content: &[Content], version: Version) {
    write_list(out, content, |out, block| write_content(out, block, version));
}

fn write_text_block(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(br#"{"type":"text","text":"#);
    write_json_str(out, text);
    out.push(b'}');
}

fn write_media(out: &mut Vec<u8>, kind: &str, data: &str, mime_type: &str) {
    let mut object = Object::begin(out);
    write_json_str(object.key("type"), kind);
    write_json_str(object.key("data"), data);
    write_json_str(object.key("mimeType"), mime_type);
    object.close();
}

fn write_resource(out: &mut Vec<u8>, resource: &ResourceContents) {
    let mut object = Object::begin(out);
    write_json_str(object.key("uri"), &resource.uri);
    if let Some(mime_type) = &resource.mime_type {
        write_json_str(object.key("mimeType"), mime_type);
    }
    match &resource.body {
        ResourceBody::Text(text) => write_json_str(object.key("text"), text),
        ResourceBody::Blob(blob) => write_json_str(object.key("blob"), blob),
    }
    object.close();
}

fn write_list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub(super) fn write_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// An object being written: knows when a comma is due.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Members of an object whose braces others write.
    pub(super) fn bare(out: &'o mut Vec<u8>) -> Self {
        Self { out, empty: true }
    }

    /// A final result. Modern clients must be told that it is one.
    pub(super) fn complete(out: &'o mut Vec<u8>, version: Version) -> Self {
        let mut object = Self::begin(out);
        if version.is_modern() {
            object.key("resultType").extend_from_slice(br#""complete""#);
        }
        object
    }

    /// Writes a key of ours, which needs no escape; the caller writes its value.
    pub(super) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Members that were written before, at least one.
    pub(super) fn members(&mut self, json: &[u8]) {
        self.comma();
        self.out.extend_from_slice(json);
    }

    /// Writes any key.
    fn escaped_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        write_json_str(self.out, key);
        self.out.push(b':');
        self.out
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
    }

    /// Digest c.1: strict clients drop a whole list without them; legacy peers know nothing of
    /// them.
    fn cache_hints(&mut self, version: Version, ttl_ms: u64, scope: CacheScope) {
        if version.is_modern() {
            write_u64(self.key("ttlMs"), ttl_ms);
            write_json_str(self.key("cacheScope"), scope.as_str());
        }
    }

    /// Ends a result, with who we are for modern peers.
    pub(super) fn end(mut self, version: Version, server_info: Option<&[u8]>) {
        if let Some(server_info) = server_info.filter(|_| version.is_modern()) {
            let out = self.key("_meta");
            out.extend_from_slice(br#"{"io.modelcontextprotocol/serverInfo":"#);
            out.extend_from_slice(server_info);
            out.push(b'}');
        }
        self.close();
    }

    fn close(self) {
        self.out.push(b'}');
    }
}
