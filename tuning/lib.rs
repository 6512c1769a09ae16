//! What the host must give us: read the limits, say what is missing.
//!
//! A check reads through a [`Root`] and compares; it never changes anything. [`check_all`] is what the boot
//! and `erlmcp-shard tune check` run.
#![forbid(unsafe_code)]

mod checks;
mod finding;
mod limits;
mod root;
mod table;

pub use checks::{Demand, check_all};
pub use finding::{Finding, Severity};
pub use limits::{Nofile, raise_nofile};
pub use root::{HostError, Root};
pub use table::render_table;
