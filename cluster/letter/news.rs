//! Changes, and who wants to hear of them.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum News<'b> {
    /// A resource has changed.
    Updated {
        /// Which.
        uri: &'b str,
    },
}
