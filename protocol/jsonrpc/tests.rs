use serde_json::Value;

use super::*;

/// The message as one line: kind, id, method, params, result, error.
fn shown(message: &Message<'_>) -> String {
    let raw = |raw: &Option<Raw<'_>>| raw.map_or("-", Raw::get).to_owned();
    match message {
        Message::Request { id, method, params } => {
            format!("request {} {method} {}", id.raw(), raw(params))
        }
        Message::Notification { method, params } => {
            format!("notification {method} {}", raw(params))
        }
        Message::Response { id, result, error } => {
            format!("response {} {} {}", id.raw(), raw(result), raw(error))
        }
        Message::Batch(_) => "batch".to_owned(),
    }
}

#[track_caller]
fn check(input: &str, expect: &str) {
    let spaced = format!(" \r\n\t{input} \n");
    for input in [input, &spaced] {
        let message = parse(input.as_bytes()).unwrap_or_else(|err| panic!("{input}: {err:?}"));
        assert_eq!(shown(&message), expect, "{input}");
    }
    if !input.starts_with('[') {
        check_every_cut(input);
    }
}

/// A message that lacks its end is no message, and says so as such.
#[track_caller]
fn check_every_cut(input: &str) {
    for cut in 0..input.len() {
        let err = parse(&input.as_bytes()[..cut]).expect_err("a cut message is no message");
        assert_eq!((err.error.code, err.id), (-32700, None), "cut at {cut}: {input}");
    }
}

#[track_caller]
fn refuse(input: impl AsRef<[u8]>, code: i32, id: Option<&str>) {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(input).chars().take(200).collect::<String>();
    let err = parse(input).expect_err(&shown);
    assert_eq!((err.error.code, err.id.as_deref()), (code, id), "{shown}: {}", err.error.message);
}

#[test]
fn messages_are_told_apart_by_their_members() {
    check(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "request 1 ping -");
    check(
        r#"{"params":{"a":[1,{"b":null}]},"method":"x","id":"s","jsonrpc":"2.0"}"#,
        r#"request "s" x {"a":[1,{"b":null}]}"#,
    );
    check(r#"{ "jsonrpc" : "2.0" , "method" : "n" , "params" : { } }"#, "notification n { }");
    check(
        r#"{"jsonrpc":"2.0","id":"s-1","result":{"ok":true}}"#,
        r#"response "s-1" {"ok":true} -"#,
    );
    check(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-1}}"#, r#"response 2 - {"code":-1}"#);
    check("[1,2]", "batch");
}

#[test]
fn unknown_members_are_ignored() {
    check(
        r#"{"x":{"jsonrpc":"1.0","id":9},"jsonrpc":"2.0","id":1,"method":"ping","x":2}"#,
        "request 1 ping -",
    );
}

#[test]
fn the_id_is_that_of_the_envelope_and_not_one_inside() {
    check(
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"id":77}},"id":5}"#,
        r#"request 5 tools/call {"arguments":{"id":77}}"#,
    );
}

#[test]
fn escaped_keys_and_methods_are_the_same_keys_and_methods() {
    check(r#"{"\u006asonrpc":"2.0","i\u0064":1,"method":"tools\/call"}"#, "request 1 tools/call -");
}

#[test]
fn ids_keep_their_spelling() {
    for id in [
        "0",
        "-1",
        "-0",
        "1.0",
        "10.00",
        "1e2",
        "1E+2",
        "12.5e1",
        "100e-2",
        "0.0e-9",
        "\"1\"",
        "\"\"",
        r#""a\u0062\"c""#,
        "9007199254740993",
        "18446744073709551616",
        "\"ü\"",
    ] {
        check(
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#),
            &format!("request {id} m -"),
        );
    }
}

#[test]
fn ids_that_are_no_string_and_no_integer_are_refused() {
    for id in ["null", "true", "1.5", "1e-1", "12.5e0", "105e-2", "{}", "[1]", "1e99999999999"] {
        refuse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#), -32600, None);
        if id != "null" {
            refuse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#), -32600, None);
        }
    }
}

#[test]
fn an_id_is_of_bounded_length() {
    let message = |len: usize| {
        let id = "a".repeat(len - 2);
        format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"m"}}"#)
    };
    assert!(parse(message(ID_BYTES_MAX).as_bytes()).is_ok());
    refuse(message(ID_BYTES_MAX + 1), -32600, None);
}

#[test]
fn a_response_to_nobody_is_heard_and_wakes_nobody() {
    check(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, "response null - {}");
    check(r#"{"jsonrpc":"2.0","error":{}}"#, "response null - {}");
}

#[test]
fn a_null_beside_the_answer_is_no_answer() {
    check(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, "response 1 {} -");
    check(r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{}}"#, "response 1 - {}");
    check(r#"{"jsonrpc":"2.0","id":1,"result":null}"#, "response 1 null -");
    refuse(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":"2.0","id":1,"error":null}"#, -32600, Some("1"));
}

#[test]
fn envelopes_of_the_wrong_shape_are_refused_with_their_id() {
    refuse(r#"{"id":1,"method":"m"}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":"2.0","id":"x"}"#, -32600, Some(r#""x""#));
    refuse(r#"{"jsonrpc":"2.0","id":1,"method":5}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":"2.0","id":1,"method":null}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#, -32600, Some("1"));
    refuse(r#"{"jsonrpc":"2.0","id":1,"method":"m","error":{}}"#, -32600, Some("1"));
    refuse("{}", -32600, None);
    refuse("5", -32600, None);
    refuse("\"x\"", -32600, None);
}

#[test]
fn params_are_an_object() {
    let message =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
    refuse(message("[]"), -32602, Some("1"));
    refuse(message("null"), -32600, Some("1"));
    refuse(message("5"), -32600, Some("1"));
    refuse(message("\"x\""), -32600, Some("1"));
    refuse(r#"{"jsonrpc":"2.0","method":"m","params":[]}"#, -32602, None);
}

#[test]
fn members_that_stand_twice_are_refused() {
    refuse(r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"m"}"#, -32600, None);
    refuse(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, -32600, None);
    refuse(r#"{"jsonrpc":"2.0","id":1,"method":"m","m\u0065thod":"n"}"#, -32600, None);
    refuse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{},"params":{}}"#, -32600, None);
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    for input in [
        "",
        " ",
        "x",
        "{",
        "}",
        "{]",
        "nul",
        "truex",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "'a'",
        r#"{"a":1,}"#,
        "{,}",
        r#"{"a" 1}"#,
        r#"{"a":}"#,
        r#"{a:1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":[1}}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u12"}"#,
        "{\"a\":\"\n\"}",
        "{\"a\":\"\0\"}",
        r#"{"a":1}x"#,
        r#"{"a":1}{}"#,
        "\u{feff}{}",
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00"}"#,
        r#"{"a":"\ud800\u0041"}"#,
        "{\"a\":1}\0",
        "\u{a0}{}",
    ] {
        refuse(input, -32700, None);
    }
    refuse(b"{\"a\":\"\xff\"}", -32700, None);
    refuse(b"{\"a\":\"\xed\xa0\x80\"}", -32700, None);
}

/// A message whose containers nest `depth` deep, envelope included.
fn nested(depth: usize, open: &str, close: &str) -> String {
    let (open, close) = (open.repeat(depth - 2), close.repeat(depth - 2));
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{open}1{close}}}}}"#)
}

#[test]
fn nesting_is_bounded_where_the_reader_of_values_bounds_it() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"b":[1,"#, "]}]")] {
        let step = open.matches(['[', '{']).count();
        for count in (DEPTH_MAX - 8) / step..(DEPTH_MAX + 8) / step {
            let inner = format!("{}1{}", open.repeat(count), close.repeat(count));
            let input =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{inner}}}}}"#);
            let ours = parse(input.as_bytes()).is_ok();
            assert_eq!(ours, 2 + count * step <= DEPTH_MAX, "{open} x {count}");
            assert_eq!(ours, serde_json::from_str::<Value>(&input).is_ok(), "{open} x {count}");
        }
    }
}

#[test]
fn hostile_nesting_costs_no_stack() {
    refuse(nested(1_000_000, "[", "]"), -32700, None);
    refuse(nested(1_000_000, r#"{"a":"#, "}"), -32700, None);
    refuse("[".repeat(1_000_000).replacen('[', "{\"a\":", 1), -32700, None);
    assert!(batch_items("[".repeat(1_000_000).as_bytes()).is_err());
}

#[test]
fn a_batch_has_one_to_a_hundred_items() {
    let batch = |count: usize| format!("[{}]", vec!["{}"; count].join(" , "));
    assert_eq!(batch_items(batch(0).as_bytes()).map_err(|err| err.code), Err(-32600));
    assert_eq!(batch_items(batch(1).as_bytes()).map(|items| items.len()), Ok(1));
    let full = batch_items(batch(BATCH_ITEMS_MAX).as_bytes()).map(|items| items.len());
    assert_eq!(full, Ok(BATCH_ITEMS_MAX));
    let over = batch_items(batch(BATCH_ITEMS_MAX + 1).as_bytes()).err().map(|err| err.code);
    assert_eq!(over, Some(-32600));
    for bad in ["[", "[1,]", "[1 2]", "[1]]"] {
        assert_eq!(batch_items(bad.as_bytes()).map_err(|err| err.code), Err(-32700), "{bad}");
    }
    assert_eq!(batch_items(b"{}").map_err(|err| err.code), Err(-32600));
}

#[test]
fn each_item_of_a_batch_is_judged_alone() {
    let batch = br#" [{"jsonrpc":"2.0","id":1,"method":"ping"}, 5, [],
        {"jsonrpc":"2.0","id":2}, {"jsonrpc":"2.0","method":"n"}] "#;
    let items = batch_items(batch).expect("a batch");
    let judged: Vec<_> = items
        .into_iter()
        .map(|item| match parse_item(item) {
            Ok(message) => shown(&message),
            Err(err) => format!("{} {:?}", err.error.code, err.id),
        })
        .collect();
    let expect = [
        "request 1 ping -",
        "-32600 None",
        "-32600 None",
        r#"-32600 Some("2")"#,
        "notification n -",
    ];
    assert_eq!(judged, expect);
}

#[test]
fn members_and_items_are_those_serde_json_finds() {
    let text = r#"{"a":1,"b\n":[true,null,"x\"y",{"c":[]}],"":{},"ü":-1.5e3}"#;
    let raw = Raw::parse(text).expect("JSON");
    let value: Value = serde_json::from_str(text).expect("JSON");
    for (key, member) in raw.members() {
        let member: Value = serde_json::from_str(member.get()).expect("a member is JSON");
        assert_eq!(Some(&member), value.get(key.as_ref()), "{key}");
    }
    assert_eq!(raw.members().count(), 4);
    assert_eq!(raw.items().count(), 0);
    let array = raw.members().nth(1).expect("b").1;
    let items: Vec<&str> = array.items().map(Raw::get).collect();
    assert_eq!(items, ["true", "null", r#""x\"y""#, r#"{"c":[]}"#]);
    assert_eq!(array.items().nth(2).and_then(Raw::as_str).as_deref(), Some("x\"y"));
}

#[test]
fn random_bytes_are_json_for_us_when_they_are_for_serde_json() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5EED);
    println!("SEED={seed}");
    let mut random = Random(seed);
    const WORDS: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"id\"",
        "\"method\"",
        "\"jsonrpc\"",
        "\"2.0\"",
        "\"params\"",
        "\"jsonrpc\":\"2.0\",",
        "\"method\":\"m\"",
        "1",
        "-",
        "0.5",
        "1e9",
        "true",
        "null",
        "false",
        "\\",
        "\\u",
        "\\ud83d",
        "\\ude00",
        "00e9",
        " ",
        "\n",
        "ü",
        "x",
        "{}",
        "[]",
        "\"result\":",
    ];
    for _ in 0..20_000 {
        let count = random.below(24);
        let mut text: String = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
        if random.below(2) == 0 {
            text = format!("{{{text}}}");
        }
        fuzz_parse(text.as_bytes());
    }
    let valid = br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":["\u00e9\n",-1.5e-3,{}]}}"#;
    for _ in 0..20_000 {
        let mut bytes = valid.to_vec();
        for _ in 0..random.below(3) + 1 {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        fuzz_parse(&bytes);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }
}

#[track_caller]
fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn envelopes_are_written_compact() {
    let error = RpcError::new(-32601, "Method not found: \"x\"");
    assert_eq!(
        written(|out| write_result(out, "\"a\\u0062\"", b"{}")),
        r#"{"jsonrpc":"2.0","id":"a\u0062","result":{}}"#
    );
    assert_eq!(
        written(|out| write_error(out, Some("7"), &error)),
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"Method not found: \"x\""}}"#
    );
    let error = RpcError::new(-32002, "Gone").with_data(serde_json::json!({"uri":"a\n"}));
    assert_eq!(
        written(|out| write_error(out, None, &error)),
        r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Gone","data":{"uri":"a\n"}}}"#
    );
    assert_eq!(
        written(|out| write_notification(out, "notifications/x", b"")),
        r#"{"jsonrpc":"2.0","method":"notifications/x"}"#
    );
    assert_eq!(
        written(|out| write_request(out, "\"s-1\"", "roots/list", b"{}")),
        r#"{"jsonrpc":"2.0","id":"s-1","method":"roots/list","params":{}}"#
    );
}

#[test]
fn strings_read_back_as_they_were() {
    let control: String = (0..0x80u8).map(char::from).collect();
    let long = "plain text, long enough for several words at a time ".repeat(9);
    for text in ["", "a", "\"", "\\", "\u{7f}\u{80}\u{2028}😀", &control, &long] {
        // The special byte meets every place in a word.
        for shift in 0..9 {
            let text = format!("{}{text}{}", "x".repeat(shift), "y".repeat(shift));
            let json = written(|out| write_json_str(out, &text));
            assert_eq!(serde_json::from_str::<String>(&json).expect(&json), text);
            assert!(!json.bytes().any(|byte| byte < 0x20), "{json}");
        }
    }
}

#[test]
fn whole_numbers_have_no_fraction() {
    for (number, expect) in [
        (0.0, "0"),
        (-0.0, "0"),
        (2.0, "2"),
        (-7.0, "-7"),
        (0.5, "0.5"),
        (100.25, "100.25"),
        (9007199254740992.0, "9007199254740992"),
        (f64::NAN, "0"),
        (f64::INFINITY, "0"),
    ] {
        assert_eq!(written(|out| write_f64(out, number)), expect, "{number}");
    }
    let huge = written(|out| write_f64(out, 1e300));
    assert_eq!(huge.parse::<f64>(), Ok(1e300));
}
