//! What the four lists say about each item, per revision (digest c.18).

use erlmcp_protocol::mcp::Version;
use serde::Serialize;
use serde_json::Value;

/// A picture of a tool, prompt, resource or server (2025-11-25 and later).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Icon {
    /// An `https` or `data` URI.
    pub src: String,
    /// Its MIME type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// `"48x48"` or `"any"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<String>,
    /// The background it is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<Theme>,
}

impl Icon {
    /// An icon that says no more than where it is.
    pub fn new(src: impl Into<String>) -> Icon {
        Icon { src: src.into(), mime_type: None, sizes: Vec::new(), theme: None }
    }
}

/// The background an icon is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// For light backgrounds.
    Light,
    /// For dark backgrounds.
    Dark,
}

/// Hints about a tool (2025-03-26 and later); a client need not believe them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Annotations {
    /// Changes nothing. Assumed `false` when absent.
    #[serde(rename = "readOnlyHint", skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// May destroy something. Assumed `true` when absent.
    #[serde(rename = "destructiveHint", skip_serializing_if = "Option::is_none")]
    pub destructive: Option<bool>,
    /// The same call again has no further effect. Assumed `false` when absent.
    #[serde(rename = "idempotentHint", skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// Reaches beyond this server. Assumed `true` when absent.
    #[serde(rename = "openWorldHint", skip_serializing_if = "Option::is_none")]
    pub open_world: Option<bool>,
}

impl Annotations {
    /// Reads and changes nothing.
    pub fn read_only() -> Annotations {
        Annotations { read_only: Some(true), ..Annotations::default() }
    }
}

/// One of something for each revision, indexed by `version as usize`.
pub(crate) fn per_version<T>(make: impl Fn(Version) -> T) -> [T; Version::COUNT] {
    // `Version::ALL` is newest first, the index oldest first.
    std::array::from_fn(|index| make(Version::ALL[Version::COUNT - 1 - index]))
}

const _: () = assert!(Version::ALL[0] as usize == Version::COUNT - 1, "newest first");

/// Hides members that a revision does not know.
#[derive(Clone, Copy)]
pub(crate) struct Since(pub(crate) Version);

impl Since {
    /// `value` for peers of `since` or later.
    pub(crate) fn when<T>(self, since: Version, value: Option<T>) -> Option<T> {
        if since <= self.0 { value } else { None }
    }

    pub(crate) fn icons(self, icons: &[Icon]) -> Option<&[Icon]> {
        self.when(Version::V2025_11_25, (!icons.is_empty()).then_some(icons))
    }

    pub(crate) fn title(self, title: Option<&str>) -> Option<&str> {
        self.when(Version::V2025_06_18, title)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolWire<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icons: Option<&'a [Icon]>,
    pub input_schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    pub meta: Option<&'a Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceWire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_template: Option<&'a str>,
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icons: Option<&'a [Icon]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct PromptWire<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icons: Option<&'a [Icon]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<ArgumentWire<'a>>,
}

#[derive(Serialize)]
pub(crate) struct ArgumentWire<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}
