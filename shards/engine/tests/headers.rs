//! Headers against bodies (digest b.7).

use serde_json::{Value, json};

use super::ask::{Ask, tool};
use super::world::World;

/// A `tools/call` of `crane_load` whose headers were changed, and the error code it gets (0: none).
#[track_caller]
fn check(arguments: Value, change: impl FnOnce(Ask<'_>) -> Ask<'_>, code: i64) {
    let mut world = World::new();
    let heard = change(world.modern(9, "tools/call", tool("crane_load", arguments))).reply();
    let status = if code == 0 { 200 } else { 400 };
    assert_eq!((heard.status, heard.code()), (status, code), "{}", heard.body);
    assert_eq!(heard.last()["id"], 9);
}

#[test]
fn names_ignore_case_and_values_do_not() {
    let none = json!({});
    check(none.clone(), |ask| ask, 0);
    check(none.clone(), |ask| ask.without("mcp-method").also("MCP-METHOD", "tools/call"), 0);
    check(none.clone(), |ask| ask.header("Mcp-Method", "Tools/Call"), -32020);
    check(none.clone(), |ask| ask.header("Mcp-Name", "Crane_Load"), -32020);
    check(none.clone(), |ask| ask.header("Mcp-Name", " \tcrane_load\t "), 0);
    check(none, |ask| ask.header("MCP-Protocol-Version", "  2026-07-28 "), 0);
}

#[test]
fn what_is_missing_doubled_or_different_is_refused() {
    for name in ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"] {
        check(json!({}), |ask| ask.without(name), -32020);
    }
    check(json!({}), |ask| ask.also("Mcp-Name", "crane_load"), -32020);
    check(json!({}), |ask| ask.also("Mcp-Method", "tools/call"), -32020);
    check(json!({}), |ask| ask.header("Mcp-Name", "echo"), -32020);
    check(json!({}), |ask| ask.header("Mcp-Name", "cr\u{e4}ne"), -32020);
}

#[test]
fn a_name_the_body_lacks_is_for_the_params_to_miss() {
    let mut world = World::new();
    let ask = world.modern(1, "tools/call", json!({ "arguments": {} })).header("Mcp-Name", "echo");
    let heard = ask.reply();
    assert_eq!((heard.status, heard.code()), (200, -32602));
}

#[test]
fn names_may_wear_the_base64_sentinel() {
    for (value, code) in [
        ("=?base64?Y3JhbmVfbG9hZA==?=", 0),
        ("=?base64?Y3JhbmVfbG9hZA?=", -32020),
        ("=?base64?!!!!?=", -32020),
        ("=?base64?ZWNobw==?=", -32020),
        ("=?BASE64?Y3JhbmVfbG9hZA==?=", -32020),
        ("=?base64?Y3JhbmVfbG9hZA==", -32020),
        ("Y3JhbmVfbG9hZA==?=", -32020),
    ] {
        check(json!({}), |ask| ask.header("Mcp-Name", value), code);
    }
}

#[test]
fn mirrored_arguments_must_be_mirrored_and_equal() {
    for (arguments, header, code) in [
        (json!({ "berth": "north" }), Some(("Mcp-Param-Berth", "north")), 0),
        (json!({ "berth": "north" }), Some(("mcp-param-BERTH", "north")), 0),
        (json!({ "berth": "north" }), Some(("Mcp-Param-Berth", "North")), -32020),
        (json!({ "berth": "north" }), None, -32020),
        (
            json!({ "berth": "K\u{f6}ln-7" }),
            Some(("Mcp-Param-Berth", "=?base64?S8O2bG4tNw==?=")),
            0,
        ),
        (json!({ "berth": "north" }), Some(("Mcp-Param-Berth", "=?base64?S8O2bG4tNw==?=")), -32020),
        (json!({}), Some(("Mcp-Param-Berth", "north")), -32020),
        (json!({}), None, 0),
        (json!({ "tonnes": 42 }), Some(("Mcp-Param-Tonnes", "42")), 0),
        (json!({ "tonnes": 42 }), Some(("Mcp-Param-Tonnes", "42.0")), 0),
        (json!({ "tonnes": 42 }), Some(("Mcp-Param-Tonnes", "43")), -32020),
        (json!({ "tonnes": 42 }), Some(("Mcp-Param-Tonnes", "many")), -32020),
        (json!({ "wet": true }), Some(("Mcp-Param-Wet", "true")), 0),
        (json!({ "wet": true }), Some(("Mcp-Param-Wet", "True")), -32020),
        (json!({ "wet": true }), Some(("Mcp-Param-Wet", "1")), -32020),
        (json!({}), Some(("Mcp-Param-Unknown", "ignored")), 0),
    ] {
        let shown = format!("{arguments} {header:?}");
        let mut world = World::new();
        let ask = world.modern(9, "tools/call", tool("crane_load", arguments));
        let ask = match header {
            Some((name, value)) => ask.header(name, value),
            None => ask,
        };
        let heard = ask.reply();
        let status = if code == 0 { 200 } else { 400 };
        assert_eq!((heard.status, heard.code()), (status, code), "{shown}: {}", heard.body);
    }
}

#[test]
fn the_order_of_refusals_is_the_digests() {
    let mut world = World::new();
    // Version before method, header before version, envelope before header.
    let ask = world.modern(1, "no/such", json!({}));
    let version = "io.modelcontextprotocol/protocolVersion";
    let ask = ask.meta(version, json!("2031-01-01")).header("MCP-Protocol-Version", "2031-01-01");
    assert_eq!(ask.reply().code(), -32022);
    let ask = world.modern(1, "no/such", json!({})).meta(version, json!("2031-01-01"));
    assert_eq!(ask.reply().code(), -32020);
    let ask = world.modern(1, "no/such", json!({})).meta(version, json!(1));
    assert_eq!(ask.without("Mcp-Method").reply().code(), -32602);
    // Capability before the mirrored arguments.
    let ask = world.modern(1, "tools/call", tool("sampler", json!({}))).header("Mcp-Param-X", "1");
    assert_eq!(ask.reply().code(), -32021);
}

#[test]
fn resources_and_prompts_are_named_too() {
    let mut world = World::new();
    let read = json!({ "uri": "crane://7/state" });
    let heard = world.modern(1, "resources/read", read.clone()).reply();
    assert_eq!(heard.result()["contents"][0]["text"], "idle");
    let heard =
        world.modern(1, "resources/read", read).header("Mcp-Name", "crane://8/state").reply();
    assert_eq!(heard.code(), -32020);
    let prompt = json!({ "name": "shift", "arguments": { "name": "Ada" } });
    let heard = world.modern(1, "prompts/get", prompt.clone()).reply();
    assert_eq!(heard.result()["messages"][0]["content"]["text"], "Ada works");
    assert_eq!(world.modern(1, "prompts/get", prompt).without("Mcp-Name").reply().code(), -32020);
}
