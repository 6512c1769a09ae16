pub mod cli;
pub mod config;
pub mod control;
pub mod cores;
pub mod log;
mod notify;
