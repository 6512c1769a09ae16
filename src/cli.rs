//! The command line, as design.md §11 and scripts know it.

use std::net::SocketAddr;
use std::path::PathBuf;

use argh::FromArgs;
use erlmcp_tuning::Kind;

use crate::config::{
    Bind, CatalogSource, Config, LogFormat, SyncMode, parse_drain_notice, parse_mesh, parse_node,
};
use crate::cores::parse_cores;

/// An MCP server for bare-metal Linux: one shard per core, io_uring, nothing shared.
/// Without arguments it serves the demo catalog on 127.0.0.1:8080.
#[derive(FromArgs, Debug, Default, PartialEq)]
#[argh(
    example = "Serve a catalog file on two cores:\n  {command_name} --cores 0-1 --catalog tools.toml",
    example = "Serve a local client over stdin and stdout:\n  {command_name} --stdio --catalog tools.toml",
    example = "See what a running server does:\n  {command_name} status",
    note = "A flag beats the file, the file beats the default. Port 0 picks a free port and prints it.",
    error_code(1, "the server could not start, or a command failed"),
    error_code(2, "the configuration is wrong"),
    error_code(70, "a shard died")
)]
pub struct Args {
    /// configuration file (TOML)
    #[argh(option, arg_name = "FILE")]
    pub config: Option<PathBuf>,

    /// cores that carry shards, like 0-7,9; default: all online cores
    #[argh(option, arg_name = "LIST", from_str_fn(parse_cores))]
    pub cores: Option<Vec<usize>>,

    /// shards on each of these cores; default 1
    #[argh(option, arg_name = "N", from_str_fn(parse_shards_per_core))]
    pub shards_per_core: Option<u16>,

    /// address for HTTP, SSE and WebSocket, or "off"; default 127.0.0.1:8080
    #[argh(option, arg_name = "IP:PORT", from_str_fn(Bind::parse))]
    pub listen: Option<Bind>,

    /// address for newline-delimited JSON over TCP, or "off"; default 127.0.0.1:9001
    #[argh(option, arg_name = "IP:PORT", from_str_fn(Bind::parse))]
    pub tcp: Option<Bind>,

    /// address for metrics, health, status and drain, or "off"; default 127.0.0.1:9464
    #[argh(option, arg_name = "IP:PORT", from_str_fn(Bind::parse))]
    pub admin: Option<Bind>,

    /// what clients may call: demo, everything, or a catalog file; default demo
    #[argh(option, arg_name = "demo|everything|FILE", from_str_fn(parse_catalog))]
    pub catalog: Option<CatalogSource>,

    /// web origin that may call, besides loopback ones; may be repeated
    #[argh(option, arg_name = "URL")]
    pub allow_origin: Vec<String>,

    /// host name under which clients may call, besides loopback ones; may be repeated
    #[argh(option, arg_name = "NAME")]
    pub allow_host: Vec<String>,

    /// allow addresses that other machines can reach; there is no authentication in this version
    #[argh(switch)]
    pub public: bool,

    /// check configuration and catalog, say what is wrong, and leave
    #[argh(switch)]
    pub check_config: bool,

    /// serve one client over stdin and stdout; opens no listener unless one is asked for
    #[argh(switch)]
    pub stdio: bool,

    /// how to log to stderr: text or json; default text
    #[argh(option, arg_name = "text|json", from_str_fn(LogFormat::parse))]
    pub log: Option<LogFormat>,

    /// this node's number in its cluster, from 1 on; each node needs its own
    #[argh(option, arg_name = "N", from_str_fn(parse_node))]
    pub node: Option<u16>,

    /// where the first shard listens for other nodes, the next shard on the next port; default 127.0.0.1:7946
    #[argh(option, arg_name = "IP:PORT", from_str_fn(parse_mesh))]
    pub mesh_listen: Option<SocketAddr>,

    /// a node to look for, where its first shard listens; may be repeated
    #[argh(option, arg_name = "IP:PORT", from_str_fn(parse_mesh))]
    pub peer: Vec<SocketAddr>,

    /// file with the secret that all nodes share; see `secret`
    #[argh(option, arg_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// when a session is copied to another node: lazy (within a second) or eager (before the client is
    /// answered); default lazy
    #[argh(option, arg_name = "lazy|eager", from_str_fn(SyncMode::parse))]
    pub sync: Option<SyncMode>,

    /// how long /readyz and /health say that this server is not ready before a drain begins, milliseconds, for load
    /// balancers that look now and then; default 0
    #[argh(option, arg_name = "MS", from_str_fn(parse_drain_notice))]
    pub drain_notice_ms: Option<u64>,

    /// print the version and leave
    #[argh(switch)]
    pub version: bool,

    #[argh(subcommand)]
    /// what to do instead of serving
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
pub enum Command {
    /// Show a running server.
    Status(StatusArgs),
    /// Drain a running server.
    Drain(DrainArgs),
    /// Make a secret for a cluster.
    Secret(SecretArgs),
    /// Look at the host.
    Tune(TuneArgs),
}

/// Show what a running server does.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "status",
    example = "Watch every shard, once a second:\n  {command_name} --watch --shards"
)]
pub struct StatusArgs {
    /// print the server's JSON as it is
    #[argh(switch)]
    pub json: bool,

    /// again every second
    #[argh(switch)]
    pub watch: bool,

    /// one line per shard
    #[argh(switch)]
    pub shards: bool,

    /// the server's admin address; default 127.0.0.1:9464
    #[argh(option, arg_name = "IP:PORT", default = "crate::config::DEFAULT_ADMIN.into()")]
    pub admin: String,
}

/// Stop accepting, finish calls in flight, hand sessions to other nodes, leave.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "drain",
    example = "Drain the server on this machine:\n  {command_name} --admin 127.0.0.1:9464",
    example = "Drain node 3 of its cluster through it:\n  {command_name} --node 3"
)]
pub struct DrainArgs {
    /// drain this node of the cluster instead of the one that is asked
    #[argh(option, arg_name = "N", from_str_fn(parse_node))]
    pub node: Option<u16>,

    /// the server's admin address; default 127.0.0.1:9464
    #[argh(option, arg_name = "IP:PORT", default = "crate::config::DEFAULT_ADMIN.into()")]
    pub admin: String,
}

/// Make a secret for a cluster: one line of 256 random bits. In a file it is for its owner only, as servers want it.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "secret",
    example = "Make the secret of a new cluster, then copy it to every node:\n  {command_name} /etc/erlmcp-shard/cluster.secret"
)]
pub struct SecretArgs {
    /// file to make, which must not be there yet; default: print it
    #[argh(positional, arg_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Look at the limits of this host, and raise them.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "tune",
    example = "See what holds the host back:\n  {command_name} check",
    example = "Raise what can be raised, until the next boot (root):\n  {command_name} apply"
)]
pub struct TuneArgs {
    #[argh(subcommand)]
    /// what to do
    pub command: TuneCommand,
}

/// What `tune` can do.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
pub enum TuneCommand {
    /// Compare the host with what is wanted.
    Check(TuneCheckArgs),
    /// Change the host.
    Apply(TuneApplyArgs),
    /// Write the files that keep it so.
    Render(TuneRenderArgs),
}

/// Compare this host's limits with what a number of connections needs; exit code 1 if something is missing
/// (advice does not count).
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "check",
    example = "Is this host fit for 100,000 connections on 8 shards?\n  {command_name} --connections 100000 --shards 8"
)]
pub struct TuneCheckArgs {
    /// connections to carry; default 100000
    #[argh(option, arg_name = "N", default = "100_000")]
    pub connections: u64,

    /// shards that share them; default: online cores
    #[argh(option, arg_name = "N", from_str_fn(parse_shards))]
    pub shards: Option<u64>,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// look at a folder that holds proc and sys, instead of this host
    #[argh(option, arg_name = "FOLDER", default = "PathBuf::from(\"/\")")]
    pub root: PathBuf,
}

/// Write the kernel parameters that `tune check` finds too low, until the next boot; needs root. Prints what
/// was changed and how to undo it, then checks again.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "apply",
    example = "Make this host fit for 100,000 connections:\n  {command_name} --connections 100000"
)]
pub struct TuneApplyArgs {
    /// connections to carry; default 100000
    #[argh(option, arg_name = "N", default = "100_000")]
    pub connections: u64,

    /// shards that share them; default: online cores
    #[argh(option, arg_name = "N", from_str_fn(parse_shards))]
    pub shards: Option<u64>,

    /// change a folder that holds proc and sys, instead of this host
    #[argh(option, arg_name = "FOLDER", default = "PathBuf::from(\"/\")")]
    pub root: PathBuf,
}

/// Write the files that keep the settings: for sysctl, systemd, or the limits of a shell.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "render",
    example = "Install the units:\n  {command_name} systemd --output /etc/systemd/system"
)]
pub struct TuneRenderArgs {
    /// sysctl, systemd or limits
    #[argh(positional, from_str_fn(parse_kind))]
    pub kind: Kind,

    /// folder to write the files into; default: print them
    #[argh(option, arg_name = "FOLDER")]
    pub output: Option<PathBuf>,

    /// connections to carry; default 100000
    #[argh(option, arg_name = "N", default = "100_000")]
    pub connections: u64,
}

impl Args {
    /// Lays the flags over what file and defaults said.
    pub fn apply(&self, config: &mut Config) {
        let server = &mut config.server;
        set(&mut server.shards_per_core, self.shards_per_core);
        set(&mut server.log, self.log);
        set(&mut server.drain_notice_ms, self.drain_notice_ms);
        set(&mut config.catalog, self.catalog.clone());
        if self.cores.is_some() {
            server.cores.clone_from(&self.cores);
        }
        if self.stdio {
            // A local client's pipe needs no listener; one that is asked for by flag is opened all the same.
            server.stdio = true;
            server.listen = Bind::Off;
            server.tcp = Bind::Off;
            server.admin = Bind::Off;
            server.shards_per_core = 1;
        }
        set(&mut server.listen, self.listen);
        set(&mut server.tcp, self.tcp);
        set(&mut server.admin, self.admin);
        // Lists add up: a flag that took an origin away would surprise more than one that adds.
        server.allow_origin.extend(self.allow_origin.iter().cloned());
        server.allow_host.extend(self.allow_host.iter().cloned());
        server.public |= self.public;
        self.apply_cluster(config);
    }

    /// Any flag about the cluster means that there is one.
    fn apply_cluster(&self, config: &mut Config) {
        let is_meant = self.node.is_some()
            || self.mesh_listen.is_some()
            || !self.peer.is_empty()
            || self.secret_file.is_some()
            || self.sync.is_some();
        if !is_meant {
            return;
        }
        let cluster = config.cluster.get_or_insert_default();
        cluster.node = self.node.or(cluster.node);
        cluster.secret_file = self.secret_file.clone().or(cluster.secret_file.take());
        set(&mut cluster.listen, self.mesh_listen);
        set(&mut cluster.sync, self.sync);
        cluster.peers.extend(&self.peer);
    }
}

fn set<T>(target: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *target = value;
    }
}

fn parse_shards_per_core(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to 64")),
    }
}

fn parse_shards(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count @ 1..=65_535) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to 65535")),
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let kinds = Kind::ALL;
    let found = kinds.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, kind)| *kind)
        .ok_or_else(|| format!("{text:?} is none of {}", kinds.map(|(name, _)| name).join(", ")))
}

fn parse_catalog(text: &str) -> Result<CatalogSource, String> {
    Ok(CatalogSource::parse(text))
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
