//! Resources of the suite.

use serde_json::json;

use super::PNG;
use crate::{Arguments, Call, Resource, ResourceTemplate};

pub(super) fn all() -> [Resource; 3] {
    [
        Resource::text(
            "test://static-text",
            "Static Text Resource",
            "This is the content of the static text resource.",
        )
        .description("A static text resource for testing"),
        Resource::blob("test://static-binary", "Static Binary Resource", "image/png", PNG)
            .description("A static binary resource for testing"),
        Resource::text("test://watched-resource", "Watched Resource", "Watched resource content")
            .description("A resource to subscribe to"),
    ]
}

pub(super) fn template() -> ResourceTemplate {
    ResourceTemplate::new("test://template/{id}/data", "Template Resource")
        .mime_type("application/json")
        .description("A resource template with a parameter")
        .complete("id", |prefix| {
            ["123", "456"].iter().filter(|id| id.starts_with(prefix)).map(|&id| id.into()).collect()
        })
        .handler(|variables: &Arguments, _: &mut Call| {
            let id = &variables["id"];
            json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") })
                .to_string()
        })
}
