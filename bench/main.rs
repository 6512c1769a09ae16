//! `erlmcp-bench`: measures erlmcp-shard, always as a ratio against the floor of the same host.
#![deny(unsafe_code)]

mod allocations;
#[allow(unsafe_code)] // A global allocator cannot be written without.
mod allocator;
mod answer;
mod child;
mod cli;
mod client;
mod facts;
mod floor;
mod hotpath;
mod idle;
mod load;
mod numbers;
mod process;
mod report;
mod request;
mod results;
mod simulated;

use std::process::ExitCode;

use cli::{Args, Scenario};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let outcome = match &args.scenario {
        Scenario::Hotpath(args) => hotpath::run(args),
        Scenario::Idle(args) => idle::run(args),
        Scenario::Allocations(args) => allocations::run(args),
        Scenario::Simulated(args) => simulated::run(args),
        Scenario::Floor(args) => floor::run(args),
        Scenario::Report(args) => report::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("erlmcp-bench: {what}");
            ExitCode::FAILURE
        }
    }
}
