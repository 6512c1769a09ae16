//! The fixtures of the official MCP conformance suite, for both eras: names and texts are the suite's own
//! (digest k). Also handy to see what a client makes of every kind of answer.

mod ask;
mod prompts;
mod resources;
mod tasks;
mod tools;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use erlmcp_protocol::mcp::{Content, ResourceBody, ResourceContents};

use crate::{Catalog, CatalogError};

/// A checkered square of 8 × 8 pixels.
const PNG: &[u8] = include_bytes!("fixture.png");
/// 20 ms of a 440 Hz tone, 8 kHz, mono, 8 bit.
const WAV: &[u8] = include_bytes!("fixture.wav");

/// Every fixture of the suite.
pub fn everything() -> Result<Catalog, CatalogError> {
    let mut catalog = Catalog::builder()
        .name("erlmcp-shard everything")
        .instructions("Fixtures of the MCP conformance suite");
    // The suite calls the first tool without arguments and reads the first resource: plain ones lead.
    for tool in tools::all().into_iter().chain(ask::all()).chain(tasks::all()) {
        catalog = catalog.tool(tool);
    }
    for prompt in prompts::all() {
        catalog = catalog.prompt(prompt);
    }
    for resource in resources::all() {
        catalog = catalog.resource(resource);
    }
    catalog.template(resources::template()).build()
}

fn png() -> Content {
    Content::Image { data: STANDARD.encode(PNG), mime_type: "image/png".into() }
}

fn embedded(uri: &str, mime_type: &str, text: &str) -> Content {
    Content::Resource(ResourceContents {
        uri: uri.into(),
        mime_type: Some(mime_type.into()),
        body: ResourceBody::Text(text.into()),
    })
}
