//! Prompts of the suite.

use erlmcp_protocol::mcp::{PromptMessage, Role};
use serde_json::json;

use super::{embedded, png};
use crate::ask::{Elicited, elicit};
use crate::{Arguments, Call, IntoPrompt as _, NeedInput, Prompt, Step, user};

pub(super) fn all() -> [Prompt; 5] {
    [
        Prompt::new("test_simple_prompt")
            .title("Simple Test Prompt")
            .description("A simple prompt without arguments")
            .template_messages([(Role::User, "This is a simple prompt for testing.")]),
        Prompt::new("test_prompt_with_arguments")
            .title("Prompt With Arguments")
            .description("A prompt with required arguments")
            .argument("arg1", true, "First test argument")
            .argument("arg2", true, "Second test argument")
            .complete("arg1", |prefix| suggestions("testValue1", prefix))
            .complete("arg2", |prefix| suggestions("testValue2", prefix))
            .template_messages([(
                Role::User,
                "Prompt with arguments: arg1='{{arg1}}', arg2='{{arg2}}'",
            )]),
        Prompt::new("test_prompt_with_embedded_resource")
            .title("Prompt With Embedded Resource")
            .description("A prompt that includes an embedded resource")
            .argument("resourceUri", true, "URI of the resource to embed")
            .handler(|args: &Arguments, _: &mut Call| {
                let text = "Embedded resource content for testing.";
                let content = embedded(&args["resourceUri"], "text/plain", text);
                vec![
                    PromptMessage { role: Role::User, content },
                    user("Please process the embedded resource above."),
                ]
            }),
        Prompt::new("test_prompt_with_image")
            .title("Prompt With Image")
            .description("A prompt that includes image content")
            .handler(|_: &Arguments, _: &mut Call| {
                vec![
                    PromptMessage { role: Role::User, content: png() },
                    user("Please analyze the image above."),
                ]
            }),
        Prompt::new("test_input_required_result_prompt")
            .title("Prompt That Asks")
            .description("A prompt that needs the user's input before it can be given")
            .handler(|_: &Arguments, call: &mut Call| asks(call)),
    ]
}

fn suggestions(value: &str, prefix: &str) -> Vec<String> {
    if value.starts_with(prefix) { vec![value.to_owned()] } else { Vec::new() }
}

fn asks(call: &mut Call) -> Step {
    match call.elicited("user_context") {
        None => NeedInput::ask([elicit(
            "user_context",
            "What context should the prompt use?",
            json!({
                "type": "object",
                "properties": { "context": { "type": "string" } },
                "required": ["context"],
            }),
        )])
        .into_step(),
        Some(Elicited::Declined) => vec![user("Use no further context.")].into_step(),
        Some(Elicited::Accepted(content)) => {
            let context = content.get("context").and_then(|context| context.as_str());
            let text = format!("Use this context: {}", context.unwrap_or_default());
            vec![user(text)].into_step()
        }
    }
}
