//! Changes, and who wants to hear of them.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum News<'b> {
    /// Something has changed: the receiver tells all shards of its node.
    Changed(#[serde(borrow)] Change<'b>),
    /// What the sender wants to hear of, of the topics that the receiver relays.
    Wants(#[serde(borrow)] Wants<'b>),
    /// What the receiver's wants were heard of.
    Heard(Heard),
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<'b> {
    /// A resource, by its URI.
    Resource(&'b str),
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
    /// The list of resources.
    Resources,
}

/// Topics that are wanted from now on, or no longer; each 8 bytes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants<'b> {
    /// Counts these letters, per receiver: a gap is noticed.
    pub number: u32,
    /// All is said again, from here on.
    pub begins: bool,
    /// What was not said again is not wanted.
    pub ends: bool,
    /// Too much is wanted to name it.
    pub everything: bool,
    /// Wanted.
    #[serde(with = "serde_bytes")]
    pub more: &'b [u8],
    /// No longer wanted.
    #[serde(with = "serde_bytes")]
    pub less: &'b [u8],
}

/// How far somebody's wants are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The number of the last letter that came.
    pub number: u32,
    /// None is missing before it.
    pub is_whole: bool,
}
