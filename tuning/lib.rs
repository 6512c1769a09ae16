//! What the host must give us: read the limits, say what is missing, change what may be changed.
//!
//! A check reads through a [`Root`] and compares; it never changes anything. [`check_all`] is what the boot
//! and `erlmcp-shard tune check` run, [`apply`] writes the settings its findings name, [`render`] makes the
//! files that keep them. [`room`] says how many connections a started server can really carry.
#![forbid(unsafe_code)]

mod apply;
mod checks;
mod demand;
mod finding;
mod limits;
mod render;
mod room;
mod root;
mod table;

#[cfg(test)]
mod fake;

pub use apply::{Change, apply};
pub use checks::{Report, check_all};
pub use demand::{
    Demand, KERNEL_BYTES_PER_CONNECTION, PROCESS_BYTES, RING_BYTES, USER_BYTES_PER_CONNECTION,
};
pub use finding::{Finding, Fix, Gap, Setting, Severity, Value};
pub use limits::{Nofile, raise_nofile};
pub use render::{Kind, Rendered, render};
pub use room::{Bound, Rings, Room, room};
pub use root::{HostError, Root};
pub use table::{render_changes, render_table};
