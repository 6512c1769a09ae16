//! The Model Context Protocol itself: versions, envelopes, eras, errors, and the values that
//! travel.

pub mod content;
pub mod era;
pub mod errors;
pub mod headers;
pub mod meta;
pub mod method;
pub mod params;
pub mod task;
pub mod version;
pub mod write;

#[cfg(test)]
mod tests;

pub use content::*;
pub use era::{Era, PipeRoute, http_era, pipe_era};
pub use errors::Refusal;
pub use headers::{
    HeaderField, HeaderKind, HeaderParam, ModernHeaders, check_header_params, check_modern,
    decode_header_value, header_params,
};
pub use meta::{META_PREFIX, Meta, TASKS_EXTENSION, parse_capabilities};
pub use method::{ClientNotification, Method};
pub use params::{Key, Params, parse_message, parse_params};
pub use task::*;
pub use version::Version;
pub use write::*;
