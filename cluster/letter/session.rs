//! Sessions between nodes: copies for their successors, and who owns what.

use serde::{Deserialize, Serialize};

use crate::SessionName;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionLetter<'b> {
    /// The session is over everywhere.
    Ended {
        /// Which.
        name: SessionName,
        /// Why, for the log.
        why: &'b str,
    },
}
