//! Resources and resource templates: how they are written, and how they are read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erlmcp_protocol::mcp::{ResourceBody, RpcError, Version, errors};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::call::{Call, Outcome, Step};
use crate::disk;
use crate::error::{CatalogError, check_scheme, check_uri};
use crate::offload::{self, Gate, Inline, guard};
use crate::prompt::Completer;
use crate::reply::{Kind, internal_error};
use crate::step::{IntoResource, contents};
use crate::uri_template::UriTemplate;
use crate::wire::{Icon, ResourceWire, Since, per_version};

/// How long a client may keep what cannot change while the server runs, in milliseconds.
const STATIC_TTL_MS: u32 = 60_000;

/// A resource as its author writes it.
pub struct Resource {
    uri: String,
    common: Common,
    size: Option<u64>,
    body: Body,
}

/// What resources and templates share.
struct Common {
    name: String,
    title: Option<String>,
    description: Option<String>,
    mime_type: Option<String>,
    icons: Vec<Icon>,
    ttl_ms: u32,
}

type Read = Box<dyn Fn(&mut Call, Option<&str>) -> Step + Send + Sync>;

enum Body {
    Text(String),
    Blob(String),
    File(PathBuf),
    Handler(Read),
}

impl Common {
    fn new(name: String, ttl_ms: u32) -> Common {
        let icons = Vec::new();
        Common { name, title: None, description: None, mime_type: None, icons, ttl_ms }
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() { Err("the name is empty".into()) } else { Ok(()) }
    }

    fn json(&self, uri: &str, is_template: bool, size: Option<u64>) -> [Vec<u8>; Version::COUNT] {
        per_version(|version| {
            let since = Since(version);
            let wire = ResourceWire {
                uri: (!is_template).then_some(uri),
                uri_template: is_template.then_some(uri),
                name: &self.name,
                title: since.title(self.title.as_deref()),
                description: self.description.as_deref(),
                icons: since.icons(&self.icons),
                mime_type: self.mime_type.as_deref(),
                size,
            };
            serde_json::to_vec(&wire).unwrap_or_default()
        })
    }
}

/// The setters that resources and templates share.
macro_rules! common_setters {
    ($Type:ident) => {
        impl $Type {
            /// The name people see.
            pub fn title(mut self, title: impl Into<String>) -> $Type {
                self.common.title = Some(title.into());
                self
            }

            /// What it holds, for the model.
            pub fn description(mut self, description: impl Into<String>) -> $Type {
                self.common.description = Some(description.into());
                self
            }

            /// Its MIME type.
            pub fn mime_type(mut self, mime_type: impl Into<String>) -> $Type {
                self.common.mime_type = Some(mime_type.into());
                self
            }

            /// One more icon.
            pub fn icon(mut self, icon: Icon) -> $Type {
                self.common.icons.push(icon);
                self
            }

            /// How long a modern client may keep what it read, in milliseconds.
            pub fn ttl_ms(mut self, ttl_ms: u32) -> $Type {
                self.common.ttl_ms = ttl_ms;
                self
            }
        }
    };
}

common_setters!(Resource);
common_setters!(ResourceTemplate);

impl Resource {
    fn new(uri: String, name: String, size: Option<usize>, ttl_ms: u32, body: Body) -> Resource {
        let size = size.and_then(|size| u64::try_from(size).ok());
        Resource { uri, common: Common::new(name, ttl_ms), size, body }
    }

    /// A fixed text.
    pub fn text(
        uri: impl Into<String>,
        name: impl Into<String>,
        text: impl Into<String>,
    ) -> Resource {
        let text = text.into();
        let mut resource = Resource::new(
            uri.into(),
            name.into(),
            Some(text.len()),
            STATIC_TTL_MS,
            Body::Text(text),
        );
        resource.common.mime_type = Some("text/plain".into());
        resource
    }

    /// Fixed bytes.
    pub fn blob(
        uri: impl Into<String>,
        name: impl Into<String>,
        mime_type: impl Into<String>,
        bytes: impl AsRef<[u8]>,
    ) -> Resource {
        let bytes = bytes.as_ref();
        let body = Body::Blob(STANDARD.encode(bytes));
        Resource::new(uri.into(), name.into(), Some(bytes.len()), STATIC_TTL_MS, body)
            .mime_type(mime_type)
    }

    /// A file, read anew each time and off the shard; at most [`disk::FILE_BYTES_MAX`].
    pub fn file(
        uri: impl Into<String>,
        name: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> Resource {
        Resource::new(uri.into(), name.into(), None, 0, Body::File(path.into()))
    }

    /// Whatever a quick function answers, on the shard.
    pub fn handler<R, F>(uri: impl Into<String>, name: impl Into<String>, handler: F) -> Resource
    where
        R: IntoResource,
        F: Fn(&mut Call) -> R + Send + Sync + 'static,
    {
        let read: Read = Box::new(move |call, mime_type| {
            let answer = handler(call);
            answer.into_step(&call.name, mime_type)
        });
        Resource::new(uri.into(), name.into(), None, 0, Body::Handler(read))
    }

    pub(crate) fn finish(self) -> Result<ServedResource, CatalogError> {
        let fail = |reason| CatalogError::item("resource", &self.uri, reason);
        check_uri(&self.uri).map_err(fail)?;
        self.common.check().map_err(fail)?;
        let json = self.common.json(&self.uri, false, self.size);
        let mime_type = self.common.mime_type;
        let handler: Inline = match self.body {
            Body::Text(text) => Box::new(move |call| {
                contents(&call.name, mime_type.as_deref(), ResourceBody::Text(text.clone()))
            }),
            Body::Blob(data) => Box::new(move |call| {
                contents(&call.name, mime_type.as_deref(), ResourceBody::Blob(data.clone()))
            }),
            Body::File(path) => {
                let read = move |call: Call| disk::read(&path, &call, mime_type.as_deref());
                offload::blocking(Kind::Other, Gate::new(None), Arc::new(read))
            }
            Body::Handler(read) => Box::new(move |call| read(call, mime_type.as_deref())),
        };
        let ttl_ms = self.common.ttl_ms;
        Ok(ServedResource(Arc::new(CompiledResource { uri: self.uri, ttl_ms, handler, json })))
    }
}

/// A family of resources whose URIs are made from a template (RFC 6570, `{var}` and `{+path}`).
pub struct ResourceTemplate {
    template: String,
    common: Common,
    body: Option<TemplateBody>,
    completers: HashMap<String, Completer>,
}

type ReadOne = Box<dyn Fn(&Arguments, &mut Call, Option<&str>) -> Step + Send + Sync>;

enum TemplateBody {
    Handler(ReadOne),
    Directory(PathBuf),
}

impl ResourceTemplate {
    /// A template: `{var}` matches within a path segment, `{+path}` across segments but never upwards.
    pub fn new(template: impl Into<String>, name: impl Into<String>) -> ResourceTemplate {
        ResourceTemplate {
            template: template.into(),
            common: Common::new(name.into(), 0),
            body: None,
            completers: HashMap::new(),
        }
    }

    /// A quick function of the variables, on the shard.
    pub fn handler<R, F>(mut self, handler: F) -> ResourceTemplate
    where
        R: IntoResource,
        F: Fn(&Arguments, &mut Call) -> R + Send + Sync + 'static,
    {
        self.body = Some(TemplateBody::Handler(Box::new(move |variables, call, mime_type| {
            let answer = handler(variables, call);
            answer.into_step(&call.name, mime_type)
        })));
        self
    }

    /// The files below a folder, read off the shard; the template's one variable is the path in it.
    /// The kernel itself refuses to leave the folder, be it by `..` or by a link.
    pub fn directory(mut self, root: impl Into<PathBuf>) -> ResourceTemplate {
        self.body = Some(TemplateBody::Directory(root.into()));
        self
    }

    /// Suggests values of a variable for what was typed so far.
    pub fn complete<F>(self, variable: impl Into<String>, completer: F) -> ResourceTemplate
    where
        F: Fn(&str) -> Vec<String> + Send + Sync + 'static,
    {
        self.complete_with(variable, move |prefix, _| completer(prefix))
    }

    /// The same, knowing the other variables that were already chosen.
    pub fn complete_with<F>(mut self, variable: impl Into<String>, completer: F) -> ResourceTemplate
    where
        F: Fn(&str, &Arguments) -> Vec<String> + Send + Sync + 'static,
    {
        self.completers.insert(variable.into(), Box::new(completer));
        self
    }

    pub(crate) fn finish(self) -> Result<ServedTemplate, CatalogError> {
        let name = self.template.clone();
        self.serve().map_err(|reason| CatalogError::item("resource template", &name, reason))
    }

    fn serve(self) -> Result<ServedTemplate, String> {
        check_scheme(&self.template)?;
        self.common.check()?;
        let matcher = UriTemplate::parse(&self.template)?;
        for variable in self.completers.keys() {
            if !matcher.names().any(|name| name == variable) {
                return Err(format!("it completes `{variable}`, which it does not have"));
            }
        }
        let json = self.common.json(&self.template, true, None);
        let mime_type = self.common.mime_type;
        let handler: Inline = match self.body.ok_or("it has no handler")? {
            TemplateBody::Handler(handler) => Box::new(move |call| {
                let variables = Arguments::from_value(call.arguments.take());
                handler(&variables, call, mime_type.as_deref())
            }),
            TemplateBody::Directory(root) => {
                let mut names = matcher.names().map(str::to_owned);
                let (Some(variable), None) = (names.next(), names.next()) else {
                    return Err("a folder needs exactly one variable, the path in it".into());
                };
                drop(names);
                let read = move |mut call: Call| {
                    let variables = Arguments::from_value(call.arguments.take());
                    disk::read_below(&root, &variables[&variable], &call, mime_type.as_deref())
                };
                offload::blocking(Kind::Other, Gate::new(None), Arc::new(read))
            }
        };
        Ok(ServedTemplate(Arc::new(CompiledTemplate {
            template: self.template,
            ttl_ms: self.common.ttl_ms,
            matcher,
            handler,
            completers: self.completers,
            json,
        })))
    }
}

/// A resource as it is served.
pub struct ServedResource(Arc<CompiledResource>);

struct CompiledResource {
    uri: String,
    ttl_ms: u32,
    handler: Inline,
    json: [Vec<u8>; Version::COUNT],
}

impl ServedResource {
    /// The same resource with a reference count of its own (see [`crate::Snapshot::for_shard`]).
    pub(crate) fn for_shard(&self) -> ServedResource {
        ServedResource(Arc::clone(&self.0))
    }

    pub(crate) fn json(&self) -> &[Vec<u8>; Version::COUNT] {
        &self.0.json
    }

    /// Its URI.
    pub fn uri(&self) -> &str {
        &self.0.uri
    }
}

/// A resource template as it is served.
pub struct ServedTemplate(Arc<CompiledTemplate>);

struct CompiledTemplate {
    template: String,
    ttl_ms: u32,
    matcher: UriTemplate,
    handler: Inline,
    completers: HashMap<String, Completer>,
    json: [Vec<u8>; Version::COUNT],
}

impl ServedTemplate {
    /// The same template with a reference count of its own (see [`crate::Snapshot::for_shard`]).
    pub(crate) fn for_shard(&self) -> ServedTemplate {
        ServedTemplate(Arc::clone(&self.0))
    }

    pub(crate) fn json(&self) -> &[Vec<u8>; Version::COUNT] {
        &self.0.json
    }

    pub(crate) fn completers(&self) -> &HashMap<String, Completer> {
        &self.0.completers
    }

    /// The template itself.
    pub fn template(&self) -> &str {
        &self.0.template
    }

    pub(crate) fn matches(&self, uri: &str) -> Option<Value> {
        self.0.matcher.matches(uri).map(Value::Object)
    }
}

/// What serves a URI: a resource, or a template with the values of its variables.
#[derive(Clone)]
pub struct Found(Source);

#[derive(Clone)]
enum Source {
    Resource(Arc<ServedResource>),
    Template(Arc<ServedTemplate>, Value),
}

impl Found {
    pub(crate) fn resource(resource: &Arc<ServedResource>) -> Found {
        Found(Source::Resource(Arc::clone(resource)))
    }

    pub(crate) fn template(template: &Arc<ServedTemplate>, variables: Value) -> Found {
        Found(Source::Template(Arc::clone(template), variables))
    }

    /// How long a modern client may keep what it read, in milliseconds; 0 means not at all.
    pub fn ttl_ms(&self) -> u32 {
        match &self.0 {
            Source::Resource(resource) => resource.0.ttl_ms,
            Source::Template(template, _) => template.0.ttl_ms,
        }
    }

    /// Runs one round of reading it; [`Call::name`] is the URI as the client wrote it.
    pub fn run(&self, call: &mut Call) -> Step {
        let handler = match &self.0 {
            Source::Resource(resource) => &resource.0.handler,
            Source::Template(template, variables) => {
                call.arguments = variables.clone();
                &template.0.handler
            }
        };
        self.check(guard(|| handler(call)))
    }

    /// Refuses an answer that is none (also to be used on a deferred one). Digest c.3: an empty array never
    /// means "missing", and nothing else either.
    pub fn check(&self, step: Step) -> Step {
        match step {
            Step::Done(Outcome::Resource(contents)) if contents.is_empty() => internal_error(),
            Step::Done(Outcome::Tool(_) | Outcome::Prompt(_)) => internal_error(),
            step => step,
        }
    }
}

/// The error for a URI that nothing serves, as each era has it (digest a.4).
pub fn resource_not_found(uri: &str, version: Version) -> RpcError {
    errors::resource_not_found(version, uri)
}
