//! What the process was asked to be: defaults, then the file, then the flags; checked as a whole.
//!
//! Parsed once at boot; everything after it reads plain fields.

mod cluster;
mod file;
mod section;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use erlmcp_protocol::http::Access;
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::listen::{Keepalive, ListenOptions};

pub use cluster::{ClusterConfig, DEFAULT_MESH, SyncMode, parse_mesh, parse_node};
pub use file::apply_file;

/// Where HTTP, SSE and WebSocket are served.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// Where newline-delimited JSON is served.
pub const DEFAULT_TCP: &str = "127.0.0.1:9001";
/// Where metrics, health and status are served.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9464";

/// The longest notice before a drain, milliseconds: two health checks that are five minutes apart fit in.
pub const DRAIN_NOTICE_MS_MAX: u64 = 10 * 60 * 1000;
/// The longest drain, milliseconds.
pub const DRAIN_MS_MAX: u64 = 60 * 60 * 1000;

/// The whole configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `[server]`.
    pub server: ServerConfig,
    /// `[limits]`, of each shard.
    pub limits: Limits,
    /// `[socket]`.
    pub socket: SocketConfig,
    /// `[catalog]`.
    pub catalog: CatalogSource,
    /// `[cluster]`; `None`: this server is alone.
    pub cluster: Option<ClusterConfig>,
}

/// `[server]`: who we are and where we listen.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Cores that carry shards; `None`: all that are online.
    pub cores: Option<Vec<usize>>,
    /// Shards on each of them.
    pub shards_per_core: u16,
    /// HTTP, SSE, WebSocket.
    pub listen: Bind,
    /// Newline-delimited JSON.
    pub tcp: Bind,
    /// Metrics, health, status, drain.
    pub admin: Bind,
    /// Addresses beyond loopback are meant.
    pub public: bool,
    /// Web origins that may call, besides loopback ones.
    pub allow_origin: Vec<String>,
    /// Host names under which clients may call, besides loopback ones.
    pub allow_host: Vec<String>,
    /// Serve stdin and stdout.
    pub stdio: bool,
    /// How long a drain may take, milliseconds.
    pub drain_ms: u64,
    /// How long a node that was asked to drain says so before it begins, milliseconds, up to
    /// [`DRAIN_NOTICE_MS_MAX`]; 0: it begins at once.
    pub drain_notice_ms: u64,
    /// How to log.
    pub log: LogFormat,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let local = |port| Bind::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        Self {
            cores: None,
            shards_per_core: 1,
            listen: local(8080),
            tcp: local(9001),
            admin: local(9464),
            public: false,
            allow_origin: Vec::new(),
            allow_host: Vec::new(),
            stdio: false,
            drain_ms: 10_000,
            drain_notice_ms: 0,
            log: LogFormat::Text,
        }
    }
}

/// `[socket]`: what the kernel is asked for. Zero leaves a number to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketConfig {
    /// Accept queue of each listener; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// Receive buffer of each connection, bytes; the kernel caps it at net.core.rmem_max, and doubles it.
    pub recv_buffer_bytes: u32,
    /// Send buffer of each connection, bytes; the kernel caps it at net.core.wmem_max, and doubles it.
    pub send_buffer_bytes: u32,
    /// What is sent leaves at once.
    pub nodelay: bool,
    /// Silence before a connection is probed, seconds; 0: never.
    pub keepalive_idle_s: u32,
    /// Between probes, seconds.
    pub keepalive_interval_s: u32,
    /// Unanswered probes that end the connection.
    pub keepalive_count: u32,
    /// How long sent bytes may stay unacknowledged, or a client's window closed, milliseconds.
    pub user_timeout_ms: u32,
}

impl Default for SocketConfig {
    /// As the shards have it.
    fn default() -> Self {
        let options = ListenOptions::default();
        let keepalive = options.keepalive.unwrap_or(KEEPALIVE_OFF);
        Self {
            backlog: options.backlog,
            recv_buffer_bytes: options.recv_buffer_bytes.unwrap_or(0),
            send_buffer_bytes: options.send_buffer_bytes.unwrap_or(0),
            nodelay: options.nodelay,
            keepalive_idle_s: keepalive.idle_s,
            keepalive_interval_s: keepalive.interval_s,
            keepalive_count: keepalive.count,
            user_timeout_ms: options.user_timeout_ms.unwrap_or(0),
        }
    }
}

impl SocketConfig {
    /// For the listeners.
    pub fn options(&self) -> ListenOptions {
        let some = |number: u32| (number != 0).then_some(number);
        ListenOptions {
            backlog: self.backlog,
            recv_buffer_bytes: some(self.recv_buffer_bytes),
            send_buffer_bytes: some(self.send_buffer_bytes),
            nodelay: self.nodelay,
            keepalive: some(self.keepalive_idle_s).map(|idle_s| Keepalive {
                idle_s,
                interval_s: self.keepalive_interval_s,
                count: self.keepalive_count,
            }),
            user_timeout_ms: some(self.user_timeout_ms),
        }
    }
}

/// What `keepalive_idle_s = 0` stands for.
const KEEPALIVE_OFF: Keepalive = Keepalive { idle_s: 0, interval_s: 30, count: 4 };

/// An address to listen on, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// No such listener.
    Off,
    /// This address; port 0 lets the kernel choose.
    At(SocketAddr),
}

impl Bind {
    /// `off` or `IP:PORT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Bind::Off);
        }
        if let Ok(address) = text.parse() {
            return Ok(Bind::At(address));
        }
        let hint = match text.strip_prefix("localhost:") {
            Some(port) => format!("; write 127.0.0.1:{port}"),
            None => ", like 127.0.0.1:8080 or [::1]:8080".to_owned(),
        };
        Err(format!("{text:?} is not IP:PORT or \"off\"{hint}"))
    }

    /// The address, when there is one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Bind::Off => None,
            Bind::At(address) => Some(address),
        }
    }
}

/// How lines look on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A notice before a drain, in milliseconds.
pub fn parse_drain_notice(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number <= DRAIN_NOTICE_MS_MAX);
    number.ok_or_else(|| format!("{text:?} is not a number from 0 to {DRAIN_NOTICE_MS_MAX}"))
}

impl LogFormat {
    /// `text` or `json`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is neither \"text\" nor \"json\"")),
        }
    }
}

/// What clients may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CatalogSource {
    /// The small built-in one, so that the first command works.
    #[default]
    Demo,
    /// The fixtures of the official conformance suite.
    Everything,
    /// A catalog file.
    File(PathBuf),
}

impl CatalogSource {
    /// `demo`, `everything`, or else a path.
    pub fn parse(text: &str) -> Self {
        match text {
            "demo" => CatalogSource::Demo,
            "everything" => CatalogSource::Everything,
            path => CatalogSource::File(PathBuf::from(path)),
        }
    }

    /// A path that is not absolute is meant beside the configuration file that names it.
    fn beside(self, config_file: &Path) -> Self {
        match self {
            CatalogSource::File(path) => CatalogSource::File(beside(config_file, path)),
            built_in => built_in,
        }
    }
}

/// A path in a configuration file, when it is not absolute, is meant beside that file.
fn beside(config_file: &Path, path: impl AsRef<Path>) -> PathBuf {
    config_file.parent().unwrap_or_else(|| Path::new("")).join(path)
}

/// One thing that is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File, when it stands in one.
    pub file: Option<PathBuf>,
    /// Line in that file, from 1.
    pub line: Option<usize>,
    /// `section.key` or `--flag`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    /// Of no particular place.
    pub fn general(message: impl Into<String>) -> Self {
        Self::of("", message)
    }

    fn of(key: &str, message: impl Into<String>) -> Self {
        Self { file: None, line: None, key: key.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(out, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(out, "{}: ", file.display())?,
            (None, _) => {}
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.message)
    }
}

impl Config {
    /// Reads and applies a configuration file; all problems at once.
    pub fn load_file(&mut self, path: &Path) -> Vec<Problem> {
        match std::fs::read_to_string(path) {
            Ok(text) => apply_file(self, path, &text),
            Err(err) => vec![Problem {
                file: Some(path.to_owned()),
                line: None,
                key: String::new(),
                message: format!("cannot read it: {err}"),
            }],
        }
    }

    /// The cores that carry shards. `--stdio` without `--cores` serves on one core: one client needs no more.
    pub fn cores(&self, online: &[usize]) -> Vec<usize> {
        match &self.server.cores {
            Some(cores) => cores.clone(),
            None if self.server.stdio => online.iter().copied().take(1).collect(),
            None => online.to_vec(),
        }
    }

    /// How many shards this process has.
    pub fn shards(&self, online: &[usize]) -> usize {
        self.cores(online).len() * usize::from(self.server.shards_per_core.max(1))
    }

    /// Whether the parts fit each other and the host. `online` are the cores this process may use.
    pub fn problems(&self, online: &[usize]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let server = &self.server;
        if let Some(cores) = &server.cores
            && let Err(why) = crate::cores::check_online(cores, online)
        {
            problems.push(Problem::of("cores", why));
        }
        for (name, bind) in [("listen", server.listen), ("tcp", server.tcp)] {
            let public = bind.address().filter(|address| !address.ip().is_loopback());
            if let Some(address) = public
                && !server.public
            {
                problems.push(Problem::of(
                    name,
                    format!(
                        "{address} can be reached by other machines, and this version does not \
                         authenticate clients. Listen on 127.0.0.1 behind a proxy that does, or say \
                         --public (public = true) if everybody who reaches it may call"
                    ),
                ));
            }
        }
        if server.listen == Bind::Off && server.tcp == Bind::Off && !server.stdio {
            problems.push(Problem::of(
                "listen",
                "listen and tcp are both off: nothing would be served. Turn one on, or use --stdio",
            ));
        }
        if let Err(why) = Access::new(&server.allow_origin, &[]) {
            problems.push(Problem::of("allow-origin", why));
        }
        if let Err(why) = Access::new(&[], &server.allow_host) {
            problems.push(Problem::of("allow-host", why));
        }
        self.limit_problems(&mut problems);
        if let Some(cluster) = &self.cluster {
            cluster.problems(self, self.shards(online), &mut problems);
        }
        problems
    }

    fn limit_problems(&self, problems: &mut Vec<Problem>) {
        let limits = &self.limits;
        if limits.outbox_bytes_max < limits.outbox_pause_bytes {
            problems.push(Problem::of(
                "limits.outbox_bytes_max",
                format!(
                    "{} is less than outbox_pause_bytes {}: a client would be closed before it is paused",
                    limits.outbox_bytes_max, limits.outbox_pause_bytes
                ),
            ));
        }
        if limits.message_bytes_max < limits.head_bytes_max {
            problems.push(Problem::of(
                "limits.message_bytes_max",
                format!(
                    "{} is less than head_bytes_max {}",
                    limits.message_bytes_max, limits.head_bytes_max
                ),
            ));
        }
    }

    /// What works and deserves a second look, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let server = &self.server;
        let mut warnings = Vec::new();
        let public = |bind: Bind| bind.address().is_some_and(|a| !a.ip().is_loopback());
        if public(server.listen) || public(server.tcp) {
            warnings.push("serving beyond loopback without authentication (--public)".to_owned());
        }
        if public(server.listen) && server.allow_host.is_empty() {
            warnings.push(
                "--public without --allow-host: requests whose Host is not a loopback name are refused \
                 (403); name the hosts under which clients call"
                    .to_owned(),
            );
        }
        if public(server.admin) {
            warnings.push(
                "the admin listener can be reached by other machines; anybody there may drain this server"
                    .to_owned(),
            );
        }
        warnings.extend(self.cluster.as_ref().and_then(ClusterConfig::warnings));
        warnings
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
