use serde_json::json;

use crate::mcp::{Version, errors};

#[test]
fn a_missing_resource_has_the_code_of_its_era() {
    for version in Version::ALL {
        let error = errors::resource_not_found(version, "a://b");
        assert_eq!(error.code, if version.is_modern() { -32602 } else { -32002 });
        assert_eq!(error.data, Some(json!({ "uri": "a://b" })));
    }
}

#[test]
fn needed_capabilities_are_told_as_an_object() {
    let data = |needed: &[&str]| errors::missing_capability(needed).data;
    assert_eq!(data(&["sampling"]), Some(json!({"requiredCapabilities": {"sampling": {}}})));
    assert_eq!(
        data(&["elicitation.url", "elicitation.form", "roots"]),
        Some(
            json!({"requiredCapabilities": {"elicitation": {"url": {}, "form": {}}, "roots": {}}})
        )
    );
    assert_eq!(
        data(&["io.modelcontextprotocol/tasks"]),
        Some(json!({"requiredCapabilities":
            {"extensions": {"io.modelcontextprotocol/tasks": {}}}}))
    );
}

#[test]
fn what_a_client_sent_comes_back_short() {
    let long = "ü".repeat(10_000);
    for error in [
        errors::method_not_found(&long),
        errors::unknown_tool(&long),
        errors::unknown_prompt(&long),
        errors::invalid_level(&long),
        errors::missing_argument(&long),
    ] {
        assert!((256..300).contains(&error.message.len()), "{}", error.message.len());
    }
    assert_eq!(errors::unknown_tool("fly").message, "Unknown tool: fly");
}
