//! Lists, capabilities, and what happens when the catalog changes while it runs.

use std::sync::{Arc, Mutex};

use erlmcp_protocol::mcp::Version;
use serde_json::{Value, json};

use crate::*;

fn tool(name: &str) -> Tool {
    Tool::new(name).handler(|_: NoArguments, _: &mut Call| "")
}

fn names(snapshot: &Snapshot, version: Version, page_size: u32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut offset = Some(0);
    while let Some(at) = offset {
        let (bytes, next) =
            snapshot.list(ListKind::Tools, version, at, page_size).expect("a valid offset");
        let json = format!("[{}]", std::str::from_utf8(bytes).expect("UTF-8"));
        let items: Vec<Value> = serde_json::from_str(&json).expect("a JSON list");
        pages.push(items.iter().map(|item| item["name"].as_str().unwrap_or("").into()).collect());
        offset = next;
    }
    pages
}

#[test]
fn pages_of_every_size_hold_all_items_in_order() {
    for count in 0..6_usize {
        let all: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
        let builder = all.iter().fold(Catalog::builder(), |b, name| b.tool(tool(name)));
        let snapshot = builder.build().expect("catalog").into_handle().snapshot();
        for page_size in 1..8_usize {
            for version in Version::ALL {
                let pages = names(&snapshot, version, page_size as u32);
                assert_eq!(pages.concat(), all);
                assert_eq!(pages.len(), count.div_ceil(page_size).max(1));
            }
        }
        let version = Version::V2026_07_28;
        let offset = |n: usize| snapshot.list(ListKind::Tools, version, n as u32, 10);
        assert!(offset(count).is_some(), "the end is an empty page");
        assert_eq!(offset(count + 1), None);
        assert_eq!(offset(u32::MAX as usize), None);
    }
}

#[test]
fn each_revision_hears_only_what_it_knows() {
    let catalog = Catalog::builder()
        .tool(
            tool("t")
                .title("T")
                .description("d")
                .icon(Icon::new("https://example.com/i.png"))
                .annotations(Annotations::read_only())
                .output_schema(json!({"type": "array"}))
                .meta(json!({"a": 1})),
        )
        .tool(tool("u").output_schema(json!({"type": "object"})));
    let snapshot = catalog.build().expect("catalog").into_handle().snapshot();
    let keys = |version: Version, index: usize| -> Vec<String> {
        let (bytes, _) = snapshot.list(ListKind::Tools, version, index as u32, 1).expect("page");
        let item: Value = serde_json::from_slice(bytes).expect("JSON");
        item.as_object().expect("an object").keys().cloned().collect()
    };
    let base = ["description", "inputSchema", "name"];
    assert_eq!(keys(Version::V2024_11_05, 0), base);
    assert_eq!(
        keys(Version::V2025_03_26, 0),
        ["annotations", "description", "inputSchema", "name"]
    );
    assert_eq!(
        keys(Version::V2025_06_18, 0),
        ["_meta", "annotations", "description", "inputSchema", "name", "title"]
    );
    assert_eq!(
        keys(Version::V2025_11_25, 0),
        ["_meta", "annotations", "description", "icons", "inputSchema", "name", "title"]
    );
    assert!(keys(Version::V2026_07_28, 0).contains(&"outputSchema".to_owned()));
    assert!(!keys(Version::V2025_03_26, 1).contains(&"outputSchema".to_owned()));
    assert!(keys(Version::V2025_06_18, 1).contains(&"outputSchema".to_owned()));
}

#[test]
fn capabilities_are_promises_that_are_kept() {
    let of = |snapshot: &Snapshot, version: Version| -> Value {
        serde_json::from_slice(snapshot.capabilities_json(version)).expect("JSON")
    };
    let empty = Catalog::builder().build().expect("catalog").into_handle();
    assert_eq!(of(&empty.snapshot(), Version::V2026_07_28), json!({"logging": {}}));
    let full = demo().expect("catalog").into_handle();
    let mut expect = json!({
        "logging": {},
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"listChanged": true, "subscribe": true},
        "completions": {},
    });
    assert_eq!(of(&full.snapshot(), Version::V2026_07_28), expect);
    expect.as_object_mut().expect("object").remove("completions");
    assert_eq!(of(&full.snapshot(), Version::V2024_11_05), expect);
    // A client that was told of tools may go on asking for them.
    full.update(|draft| {
        for name in ["echo", "add", "wait", "publish"] {
            assert!(draft.remove_tool(name));
        }
    })
    .expect("update");
    assert!(full.snapshot().has_tools());
    assert!(of(&full.snapshot(), Version::V2025_11_25)["tools"].is_object());
}

type Told = Arc<Mutex<Vec<(u64, Vec<Change>)>>>;

fn listened(catalog: Catalog) -> (Handle, Told) {
    let handle = catalog.into_handle();
    let told = Told::default();
    let theirs = Arc::clone(&told);
    handle.listen(Box::new(move |snapshot, changes| {
        theirs.lock().expect("lock").push((snapshot.fingerprint(), changes.to_vec()));
    }));
    (handle, told)
}

#[test]
fn an_update_tells_listeners_what_changed_and_leaves_old_snapshots_alone() {
    let (handle, told) = listened(demo().expect("catalog"));
    let before = handle.snapshot();
    handle.update(|draft| draft.add_tool(tool("new"))).expect("update");
    let after = handle.snapshot();
    assert!(before.tool("new").is_none(), "an old snapshot does not change");
    assert!(after.tool("new").is_some());
    assert!(Arc::ptr_eq(before.tool("add").expect("add"), after.tool("add").expect("add")));
    assert_ne!(before.fingerprint(), after.fingerprint());

    handle.update(|draft| assert!(draft.remove_tool("new"))).expect("update");
    assert_eq!(handle.snapshot().fingerprint(), before.fingerprint());
    handle
        .update(|draft| {
            draft.remove_prompt("greet");
            draft.replace_resource(Resource::text("demo://greeting", "greeting", "changed"));
        })
        .expect("update");
    handle.update(|draft| assert!(!draft.remove_tool("nothing"))).expect("update");
    handle.publish(Change::Resource("demo://clock".into()));
    let told: Vec<_> = told.lock().expect("lock").iter().map(|(_, c)| c.clone()).collect();
    let greeting = Change::Resource("demo://greeting".into());
    assert_eq!(
        told,
        [
            vec![Change::Tools],
            vec![Change::Tools],
            vec![Change::Prompts, Change::Resources, greeting],
            vec![Change::Resource("demo://clock".into())],
        ],
        "an update that changes nothing tells nothing"
    );
}

#[test]
fn an_item_replaced_by_its_like_is_served_but_not_announced() {
    let (handle, told) = listened(Catalog::builder().tool(tool("t")).build().expect("catalog"));
    let other = || Tool::new("t").handler(|_: NoArguments, _: &mut Call| "other");
    handle.update(|draft| draft.replace_tool(other())).expect("update");
    assert_eq!(told.lock().expect("lock").iter().map(|(_, c)| c.clone()).collect::<Vec<_>>(), [[]]);
    let stage = super::Stage::over(handle);
    assert_eq!(super::said(stage.tool("t", json!({})).1), "other");
}

#[test]
fn a_catalog_read_anew_announces_only_the_lists_that_differ() {
    let builder = || Catalog::builder().name("n").tool(tool("t"));
    let (handle, told) = listened(builder().build().expect("catalog"));
    let fuller = builder().resource(Resource::text("r://x", "x", "")).name("m");
    handle.replace(fuller.build().expect("catalog")).expect("replaced");
    assert_eq!(told.lock().expect("lock").remove(0).1, [Change::Resources]);
    assert_eq!(handle.snapshot().server_info_json()[..11], *br#"{"name":"m""#);
}

#[test]
fn a_shards_own_snapshot_says_the_same() {
    let shared = demo().expect("catalog").into_handle().snapshot();
    let own = shared.for_shard();
    assert_eq!(own.fingerprint(), shared.fingerprint());
    assert_eq!(own.tool_names().collect::<Vec<_>>(), shared.tool_names().collect::<Vec<_>>());
    let (ours, theirs) = (own.tool("add").expect("add"), shared.tool("add").expect("add"));
    assert!(!Arc::ptr_eq(ours, theirs), "a count of its own");
    assert!(own.resource("demo://echo/x").is_some() && own.prompt("greet").is_some());
}

#[test]
fn a_faulty_update_changes_nothing() {
    let (handle, told) = listened(demo().expect("catalog"));
    let before = handle.snapshot();
    let faults: [fn(&mut Draft); 3] = [
        |draft| draft.add_tool(tool("echo")),
        |draft| draft.add_tool(tool("bad name")),
        |draft| {
            draft.remove_tool("add");
            draft.add_tool(Tool::new("x"));
        },
    ];
    for fault in faults {
        assert!(handle.update(fault).is_err());
    }
    assert!(Arc::ptr_eq(&before, &handle.snapshot()));
    assert!(told.lock().expect("lock").is_empty());
}

#[test]
fn equal_catalogs_have_equal_fingerprints() {
    let print = |builder: Builder| builder.build().expect("catalog").snapshot().fingerprint();
    let one = || Catalog::builder().name("n").tool(tool("a")).tool(tool("b"));
    assert_eq!(print(one()), print(one()));
    let others = [
        Catalog::builder().name("m").tool(tool("a")).tool(tool("b")),
        Catalog::builder().name("n").tool(tool("b")).tool(tool("a")),
        one().tool(tool("c")),
        one().instructions("i"),
    ];
    for other in others {
        assert_ne!(print(other), print(one()));
    }
}
