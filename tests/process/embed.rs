//! The server inside another program.

use erlmcp_shard::{Catalog, Exit, Limits, Resource, Server, Tool};

use crate::child::{META, ask, eventually};

fn catalog() -> Catalog {
    Catalog::builder()
        .name("embedded")
        .tool(Tool::new("shout").blocking(|_: erlmcp_shard::NoArguments, _| "LOUD"))
        .build()
        .unwrap()
}

fn server() -> Server {
    let free = "127.0.0.1:0".parse().unwrap();
    Server::new(catalog()).listen(free).tcp(None).admin(Some(free))
}

fn post(address: &str, method: &str, name: Option<&str>, params: &str) -> String {
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{META}}}}}"#);
    let name = name.map_or_else(String::new, |name| format!("Mcp-Name: {name}\r\n"));
    ask(
        address,
        &format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: {method}\r\n{name}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn a_program_starts_a_server_calls_it_and_stops_it() {
    let running = server().start().unwrap();
    let addresses = running.addresses();
    assert_eq!(addresses.tcp, None);
    let http = addresses.http.unwrap().to_string();
    let answer = post(&http, "tools/call", Some("shout"), r#""name":"shout","arguments":{},"#);
    assert!(answer.contains("LOUD"), "{answer}");
    assert_eq!(running.stop(), Exit::Drained);
    assert!(std::net::TcpStream::connect(http).is_err());
    assert!(std::net::TcpStream::connect(addresses.admin.unwrap()).is_err());
}

#[test]
fn the_running_catalog_can_be_changed_and_every_shard_hears_of_it() {
    let running = server().shards_per_core(2).start().unwrap();
    let http = running.addresses().http.unwrap().to_string();
    running
        .catalog()
        .update(|draft| draft.add_resource(Resource::text("test://new", "new", "x")))
        .unwrap();
    // Connections land on any shard; each must answer with the new list.
    let mut in_a_row = 0;
    eventually("all shards serve the new list", || {
        let listed = post(&http, "resources/list", None, "").contains("test://new");
        in_a_row = if listed { in_a_row + 1 } else { 0 };
        in_a_row == 20
    });
    assert_eq!(running.stop(), Exit::Drained);
}

#[test]
fn dropping_a_running_server_ends_it() {
    let running = server().start().unwrap();
    let address = running.addresses().http.unwrap();
    drop(running);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn two_servers_in_one_process_do_not_disturb_each_other() {
    let (a, b) = (server().start().unwrap(), server().start().unwrap());
    assert_ne!(a.addresses().http, b.addresses().http);
    assert_eq!(a.stop(), Exit::Drained);
    let http = b.addresses().http.unwrap().to_string();
    assert!(post(&http, "tools/list", None, "").contains("shout"));
    assert_eq!(b.stop(), Exit::Drained);
}

#[test]
fn what_is_wrong_is_told_before_anything_starts() {
    let limits = Limits { outbox_bytes_max: 1, ..Limits::default() };
    let err = server().limits(limits).cores([usize::MAX]).start().err().unwrap().to_string();
    assert_eq!(err.lines().count(), 2, "{err}");
}
