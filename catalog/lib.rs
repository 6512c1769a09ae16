//! What clients may call: tools, resources and prompts; how they are written, checked, listed and run.
//!
//! [`Catalog::builder`] puts a catalog together, [`Catalog::into_handle`] starts serving it, a [`Snapshot`]
//! is what shards read. The way of a call: [`Snapshot::tool`] → [`ServedTool::run`] → a [`Step`].
#![forbid(unsafe_code)]

pub mod ask;
pub mod call;
pub mod demo;
pub mod disk;
pub mod everything;
pub mod exec;
pub mod file;
pub mod runner;

mod arguments;
mod catalog;
mod error;
mod handle;
mod list;
mod offload;
mod prompt;
mod reply;
mod resource;
mod schema;
mod snapshot;
mod step;
mod threads;
mod tool;
mod uri_template;
mod wire;

pub use arguments::Arguments;
pub use call::{
    Call, CallEvent, Change, Context, MakeSink, NeedInput, Outcome, ReplySink, Step, TraceContext,
};
pub use catalog::{Builder, Catalog, Draft};
pub use demo::demo;
pub use error::CatalogError;
pub use everything::everything;
pub use exec::{Exec, Output};
pub use handle::{Handle, Listener};
pub use list::ListKind;
pub use prompt::{Prompt, ServedPrompt};
pub use reply::Reply;
pub use resource::{
    Found, Resource, ResourceTemplate, ServedResource, ServedTemplate, resource_not_found,
};
pub use runner::{Overloaded, Runner};
pub use snapshot::Snapshot;
pub use step::{IntoPrompt, IntoResource, IntoStep, Json, assistant, failed, text, user};
pub use threads::ThreadRunner;
pub use tool::{NoArguments, ServedTool, TaskHints, TaskSupport, Tool};
pub use uri_template::fuzz_uri_template;
pub use wire::{Annotations, Icon, Theme};
// What handlers are written with, so that their authors need not name our versions.
pub use erlmcp_protocol::mcp as protocol;
pub use {schemars, serde, serde_json};

#[cfg(test)]
mod tests;
