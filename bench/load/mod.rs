//! The load: clients of every kind, scenarios, and the raw data they leave.

pub mod check;
pub mod http;
pub mod kind;
pub mod say;
pub mod talk;
pub mod target;
pub mod units;
