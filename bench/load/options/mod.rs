//! The command line of the scenarios. They share most options, which [`shared`] adds to those of their own.

use std::net::IpAddr;
use std::path::PathBuf;

#[macro_use]
mod shared;
mod lists;
mod own;

use super::kind::Mix;
use super::roam::Place;
use super::units::{Bytes, Count, Percent, Span};

pub use own::{
    ChurnArgs, CompareArgs, FailoverArgs, FanoutArgs, ForwardArgs, HoldArgs, LadderArgs, RampArgs,
    RateArgs, SaturateArgs, SlowArgs, SuiteArgs,
};

/// What all scenarios may be told. What is `None` each decides for itself.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// URLs of the endpoints, between commas.
    pub target: Option<String>,
    /// Addresses for lines of JSON, in the same order.
    pub tcp: Option<String>,
    /// The servers' processes, or files that hold their numbers.
    pub pid: Option<String>,
    /// Commands that start the servers.
    pub start: Vec<String>,
    /// Connections.
    pub connections: Option<Count>,
    /// How long to measure.
    pub duration: Option<Span>,
    /// Calls per second.
    pub rate: Option<Count>,
    /// New connections per second, at most.
    pub connect_rate: Option<Count>,
    /// Kinds of clients.
    pub mix: Option<Mix>,
    /// Where sessions are used from.
    pub roam: Option<Place>,
    /// Text of a call.
    pub payload: Option<Bytes>,
    /// Tool to call instead of `echo`.
    pub tool: Option<String>,
    /// Its arguments.
    pub arguments: Option<String>,
    /// Resource that listeners subscribe to.
    pub uri: Option<String>,
    /// Nothing is called on arrival.
    pub bare: bool,
    /// Threads of the load.
    pub threads: Option<usize>,
    /// Cores they run on.
    pub cores: Vec<usize>,
    /// Rings, over all threads.
    pub rings: Option<u16>,
    /// Source addresses.
    pub sources: Vec<IpAddr>,
    /// Threshold.
    pub min_success: Option<Percent>,
    /// Threshold.
    pub max_p99: Option<Span>,
    /// Folder of this run.
    pub output: Option<PathBuf>,
}
