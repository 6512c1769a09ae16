//! Digest c.0.

use crate::mcp::{ClientNotification, Method, Version};

#[test]
fn every_method_has_its_own_name() {
    for (index, method) in Method::ALL.into_iter().enumerate() {
        assert_eq!(method as usize, index);
        assert_eq!(Method::parse(method.as_str()), method);
    }
    for name in ["", "unknown", "Ping", "tools/list ", "tools", "notifications/initialized"] {
        assert_eq!(Method::parse(name), Method::Unknown, "{name}");
    }
}

/// Checks which of the revisions (1 is the oldest, 5 the newest) have a method.
#[track_caller]
fn check(name: &str, revisions: &str) {
    let served = |version: &Version| Method::parse(name).served_by(*version);
    let mut found: Vec<usize> =
        Version::ALL.into_iter().filter(served).map(|version| version as usize + 1).collect();
    found.reverse();
    let found: String = found.iter().map(usize::to_string).collect();
    assert_eq!(found, revisions, "{name}");
}

#[test]
fn each_revision_has_the_methods_of_the_master_table() {
    for name in ["initialize", "ping", "resources/subscribe", "resources/unsubscribe"] {
        check(name, "1234");
    }
    check("logging/setLevel", "1234");
    for name in ["server/discover", "subscriptions/listen", "tasks/update"] {
        check(name, "5");
    }
    for name in [
        "tools/list",
        "tools/call",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
        "completion/complete",
    ] {
        check(name, "12345");
    }
    check("tasks/get", "45");
    check("tasks/cancel", "45");
    check("tasks/list", "4");
    check("tasks/result", "4");
    check("no/such", "");
}

#[test]
fn notifications_are_known_by_name() {
    for (name, expect) in [
        ("notifications/initialized", ClientNotification::Initialized),
        ("notifications/cancelled", ClientNotification::Cancelled),
        ("notifications/progress", ClientNotification::Progress),
        ("notifications/roots/list_changed", ClientNotification::RootsListChanged),
        ("notifications/message", ClientNotification::Unknown),
    ] {
        assert_eq!(ClientNotification::parse(name), expect, "{name}");
    }
}

#[test]
fn initialize_agrees_on_a_legacy_version() {
    for version in Version::ALL {
        let expect = if version.is_modern() { Version::V2025_11_25 } else { version };
        assert_eq!(Version::negotiate(version.as_str()), expect);
    }
    assert_eq!(Version::negotiate("1.0.0"), Version::V2025_11_25);
}
