//! Tools of the suite that need nothing from the client.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erlmcp_protocol::mcp::{ClientCapabilities, Content, LogLevel, ToolResult};
use serde_json::{Value, json};

use super::{WAV, embedded, png};
use crate::{Call, CallEvent, NoArguments, Prompt, Tool, failed, text};

/// Between two events of one call.
const PAUSE: Duration = Duration::from_millis(50);
/// What the resumed client waits for after its stream was dropped.
const AFTER_DROP: Duration = Duration::from_millis(200);
/// The tool and the prompt that come and go.
const DYNAMIC_TOOL: &str = "test_dynamic_tool";
const DYNAMIC_PROMPT: &str = "test_dynamic_prompt";

pub(super) fn all() -> Vec<Tool> {
    vec![
        plain("test_simple_text", "Answers with simple text")
            .handler(|_: NoArguments, _| text("This is a simple text response for testing.")),
        plain("test_image_content", "Answers with an image").handler(|_: NoArguments, _| png()),
        plain("test_audio_content", "Answers with audio").handler(|_: NoArguments, _| {
            Content::Audio { data: STANDARD.encode(WAV), mime_type: "audio/wav".into() }
        }),
        plain("test_embedded_resource", "Answers with an embedded resource").handler(
            |_: NoArguments, _| {
                let text = "This is an embedded resource content.";
                embedded("test://embedded-resource", "text/plain", text)
            },
        ),
        plain("test_multiple_content_types", "Answers with text, an image and a resource").handler(
            |_: NoArguments, _| {
                let json = json!({ "test": "data", "value": 123 }).to_string();
                vec![
                    Content::Text("Multiple content types test:".into()),
                    png(),
                    embedded("test://mixed-content-resource", "application/json", &json),
                ]
            },
        ),
        plain("test_error_handling", "Always fails").handler(|_: NoArguments, _| {
            failed("This tool intentionally returns an error for testing")
        }),
        plain("test_tool_with_progress", "Reports progress three times")
            .future(|_: NoArguments, call| with_progress(call)),
        plain("test_tool_with_logging", "Writes three log messages")
            .future(|_: NoArguments, call| with_logging(call)),
        plain("test_logging_tool", "Writes a log message, which only those hear who asked")
            .handler(|_: NoArguments, call| {
                call.log(LogLevel::Info, Some("test_logging_tool"), "A log message".into());
                text("Logging test completed")
            }),
        plain("test_reconnection", "Drops its stream in mid-call; the answer waits for the client")
            .future(|_: NoArguments, call| reconnection(call)),
        plain("test_missing_capability", "Cannot be called without the sampling capability")
            .requires(ClientCapabilities { sampling: true, ..ClientCapabilities::default() })
            .handler(|_: NoArguments, _| text("The client can sample")),
        plain("test_trigger_tool_change", "Adds or removes a tool")
            .handler(|_: NoArguments, call| trigger_tool_change(call)),
        plain("test_trigger_prompt_change", "Adds or removes a prompt")
            .handler(|_: NoArguments, call| trigger_prompt_change(call)),
        Tool::new("json_schema_2020_12_tool")
            .description("Tool with JSON Schema 2020-12 features")
            .input_schema(json_schema_2020_12())
            .handler(|args: Value, _| text(format!("Accepted: {args}"))),
        Tool::new("test_x_mcp_header")
            .description("Mirrors arguments in Mcp-Param-* headers")
            .input_schema(json!({
                "type": "object",
                "properties": {
                    "region": { "type": "string", "x-mcp-header": "Region" },
                    "priority": { "type": "integer", "x-mcp-header": "Priority" },
                    "verbose": { "type": "boolean", "x-mcp-header": "Verbose" },
                },
            }))
            .handler(|args: Value, _| text(format!("Called with {args}"))),
    ]
}

fn plain(name: &str, description: &str) -> Tool {
    Tool::new(name).description(description)
}

async fn with_progress(mut call: Call) -> ToolResult {
    let runner = call.runner().clone();
    for progress in [0.0, 50.0, 100.0] {
        if 0.0 < progress {
            runner.sleep(PAUSE).await;
        }
        call.progress(progress, Some(100.0), Some(format!("Completed {progress} of 100")));
    }
    text("Progress test completed")
}

async fn with_logging(mut call: Call) -> ToolResult {
    let runner = call.runner().clone();
    let messages = ["Tool execution started", "Tool processing data", "Tool execution completed"];
    for (index, message) in messages.into_iter().enumerate() {
        if 0 < index {
            runner.sleep(PAUSE).await;
        }
        call.log(LogLevel::Info, None, message.into());
    }
    text("Logging test completed")
}

async fn reconnection(mut call: Call) -> ToolResult {
    let runner = call.runner().clone();
    runner.sleep(PAUSE).await;
    call.emit(CallEvent::DropStream { retry_ms: 500 });
    runner.sleep(AFTER_DROP).await;
    text("Reconnection test completed: the client came back for its answer")
}

fn trigger_tool_change(call: &mut Call) -> Result<&'static str, crate::CatalogError> {
    call.catalog().update(|draft| {
        if !draft.remove_tool(DYNAMIC_TOOL) {
            let tool = plain(DYNAMIC_TOOL, "Comes and goes with test_trigger_tool_change");
            draft.add_tool(tool.handler(|_: NoArguments, _: &mut Call| "Here for now"));
        }
    })?;
    Ok("The list of tools has changed")
}

fn trigger_prompt_change(call: &mut Call) -> Result<&'static str, crate::CatalogError> {
    call.catalog().update(|draft| {
        if !draft.remove_prompt(DYNAMIC_PROMPT) {
            let prompt = Prompt::new(DYNAMIC_PROMPT)
                .description("Comes and goes with test_trigger_prompt_change")
                .handler(|_: &crate::Arguments, _: &mut Call| "Here for now".to_owned());
            draft.add_prompt(prompt);
        }
    })?;
    Ok("The list of prompts has changed")
}

fn json_schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": {
            "properties": { "contactMethod": { "const": "phone" } },
            "required": ["contactMethod"],
        },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
