//! What one node made, every node understands: request states, cursors, task ids; and what another secret made,
//! nobody.

use serde_json::{Value, json};

use super::client::{modern_post, request, try_ask};
use super::{Cluster, metric};
use crate::child::{Scratch, Server, eventually};

/// Meta of a client that can be asked, and knows of tasks.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {
            "elicitation": { "form": {} },
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    })
}

/// A modern request over a new connection; the whole message.
fn ask(server: &Server, method: &str, name: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let name = if name.is_empty() { String::new() } else { format!("Mcp-Name: {name}\r\n") };
    let post = modern_post(method, &format!("{name}Connection: close\r\n"), &body);
    let answer = try_ask(&server.http, &post).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

#[test]
fn a_question_of_one_node_is_answered_over_another() {
    let cluster = Cluster::of(3, &["--catalog", "everything"]);
    let tool = "test_input_required_result_request_state";
    for asked_at in 1..=3 {
        let asked = ask(
            cluster.node(asked_at),
            "tools/call",
            tool,
            json!({ "name": tool, "arguments": {} }),
        );
        let state = &asked["result"]["requestState"];
        assert!(state.is_string(), "{asked}");
        let answer = json!({
            "name": tool,
            "arguments": {},
            "requestState": state,
            "inputResponses": { "confirm": { "action": "accept", "content": { "ok": true } } },
        });
        for (node, server) in cluster.running() {
            let done = ask(server, "tools/call", tool, answer.clone());
            assert_eq!(
                done["result"]["content"][0]["text"], "state-ok",
                "asked by {asked_at}, answered over {node}: {done}"
            );
        }
    }
}

#[test]
fn a_list_is_begun_on_one_node_and_gone_through_on_others() {
    let config = Scratch::new("[limits]\npage_size = 2\n");
    let cluster = Cluster::of(3, &["--catalog", "everything", "--config", config.path()]);
    let (mut cursor, mut names, mut page) = (Value::Null, Vec::new(), 0);
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
        let list = ask(cluster.node(1 + page % 3), "tools/list", "", params);
        let tools =
            list["result"]["tools"].as_array().unwrap_or_else(|| panic!("page {page}: {list}"));
        names.extend(tools.iter().map(|tool| tool["name"].to_string()));
        cursor = list["result"]["nextCursor"].clone();
        page += 1;
        if cursor.is_null() {
            break;
        }
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert!(3 < page && names.len() == count, "each tool once, on {page} pages");
}

#[test]
fn a_task_of_one_node_is_asked_for_answered_and_cancelled_over_others() {
    let cluster = Cluster::of(3, &["--catalog", "everything"]);
    let begin = |node: u16, tool: &str| {
        let params = json!({ "name": tool, "arguments": { "seconds": 3600 } });
        let begun = ask(cluster.node(node), "tools/call", tool, params);
        assert_eq!(begun["result"]["resultType"], "task", "{begun}");
        begun["result"]["taskId"].as_str().expect("an id").to_owned()
    };
    let get = |node: u16, id: &str| {
        let got = ask(cluster.node(node), "tasks/get", id, json!({ "taskId": id }));
        assert!(got["result"].is_object(), "over node {node}: {got}");
        got["result"].clone()
    };
    for home in 1..=3 {
        let (next, last) = (1 + home % 3, 1 + (home + 1) % 3);
        let id = begin(home, "confirm_delete");
        eventually("it asks", || get(next, &id)["status"] == "input_required");
        let answers =
            json!({ "confirm-1": { "action": "accept", "content": { "confirm": true } } });
        let params = json!({ "taskId": id, "inputResponses": answers });
        let told = ask(cluster.node(last), "tasks/update", &id, params);
        assert_eq!(told["result"]["resultType"], "complete", "{told}");
        for node in 1..=3 {
            eventually("it ends, for all", || get(node, &id)["status"] == "completed");
        }
        let id = begin(home, "slow_compute");
        let told = ask(cluster.node(next), "tasks/cancel", &id, json!({ "taskId": id }));
        assert!(told["result"].is_object(), "{told}");
        eventually("it is cancelled, for all", || get(last, &id)["status"] == "cancelled");
    }
}

#[test]
fn a_task_of_a_killed_node_is_answered_with_something_and_soon() {
    let mut cluster = Cluster::of(2, &["--catalog", "everything"]);
    let params = json!({ "name": "slow_compute", "arguments": { "seconds": 3600 } });
    let begun = ask(cluster.node(2), "tools/call", "slow_compute", params);
    let id = begun["result"]["taskId"].as_str().expect("an id").to_owned();
    cluster.kill(2);
    cluster.all_see_dead(2);
    // Tasks have no copies: what is said is an error, and never nothing.
    let got = ask(cluster.node(1), "tasks/get", &id, json!({ "taskId": id }));
    assert!(got["error"].is_object(), "{got}");
    assert_eq!(metric(cluster.node(1), "erlmcp_mesh_peers", ""), 0.0);
}

#[test]
fn a_secret_is_changed_while_everything_goes_on() {
    let mut cluster = Cluster::of(2, &["--catalog", "everything"]);
    let session = cluster.open(2);
    let old = cluster.secret.text();
    let check = |cluster: &Cluster| {
        for (_, server) in cluster.running() {
            let list = session.post(&server.http, &request("tools/list", ""));
            assert!(list.contains("\"tools\""), "{list}");
        }
    };
    // First every node learns to open what the new one seals, then all seal with it, then the old one goes.
    for lines in [
        format!("{old}the new secret of this cluster 7\n"),
        format!("the new secret of this cluster 7\n{old}"),
    ] {
        cluster.secret.write(&lines);
        for (_, server) in cluster.running() {
            server.signal("-HUP");
        }
        check(&cluster);
    }
    let fresh = cluster.open(1);
    // A node that knows only the new secret belongs to them, and understands what was sealed with it.
    cluster.secret.write("the new secret of this cluster 7\n");
    cluster.start(3);
    cluster.agree();
    let list = fresh.post(&cluster.node(3).http, &request("tools/list", ""));
    assert!(list.contains("\"tools\""), "{list}");
}
