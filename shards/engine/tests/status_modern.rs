//! The status table of the modern era (digest b.8), row by row.

use serde_json::json;

use super::ask::{META, tool};
use super::world::World;

#[test]
fn a_simple_answer_is_json_with_200() {
    let mut world = World::new();
    let heard = world.modern(1, "tools/call", tool("echo", json!({ "text": "hi" }))).reply();
    assert_eq!((heard.status, heard.text().as_str()), (200, "hi"));
    assert_eq!(heard.header("content-type"), Some("application/json"));
    assert_eq!(heard.result()["resultType"], "complete");
    assert_eq!(heard.result()["_meta"][format!("{META}serverInfo")]["name"], "crane-mcp");
}
