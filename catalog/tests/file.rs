//! Catalog files: what they give, and how faults in them are told.

use std::path::Path;

use erlmcp_protocol::mcp::{Content, ResourceBody, Version};
use serde_json::{Value, json};

use super::api::tempfile;
use super::{Stage, result, said};
use crate::file::parse;
use crate::*;

const WHOLE: &str = r#"
[server]
name = "notes"
version = "1.2.3"
instructions = "Take notes"

[[tool]]
name = "shout"
title = "Shout"
description = "Says it louder"
exec = ["tr", "a-z", "A-Z"]
input_schema = { type = "object", properties = { text = { type = "string", maxLength = 9 } }, required = ["text"] }
timeout_ms = 5_000
concurrency_max = 2
[tool.annotations]
read_only = true
[tool.env]
LANG = "C"

[[tool]]
name = "sum"
exec = ["./sum.sh"]
input_schema = '{"type":"object","properties":{"n":{"type":"integer"}}}'
output = "json"
output_schema = '{"type":"object","required":["sum"]}'

[[resource]]
uri = "notes://motd"
name = "motd"
text = "Be kind"
mime_type = "text/markdown"

[[resource]]
uri = "notes://bits"
name = "bits"
blob_base64 = "AAEC"

[[resource]]
uri = "notes://file"
name = "file"
file = "note.txt"

[[template]]
uri_template = "notes://hello/{who}"
name = "hello"
text = "Hello {{who}}"

[[template]]
uri_template = "notes://all/{+path}"
name = "all"
folder = "."

[[prompt]]
name = "review"
description = "Reviews"
[[prompt.argument]]
name = "topic"
required = true
values = ["rust", "erlang"]
[[prompt.message]]
text = "Review {{topic}}"
[[prompt.message]]
role = "assistant"
text = "Gladly"
"#;

#[test]
fn a_whole_file_is_served() {
    let folder = tempfile("catalog");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("note.txt"), "a note").expect("file");
    let script = "#!/bin/sh\ncat >/dev/null\nprintf '{\"sum\": 7}'\n";
    std::fs::write(folder.join("sum.sh"), script).expect("file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.join("sum.sh"), mode).expect("mode");
    std::fs::write(folder.join("catalog.toml"), WHOLE).expect("file");
    let stage = Stage::new(Catalog::load(folder.join("catalog.toml")).expect("catalog"));

    let snapshot = stage.handle.snapshot();
    let info: Value = serde_json::from_slice(snapshot.server_info_json()).expect("JSON");
    assert_eq!(info, json!({"name": "notes", "version": "1.2.3"}));
    assert_eq!(snapshot.instructions(), Some("Take notes"));
    let shouted = said(stage.tool("shout", json!({"text": "hi"})).1);
    assert_eq!(shouted, r#"{"TEXT":"HI"}"#);
    assert!(
        super::failure(stage.tool("shout", json!({"text": "0123456789"})).1).contains("maxLength")
    );
    let sum = result(stage.tool("sum", json!({"n": 1})).1);
    assert_eq!(sum.structured, Some(json!({"sum": 7})));
    let read = |uri: &str| match stage.read(uri) {
        Some(Step::Done(Outcome::Resource(mut contents))) => contents.remove(0),
        other => panic!("{other:?}"),
    };
    assert_eq!(read("notes://motd").mime_type.as_deref(), Some("text/markdown"));
    assert_eq!(read("notes://bits").body, ResourceBody::Blob("AAEC".into()));
    assert_eq!(read("notes://file").body, ResourceBody::Text("a note".into()));
    assert_eq!(read("notes://hello/Ada").body, ResourceBody::Text("Hello Ada".into()));
    assert_eq!(read("notes://all/note.txt").body, ResourceBody::Text("a note".into()));
    let Step::Done(Outcome::Prompt(prompt)) = stage.prompt("review", json!({"topic": "rust"}))
    else {
        panic!("no prompt")
    };
    assert_eq!(prompt.messages[0].content, Content::Text("Review rust".into()));
    let reference = json!({"type": "ref/prompt", "name": "review"});
    let argument = json!({"name": "topic", "value": "er"});
    let completion = snapshot.complete(&reference, &argument, None).expect("completion");
    assert_eq!(completion.values, ["erlang"]);
    let (tools, _) = snapshot.list(ListKind::Tools, Version::V2025_03_26, 0, 1).expect("page");
    assert!(std::str::from_utf8(tools).expect("UTF-8").contains(r#""readOnlyHint":true"#));
    std::fs::remove_dir_all(&folder).expect("clean up");
}

#[test]
fn an_empty_file_is_an_empty_catalog() {
    let catalog = parse("", "empty.toml", Path::new("/")).expect("catalog");
    assert!(!catalog.snapshot().has_tools());
}

#[track_caller]
fn check_faults(text: &str, expect: &str) {
    match parse(text, "c.toml", Path::new("/nonexistent")) {
        Ok(_) => panic!("was accepted, expected:\n{expect}"),
        Err(err) => assert_eq!(err.to_string(), expect.trim()),
    }
}

#[test]
fn misspelt_keys_are_told_with_their_neighbours() {
    check_faults("[[tools]]\nname = 'x'", "c.toml:1: tools: unknown key, did you mean `tool`?");
    check_faults(
        "[server]\nnam = 'x'\nqqq = 1",
        "c.toml:2: server.nam: unknown key, did you mean `name`?\n\
         c.toml:3: server.qqq: unknown key; known are name, title, version, instructions",
    );
    check_faults(
        "[[tool]]\nname = 'x'\nexec = ['true']\ntimout_ms = 5",
        "c.toml:4: tool.timout_ms: unknown key, did you mean `timeout_ms`?",
    );
    check_faults(
        "[[tool]]\nname = 'x'\nexec = ['true']\noutput = 'jsn'",
        "c.toml:4: tool.output: \"jsn\" is none of [\"text\", \"json\"], did you mean \"json\"?",
    );
}

#[test]
fn all_faults_of_all_items_are_told_by_line() {
    check_faults(
        r#"
[[tool]]
name = 5
exec = "true"

[[tool]]
name = "t"
exec = ["true", 1]
timeout_ms = 0
output_bytes_max = "many"
concurrency_max = -1

[[resource]]
uri = "a://b"
text = "x"
file = "y"

[[resource]]
uri = "a://c"
name = "c"
blob_base64 = "%%"

[[resource]]
uri = "a://d"
name = "d"
file = "gone.txt"

[[prompt]]
name = "p"
[[prompt.message]]
role = "system"
"#,
        r#"
c.toml:3: tool.name: must be a string, not an integer
c.toml:4: tool.exec: must be an array of strings, not a string
c.toml:8: tool.exec: must hold strings, not an integer
c.toml:9: tool.timeout_ms: must be from 1 to 3600000
c.toml:10: tool.output_bytes_max: must be a whole number, not a string
c.toml:11: tool.concurrency_max: must be from 1 to 10000
c.toml:13: resource.name: is missing
c.toml:16: resource.file: only one of text, blob_base64, file can be given
c.toml:21: resource.blob_base64: is not Base64: Invalid symbol 37, offset 0.
c.toml:26: resource.file: there is no file /nonexistent/gone.txt
c.toml:30: prompt.message.text: is missing
c.toml:31: prompt.message.role: "system" is none of ["user", "assistant"]
"#,
    );
}

#[test]
fn items_that_cannot_be_served_are_told_with_their_line() {
    check_faults(
        "[[tool]]\nname = 'a b'\nexec = ['true']\n",
        "c.toml:1: tool: tool `a b`: ' ' is not allowed in a name (A-Z a-z 0-9 _ - .)",
    );
    check_faults(
        "[[tool]]\nname = 'a'\nexec = []\n",
        "c.toml:1: tool: tool `a`: `exec` names no program",
    );
    check_faults(
        "[[tool]]\nname = 'a'\nexec = ['./a.sh']\n",
        "c.toml:3: tool.exec: there is no program /nonexistent/a.sh",
    );
    check_faults(
        "[[tool]]\nname = 'a'\nexec = ['true']\n\n[[tool]]\nname = 'a'\nexec = ['true']",
        "c.toml:6: tool.name: `a` is already used on line 2",
    );
    check_faults(
        "[[tool]]\nname = 'a'\nexec = ['true']\ninput_schema = '{'",
        "c.toml:4: tool.input_schema: is not JSON: EOF while parsing an object at line 1 column 1",
    );
    check_faults(
        "[[tool]]\nname = 'a'\nexec = ['true']\ninput_schema = { a = 2020-01-01 }",
        "c.toml:4: tool.input_schema: 2020-01-01 is a date, which JSON has not",
    );
    check_faults(
        "[[template]]\nuri_template = 'a://{b}'\nname = 'n'\ntext = '{{c}}'",
        "c.toml:4: template.text: uses `{{c}}`, which is no variable",
    );
    check_faults(
        "[[prompt]]\nname = 'p'",
        "c.toml:1: prompt.message: is missing: a prompt needs at least one [[prompt.message]]",
    );
    check_faults(
        "tool = 5\n[server]\nname = 'x'",
        "c.toml:1: tool: must be an array of tables ([[tool]]), not an integer",
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_by_line() {
    let Err(err) = parse("a = 1\nb = = 2\n", "c.toml", Path::new("/")) else { panic!("accepted") };
    assert!(err.to_string().starts_with("c.toml:2: "), "{err}");
    let Err(err) = Catalog::load("/nonexistent/c.toml") else { panic!("accepted") };
    assert!(err.to_string().starts_with("/nonexistent/c.toml: "), "{err}");
}

#[test]
fn damaged_files_never_panic() {
    // A small generator of our own, so that a failure can be repeated from its seed.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below.max(1) as u64).unwrap_or(0)
    };
    for cut in (0..WHOLE.len()).step_by(7) {
        file::fuzz_catalog_file(&WHOLE.as_bytes()[..cut]);
    }
    for round in 0..300 {
        let mut bytes = WHOLE.as_bytes().to_vec();
        for _ in 0..=round % 5 {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = b" =[]{}\"'.#\n0a"[random(13)],
                1 => {
                    bytes.remove(at);
                }
                _ => {
                    let (from, to) = (random(bytes.len()), random(bytes.len()));
                    let piece = bytes[from.min(to)..from.max(to)].to_vec();
                    bytes.splice(at..at, piece.into_iter().take(200));
                }
            }
        }
        file::fuzz_catalog_file(&bytes);
    }
}
