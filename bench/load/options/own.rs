//! What each scenario may be told beside what all share, with an example each.

use std::net::IpAddr;
use std::path::PathBuf;

use argh::FromArgs;

use super::super::failover::Fault;
use super::super::kind::Mix;
use super::super::roam::Place;
use super::super::units::{Bytes, Count, Percent, Span};
use super::Options;
use super::lists::{parse_cores, parse_counts, parse_sources};
use crate::cli::List;

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

        /// updates published per second; default up to 50, fewer if more than
        /// 20,000 updates a second came of it
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
}
