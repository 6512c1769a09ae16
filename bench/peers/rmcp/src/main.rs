//! The official Rust SDK on axum, in its best set-up: JSON responses on, legacy sessions on (2026-07-28 has none), the
//! tool table built once for all sessions.
//!
//! usage: peer-rmcp PORT [stateless]
//!
//! `stateless` turns legacy sessions off, which lets legacy calls too be answered with JSON instead of a stream.
//! TOKIO_WORKER_THREADS sets the threads; the default is one per core.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::serve::ListenerExt;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};

/// A client of a benchmark may hold a session idle for longer than the default of five minutes.
const SESSION_IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    /// What to answer with
    text: String,
}

#[derive(Clone)]
struct Peer;

#[tool_router]
impl Peer {
    #[tool(description = "Answers with the text it is given")]
    fn echo(&self, Parameters(Echo { text }): Parameters<Echo>) -> String {
        text
    }
}

/// Built once: the macro's default builds it, schemas and all, for every request.
static TOOLS: LazyLock<ToolRouter<Peer>> = LazyLock::new(Peer::tool_router);

#[tool_handler(router = TOOLS)]
impl ServerHandler for Peer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().ok_or("usage: peer-rmcp PORT [stateless]")?.parse()?;
    let has_sessions = match args.next().as_deref() {
        None => true,
        Some("stateless") => false,
        Some(other) => return Err(format!("unknown argument {other:?}").into()),
    };
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(SESSION_IDLE);
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(has_sessions)
        .with_json_response(true);
    let service = StreamableHttpService::new(|| Ok(Peer), Arc::new(sessions), config);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready http://{}/mcp", listener.local_addr()?);
    // A legacy answer is a stream of two writes; without this the second waits 40 ms for the first's ACK.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
