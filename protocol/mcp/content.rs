//! The values that travel in MCP results, as one internal model.
//!
//! Handlers build these; `write_*` functions serialise them for a given [`super::Version`], leaving
//! out or replacing what that revision does not know (digest c.18).

use serde_json::{Map, Value};

/// One content block of a tool result or prompt message.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Base64 image and its MIME type.
    Image {
        /// Standard Base64.
        data: String,
        /// E.g. `image/png`.
        mime_type: String,
    },
    /// Base64 audio and its MIME type (2025-03-26 and later; text for older peers).
    Audio {
        /// Standard Base64.
        data: String,
        /// E.g. `audio/wav`.
        mime_type: String,
    },
    /// A resource embedded whole.
    Resource(ResourceContents),
    /// A link to a resource (2025-06-18 and later; text with the URI for older peers).
    ResourceLink {
        /// The resource's URI.
        uri: String,
        /// Its name.
        name: String,
        /// Its MIME type.
        mime_type: Option<String>,
        /// What it is.
        description: Option<String>,
    },
}

/// The bytes of a resource as `resources/read` returns them.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceContents {
    /// The URI as the client sent it.
    pub uri: String,
    /// MIME type, when known.
    pub mime_type: Option<String>,
    /// Text or Base64.
    pub body: ResourceBody,
}

/// Text, or a Base64 blob.
#[derive(Debug, Clone, PartialEq)]
pub enum ResourceBody {
    /// UTF-8 text.
    Text(String),
    /// Standard Base64.
    Blob(String),
}

/// What `tools/call` answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolResult {
    /// Content blocks, in order.
    pub content: Vec<Content>,
    /// `structuredContent`; omitted for peers older than 2025-06-18 and on errors.
    pub structured: Option<Value>,
    /// The tool itself failed; the text says what to fix.
    pub is_error: bool,
}

/// Who speaks in a prompt message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The user.
    User,
    /// The assistant.
    Assistant,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptMessage {
    /// Speaker.
    pub role: Role,
    /// Exactly one block.
    pub content: Content,
}

/// What `prompts/get` answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PromptResult {
    /// What the prompt is for.
    pub description: Option<String>,
    /// Messages, in order.
    pub messages: Vec<PromptMessage>,
}

/// What `completion/complete` answers: at most 100 values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    /// Ranked values.
    pub values: Vec<String>,
    /// How many there are in all, when known.
    pub total: Option<u64>,
    /// Whether more exist than were returned.
    pub has_more: bool,
}

/// Severity of a log message (RFC 5424 names), low to high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are RFC 5424's own.
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    /// All levels, low to high.
    pub const ALL: [LogLevel; 8] = [
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Notice,
        LogLevel::Warning,
        LogLevel::Error,
        LogLevel::Critical,
        LogLevel::Alert,
        LogLevel::Emergency,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Notice => "notice",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
            LogLevel::Alert => "alert",
            LogLevel::Emergency => "emergency",
        }
    }

    /// The level with this name.
    pub fn parse(name: &str) -> Option<LogLevel> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// What a client declared it can do. Only these may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCapabilities {
    /// `roots`.
    pub roots: bool,
    /// `sampling`.
    pub sampling: bool,
    /// `sampling.tools`.
    pub sampling_tools: bool,
    /// `sampling.context`.
    pub sampling_context: bool,
    /// `elicitation` in form mode (`{}` or `form`).
    pub elicitation_form: bool,
    /// `elicitation.url`.
    pub elicitation_url: bool,
    /// The tasks extension, `extensions["io.modelcontextprotocol/tasks"]`.
    pub tasks: bool,
}

/// One thing a handler needs from the client before it can go on (digest c.11).
#[derive(Debug, Clone, PartialEq)]
pub struct InputRequest {
    /// Key, unique within one round; the response comes back under it.
    pub key: String,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub method: InputMethod,
    /// Its params.
    pub params: Value,
}

/// The three requests a server may make of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputMethod {
    /// `elicitation/create`, form mode.
    ElicitForm,
    /// `elicitation/create`, url mode.
    ElicitUrl,
    /// `sampling/createMessage`.
    Sample,
    /// `roots/list`.
    Roots,
}

impl InputMethod {
    /// The method on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            InputMethod::ElicitForm | InputMethod::ElicitUrl => "elicitation/create",
            InputMethod::Sample => "sampling/createMessage",
            InputMethod::Roots => "roots/list",
        }
    }

    /// Whether the client declared that it answers this.
    pub const fn allowed_by(self, client: &ClientCapabilities) -> bool {
        match self {
            InputMethod::ElicitForm => client.elicitation_form,
            InputMethod::ElicitUrl => client.elicitation_url,
            InputMethod::Sample => client.sampling,
            InputMethod::Roots => client.roots,
        }
    }
}

/// Responses to a round of [`InputRequest`]s, by key.
pub type InputResponses = Map<String, Value>;

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// Code, see [`codes`].
    pub code: i32,
    /// One short sentence.
    pub message: std::borrow::Cow<'static, str>,
    /// Optional data.
    pub data: Option<Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i32, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The same with `data`.
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }
}

/// Error codes (digest a.3).
pub mod codes {
    /// Bytes are not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// JSON, but not a valid message here.
    pub const INVALID_REQUEST: i32 = -32600;
    /// Unknown or unoffered method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// Bad params.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Our fault.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// Legacy only: no such resource.
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// Modern: header missing, malformed, or different from the body.
    pub const HEADER_MISMATCH: i32 = -32020;
    /// Modern: the request did not declare a capability that is needed.
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// Modern: version not served.
    pub const UNSUPPORTED_VERSION: i32 = -32022;
}
