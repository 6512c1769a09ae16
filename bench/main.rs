//! `erlmcp-bench`: measures erlmcp-shard, always as a ratio against the floor of the same host.
#![deny(unsafe_code)]

mod allocations;
#[allow(unsafe_code)] // A global allocator cannot be written without.
mod allocator;
mod ancestor;
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
use load::scenario;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let outcome = match &args.scenario {
        Scenario::Hotpath(args) => hotpath::run(args).map(|()| true),
        Scenario::Idle(args) => idle::run(args).map(|()| true),
        Scenario::Allocations(args) => allocations::run(args).map(|()| true),
        Scenario::Simulated(args) => simulated::run(args).map(|()| true),
        Scenario::Floor(args) => floor::run(args).map(|()| true),
        Scenario::Report(args) => report::run(args).map(|()| true),
        Scenario::Ancestor(args) => ancestor::run(args).map(|()| true),
        Scenario::Ramp(args) => scenario::ramp(args),
        Scenario::Hold(args) => scenario::hold(args),
        Scenario::Rate(args) => scenario::rate(args),
        Scenario::Saturate(args) => scenario::saturate(args),
        Scenario::Fanout(args) => scenario::fanout(args),
        Scenario::Churn(args) => scenario::churn(args),
        Scenario::Slow(args) => scenario::slow(args),
        Scenario::Ladder(args) => scenario::ladder(args),
        Scenario::Suite(args) => scenario::suite(args),
        Scenario::Compare(args) => scenario::compare(args),
        Scenario::Forward(args) => scenario::forward(args),
        Scenario::Failover(args) => scenario::failover(args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // A threshold was missed, and said so.
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("erlmcp-bench: {what}");
            ExitCode::FAILURE
        }
    }
}
