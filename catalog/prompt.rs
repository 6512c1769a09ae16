//! Prompts: how they are written, and how they are filled in.

use std::collections::HashMap;
use std::sync::Arc;

use erlmcp_protocol::mcp::{Content, PromptMessage, PromptResult, Role, RpcError, Version, codes};

use crate::arguments::{Arguments, Piece, placeholders};
use crate::call::{Call, Outcome, Step};
use crate::error::{CatalogError, check_name};
use crate::offload::{Inline, guard};
use crate::reply::internal_error;
use crate::step::IntoPrompt;
use crate::wire::{ArgumentWire, Icon, PromptWire, Since, per_version};

/// Suggests values for what was typed so far, knowing the arguments that were already chosen.
pub(crate) type Completer = Box<dyn Fn(&str, &Arguments) -> Vec<String> + Send + Sync>;

/// A prompt as its author writes it.
pub struct Prompt {
    name: String,
    title: Option<String>,
    description: Option<String>,
    icons: Vec<Icon>,
    arguments: Vec<PromptArgument>,
    completers: HashMap<String, Completer>,
    body: Option<Body>,
}

struct PromptArgument {
    name: String,
    description: Option<String>,
    required: bool,
}

type Fill = Box<dyn Fn(&Arguments, &mut Call) -> Step + Send + Sync>;

enum Body {
    Handler(Fill),
    Template(Vec<(Role, String)>),
}

impl Prompt {
    /// A prompt of this name: 1–128 of `A–Z a–z 0–9 _ - .`, unique in its catalog.
    pub fn new(name: impl Into<String>) -> Prompt {
        Prompt {
            name: name.into(),
            title: None,
            description: None,
            icons: Vec::new(),
            arguments: Vec::new(),
            completers: HashMap::new(),
            body: None,
        }
    }

    /// The name people see.
    pub fn title(mut self, title: impl Into<String>) -> Prompt {
        self.title = Some(title.into());
        self
    }

    /// What it is for.
    pub fn description(mut self, description: impl Into<String>) -> Prompt {
        self.description = Some(description.into());
        self
    }

    /// One more icon.
    pub fn icon(mut self, icon: Icon) -> Prompt {
        self.icons.push(icon);
        self
    }

    /// One more argument; an empty description is left out.
    pub fn argument(
        mut self,
        name: impl Into<String>,
        required: bool,
        description: impl Into<String>,
    ) -> Prompt {
        let description = Some(description.into()).filter(|text| !text.is_empty());
        self.arguments.push(PromptArgument { name: name.into(), description, required });
        self
    }

    /// Suggests values of an argument for what was typed so far.
    pub fn complete<F>(self, argument: impl Into<String>, completer: F) -> Prompt
    where
        F: Fn(&str) -> Vec<String> + Send + Sync + 'static,
    {
        self.complete_with(argument, move |prefix, _| completer(prefix))
    }

    /// The same, knowing the other arguments that were already chosen.
    pub fn complete_with<F>(mut self, argument: impl Into<String>, completer: F) -> Prompt
    where
        F: Fn(&str, &Arguments) -> Vec<String> + Send + Sync + 'static,
    {
        self.completers.insert(argument.into(), Box::new(completer));
        self
    }

    /// A quick function of the arguments, on the shard.
    pub fn handler<R, F>(mut self, handler: F) -> Prompt
    where
        R: IntoPrompt,
        F: Fn(&Arguments, &mut Call) -> R + Send + Sync + 'static,
    {
        self.body = Some(Body::Handler(Box::new(move |arguments, call| {
            handler(arguments, call).into_step()
        })));
        self
    }

    /// Fixed messages in which `{{argument}}` stands for its value.
    pub fn template_messages<T: Into<String>>(
        mut self,
        messages: impl IntoIterator<Item = (Role, T)>,
    ) -> Prompt {
        let messages = messages.into_iter().map(|(role, text)| (role, text.into())).collect();
        self.body = Some(Body::Template(messages));
        self
    }

    pub(crate) fn finish(self) -> Result<ServedPrompt, CatalogError> {
        let name = self.name.clone();
        self.serve().map_err(|reason| CatalogError::item("prompt", &name, reason))
    }

    fn serve(self) -> Result<ServedPrompt, String> {
        check_name(&self.name)?;
        let declared = |name: &str| self.arguments.iter().any(|argument| argument.name == name);
        for (index, argument) in self.arguments.iter().enumerate() {
            if argument.name.is_empty() {
                return Err("an argument has no name".into());
            }
            if self.arguments[..index].iter().any(|other| other.name == argument.name) {
                return Err(format!("argument `{}` occurs twice", argument.name));
            }
        }
        if let Some(unknown) = self.completers.keys().find(|name| !declared(name)) {
            return Err(format!("it completes `{unknown}`, which it does not have"));
        }
        let body = self.body.ok_or("it has no handler and no messages")?;
        if let Body::Template(messages) = &body {
            for piece in messages.iter().flat_map(|(_, text)| placeholders(text)) {
                if let Piece::Name(name) = piece
                    && !declared(name)
                {
                    return Err(format!("a message uses `{{{{{name}}}}}`, which is no argument"));
                }
            }
        }
        let json = per_version(|version| {
            let since = Since(version);
            let wire = PromptWire {
                name: &self.name,
                title: since.title(self.title.as_deref()),
                description: self.description.as_deref(),
                icons: since.icons(&self.icons),
                arguments: self
                    .arguments
                    .iter()
                    .map(|argument| ArgumentWire {
                        name: &argument.name,
                        description: argument.description.as_deref(),
                        required: argument.required,
                    })
                    .collect(),
            };
            serde_json::to_vec(&wire).unwrap_or_default()
        });
        Ok(ServedPrompt(Arc::new(Compiled {
            handler: filled(body, self.description),
            name: self.name,
            required: required(self.arguments),
            completers: self.completers,
            json,
        })))
    }
}

fn required(arguments: Vec<PromptArgument>) -> Vec<String> {
    let required = arguments.into_iter().filter(|argument| argument.required);
    required.map(|argument| argument.name).collect()
}

fn filled(body: Body, description: Option<String>) -> Inline {
    match body {
        Body::Handler(handler) => Box::new(move |call| {
            let arguments = Arguments::from_value(call.arguments.take());
            let mut step = handler(&arguments, call);
            if let Step::Done(Outcome::Prompt(result)) = &mut step
                && result.description.is_none()
            {
                result.description.clone_from(&description);
            }
            step
        }),
        Body::Template(messages) => Box::new(move |call| {
            let arguments = Arguments::from_value(call.arguments.take());
            let message = |(role, text): &(Role, String)| PromptMessage {
                role: *role,
                content: Content::Text(arguments.fill(text)),
            };
            Step::Done(Outcome::Prompt(PromptResult {
                description: description.clone(),
                messages: messages.iter().map(message).collect(),
            }))
        }),
    }
}

/// A prompt as it is served.
pub struct ServedPrompt(Arc<Compiled>);

struct Compiled {
    name: String,
    required: Vec<String>,
    handler: Inline,
    completers: HashMap<String, Completer>,
    json: [Vec<u8>; Version::COUNT],
}

impl ServedPrompt {
    /// The same prompt with a reference count of its own (see [`crate::Snapshot::for_shard`]).
    pub(crate) fn for_shard(&self) -> ServedPrompt {
        ServedPrompt(Arc::clone(&self.0))
    }

    pub(crate) fn json(&self) -> &[Vec<u8>; Version::COUNT] {
        &self.0.json
    }

    pub(crate) fn completers(&self) -> &HashMap<String, Completer> {
        &self.0.completers
    }

    /// The name it is asked for by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs one round. A missing required argument, or one that is no string, is a protocol error;
    /// arguments it does not know are left alone.
    pub fn run(&self, call: &mut Call) -> Step {
        let invalid = |message: String| Step::Error(RpcError::new(codes::INVALID_PARAMS, message));
        match &call.arguments {
            serde_json::Value::Null => {}
            serde_json::Value::Object(map) => {
                if let Some((name, _)) = map.iter().find(|(_, value)| !value.is_string()) {
                    return invalid(format!("Argument {name} must be a string"));
                }
            }
            _ => return invalid("params.arguments must be an object".into()),
        }
        for name in &self.0.required {
            if call.arguments.get(name).is_none() {
                return invalid(format!("Missing argument: {name}"));
            }
        }
        self.check(guard(|| (self.0.handler)(call)))
    }

    /// Refuses an answer that is none (also to be used on a deferred one).
    pub fn check(&self, step: Step) -> Step {
        match step {
            Step::Done(Outcome::Tool(_) | Outcome::Resource(_)) => internal_error(),
            step => step,
        }
    }
}
