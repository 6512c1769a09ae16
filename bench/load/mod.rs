//! The load: clients of every kind, scenarios, and the raw data they leave.
//!
//! [`talk`] is one client without a socket; [`worker`] is a thread with many of them on its rings; [`crew`] is
//! all threads; [`run`] is a run with its raw data; [`scenario`] says what happens in it.

pub mod blocking;
pub mod check;
pub mod client;
pub mod crew;
pub mod failover;
pub mod http;
pub mod kind;
pub mod measured;
pub mod options;
pub mod outcome;
pub mod plan;
pub mod pulse;
pub mod record;
pub mod rings;
pub mod roam;
pub mod run;
pub mod sample;
pub mod say;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod setup;
pub mod show;
pub mod talk;
pub mod target;
pub mod units;
pub mod voice;
pub mod worker;
pub mod ws;
