//! The Model Context Protocol itself: versions, envelopes, eras, errors, and the values that travel.

pub mod content;
pub mod version;

pub use content::*;
pub use version::Version;
