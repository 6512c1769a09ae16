//! What handlers may return, turned into a [`Step`].
//!
//! Three conversions, because the same value means different things: a `String` is a text block to a tool,
//! a text resource to `resources/read`, and one user message to `prompts/get`.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erlmcp_protocol::mcp::{
    Content, PromptMessage, PromptResult, ResourceBody, ResourceContents, Role, RpcError,
    ToolResult, codes,
};
use serde::Serialize;

use crate::call::{NeedInput, Outcome, Step};

/// A successful tool result of one text block.
pub fn text(text: impl Into<String>) -> ToolResult {
    ToolResult { content: vec![Content::Text(text.into())], structured: None, is_error: false }
}

/// A failed tool result: the text should tell the model what to do about it.
pub fn failed(reason: impl Display) -> ToolResult {
    ToolResult {
        content: vec![Content::Text(reason.to_string())],
        structured: None,
        is_error: true,
    }
}

/// A value answered both as `structuredContent` and as its JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a tool handler may return.
pub trait IntoStep {
    /// The step it stands for.
    fn into_step(self) -> Step;
}

impl IntoStep for Step {
    fn into_step(self) -> Step {
        self
    }
}

impl IntoStep for ToolResult {
    fn into_step(self) -> Step {
        Step::Done(Outcome::Tool(self))
    }
}

impl IntoStep for NeedInput {
    fn into_step(self) -> Step {
        Step::NeedInput(self)
    }
}

impl IntoStep for RpcError {
    fn into_step(self) -> Step {
        Step::Error(self)
    }
}

impl IntoStep for String {
    fn into_step(self) -> Step {
        text(self).into_step()
    }
}

impl IntoStep for &str {
    fn into_step(self) -> Step {
        text(self).into_step()
    }
}

impl IntoStep for Content {
    fn into_step(self) -> Step {
        vec![self].into_step()
    }
}

impl IntoStep for Vec<Content> {
    fn into_step(self) -> Step {
        ToolResult { content: self, structured: None, is_error: false }.into_step()
    }
}

impl<T: Serialize> IntoStep for Json<T> {
    fn into_step(self) -> Step {
        let Ok(value) = serde_json::to_value(&self.0) else {
            return Step::Error(RpcError::new(codes::INTERNAL_ERROR, "Internal error"));
        };
        let content = vec![Content::Text(value.to_string())];
        ToolResult { content, structured: Some(value), is_error: false }.into_step()
    }
}

/// An error of the tool's own is a result the model can read and react to, not a protocol error
/// (digest a.4). For the latter return [`Step::Error`].
impl<T: IntoStep, E: Display> IntoStep for Result<T, E> {
    fn into_step(self) -> Step {
        match self {
            Ok(value) => value.into_step(),
            Err(err) => failed(err).into_step(),
        }
    }
}

/// What a resource handler may return.
pub trait IntoResource {
    /// The step it stands for; `uri` and `mime_type` are what the client asked for and what was declared.
    fn into_step(self, uri: &str, mime_type: Option<&str>) -> Step;
}

impl IntoResource for Step {
    fn into_step(self, _: &str, _: Option<&str>) -> Step {
        self
    }
}

impl IntoResource for Vec<ResourceContents> {
    fn into_step(self, _: &str, _: Option<&str>) -> Step {
        Step::Done(Outcome::Resource(self))
    }
}

impl IntoResource for String {
    fn into_step(self, uri: &str, mime_type: Option<&str>) -> Step {
        contents(uri, mime_type, ResourceBody::Text(self))
    }
}

impl IntoResource for &str {
    fn into_step(self, uri: &str, mime_type: Option<&str>) -> Step {
        contents(uri, mime_type, ResourceBody::Text(self.to_owned()))
    }
}

impl IntoResource for Vec<u8> {
    fn into_step(self, uri: &str, mime_type: Option<&str>) -> Step {
        contents(uri, mime_type, ResourceBody::Blob(STANDARD.encode(self)))
    }
}

impl<T: IntoResource> IntoResource for Result<T, RpcError> {
    fn into_step(self, uri: &str, mime_type: Option<&str>) -> Step {
        match self {
            Ok(value) => value.into_step(uri, mime_type),
            Err(err) => Step::Error(err),
        }
    }
}

pub(crate) fn contents(uri: &str, mime_type: Option<&str>, body: ResourceBody) -> Step {
    Step::Done(Outcome::Resource(vec![ResourceContents {
        uri: uri.to_owned(),
        mime_type: mime_type.map(str::to_owned),
        body,
    }]))
}

/// What a prompt handler may return.
pub trait IntoPrompt {
    /// The step it stands for.
    fn into_step(self) -> Step;
}

impl IntoPrompt for Step {
    fn into_step(self) -> Step {
        self
    }
}

impl IntoPrompt for NeedInput {
    fn into_step(self) -> Step {
        Step::NeedInput(self)
    }
}

impl IntoPrompt for PromptResult {
    fn into_step(self) -> Step {
        Step::Done(Outcome::Prompt(self))
    }
}

impl IntoPrompt for Vec<PromptMessage> {
    fn into_step(self) -> Step {
        Step::Done(Outcome::Prompt(PromptResult { description: None, messages: self }))
    }
}

impl IntoPrompt for String {
    fn into_step(self) -> Step {
        IntoPrompt::into_step(vec![user(self)])
    }
}

impl<T: IntoPrompt> IntoPrompt for Result<T, RpcError> {
    fn into_step(self) -> Step {
        match self {
            Ok(value) => value.into_step(),
            Err(err) => Step::Error(err),
        }
    }
}

/// A message of the user, as text.
pub fn user(text: impl Into<String>) -> PromptMessage {
    PromptMessage { role: Role::User, content: Content::Text(text.into()) }
}

/// A message of the assistant, as text.
pub fn assistant(text: impl Into<String>) -> PromptMessage {
    PromptMessage { role: Role::Assistant, content: Content::Text(text.into()) }
}
