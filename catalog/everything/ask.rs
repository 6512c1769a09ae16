//! Tools of the suite that ask the client something. Each runs again from its beginning with the answers;
//! a legacy client is asked with real requests by the very same functions.

use erlmcp_protocol::mcp::InputRequest;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ask::{Elicited, elicit, roots, sample};
use crate::{Call, IntoStep as _, NeedInput, NoArguments, Step, Tool, text};

pub(super) fn all() -> Vec<Tool> {
    vec![
        asks("test_sampling", "Asks the client's model").handler(test_sampling),
        asks("test_elicitation", "Asks the user").handler(test_elicitation),
        asks("test_elicitation_sep1034_defaults", "Asks the user with defaults")
            .handler(|_: NoArguments, call| form(call, "Please review these values", defaults())),
        asks("test_elicitation_sep1330_enums", "Asks the user to choose")
            .handler(|_: NoArguments, call| form(call, "Please choose", enums())),
        asks("test_streaming_elicitation", "Asks the user to confirm, never in mid-stream")
            .handler(|_: NoArguments, call| form(call, "Go on?", confirmation())),
        asks("test_input_required_result_elicitation", "Asks for the user's name")
            .handler(|_: NoArguments, call| elicitation(call)),
        asks("test_input_required_result_sampling", "Asks for a capital")
            .handler(|_: NoArguments, call| sampling(call)),
        asks("test_input_required_result_list_roots", "Asks for the client's roots")
            .handler(|_: NoArguments, call| list_roots(call)),
        asks("test_input_required_result_request_state", "Remembers something while it asks")
            .handler(|_: NoArguments, call| request_state(call, "state-ok")),
        asks("test_input_required_result_tampered_state", "Refuses a state that was changed")
            .handler(|_: NoArguments, call| request_state(call, "The state came back unchanged")),
        asks("test_input_required_result_multiple_inputs", "Asks three things at once")
            .handler(|_: NoArguments, call| multiple_inputs(call)),
        asks("test_input_required_result_multi_round", "Asks in two rounds")
            .handler(|_: NoArguments, call| multi_round(call)),
        asks("test_input_required_result_capabilities", "Asks only what the client can answer")
            .handler(|_: NoArguments, call| capabilities(call)),
    ]
}

fn asks(name: &str, description: &str) -> Tool {
    Tool::new(name).description(description)
}

#[derive(Deserialize, JsonSchema)]
struct Sampling {
    /// What to ask the model
    prompt: String,
}

fn test_sampling(args: Sampling, call: &mut Call) -> Step {
    match call.sampled("sample") {
        Some(answer) => text(format!("LLM response: {answer}")).into_step(),
        None => NeedInput::ask([sample("sample", args.prompt, 100)]).into_step(),
    }
}

#[derive(Deserialize, JsonSchema)]
struct Elicitation {
    /// What to ask the user
    message: String,
}

fn test_elicitation(args: Elicitation, call: &mut Call) -> Step {
    let schema = json!({
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        },
        "required": ["username", "email"],
    });
    form(call, &args.message, schema)
}

/// Shows one form and answers with what became of it.
fn form(call: &mut Call, message: &str, schema: Value) -> Step {
    match call.elicited("form") {
        None => NeedInput::ask([elicit("form", message, schema)]).into_step(),
        Some(Elicited::Declined) => text("User response: action=decline").into_step(),
        Some(Elicited::Accepted(content)) => {
            let content = Value::Object(content.clone());
            text(format!("User response: action=accept, content={content}")).into_step()
        }
    }
}

/// SEP-1034: one property of each primitive type, with a default.
fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "User name", "default": "John Doe" },
            "age": { "type": "integer", "description": "User age", "default": 30 },
            "score": { "type": "number", "description": "User score", "default": 95.5 },
            "status": {
                "type": "string",
                "description": "User status",
                "enum": ["active", "inactive", "pending"],
                "default": "active",
            },
            "verified": { "type": "boolean", "description": "Is verified", "default": true },
        },
        "required": [],
    })
}

/// SEP-1330: the five ways to offer a choice.
fn enums() -> Value {
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
            "titledSingle": {
                "type": "string",
                "oneOf": [
                    { "const": "value1", "title": "First Option" },
                    { "const": "value2", "title": "Second Option" },
                    { "const": "value3", "title": "Third Option" },
                ],
            },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {
                "type": "array",
                "items": { "type": "string", "enum": ["option1", "option2", "option3"] },
            },
            "titledMulti": {
                "type": "array",
                "items": {
                    "anyOf": [
                        { "const": "value1", "title": "First Choice" },
                        { "const": "value2", "title": "Second Choice" },
                        { "const": "value3", "title": "Third Choice" },
                    ],
                },
            },
        },
        "required": [],
    })
}

fn confirmation() -> Value {
    let properties = json!({ "ok": { "type": "boolean" } });
    json!({ "type": "object", "properties": properties, "required": ["ok"] })
}

/// One question with one string property.
fn question(key: &str, message: &str, property: &str) -> InputRequest {
    let mut properties = serde_json::Map::new();
    properties.insert(property.to_owned(), json!({ "type": "string" }));
    let schema = json!({ "type": "object", "properties": properties, "required": [property] });
    elicit(key, message, schema)
}

/// The string answered to [`question`]; empty if the user declined.
fn answered(call: &Call, key: &str, property: &str) -> Option<String> {
    match call.elicited(key)? {
        Elicited::Declined => Some(String::new()),
        Elicited::Accepted(content) => {
            Some(content.get(property).and_then(Value::as_str).unwrap_or_default().to_owned())
        }
    }
}

fn elicitation(call: &mut Call) -> Step {
    match answered(call, "user_name", "name") {
        Some(name) if name.is_empty() => text("Hello, whoever you are!").into_step(),
        Some(name) => text(format!("Hello, {name}!")).into_step(),
        None => NeedInput::ask([question("user_name", "What is your name?", "name")]).into_step(),
    }
}

fn sampling(call: &mut Call) -> Step {
    const QUESTION: &str = "What is the capital of France?";
    match call.sampled("capital_question") {
        Some(answer) => text(format!("The model answered: {answer}")).into_step(),
        None => NeedInput::ask([sample("capital_question", QUESTION, 100)]).into_step(),
    }
}

fn list_roots(call: &mut Call) -> Step {
    match call.roots("client_roots") {
        Some(roots) => text(format!("{} root(s): {}", roots.len(), roots.join(", "))).into_step(),
        None => NeedInput::ask([roots("client_roots")]).into_step(),
    }
}

fn request_state(call: &mut Call, success: &str) -> Step {
    let state = json!({ "asked": "confirm" });
    match call.elicited("confirm") {
        // The engine has verified the seal; that there is a state at all is ours to see.
        Some(_) if call.state.as_ref() == Some(&state) => text(success).into_step(),
        _ => NeedInput::ask([elicit("confirm", "Please confirm", confirmation())])
            .remember(state)
            .into_step(),
    }
}

fn multiple_inputs(call: &mut Call) -> Step {
    let name = answered(call, "user_name", "name");
    match (name, call.sampled("greeting"), call.roots("client_roots")) {
        (Some(name), Some(greeting), Some(roots)) => {
            text(format!("{greeting} {name}, you have {} root(s)", roots.len())).into_step()
        }
        _ => NeedInput::ask([
            question("user_name", "What is your name?", "name"),
            sample("greeting", "Generate a greeting", 50),
            roots("client_roots"),
        ])
        .remember(json!({ "asked": "all" }))
        .into_step(),
    }
}

/// Round one asks for a name, round two for a color; the name travels in the state meanwhile.
fn multi_round(call: &mut Call) -> Step {
    let name_of = |state: &Value| state.get("name").and_then(Value::as_str).map(str::to_owned);
    let name = call.state.as_ref().and_then(name_of);
    let name = name.or_else(|| answered(call, "step1", "name"));
    let Some(name) = name else {
        let step1 = question("step1", "Step 1: What is your name?", "name");
        return NeedInput::ask([step1]).remember(json!({ "round": 1 })).into_step();
    };
    match answered(call, "step2", "color") {
        Some(color) => text(format!("Multi-round completed: {name} likes {color}")).into_step(),
        None => {
            let step2 = question("step2", "Step 2: What is your favorite color?", "color");
            NeedInput::ask([step2]).remember(json!({ "round": 2, "name": name })).into_step()
        }
    }
}

fn capabilities(call: &mut Call) -> Step {
    let possible = [
        sample("greeting", "Generate a greeting", 50),
        question("user_name", "What is your name?", "name"),
        roots("client_roots"),
    ];
    let client = call.client;
    let asked: Vec<_> = possible.into_iter().filter(|r| r.method.allowed_by(&client)).collect();
    if asked.iter().all(|request| call.response(&request.key).is_some()) {
        return text(format!("The client answered {} question(s)", asked.len())).into_step();
    }
    NeedInput::ask(asked).into_step()
}
