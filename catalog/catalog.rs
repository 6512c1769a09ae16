//! A catalog as it is put together, before it runs.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::call::Change;
use crate::error::CatalogError;
use crate::file;
use crate::handle::Handle;
use crate::list::ListKind;
use crate::prompt::Prompt;
use crate::resource::{Resource, ResourceTemplate};
use crate::snapshot::{Items, Offers, Snapshot};
use crate::tool::Tool;

/// Tools, resources and prompts, checked and ready to be served.
pub struct Catalog {
    snapshot: Snapshot,
}

impl Catalog {
    /// An empty catalog to add to.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Reads a catalog file (see this crate's README); the error names every fault in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Catalog, CatalogError> {
        file::load(path.as_ref())
    }

    pub(crate) fn assemble(server: Server, items: Items) -> Result<Catalog, CatalogError> {
        Ok(Catalog { snapshot: Snapshot::new(Arc::new(server), items, Offers::default())? })
    }

    /// Starts serving it; the handle can be cloned and changes what is served.
    pub fn into_handle(self) -> Handle {
        Handle::new(self.snapshot)
    }

    pub(crate) fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// What would be served.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl From<Catalog> for Handle {
    fn from(catalog: Catalog) -> Handle {
        catalog.into_handle()
    }
}

/// Who this server says it is.
pub(crate) struct Server {
    pub json: Vec<u8>,
    pub instructions: Option<String>,
}

/// Puts a catalog together. Nothing is checked before [`Builder::build`].
#[derive(Default)]
pub struct Builder {
    name: Option<String>,
    title: Option<String>,
    version: Option<String>,
    instructions: Option<String>,
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    templates: Vec<ResourceTemplate>,
    prompts: Vec<Prompt>,
}

impl Builder {
    /// The server's name; `erlmcp-shard` unless set.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// The server's name as people see it.
    pub fn title(mut self, title: impl Into<String>) -> Builder {
        self.title = Some(title.into());
        self
    }

    /// The server's version; this crate's unless set.
    pub fn version(mut self, version: impl Into<String>) -> Builder {
        self.version = Some(version.into());
        self
    }

    /// How to use this server, for the model.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Builder {
        self.instructions = Some(instructions.into());
        self
    }

    /// One more tool.
    pub fn tool(mut self, tool: Tool) -> Builder {
        self.tools.push(tool);
        self
    }

    /// One more resource.
    pub fn resource(mut self, resource: Resource) -> Builder {
        self.resources.push(resource);
        self
    }

    /// One more resource template; of several that fit a URI the first one serves it.
    pub fn template(mut self, template: ResourceTemplate) -> Builder {
        self.templates.push(template);
        self
    }

    /// One more prompt.
    pub fn prompt(mut self, prompt: Prompt) -> Builder {
        self.prompts.push(prompt);
        self
    }

    /// Checks and compiles everything; the error names the first item that cannot be served.
    pub fn build(self) -> Result<Catalog, CatalogError> {
        let server = server(self.name, self.title, self.version, self.instructions);
        let mut draft = Draft::default();
        self.tools.into_iter().for_each(|tool| draft.add_tool(tool));
        self.resources.into_iter().for_each(|resource| draft.add_resource(resource));
        self.templates.into_iter().for_each(|template| draft.add_template(template));
        self.prompts.into_iter().for_each(|prompt| draft.add_prompt(prompt));
        Catalog::assemble(server, draft.finish()?)
    }
}

/// Who this server says it is: what is given, and the defaults for what is not.
pub(crate) fn server(
    name: Option<String>,
    title: Option<String>,
    version: Option<String>,
    instructions: Option<String>,
) -> Server {
    let mut info = json!({
        "name": name.unwrap_or_else(|| "erlmcp-shard".into()),
        "version": version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
    });
    if let Some(title) = title {
        info["title"] = title.into();
    }
    Server { json: info.to_string().into_bytes(), instructions }
}

/// The next state of a running catalog, see [`Handle::update`].
#[derive(Default)]
pub struct Draft {
    pub(crate) items: Items,
    error: Option<CatalogError>,
}

/// Adding, replacing and removing, the same for every kind.
macro_rules! edit {
    ($Item:ident, $list:ident, $key:ident, $add:ident, $replace:ident, $remove:ident, $what:literal) => {
        #[doc = concat!("Adds a ", $what, " at the end; a taken name fails the update.")]
        pub fn $add(&mut self, item: $Item) {
            match item.finish() {
                Ok(item) => self.items.$list.push(Arc::new(item)),
                Err(err) => self.fail(err),
            }
        }

        #[doc = concat!("Puts a ", $what, " in the place of the one of its name, or at the end.")]
        pub fn $replace(&mut self, item: $Item) {
            match item.finish() {
                Ok(item) => {
                    let same = self.items.$list.iter().position(|old| old.$key() == item.$key());
                    match same {
                        Some(index) => self.items.$list[index] = Arc::new(item),
                        None => self.items.$list.push(Arc::new(item)),
                    }
                }
                Err(err) => self.fail(err),
            }
        }

        #[doc = concat!("Removes the ", $what, " of this name; `false` if there is none.")]
        pub fn $remove(&mut self, name: &str) -> bool {
            let before = self.items.$list.len();
            self.items.$list.retain(|item| item.$key() != name);
            self.items.$list.len() < before
        }
    };
}

impl Draft {
    pub(crate) fn of(snapshot: &Snapshot) -> Draft {
        Draft { items: snapshot.items.clone(), error: None }
    }

    edit!(Tool, tools, name, add_tool, replace_tool, remove_tool, "tool");
    edit!(Prompt, prompts, name, add_prompt, replace_prompt, remove_prompt, "prompt");
    edit!(Resource, resources, uri, add_resource, replace_resource, remove_resource, "resource");
    edit!(
        ResourceTemplate,
        templates,
        template,
        add_template,
        replace_template,
        remove_template,
        "resource template"
    );

    fn fail(&mut self, err: CatalogError) {
        self.error.get_or_insert(err);
    }

    pub(crate) fn finish(self) -> Result<Items, CatalogError> {
        match self.error {
            Some(err) => Err(err),
            None => Ok(self.items),
        }
    }
}

/// What is different between two states, as subscribers are told: a list changed if what it says did.
pub(crate) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let differ = |kind| before.said(kind) != after.said(kind);
    let mut changes = Vec::new();
    if differ(ListKind::Tools) {
        changes.push(Change::Tools);
    }
    if differ(ListKind::Prompts) {
        changes.push(Change::Prompts);
    }
    if differ(ListKind::Resources) || differ(ListKind::Templates) {
        changes.push(Change::Resources);
    }
    for resource in &after.items.resources {
        let old = before.items.resources.iter().find(|old| old.uri() == resource.uri());
        if old.is_some_and(|old| !Arc::ptr_eq(old, resource)) {
            // Its content may be another; only its author knows.
            changes.push(Change::Resource(resource.uri().to_owned()));
        }
    }
    changes
}

/// Whether two states are the very same items.
pub(crate) fn is_same(before: &Items, after: &Items) -> bool {
    fn same<T>(before: &[Arc<T>], after: &[Arc<T>]) -> bool {
        before.len() == after.len() && before.iter().zip(after).all(|(a, b)| Arc::ptr_eq(a, b))
    }
    same(&before.tools, &after.tools)
        && same(&before.prompts, &after.prompts)
        && same(&before.resources, &after.resources)
        && same(&before.templates, &after.templates)
}
