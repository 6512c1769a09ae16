//! Asking the client from within a handler: [`crate::Step::NeedInput`], written and read.
//!
//! A handler that asks runs again from its beginning with the responses. The same handler serves modern
//! clients (which retry) and legacy ones (which are asked with real requests); it sees no difference.

use erlmcp_protocol::mcp::{InputMethod, InputRequest};
use serde_json::{Map, Value, json};

use crate::call::{Call, NeedInput};

/// Asks the user to fill in a form (`elicitation/create`). `schema`: a flat object of primitive properties
/// (digest c.12). Never ask for secrets this way.
pub fn elicit(key: impl Into<String>, message: impl Into<String>, schema: Value) -> InputRequest {
    let params = json!({ "message": message.into(), "requestedSchema": schema });
    InputRequest { key: key.into(), method: InputMethod::ElicitForm, params }
}

/// Asks the client's model to answer one user message (`sampling/createMessage`).
pub fn sample(key: impl Into<String>, prompt: impl Into<String>, tokens_max: u32) -> InputRequest {
    let content = json!({ "type": "text", "text": prompt.into() });
    let params = json!({
        "messages": [{ "role": "user", "content": content }],
        "maxTokens": tokens_max,
    });
    InputRequest { key: key.into(), method: InputMethod::Sample, params }
}

/// Asks for the client's roots (`roots/list`).
pub fn roots(key: impl Into<String>) -> InputRequest {
    InputRequest { key: key.into(), method: InputMethod::Roots, params: json!({}) }
}

impl NeedInput {
    /// One round of these questions.
    pub fn ask(requests: impl IntoIterator<Item = InputRequest>) -> NeedInput {
        NeedInput { requests: requests.into_iter().collect(), state: None }
    }

    /// The same, remembering `state` until the answers come.
    pub fn remember(mut self, state: Value) -> NeedInput {
        self.state = Some(state);
        self
    }
}

/// What became of a form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Elicited<'c> {
    /// Filled in.
    Accepted(&'c Map<String, Value>),
    /// The user said no, or dismissed it: a normal answer.
    Declined,
}

impl Call {
    /// The client's response under this key, if there is one and it is an object.
    pub fn response(&self, key: &str) -> Option<&Map<String, Value>> {
        self.responses.get(key).and_then(Value::as_object)
    }

    /// The user's answer to the form under this key; `None` means it must be asked (again).
    pub fn elicited(&self, key: &str) -> Option<Elicited<'_>> {
        let response = self.response(key)?;
        match response.get("action").and_then(Value::as_str)? {
            "accept" => response.get("content").and_then(Value::as_object).map(Elicited::Accepted),
            "decline" | "cancel" => Some(Elicited::Declined),
            _ => None,
        }
    }

    /// The text the client's model answered under this key; `None` means it must be asked (again).
    pub fn sampled(&self, key: &str) -> Option<&str> {
        let content = self.response(key)?.get("content")?;
        // Since 2025-11-25 content may be one block or several.
        let block = content.as_array().map_or(Some(content), |blocks| blocks.first())?;
        block.get("text").and_then(Value::as_str)
    }

    /// The URIs of the client's roots under this key; `None` means it must be asked (again).
    pub fn roots(&self, key: &str) -> Option<Vec<&str>> {
        let roots = self.response(key)?.get("roots")?.as_array()?;
        Some(roots.iter().filter_map(|root| root.get("uri")?.as_str()).collect())
    }
}
