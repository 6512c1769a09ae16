//! Digest b.7.3, b.7.5 and b.7.6.

use serde_json::{Value, json};

use crate::mcp::{
    HeaderField, HeaderKind, HeaderParam, check_header_params, decode_header_value, header_params,
};

#[track_caller]
fn decodes(value: &str, expect: Option<&str>) {
    assert_eq!(decode_header_value(value.as_bytes()).ok().as_deref(), expect, "{value}");
}

#[test]
fn the_sentinel_is_decoded_strictly() {
    decodes("plain", Some("plain"));
    decodes("", Some(""));
    decodes("=?base64?S8O2bG4tNw==?=", Some("Köln-7"));
    decodes("=?base64??=", Some(""));
    for bad in ["S8O2bG4tNw", "S8O2bG4tNw=", "S8O2bG4tN$==", "_-8=", "S8O2bG4tNx==", "/w=="] {
        decodes(&format!("=?base64?{bad}?="), None);
    }
}

#[test]
fn half_a_sentinel_is_text() {
    for text in
        ["=?base64?S8O2", "S8O2?=", "=?BASE64?S8O2?=", "=?Base64?S8O2?=", "=?base64?=", "=?base64?"]
    {
        decodes(text, Some(text));
    }
}

fn property(kind: &str, header: &str) -> Value {
    json!({ "type": kind, "x-mcp-header": header })
}

#[test]
fn annotations_are_found_through_properties() {
    let schema = json!({"type": "object", "properties": {
        "berth": property("string", "Berth"),
        "crane": {"type": "object", "properties": {"no": property("integer", "Crane-No")}},
        "x-mcp-header": {"type": "string"},
        "dry": property("boolean", "Dry"),
        "note": {"type": "string", "default": {"x-mcp-header": 5}, "enum": [{"x-mcp-header": 1}]},
    }});
    let mut found = header_params(&schema).expect("valid");
    found.sort_by(|a, b| a.header.cmp(&b.header));
    let expect = [
        ("Berth", &["berth"][..], HeaderKind::String),
        ("Crane-No", &["crane", "no"], HeaderKind::Integer),
        ("Dry", &["dry"], HeaderKind::Boolean),
    ];
    let expect = expect.map(|(header, path, kind)| HeaderParam {
        header: header.to_owned(),
        path: path.iter().map(|step| step.to_string()).collect(),
        kind,
    });
    assert_eq!(found, expect);
    assert_eq!(header_params(&json!({"type": "object"})), Ok(vec![]));
}

#[test]
fn annotations_clients_would_refuse_are_refused_at_registration() {
    let inside = |name: &str, schema: Value| json!({"type": "object", name: schema});
    let good = property("string", "A");
    let properties = |schema: &Value| json!({ "properties": { "a": schema } });
    for schema in [
        json!({"type": "object", "x-mcp-header": "A"}),
        properties(&property("number", "A")),
        properties(&json!({"x-mcp-header": "A"})),
        properties(&json!({"type": ["string", "null"], "x-mcp-header": "A"})),
        properties(&property("string", "")),
        properties(&property("string", "a b")),
        properties(&property("string", "é")),
        properties(&json!({"type": "string", "x-mcp-header": 5})),
        json!({"properties": {"a": good, "b": property("string", "a")}}),
        properties(&json!({"type": "array", "items": good})),
        properties(&json!({"anyOf": [good]})),
        properties(&json!({"type": "object", "additionalProperties": good})),
        inside("$defs", json!({ "a": good })),
        inside("$defs", json!({ "a": properties(&good) })),
        inside("allOf", json!([properties(&good)])),
        inside("oneOf", json!([properties(&good)])),
        inside("not", properties(&good)),
        inside("if", properties(&good)),
        inside("patternProperties", json!({ "^a": good })),
        inside("dependentSchemas", json!({ "a": properties(&good) })),
    ] {
        assert!(header_params(&schema).is_err(), "{schema}");
    }
}

#[test]
fn a_schema_too_deep_to_look_through_is_refused() {
    let nest = |depth: usize| {
        let inner = json!({});
        (0..depth).fold(inner, |inner, _| json!({ "properties": { "a": inner } }))
    };
    assert!(header_params(&nest(64)).is_ok());
    assert!(header_params(&nest(65)).is_err());
}

/// Checks a call of a tool whose argument `at.x` of this kind is mirrored as `Mcp-Param-X`.
#[track_caller]
fn mirrors(kind: HeaderKind, argument: Value, header: HeaderField<'_>, fine: bool) {
    let path = vec!["at".to_owned(), "x".to_owned()];
    let params = [HeaderParam { header: "X".to_owned(), path, kind }];
    let arguments = json!({ "at": { "x": argument } });
    let answer = check_header_params(&params, &arguments, |name| {
        assert_eq!(name, "X");
        header
    });
    let code = answer.as_ref().err().map(|err| err.code);
    assert_eq!(code, if fine { None } else { Some(-32020) }, "{arguments} {header:?}");
}

#[test]
fn a_mirrored_argument_says_the_same_in_both_places() {
    use HeaderKind::{Boolean, Integer, String};
    let one = |value: &'static str| HeaderField::One(value.as_bytes());
    mirrors(String, json!("a"), one(" a\t"), true);
    mirrors(String, json!("a"), one("A"), false);
    mirrors(String, json!("Köln-7"), one("=?base64?S8O2bG4tNw==?="), true);
    mirrors(String, json!("a"), one("=?base64?!?="), false);
    mirrors(String, json!("a"), HeaderField::Absent, false);
    mirrors(String, json!("a"), HeaderField::Many, false);
    mirrors(Boolean, json!(true), one("true"), true);
    mirrors(Boolean, json!(true), one("True"), false);
    mirrors(Boolean, json!(false), one("true"), false);
    mirrors(Integer, json!(42), one("42"), true);
    mirrors(Integer, json!(42), one("42.0"), true);
    mirrors(Integer, json!(42.0), one("42"), true);
    mirrors(Integer, json!(-7), one("-7"), true);
    mirrors(Integer, json!(9007199254740991i64), one("9007199254740991"), true);
    mirrors(Integer, json!(9007199254740991i64), one("9007199254740992"), false);
    for bad in ["43", "42.5", "42.", "0x2a", "", "-", "+42", "4 2"] {
        mirrors(Integer, json!(42), one(bad), false);
    }
}

#[test]
fn an_argument_without_a_value_has_no_header() {
    let stray = HeaderField::One(b"a");
    mirrors(HeaderKind::String, Value::Null, HeaderField::Absent, true);
    mirrors(HeaderKind::String, Value::Null, stray, false);
    let params = [HeaderParam {
        header: "X".to_owned(),
        path: vec!["x".to_owned()],
        kind: HeaderKind::String,
    }];
    assert!(check_header_params(&params, &json!({}), |_| HeaderField::Absent).is_ok());
    assert!(check_header_params(&params, &json!({}), |_| stray).is_err());
    assert!(check_header_params(&[], &json!({ "x": 1 }), |_| stray).is_ok());
}

#[test]
fn an_argument_of_a_wrong_type_is_left_to_the_schema() {
    mirrors(HeaderKind::String, json!(5), HeaderField::One(b"5"), true);
    mirrors(HeaderKind::Integer, json!(1.5), HeaderField::One(b"1.5"), true);
}
