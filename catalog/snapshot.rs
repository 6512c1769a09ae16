//! The catalog at one moment: immutable, shared by all shards, read without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use erlmcp_protocol::mcp::{Completion, RpcError, TASKS_EXTENSION, Version, codes};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::catalog::Server;
use crate::error::CatalogError;
use crate::list::{ListKind, Listing};
use crate::prompt::{Completer, ServedPrompt};
use crate::resource::{Found, ServedResource, ServedTemplate};
use crate::tool::ServedTool;
use crate::wire::per_version;

/// Most values one completion returns (digest c.5).
const COMPLETION_VALUES_MAX: usize = 100;

/// The items of a catalog, in the order in which they were added.
#[derive(Clone, Default)]
pub(crate) struct Items {
    pub tools: Vec<Arc<ServedTool>>,
    pub prompts: Vec<Arc<ServedPrompt>>,
    pub resources: Vec<Arc<ServedResource>>,
    pub templates: Vec<Arc<ServedTemplate>>,
}

/// What was ever offered: a capability is a promise, and an emptied list keeps it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Offers {
    tools: bool,
    prompts: bool,
    resources: bool,
    tasks: bool,
}

/// The catalog at one moment.
pub struct Snapshot {
    pub(crate) server: Arc<Server>,
    pub(crate) items: Items,
    pub(crate) offers: Offers,
    derived: Arc<Derived>,
}

/// What follows from the items: indices by name, and bytes that are ready to be sent.
struct Derived {
    tools: HashMap<String, usize>,
    prompts: HashMap<String, usize>,
    resources: HashMap<String, usize>,
    lists: [Listing; 4],
    capabilities: [Vec<u8>; Version::COUNT],
    fingerprint: u64,
}

impl Snapshot {
    pub(crate) fn new(
        server: Arc<Server>,
        items: Items,
        before: Offers,
    ) -> Result<Snapshot, CatalogError> {
        let tools = index("tool", items.tools.iter().map(|tool| tool.name()))?;
        let prompts = index("prompt", items.prompts.iter().map(|prompt| prompt.name()))?;
        let resources = index("resource", items.resources.iter().map(|resource| resource.uri()))?;
        index("resource template", items.templates.iter().map(|template| template.template()))?;
        let offers = Offers {
            tools: before.tools || !items.tools.is_empty(),
            prompts: before.prompts || !items.prompts.is_empty(),
            resources: before.resources
                || !items.resources.is_empty()
                || !items.templates.is_empty(),
            tasks: before.tasks || items.tools.iter().any(|tool| tool.task().is_some()),
        };
        let lists = [
            Listing::new(items.tools.iter().map(|tool| tool.json())),
            Listing::new(items.prompts.iter().map(|prompt| prompt.json())),
            Listing::new(items.resources.iter().map(|resource| resource.json())),
            Listing::new(items.templates.iter().map(|template| template.json())),
        ];
        let capabilities = per_version(|version| capabilities(offers, version));
        let mut hash = Fnv1a::new();
        hash.write(&server.json);
        hash.write(server.instructions.as_deref().unwrap_or_default().as_bytes());
        for list in &lists {
            hash.write(list.newest());
        }
        let fingerprint = hash.0;
        let derived = Derived { tools, prompts, resources, lists, capabilities, fingerprint };
        Ok(Snapshot { server, items, offers, derived: Arc::new(derived) })
    }

    /// The same snapshot for one shard alone: the reference counts that its calls touch, of the snapshot
    /// and of each item, are its own. A count shared between cores would cost every call on each of them.
    pub fn for_shard(&self) -> Arc<Snapshot> {
        let items = Items {
            tools: self.items.tools.iter().map(|tool| Arc::new(tool.for_shard())).collect(),
            prompts: self.items.prompts.iter().map(|item| Arc::new(item.for_shard())).collect(),
            resources: self.items.resources.iter().map(|item| Arc::new(item.for_shard())).collect(),
            templates: self.items.templates.iter().map(|item| Arc::new(item.for_shard())).collect(),
        };
        Arc::new(Snapshot {
            server: Arc::clone(&self.server),
            items,
            offers: self.offers,
            derived: Arc::clone(&self.derived),
        })
    }

    /// `{"name":…,"version":…}`, serialised once.
    pub fn server_info_json(&self) -> &[u8] {
        &self.server.json
    }

    /// How to use this server, for the model.
    pub fn instructions(&self) -> Option<&str> {
        self.server.instructions.as_deref()
    }

    /// The `capabilities` object for peers of this revision: only what is served (digest b.4, c.18).
    pub fn capabilities_json(&self, version: Version) -> &[u8] {
        &self.derived.capabilities[version as usize]
    }

    /// Whether the `tools/*` methods are offered.
    pub fn has_tools(&self) -> bool {
        self.offers.tools
    }

    /// Whether the `prompts/*` methods are offered.
    pub fn has_prompts(&self) -> bool {
        self.offers.prompts
    }

    /// Whether the `resources/*` methods are offered.
    pub fn has_resources(&self) -> bool {
        self.offers.resources
    }

    /// Whether the tasks extension is offered: some tool's calls can become tasks, or once could.
    pub fn has_tasks(&self) -> bool {
        self.offers.tasks
    }

    /// Whether `completion/complete` is offered.
    pub fn has_completions(&self) -> bool {
        self.offers.prompts || self.offers.resources
    }

    /// Item objects of one page, separated by commas, and the offset of the next page.
    /// `None`: there is no such offset. Order is that of adding.
    pub fn list(
        &self,
        kind: ListKind,
        version: Version,
        offset: u32,
        page_size: u32,
    ) -> Option<(&[u8], Option<u32>)> {
        self.derived.lists[kind as usize].page(version, offset, page_size)
    }

    /// All that a list says, in the newest revision.
    pub(crate) fn said(&self, kind: ListKind) -> &[u8] {
        self.derived.lists[kind as usize].newest()
    }

    /// Equal on every node that serves the same catalog; changes with any item.
    pub fn fingerprint(&self) -> u64 {
        self.derived.fingerprint
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<&Arc<ServedTool>> {
        self.derived.tools.get(name).map(|&index| &self.items.tools[index])
    }

    /// The prompt of this name.
    pub fn prompt(&self, name: &str) -> Option<&Arc<ServedPrompt>> {
        self.derived.prompts.get(name).map(|&index| &self.items.prompts[index])
    }

    /// What serves this URI: a resource of exactly this name, else the first template that fits.
    pub fn resource(&self, uri: &str) -> Option<Found> {
        if let Some(&index) = self.derived.resources.get(uri) {
            return Some(Found::resource(&self.items.resources[index]));
        }
        let fitting = |template: &Arc<_>| {
            let variables = ServedTemplate::matches(template, uri)?;
            Some(Found::template(template, variables))
        };
        self.items.templates.iter().find_map(fitting)
    }

    /// Names of the tools, in order.
    pub fn tool_names(&self) -> impl Iterator<Item = &str> {
        self.items.tools.iter().map(|tool| tool.name())
    }

    /// `completion/complete`: an unknown reference is an error, an unknown argument has no suggestions.
    pub fn complete(
        &self,
        reference: &Value,
        argument: &Value,
        context: Option<&Value>,
    ) -> Result<Completion, RpcError> {
        let text = |value: &Value, key| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let invalid = |message: &'static str| RpcError::new(codes::INVALID_PARAMS, message);
        let name = text(argument, "name").ok_or(invalid("argument.name must be a string"))?;
        let prefix = text(argument, "value").ok_or(invalid("argument.value must be a string"))?;
        let completers = match reference.get("type").and_then(Value::as_str) {
            Some("ref/prompt") => {
                let name = text(reference, "name").ok_or(invalid("ref.name must be a string"))?;
                let prompt = self.prompt(&name).ok_or(invalid("Unknown prompt in ref"))?;
                Some(prompt.completers())
            }
            Some("ref/resource") => {
                let uri = text(reference, "uri").ok_or(invalid("ref.uri must be a string"))?;
                self.template_completers(&uri).ok_or(invalid("Unknown resource in ref"))?
            }
            _ => return Err(invalid("ref.type must be ref/prompt or ref/resource")),
        };
        let Some(completer) = completers.and_then(|completers| completers.get(&name)) else {
            return Ok(Completion::default());
        };
        let chosen = context.and_then(|context| context.get("arguments")).cloned();
        let chosen = Arguments::from_value(chosen.unwrap_or_default());
        suggest(completer, &prefix, &chosen)
    }

    /// Outer `None`: no such resource. Inner `None`: a plain resource, which has no variables.
    #[expect(clippy::option_option, reason = "the two absences have different answers")]
    fn template_completers(&self, uri: &str) -> Option<Option<&HashMap<String, Completer>>> {
        if self.derived.resources.contains_key(uri) {
            return Some(None);
        }
        let named = self.items.templates.iter().find(|template| template.template() == uri);
        let fitting =
            || self.items.templates.iter().find(|template| template.matches(uri).is_some());
        named.or_else(fitting).map(|template| Some(template.completers()))
    }
}

fn suggest(
    completer: &Completer,
    prefix: &str,
    chosen: &Arguments,
) -> Result<Completion, RpcError> {
    let ask = std::panic::AssertUnwindSafe(|| completer(prefix, chosen));
    let mut values = std::panic::catch_unwind(ask)
        .map_err(|_| RpcError::new(codes::INTERNAL_ERROR, "Internal error"))?;
    let total = values.len();
    values.truncate(COMPLETION_VALUES_MAX);
    Ok(Completion { has_more: values.len() < total, total: u64::try_from(total).ok(), values })
}

fn index<'a>(
    kind: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, usize>, CatalogError> {
    let mut index = HashMap::new();
    for (at, name) in names.enumerate() {
        if index.insert(name.to_owned(), at).is_some() {
            return Err(CatalogError::item(kind, name, "the name is taken"));
        }
    }
    Ok(index)
}

fn capabilities(offers: Offers, version: Version) -> Vec<u8> {
    let mut capabilities = json!({ "logging": {} });
    if offers.tools {
        capabilities["tools"] = json!({ "listChanged": true });
    }
    if offers.prompts {
        capabilities["prompts"] = json!({ "listChanged": true });
    }
    if offers.resources {
        capabilities["resources"] = json!({ "listChanged": true, "subscribe": true });
    }
    if Version::V2025_03_26 <= version && (offers.prompts || offers.resources) {
        capabilities["completions"] = json!({});
    }
    // Digest c.15: an extension of the modern era, and never `capabilities.tasks`.
    if version.is_modern() && offers.tasks {
        capabilities["extensions"] = json!({ TASKS_EXTENSION: {} });
    }
    capabilities.to_string().into_bytes()
}

/// FNV-1a, 64 bit: the same on every node and in every build, which std's hashers do not promise. It guards
/// nothing, so that it can be forged does not matter.
struct Fnv1a(u64);

impl Fnv1a {
    fn new() -> Fnv1a {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        // 0xff occurs in no UTF-8 text: it keeps ("ab", "c") and ("a", "bc") apart.
        for &byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
