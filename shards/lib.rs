//! The machine: ring, listener, connection table, timers, channels, and the loop that joins them.

pub mod config;
mod conn;
pub mod engine;
pub mod fleet;
pub mod io;
pub mod lookout;
pub mod mail;
pub mod mesh;
pub mod message;
pub mod net;
pub mod serve;
pub mod service;
pub mod shard;
pub mod stats;
pub mod wheel;
