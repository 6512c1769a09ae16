//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use argh::FromArgs;

use crate::ancestor::AncestorArgs;
use crate::load::options::{
    ChurnArgs, CompareArgs, FailoverArgs, FanoutArgs, ForwardArgs, HoldArgs, LadderArgs, RampArgs,
    RateArgs, SaturateArgs, SlowArgs, SuiteArgs,
};

/// Measure erlmcp-shard. Every number is told as a ratio against the floor of the same host, measured in
/// the same run.
#[derive(FromArgs, Debug)]
#[argh(
    example = "What does a call cost, against the floor?\n  {command_name} hotpath",
    example = "What does an idle connection cost?\n  {command_name} idle"
)]
pub struct Args {
    #[argh(subcommand)]
    /// what to measure
    pub scenario: Scenario,
}

/// What to measure.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum Scenario {
    /// CPU per call against the floor.
    Hotpath(HotpathArgs),
    /// Memory per idle client.
    Idle(IdleArgs),
    /// Heap allocations per call.
    Allocations(AllocationsArgs),
    /// Calls without a kernel.
    Simulated(SimulatedArgs),
    /// The floor itself.
    Floor(FloorArgs),
    /// How fast connections arrive.
    Ramp(RampArgs),
    /// Connections that stay.
    Hold(HoldArgs),
    /// Calls at a fixed rate.
    Rate(RateArgs),
    /// As many calls as are answered.
    Saturate(SaturateArgs),
    /// One update to many listeners.
    Fanout(FanoutArgs),
    /// A storm of clients that connect, call and leave.
    Churn(ChurnArgs),
    /// Listeners that stop reading.
    Slow(SlowArgs),
    /// More and more connections.
    Ladder(LadderArgs),
    /// All of it.
    Suite(SuiteArgs),
    /// The same to several servers.
    Compare(CompareArgs),
    /// Sessions that live elsewhere.
    Forward(ForwardArgs),
    /// A node that fails.
    Failover(FailoverArgs),
    /// The report of runs that were made before.
    Report(ReportArgs),
    /// What the ancestor promised.
    Ancestor(AncestorArgs),
}

/// CPU, system calls and allocations per call: our server and the floor in turns, a closed loop of calls over
/// keep-alive HTTP, every answer checked.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "hotpath")]
pub struct HotpathArgs {
    /// server to measure; default target/release/erlmcp-shard
    #[argh(option, arg_name = "PATH", default = "default_binary()")]
    pub binary: PathBuf,

    /// connection counts; default 64,1000,10000
    #[argh(
        option,
        arg_name = "LIST",
        default = "List(vec![64, 1000, 10_000])",
        from_str_fn(parse_list)
    )]
    pub connections: List<u32>,

    /// tools to call; default echo,add
    #[argh(option, arg_name = "LIST", default = "default_tools()", from_str_fn(parse_words))]
    pub tools: List<String>,

    /// measured seconds of each round; default 5
    #[argh(option, arg_name = "S", default = "5")]
    pub seconds: u32,

    /// rounds of each server; default 3
    #[argh(option, arg_name = "N", default = "3")]
    pub rounds: u32,

    /// core of the server and of the floor; default 0
    #[argh(option, arg_name = "CORE", default = "0")]
    pub server_core: usize,

    /// core of the load; default 1
    #[argh(option, arg_name = "CORE", default = "1")]
    pub client_core: usize,

    /// folder for results; default bench/results
    #[argh(option, arg_name = "DIR", default = "default_results()")]
    pub results: PathBuf,
}

/// Memory of the server per idle client, as the slope over many of them, for each kind of client.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "idle")]
pub struct IdleArgs {
    /// server to measure; default target/release/erlmcp-shard
    #[argh(option, arg_name = "PATH", default = "default_binary()")]
    pub binary: PathBuf,

    /// clients of each kind; default 10000
    #[argh(option, arg_name = "N", default = "10_000")]
    pub count: u32,

    /// kinds: http, websocket, listen, session, session-stream; default all
    #[argh(option, arg_name = "LIST", default = "default_kinds()", from_str_fn(parse_words))]
    pub kinds: List<String>,

    /// folder for results; default bench/results
    #[argh(option, arg_name = "DIR", default = "default_results()")]
    pub results: PathBuf,
}

/// Heap allocations of a shard per call, counted in this process, and what reading the arguments as JSON
/// values costs on its own.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "allocations")]
pub struct AllocationsArgs {
    /// calls of each tool; default 100000
    #[argh(option, arg_name = "N", default = "100_000")]
    pub calls: u64,

    /// connections they come over; default 64
    #[argh(option, arg_name = "N", default = "64")]
    pub connections: u32,

    /// core of the shard; default 0
    #[argh(option, arg_name = "CORE", default = "0")]
    pub server_core: usize,

    /// core of the load; default 1
    #[argh(option, arg_name = "CORE", default = "1")]
    pub client_core: usize,
}

/// Calls through a shard over the simulated ring, for profilers that count instructions: no kernel, one
/// thread, the same in every run.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "simulated")]
pub struct SimulatedArgs {
    /// tool to call; default echo
    #[argh(option, arg_name = "NAME", default = "String::from(\"echo\")")]
    pub tool: String,

    /// calls; default 100000
    #[argh(option, arg_name = "N", default = "100_000")]
    pub calls: u64,

    /// connections they come over; default 64
    #[argh(option, arg_name = "N", default = "64")]
    pub connections: u32,
}

/// A server that answers every piece of input with the same bytes, without looking at it: what this host
/// and its kernel take for a request and an answer.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "floor")]
pub struct FloorArgs {
    /// where to listen; default 127.0.0.1:0
    #[argh(option, arg_name = "IP:PORT", default = "default_listen()")]
    pub listen: SocketAddr,

    /// core to run on; default: left to the kernel
    #[argh(option, arg_name = "CORE")]
    pub core: Option<usize>,

    /// file with the answer, head and body; default: a built-in one
    #[argh(option, arg_name = "FILE")]
    pub answer: Option<PathBuf>,
}

/// (Re)create report.html in folders of results, from the raw files in them and from nothing else.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "report")]
pub struct ReportArgs {
    /// folders of results, each the folder of one run
    #[argh(positional, arg_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
}

/// Words between commas, as one option. (A plain `Vec` would be an option given several times.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

fn default_binary() -> PathBuf {
    "target/release/erlmcp-shard".into()
}

fn default_results() -> PathBuf {
    "bench/results".into()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn default_tools() -> List<String> {
    List(vec!["echo".into(), "add".into()])
}

fn default_kinds() -> List<String> {
    List(crate::idle::Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect())
}

fn parse_list(text: &str) -> Result<List<u32>, String> {
    let parse = |word: &str| match word.trim().parse() {
        Ok(0) | Err(_) => Err(format!("{word:?} is not a number of connections")),
        Ok(count) => Ok(count),
    };
    text.split(',').map(parse).collect::<Result<_, _>>().map(List)
}

fn parse_words(text: &str) -> Result<List<String>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Ok(List(words.map(str::to_owned).collect()))
}
