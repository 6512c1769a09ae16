//! The params of every method in one pass: what is named below is picked out, the rest is ignored.
//!
//! Nothing is refused here because a *type* is wrong: `level: 5` is an unknown member to
//! `tools/list` and invalid to `logging/setLevel`. So a wrong type is marked, and told by whoever
//! asks for the key.

use std::borrow::Cow;

use super::{Meta, RpcError, errors};
use crate::jsonrpc::{self, Id, Kind, Malformed, Message, Raw, ReadMembers};

/// Members of params that some method reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // `as_str` is the name on the wire.
pub enum Key {
    Meta,
    Name,
    Uri,
    Arguments,
    Cursor,
    InputResponses,
    RequestState,
    TaskId,
    Level,
    RequestId,
    Reason,
    Ref,
    Argument,
    Context,
    Notifications,
    ProtocolVersion,
    Capabilities,
    ClientInfo,
}

impl Key {
    fn parse(name: &str) -> Option<Key> {
        Some(match name {
            "_meta" => Key::Meta,
            "name" => Key::Name,
            "uri" => Key::Uri,
            "arguments" => Key::Arguments,
            "cursor" => Key::Cursor,
            "inputResponses" => Key::InputResponses,
            "requestState" => Key::RequestState,
            "taskId" => Key::TaskId,
            "level" => Key::Level,
            "requestId" => Key::RequestId,
            "reason" => Key::Reason,
            "ref" => Key::Ref,
            "argument" => Key::Argument,
            "context" => Key::Context,
            "notifications" => Key::Notifications,
            "protocolVersion" => Key::ProtocolVersion,
            "capabilities" => Key::Capabilities,
            "clientInfo" => Key::ClientInfo,
            _ => return None,
        })
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Key::Meta => "_meta",
            Key::Name => "name",
            Key::Uri => "uri",
            Key::Arguments => "arguments",
            Key::Cursor => "cursor",
            Key::InputResponses => "inputResponses",
            Key::RequestState => "requestState",
            Key::TaskId => "taskId",
            Key::Level => "level",
            Key::RequestId => "requestId",
            Key::Reason => "reason",
            Key::Ref => "ref",
            Key::Argument => "argument",
            Key::Context => "context",
            Key::Notifications => "notifications",
            Key::ProtocolVersion => "protocolVersion",
            Key::Capabilities => "capabilities",
            Key::ClientInfo => "clientInfo",
        }
    }

    /// What its value must be, as an error says it.
    const fn shape(self) -> &'static str {
        match self {
            Key::RequestId => "a string or an integer",
            Key::Meta
            | Key::Arguments
            | Key::InputResponses
            | Key::Ref
            | Key::Argument
            | Key::Context
            | Key::Notifications
            | Key::Capabilities
            | Key::ClientInfo => "an object",
            _ => "a string",
        }
    }
}

/// A set of [`Key`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Keys(u32);

impl Keys {
    fn insert(&mut self, key: Key) -> bool {
        let before = self.0;
        self.0 |= 1 << key as u32;
        before != self.0
    }

    fn contains(self, key: Key) -> bool {
        self.0 & 1 << key as u32 != 0
    }
}

/// The params of a message. A field is `None` if its key is absent or of the wrong type
/// ([`Params::check`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params<'b> {
    /// `_meta`.
    pub meta: Meta<'b>,
    /// `name`.
    pub name: Option<Cow<'b, str>>,
    /// `uri`.
    pub uri: Option<Cow<'b, str>>,
    /// `arguments`, an object.
    pub arguments: Option<Raw<'b>>,
    /// `cursor`.
    pub cursor: Option<Cow<'b, str>>,
    /// `inputResponses`, an object.
    pub input_responses: Option<Raw<'b>>,
    /// `requestState`.
    pub request_state: Option<Cow<'b, str>>,
    /// `taskId`.
    pub task_id: Option<Cow<'b, str>>,
    /// `level`.
    pub level: Option<Cow<'b, str>>,
    /// `requestId` of `notifications/cancelled`.
    pub request_id: Option<Id<'b>>,
    /// `reason` of `notifications/cancelled`.
    pub reason: Option<Cow<'b, str>>,
    /// `ref` of `completion/complete`, an object.
    pub reference: Option<Raw<'b>>,
    /// `argument` of `completion/complete`, an object.
    pub argument: Option<Raw<'b>>,
    /// `context` of `completion/complete`, an object.
    pub context: Option<Raw<'b>>,
    /// `notifications` of `subscriptions/listen`, an object.
    pub notifications: Option<Raw<'b>>,
    /// `protocolVersion` of `initialize`.
    pub protocol_version: Option<Cow<'b, str>>,
    /// `capabilities` of `initialize`, an object.
    pub capabilities: Option<Raw<'b>>,
    /// `clientInfo` of `initialize`, an object.
    pub client_info: Option<Raw<'b>>,
    wrong: Keys,
}

/// Reads a message and its params in one pass. `params` are to be default ones; what is no request and no notification
/// leaves them so. They are large, and so filled where they are.
#[allow(clippy::type_complexity)] // The two results of two questions.
pub fn parse_message<'b>(
    bytes: &'b [u8],
    params: &mut Params<'b>,
) -> Result<(Message<'b>, Result<(), RpcError>), Malformed> {
    let (message, read) = jsonrpc::parse_with(bytes, |members| read_members(members, params))?;
    if matches!(message, Message::Request { .. } | Message::Notification { .. }) {
        return Ok((message, read));
    }
    *params = Params::default();
    Ok((message, Ok(())))
}

/// Reads params. The only errors: a known key stands twice, or params are no object.
pub fn parse_params(raw: Option<Raw<'_>>) -> Result<Params<'_>, RpcError> {
    match raw {
        None => Ok(Params::default()),
        Some(raw) if raw.kind() == Kind::Object => {
            let mut params = Params::default();
            read_members(&mut raw.members(), &mut params)?;
            Ok(params)
        }
        Some(_) => Err(errors::invalid_params("params must be an object")),
    }
}

fn read_members<'b, M: ReadMembers<'b>>(
    members: &mut M,
    params: &mut Params<'b>,
) -> Result<(), RpcError> {
    let mut seen = Keys::default();
    while let Some(name) = members.next_key() {
        let Some(key) = Key::parse(&name) else {
            members.value();
            continue;
        };
        if !seen.insert(key) {
            return Err(errors::invalid_params(format!("params.{} stands twice", key.as_str())));
        }
        // The longest of all, and read in any case: its end is found by reading it.
        if key == Key::Meta
            && let Some(read) = members.within(|members| params.meta.read(members))
        {
            read?;
            continue;
        }
        if !params.set(key, members.value())? {
            params.wrong.insert(key);
        }
    }
    Ok(())
}

impl<'b> Params<'b> {
    /// Whether the value was of the right type.
    fn set(&mut self, key: Key, value: Raw<'b>) -> Result<bool, RpcError> {
        // Digest c.11: a state that is null is none, and the first round begins anew.
        if matches!(key, Key::RequestState | Key::InputResponses) && value.kind() == Kind::Null {
            return Ok(true);
        }
        let text = match key {
            Key::Name => &mut self.name,
            Key::Uri => &mut self.uri,
            Key::Cursor => &mut self.cursor,
            Key::RequestState => &mut self.request_state,
            Key::TaskId => &mut self.task_id,
            Key::Level => &mut self.level,
            Key::Reason => &mut self.reason,
            Key::ProtocolVersion => &mut self.protocol_version,
            _ => return self.set_other(key, value),
        };
        *text = value.as_str();
        Ok(text.is_some())
    }

    fn set_other(&mut self, key: Key, value: Raw<'b>) -> Result<bool, RpcError> {
        let object = match key {
            Key::RequestId => {
                self.request_id = Id::from_raw(value);
                return Ok(self.request_id.is_some());
            }
            Key::Arguments => &mut self.arguments,
            Key::InputResponses => &mut self.input_responses,
            Key::Ref => &mut self.reference,
            Key::Argument => &mut self.argument,
            Key::Context => &mut self.context,
            Key::Notifications => &mut self.notifications,
            Key::Capabilities => &mut self.capabilities,
            Key::ClientInfo => &mut self.client_info,
            _ => return Ok(false),
        };
        *object = Some(value).filter(|value| value.kind() == Kind::Object);
        Ok(object.is_some())
    }

    /// -32602 naming the key, if it was there with a wrong type.
    pub fn check(&self, key: Key) -> Result<(), RpcError> {
        if self.wrong.contains(key) {
            let (name, shape) = (key.as_str(), key.shape());
            return Err(errors::invalid_params(format!("params.{name} must be {shape}")));
        }
        Ok(())
    }

    /// The value of a field that must be there, else -32602 naming its key:
    /// `params.require(Key::Name, &params.name)?`.
    pub fn require<'p, T>(&self, key: Key, field: &'p Option<T>) -> Result<&'p T, RpcError> {
        self.check(key)?;
        field
            .as_ref()
            .ok_or_else(|| errors::invalid_params(format!("Missing params.{}", key.as_str())))
    }

    /// The value of a field that may be absent, but must not be of a wrong type.
    pub fn optional<'p, T>(
        &self,
        key: Key,
        field: &'p Option<T>,
    ) -> Result<Option<&'p T>, RpcError> {
        self.check(key)?;
        Ok(field.as_ref())
    }
}

/// Whatever stands in a message, reading its params and deciding its era and gate panics nowhere,
/// and what was read is what serde_json reads.
pub fn fuzz_params(data: &[u8]) {
    use super::{
        HeaderField, ModernHeaders, check_modern, decode_header_value, http_era, pipe_era,
    };
    let _ = decode_header_value(data);
    let mut params = Params::default();
    let read = parse_message(data, &mut params);
    let Ok(message) = jsonrpc::parse(data) else { return assert!(read.is_err()) };
    let (method, raw) = match &message {
        Message::Request { method, params, .. } => (method.as_ref(), *params),
        Message::Notification { method, params } => (method.as_ref(), *params),
        Message::Response { .. } | Message::Batch(_) => ("", None),
    };
    let Ok((again, read)) = read else { panic!("read once, not twice") };
    assert_eq!(again, message);
    assert_eq!(parse_params(raw), read.map(|()| params));
    let Ok(params) = parse_params(raw) else { return };
    for header in [HeaderField::Absent, HeaderField::Many, HeaderField::One(b"2026-07-28")] {
        let _ = http_era(&message, Some(&params), &header);
        let name = HeaderField::One(method.as_bytes());
        let headers = ModernHeaders { protocol_version: header, method: name, name };
        let _ = check_modern(method, &params, Some(&headers));
    }
    let _ = (pipe_era(&message, Some(&params), false), pipe_era(&message, Some(&params), true));
    let Some(Ok(value)) = raw.map(|raw| serde_json::from_str::<serde_json::Value>(raw.get()))
    else {
        return;
    };
    let same = |read: &Option<Cow<'_, str>>, key: Key| {
        assert_eq!(read.as_deref(), value.get(key.as_str()).and_then(|value| value.as_str()));
    };
    same(&params.name, Key::Name);
    same(&params.uri, Key::Uri);
    same(&params.cursor, Key::Cursor);
    same(&params.request_state, Key::RequestState);
    let version = value.pointer("/_meta/io.modelcontextprotocol~1protocolVersion");
    assert_eq!(params.meta.names_version(), version.is_some());
    let read = params.meta.protocol_version.as_deref();
    assert_eq!(read, version.and_then(|version| version.as_str()));
}
