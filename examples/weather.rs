//! A server of one's own: `cargo run --example weather`, then
//!
//! ```text
//! curl -s localhost:8080/mcp -H 'Content-Type: application/json' -H 'MCP-Protocol-Version: 2026-07-28' \
//!   -H 'Mcp-Method: tools/call' -H 'Mcp-Name: forecast' -d '{"jsonrpc":"2.0","id":1,"method":"tools/call",
//!   "params":{"name":"forecast","arguments":{"city":"Oslo"},"_meta":{
//!   "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}'
//! ```

use erlmcp_shard::catalog::schemars::{self, JsonSchema};
use erlmcp_shard::catalog::serde::{self, Deserialize, Serialize};
use erlmcp_shard::{Annotations, Call, Catalog, Json, Prompt, Resource, Role, Server, Tool};

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "serde")]
struct Place {
    /// City to look up
    city: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(crate = "serde")]
struct Forecast {
    city: String,
    celsius: i32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::builder()
        .name("weather")
        .tool(
            Tool::new("forecast")
                .description("Tomorrow's temperature in a city")
                .annotations(Annotations::read_only())
                .output::<Forecast>()
                // Runs on a thread that may block; `.handler` is for what takes a microsecond.
                .blocking(|place: Place, _: Call| match look_up(&place.city) {
                    Some(celsius) => Ok(Json(Forecast { city: place.city, celsius })),
                    None => Err(format!("No forecast for {}; try Oslo or Lima", place.city)),
                }),
        )
        .resource(Resource::text("weather://about", "about", "Forecasts are made up."))
        .prompt(
            Prompt::new("pack")
                .argument("city", true, "Where the journey goes")
                .template_messages([(Role::User, "What should I pack for {{city}}?")]),
        )
        .build()?;
    Server::new(catalog).listen("127.0.0.1:8080".parse()?).run()?;
    Ok(())
}

fn look_up(city: &str) -> Option<i32> {
    [("Oslo", -3), ("Lima", 24)].iter().find(|(name, _)| *name == city).map(|(_, celsius)| *celsius)
}
