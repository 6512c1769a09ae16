//! The command line of the scenarios. They share most options.

use std::net::IpAddr;
use std::path::PathBuf;

use argh::FromArgs;

use super::failover::Fault;
use super::kind::Mix;
use super::roam::Place;
use super::units::{Bytes, Count, Percent, Span};
use crate::cli::List;

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

macro_rules! scenarios {
    ($(
        $(#[$meta:meta])*
        $name:ident { $($(#[$field_meta:meta])* $field:ident: [$($type:tt)*],)* }
    )*) => {$(
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $($type)*,)*

            /// MCP endpoint of any server, or of several between commas: connections are dealt out evenly;
            /// default http://127.0.0.1:8080/mcp
            #[argh(option, arg_name = "URL,URL")]
            pub target: Option<String>,

            /// where each takes lines of JSON; default 127.0.0.1:9001 if the target is the default
            #[argh(option, arg_name = "IP:PORT,IP:PORT")]
            pub tcp: Option<String>,

            /// process of each server, to measure its CPU and memory; a file that holds the number will do
            #[argh(option, arg_name = "PID,PID")]
            pub pid: Option<String>,

            /// start the server with this command, measure it, end it; again for each further server. A command
            /// that starts several and returns needs --target, and --pid to measure them
            #[argh(option, arg_name = "COMMAND")]
            pub start: Vec<String>,

            /// connections, e.g. 100K
            #[argh(option, arg_name = "N")]
            pub connections: Option<Count>,

            /// how long to measure, e.g. 30s or 5m
            #[argh(option, arg_name = "TIME")]
            pub duration: Option<Span>,

            /// calls per second, e.g. 50K
            #[argh(option, arg_name = "N")]
            pub rate: Option<Count>,

            /// new connections per second at most; default: as fast as it goes
            #[argh(option, arg_name = "N")]
            pub connect_rate: Option<Count>,

            /// kinds of clients with weights: http, session, stream, listen, ws, tcp
            #[argh(option, arg_name = "MIX")]
            pub mix: Option<Mix>,

            /// use sessions over connections to another shard of their node, or to another node: shard, node, far (a
            /// shard of another node that has no link of its own to there)
            #[argh(option, arg_name = "PLACE")]
            pub roam: Option<Place>,

            /// bytes of text in each call, e.g. 1KiB; default a sentence
            #[argh(option, arg_name = "BYTES")]
            pub payload: Option<Bytes>,

            /// tool to call; default echo, whose text is checked
            #[argh(option, arg_name = "NAME")]
            pub tool: Option<String>,

            /// its arguments, as JSON
            #[argh(option, arg_name = "JSON")]
            pub arguments: Option<String>,

            /// resource that listeners subscribe to and that is published; default demo://echo/update
            #[argh(option, arg_name = "URI")]
            pub uri: Option<String>,

            /// do not call once on arrival: a connection counts before the server has answered on it
            #[argh(switch)]
            pub bare: bool,

            /// threads of the load; default half of the cores
            #[argh(option, arg_name = "N")]
            pub threads: Option<usize>,

            /// cores to pin them to, e.g. 1 or 4-7
            #[argh(option, arg_name = "LIST", from_str_fn(parse_cores), default = "List(vec![])")]
            pub cores: List<usize>,

            /// rings of all threads together; default as many as descriptors ask for
            #[argh(option, arg_name = "N")]
            pub rings: Option<u16>,

            /// source addresses in turns; default loopback ones towards loopback
            #[argh(option, arg_name = "IP,IP", from_str_fn(parse_sources), default = "List(vec![])")]
            pub source: List<IpAddr>,

            /// exit code 1 if less of what was tried went well, e.g. 99.9
            #[argh(option, arg_name = "PERCENT")]
            pub min_success: Option<Percent>,

            /// exit code 1 if the 99th percentile is longer, e.g. 50ms
            #[argh(option, arg_name = "TIME")]
            pub max_p99: Option<Span>,

            /// folder of this run; default results/SCENARIO-TIME
            #[argh(option, arg_name = "DIR")]
            pub output: Option<PathBuf>,
        }

        impl $name {
            /// What it shares with the others.
            pub fn options(&self) -> Options {
                Options {
                    target: self.target.clone(),
                    tcp: self.tcp.clone(),
                    pid: self.pid.clone(),
                    start: self.start.clone(),
                    connections: self.connections,
                    duration: self.duration,
                    rate: self.rate,
                    connect_rate: self.connect_rate,
                    mix: self.mix,
                    roam: self.roam,
                    payload: self.payload,
                    tool: self.tool.clone(),
                    arguments: self.arguments.clone(),
                    uri: self.uri.clone(),
                    bare: self.bare,
                    threads: self.threads,
                    cores: self.cores.0.clone(),
                    rings: self.rings,
                    sources: self.source.0.clone(),
                    min_success: self.min_success,
                    max_p99: self.max_p99,
                    output: self.output.clone(),
                }
            }
        }
    )*};
}

scenarios! {
    /// How fast connections arrive: each is opened, makes its handshake and one call, and stays.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "ramp",
        example = "{command_name} --target http://127.0.0.1:8080/mcp --connections 20K")]
    RampArgs {}

    /// Connections that stay: each is used at least once a minute, listeners get an update now and then, and none
    /// may be lost.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "hold",
        example = "{command_name} --connections 100K --duration 5m --mix http=40,ws=20,tcp=20,listen=10,session=10 --min-success 100")]
    HoldArgs {
        /// each connection is called this often; default 30s
        #[argh(option, arg_name = "TIME")]
        every: [Option<Span>],
    }

    /// Calls at a fixed rate, whatever the server does; latency counts from when a call should have been sent.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "rate",
        example = "{command_name} --connections 1K --rate 20K --duration 30s --max-p99 5ms")]
    RateArgs {
        /// calls before it is measured; default 2s
        #[argh(option, arg_name = "TIME")]
        warmup: [Option<Span>],
    }

    /// As many calls as the server answers: every connection calls again when it was answered.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "saturate",
        example = "{command_name} --connections 1K --duration 10s --start 'erlmcp-shard --cores 0' --cores 1")]
    SaturateArgs {
        /// calls before it is measured; default 2s
        #[argh(option, arg_name = "TIME")]
        warmup: [Option<Span>],
    }

    /// One update of a resource to many listeners: time until the first and the last has it. The server must have a
    /// tool `publish`, as ours does.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "fanout",
        example = "{command_name} --connections 50K --rounds 10 --max-p99 1s")]
    FanoutArgs {
        /// updates; default 5
        #[argh(option, arg_name = "N")]
        rounds: [Option<u32>],
    }

    /// A storm of clients that connect, call once and leave.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "churn",
        example = "{command_name} --connections 500 --duration 10s --min-success 99.9")]
    ChurnArgs {}

    /// Listeners that stop reading while updates are published: what they cost everyone else.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "slow",
        example = "{command_name} --connections 1K --rate 2K --deaf 20 --duration 20s")]
    SlowArgs {
        /// percent of the listeners that stop reading; default 50
        #[argh(option, arg_name = "PERCENT")]
        deaf: [Option<Percent>],

        /// updates published per second; default 50
        #[argh(option, arg_name = "N")]
        publishes: [Option<Count>],
    }

    /// More and more connections, with the same calls at each step.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "ladder",
        example = "{command_name} --steps 100,1K,10K,25K,50K,75K,100K --duration 10s")]
    LadderArgs {
        /// connections of each step; default 100,1K,10K,25K,50K,75K,100K
        #[argh(option, arg_name = "LIST", from_str_fn(parse_counts), default = "default_steps()")]
        steps: [List<Count>],
    }

    /// All scenarios, one after the other, on a time budget.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "suite",
        example = "{command_name} --connections 10K --budget 5m --start 'erlmcp-shard --cores 0'")]
    SuiteArgs {
        /// how long all of it may take; default 5m
        #[argh(option, arg_name = "TIME")]
        budget: [Option<Span>],
    }

    /// What it costs that a session lives on another shard or another node: the same connections use sessions from
    /// each place in turns.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "forward",
        example = "{command_name} --target http://127.0.0.1:8080/mcp,http://127.0.0.1:8081/mcp --pid 4711,4712 --rounds 7")]
    ForwardArgs {
        /// rounds; default 5
        #[argh(option, arg_name = "N")]
        rounds: [Option<u32>],

        /// calls per second on the idle host; default 200
        #[argh(option, arg_name = "N")]
        idle_rate: [Option<Count>],
    }

    /// Sessions on several nodes are used over all of them while one node is killed, or stopped for a while, or told
    /// to go: time until the others see it, until the last of its sessions answers elsewhere, what failed, what was
    /// lost, and how the node comes back.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "failover",
        example = "{command_name} --target http://127.0.0.1:8080/mcp,http://127.0.0.1:8081/mcp --pid 4711,4712 --admin 127.0.0.1:9464,127.0.0.1:9465 --restart './start-node 2'")]
    FailoverArgs {
        /// where each node is watched; default as a node says that was started here
        #[argh(option, arg_name = "IP:PORT,IP:PORT")]
        admin: [Option<String>],

        /// sessions; default 20K
        #[argh(option, arg_name = "N")]
        sessions: [Option<Count>],

        /// which node fails, 1 for the first; default 2
        #[argh(option, arg_name = "N")]
        victim: [Option<u16>],

        /// how it fails: KILL, STOP (and CONT later) or TERM; default KILL
        #[argh(option, arg_name = "NAME", default = "Fault::Kill")]
        signal: [Fault],

        /// how long it stays away before it is started again, or CONT; default 5s
        #[argh(option, arg_name = "TIME")]
        pause: [Option<Span>],

        /// command that starts it again; default as it was started here, else it stays away
        #[argh(option, arg_name = "COMMAND")]
        restart: [Option<String>],

        /// how often the node's sessions are asked whether they answer; default 5K a second
        #[argh(option, arg_name = "N")]
        probe_rate: [Option<Count>],

        /// seed of all choices; default 1
        #[argh(option, arg_name = "N")]
        seed: [Option<u64>],
    }

    /// The same calls to several servers in turns, and what they take in relation to the first.
    #[derive(FromArgs, Debug, Clone)]
    #[argh(subcommand, name = "compare",
        example = "{command_name} --server ours=http://127.0.0.1:8080/mcp,4711 --server rmcp=http://127.0.0.1:8081/mcp,4712 --mix session --sizes 64,1K,10K")]
    CompareArgs {
        /// a server: name=url[,pid]; the first is what others are compared with
        #[argh(option, arg_name = "NAME=URL,PID")]
        server: [Vec<String>],

        /// connections; default 64,1K
        #[argh(option, arg_name = "LIST", from_str_fn(parse_counts), default = "default_sizes()")]
        sizes: [List<Count>],

        /// rounds; default 3
        #[argh(option, arg_name = "N")]
        rounds: [Option<u32>],
    }
}

fn default_steps() -> List<Count> {
    List([100, 1000, 10_000, 25_000, 50_000, 75_000, 100_000].map(Count).to_vec())
}

fn default_sizes() -> List<Count> {
    List(vec![Count(64), Count(1000)])
}

fn parse_counts(text: &str) -> Result<List<Count>, String> {
    let counts = text.split(',').map(|word| word.trim().parse::<Count>());
    match counts.collect::<Result<Vec<_>, _>>()? {
        counts if counts.iter().any(|count| count.0 == 0) => Err("0 connections are none".into()),
        counts => Ok(List(counts)),
    }
}

fn parse_sources(text: &str) -> Result<List<IpAddr>, String> {
    let parse = |word: &str| word.trim().parse().map_err(|_| format!("{word:?} is no IP address"));
    text.split(',').map(parse).collect::<Result<_, _>>().map(List)
}

/// `1`, `0,2`, `4-7`.
fn parse_cores(text: &str) -> Result<List<usize>, String> {
    let mut cores = Vec::new();
    for word in text.split(',').map(str::trim) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let parse = |text: &str| text.parse::<usize>().map_err(|_| format!("{word:?} is no core"));
        let (first, last) = (parse(first)?, parse(last)?);
        if last < first || CORES_MAX <= last {
            return Err(format!("{word:?} is no range of cores"));
        }
        cores.extend(first..=last);
    }
    Ok(List(cores))
}

/// No host has more.
const CORES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_takes_the_options_of_all_and_its_own() {
        let args =
            ["--connections", "100K", "--duration", "5m", "--mix", "http=1,ws=1", "--every", "20s"];
        let hold = HoldArgs::from_args(&["erlmcp-bench", "hold"], &args).unwrap();
        let options = hold.options();
        assert_eq!(options.connections, Some(Count(100_000)));
        assert_eq!(options.mix, "http=1,ws=1".parse().ok());
        assert_eq!(hold.every, "20s".parse().ok());
        let wrong = HoldArgs::from_args(&["erlmcp-bench", "hold"], &["--duration", "soon"]);
        assert!(wrong.unwrap_err().output.contains("50ms, 30s or 5m"));
    }

    #[test]
    fn the_help_of_each_scenario_has_an_example() {
        #[track_caller]
        fn check<T: FromArgs + std::fmt::Debug>(name: &str) {
            let help = T::from_args(&["erlmcp-bench", name], &["--help"]).unwrap_err().output;
            assert!(help.contains(&format!("erlmcp-bench {name} --")), "{help}");
            assert!(help.contains("--min-success"), "{help}");
        }
        check::<RampArgs>("ramp");
        check::<HoldArgs>("hold");
        check::<RateArgs>("rate");
        check::<SaturateArgs>("saturate");
        check::<FanoutArgs>("fanout");
        check::<ChurnArgs>("churn");
        check::<SlowArgs>("slow");
        check::<LadderArgs>("ladder");
        check::<SuiteArgs>("suite");
        check::<CompareArgs>("compare");
        check::<ForwardArgs>("forward");
        check::<FailoverArgs>("failover");
    }

    #[test]
    fn lists_are_read_word_by_word() {
        assert_eq!(parse_cores("1,4-6"), Ok(List(vec![1, 4, 5, 6])));
        assert_eq!(parse_counts("64,1K"), Ok(List(vec![Count(64), Count(1000)])));
        for text in ["", "3-1", "x", "0-99999"] {
            assert!(parse_cores(text).is_err(), "{text:?}");
        }
        assert!(parse_counts("64,0").is_err() && parse_sources("localhost").is_err());
    }
}
