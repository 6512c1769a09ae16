//! `params._meta`: the modern request envelope, and the few keys legacy requests have (digest b.3).

use std::borrow::Cow;

use super::{ClientCapabilities, LogLevel, RpcError, Version, errors};
use crate::jsonrpc::{Id, Kind, Raw, ReadMembers};

/// Prefix of the keys the specification reserves for itself.
pub const META_PREFIX: &str = "io.modelcontextprotocol/";
/// The tasks extension.
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// `params._meta`. A field is `None` if its key is absent or of a wrong type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta<'b> {
    /// The revision this request is written in.
    pub protocol_version: Option<Cow<'b, str>>,
    /// What the client can do, as it said it and as we read it.
    pub client_capabilities: Option<(Raw<'b>, ClientCapabilities)>,
    /// Who the client says it is; never to be trusted, nor to switch behaviour on.
    pub client_info: Option<Raw<'b>>,
    /// Log messages wanted with this request; `Err` is no level at all.
    pub log_level: Option<Result<LogLevel, BadLevel>>,
    /// The raw token, a string or an integer.
    pub progress_token: Option<&'b str>,
    /// W3C trace context.
    pub traceparent: Option<Cow<'b, str>>,
    /// W3C trace context.
    pub tracestate: Option<Cow<'b, str>>,
    /// W3C baggage.
    pub baggage: Option<Cow<'b, str>>,
    version_named: bool,
    capabilities_error: Option<Box<RpcError>>,
}

/// A `logLevel` that is none of the eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLevel;

impl<'b> Meta<'b> {
    /// Reads the members of `_meta`. The only error: a known key stands twice.
    pub(super) fn read<M: ReadMembers<'b>>(&mut self, members: &mut M) -> Result<(), RpcError> {
        let mut seen = 0u8;
        while let Some(name) = members.next_key() {
            let value = members.value();
            let Some(index) = self.set(&name, value) else { continue };
            if seen & 1 << index != 0 {
                return Err(errors::invalid_params(format!("_meta {name} stands twice")));
            }
            seen |= 1 << index;
        }
        Ok(())
    }

    /// Takes a member we know; says which it was.
    fn set(&mut self, name: &str, value: Raw<'b>) -> Option<u8> {
        Some(match name {
            "io.modelcontextprotocol/protocolVersion" => {
                self.version_named = true;
                self.protocol_version = value.as_str();
                0
            }
            "io.modelcontextprotocol/clientCapabilities" => {
                match parse_capabilities(value) {
                    Ok(capabilities) => self.client_capabilities = Some((value, capabilities)),
                    Err(error) => self.capabilities_error = Some(Box::new(error)),
                }
                1
            }
            "io.modelcontextprotocol/clientInfo" => {
                self.client_info = Some(value).filter(|value| value.kind() == Kind::Object);
                2
            }
            "io.modelcontextprotocol/logLevel" => {
                let level = value.as_str().and_then(|name| LogLevel::parse(&name));
                self.log_level = Some(level.ok_or(BadLevel));
                3
            }
            "progressToken" => {
                self.progress_token = Id::from_raw(value).map(Id::raw);
                4
            }
            "traceparent" => {
                self.traceparent = value.as_str();
                5
            }
            "tracestate" => {
                self.tracestate = value.as_str();
                6
            }
            "baggage" => {
                self.baggage = value.as_str();
                7
            }
            _ => return None,
        })
    }

    /// Whether the key `protocolVersion` is there at all, right or wrong: it makes a request
    /// modern.
    pub fn names_version(&self) -> bool {
        self.version_named
    }

    /// Whether this is a whole modern envelope: -32602 naming the first key that is missing or
    /// malformed.
    pub fn check_envelope(&self) -> Result<(&str, &ClientCapabilities), RpcError> {
        let version = match &self.protocol_version {
            Some(version) => version.as_ref(),
            None if self.version_named => return Err(malformed("protocolVersion", "a string")),
            None => return Err(missing("protocolVersion")),
        };
        if let Some(error) = &self.capabilities_error {
            return Err(RpcError::clone(error));
        }
        let Some((_, capabilities)) = &self.client_capabilities else {
            return Err(missing("clientCapabilities"));
        };
        if self.log_level == Some(Err(BadLevel)) {
            return Err(malformed("logLevel", "one of the eight log levels"));
        }
        Ok((version, capabilities))
    }

    /// The modern revision this envelope is whole for, if it is.
    pub fn modern_version(&self) -> Option<Version> {
        let (version, _) = self.check_envelope().ok()?;
        Version::parse(version).filter(|version| version.is_modern())
    }
}

fn missing(key: &str) -> RpcError {
    errors::invalid_params(format!("Missing _meta {META_PREFIX}{key}"))
}

fn malformed(key: &str, shape: &str) -> RpcError {
    errors::invalid_params(format!("_meta {META_PREFIX}{key} must be {shape}"))
}

/// Reads client capabilities, of `_meta` or of `initialize`. Unknown ones are ignored, and a `null`
/// is as good as absent; a known one that is no object is -32602.
pub fn parse_capabilities(raw: Raw<'_>) -> Result<ClientCapabilities, RpcError> {
    let mut client = ClientCapabilities::default();
    for (name, value) in object(raw, "capabilities")? {
        if value.kind() == Kind::Null {
            continue;
        }
        match name.as_ref() {
            "roots" => {
                object(value, "capabilities.roots")?;
                client.roots = true;
            }
            "sampling" => {
                client.sampling = true;
                for (name, value) in object(value, "capabilities.sampling")? {
                    match name.as_ref() {
                        "tools" => client.sampling_tools = value.kind() == Kind::Object,
                        "context" => client.sampling_context = value.kind() == Kind::Object,
                        _ => {}
                    }
                }
            }
            "elicitation" => {
                let mut form = false;
                for (name, value) in object(value, "capabilities.elicitation")? {
                    match name.as_ref() {
                        "form" => form = value.kind() == Kind::Object,
                        "url" => client.elicitation_url = value.kind() == Kind::Object,
                        _ => {}
                    }
                }
                // `{}` was the whole capability before modes were named: it means form.
                client.elicitation_form = form || !client.elicitation_url;
            }
            "extensions" => {
                let extensions = object(value, "capabilities.extensions")?;
                client.tasks = extensions
                    .filter(|(name, _)| name == TASKS_EXTENSION)
                    .any(|(_, settings)| settings.kind() == Kind::Object);
            }
            _ => {}
        }
    }
    Ok(client)
}

fn object<'b>(raw: Raw<'b>, what: &str) -> Result<crate::jsonrpc::Members<'b>, RpcError> {
    match raw.kind() {
        Kind::Object => Ok(raw.members()),
        _ => Err(errors::invalid_params(format!("{what} must be an object"))),
    }
}
