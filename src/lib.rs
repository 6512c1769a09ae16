//! The erlmcp-shard process as a library: put a catalog together in Rust, and serve it.
//!
//! ```no_run
//! use erlmcp_shard::{Catalog, Server};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let catalog = Catalog::load("tools.toml")?;
//!     Server::new(catalog).cores([0, 1]).listen("127.0.0.1:8080".parse()?).run()?;
//!     Ok(())
//! }
//! ```
//!
//! [`Server::run`] blocks until SIGTERM or SIGINT; [`Server::start`] returns a [`Running`] server at once, for
//! tests and for programs that do more than serve. The binary is the same [`Server`] behind a command line.
#![warn(unsafe_code)]

mod cli;
mod client;
mod cluster;
mod commands;
pub mod config;
#[allow(unsafe_code)] // One line, in control/admin.rs: a bound socket is handed to glommio.
pub mod control;
mod cores;
mod host;
mod leaving;
mod log;
mod notify;
mod running;
mod secret;
mod server;
mod stdio;
mod table;
mod tune;

pub use commands::main;
pub use config::Config;
pub use erlmcp_catalog::{
    self as catalog, Annotations, Arguments, Call, CallEvent, Catalog, CatalogError, Change, Draft,
    Found, Handle, Icon, Json, ListKind, NeedInput, NoArguments, Outcome, Prompt, Reply, Resource,
    ResourceTemplate, Runner, Snapshot, Step, Tool, assistant, demo, everything, failed,
    resource_not_found, text, user,
};
pub use erlmcp_protocol::mcp::{
    ClientCapabilities, Completion, Content, InputMethod, InputRequest, LogLevel, PromptMessage,
    PromptResult, ResourceBody, ResourceContents, Role, RpcError, ToolResult, Version,
};
pub use erlmcp_shards::config::Limits;
pub use running::{Addresses, Exit, Running};
pub use server::{BootError, Server};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
