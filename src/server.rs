//! The server as one value: put together, started, served until somebody says stop.
//!
//! The boot, in order: configuration → host → admin address → control plane → shards → announce. Whatever
//! fails ends what was started before it, and says what to do.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use erlmcp_catalog::{Catalog, CatalogError, Handle, Runner};
use erlmcp_protocol::http::Access;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::EngineConfig;
use erlmcp_shards::fleet::{self, Fleet, FleetConfig, ShardPlace};
use erlmcp_shards::io::uring::UringConfig;
use erlmcp_shards::lookout::Lookout;
use erlmcp_shards::serve::serve;
use erlmcp_tuning::Finding;

use crate::cluster::ClusterSeat;
use crate::config::{Bind, CatalogSource, Config, Problem};
use crate::control::{self, AdminSeat, Collect, Control};
use crate::cores::online_cores;
use crate::host;
use crate::running::{EVENTS_MAX, Event, Exit, Running};
use crate::secret::SecretError;
use crate::stdio;

/// How long a snapshot of a shard is waited for.
const SNAPSHOT_PATIENCE: Duration = Duration::from_millis(500);

/// An MCP server, not yet started.
///
/// ```no_run
/// use erlmcp_shard::{Catalog, Server, Tool};
///
/// let catalog = Catalog::builder().build()?;
/// Server::new(catalog).listen("127.0.0.1:8080".parse()?).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    catalog: Catalog,
    /// Read again on SIGHUP.
    catalog_file: Option<PathBuf>,
    config: Config,
}

/// Why a server did not start.
#[derive(Debug)]
pub enum BootError {
    /// The configuration is wrong: everything that is.
    Config(Vec<Problem>),
    /// The catalog cannot be served.
    Catalog(CatalogError),
    /// The cluster's secret cannot be used.
    Secret(SecretError),
    /// The host lacks something without which nothing works.
    Host(Box<Finding>),
    /// The admin address cannot be listened on.
    Admin(SocketAddr, io::Error),
    /// The control plane does not start.
    Control(io::Error),
    /// The shards do not start.
    Shards(fleet::BootError),
    /// The pipe to stdin and stdout cannot be made.
    Stdio(io::Error),
    /// No randomness for the keys.
    Random(getrandom::Error),
}

impl fmt::Display for BootError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => {
                let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
                out.write_str(&lines.join("\n"))
            }
            Self::Catalog(err) => write!(out, "catalog: {err}"),
            Self::Secret(err) => err.fmt(out),
            Self::Host(finding) => write!(out, "this host cannot run it: {finding}"),
            Self::Admin(address, err) if err.kind() == io::ErrorKind::AddrInUse => write!(
                out,
                "cannot listen on {address} (admin): somebody else does. Is another server running? \
                 Otherwise choose another with --admin"
            ),
            Self::Admin(address, err) => write!(out, "cannot listen on {address} (admin): {err}"),
            Self::Control(err) => write!(out, "cannot start the control plane: {err}"),
            Self::Shards(err) => err.fmt(out),
            Self::Stdio(err) => write!(out, "cannot serve stdin and stdout: {err}"),
            Self::Random(err) => write!(out, "no randomness for the keys: {err}"),
        }
    }
}

impl std::error::Error for BootError {}

impl Server {
    /// Serves a catalog with the default configuration: all cores, loopback addresses.
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, catalog_file: None, config: Config::default() }
    }

    /// Serves what a configuration says, its catalog included.
    pub fn from_config(config: Config) -> Result<Self, BootError> {
        let (catalog, catalog_file) = match &config.catalog {
            CatalogSource::Demo => (erlmcp_catalog::demo(), None),
            CatalogSource::Everything => (erlmcp_catalog::everything(), None),
            CatalogSource::File(path) => (Catalog::load(path), Some(path.clone())),
        };
        Ok(Self { catalog: catalog.map_err(BootError::Catalog)?, catalog_file, config })
    }

    /// Replaces the whole configuration, except for the catalog.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The cores that carry shards.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.config.server.cores = Some(cores.into_iter().collect());
        self
    }

    /// Shards on each core.
    pub fn shards_per_core(mut self, count: u16) -> Self {
        self.config.server.shards_per_core = count;
        self
    }

    /// Where HTTP, SSE and WebSocket are served.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.server.listen = Bind::At(address);
        self
    }

    /// Where newline-delimited JSON is served; `None`: nowhere.
    pub fn tcp(mut self, address: Option<SocketAddr>) -> Self {
        self.config.server.tcp = address.map_or(Bind::Off, Bind::At);
        self
    }

    /// Where metrics, health and status are served; `None`: nowhere.
    pub fn admin(mut self, address: Option<SocketAddr>) -> Self {
        self.config.server.admin = address.map_or(Bind::Off, Bind::At);
        self
    }

    /// Limits of each shard.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// A web origin that may call.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.config.server.allow_origin.push(origin.into());
        self
    }

    /// A host name under which clients may call.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.config.server.allow_host.push(host.into());
        self
    }

    /// Starts, serves until SIGTERM or SIGINT, drains. Prints where it listens.
    pub fn run(self) -> Result<Exit, BootError> {
        let is_stdio = self.config.server.stdio;
        let mut running = self.start()?;
        running.handle_signals();
        let addresses = running.addresses();
        if is_stdio {
            // stdout belongs to the client.
            let lines = addresses.lines();
            log::info!("serving stdin and stdout {}", lines.join(", "));
        } else {
            use std::io::Write;
            let mut stdout = io::stdout().lock();
            for line in addresses.lines() {
                let _ = writeln!(stdout, "{line}");
            }
            let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
        }
        crate::notify::ready();
        Ok(running.wait())
    }

    /// Starts and returns at once: every shard is ready to accept.
    pub fn start(self) -> Result<Running, BootError> {
        let Self { catalog, catalog_file, config } = self;
        let online = online_cores();
        let problems = config.problems(&online);
        if !problems.is_empty() {
            return Err(BootError::Config(problems));
        }
        config.warnings().iter().for_each(|warning| log::warn!("{warning}"));
        let places = places(&config, &online);
        let (events, on_event) = crossbeam_channel::bounded(EVENTS_MAX);
        let epoch = getrandom::u32().map_err(BootError::Random)?;
        let cluster = ClusterSeat::take(&config, places.len(), epoch, events.clone())
            .map_err(BootError::Secret)?;
        host::check(&config, places.len()).map_err(BootError::Host)?;

        let admin = bind_admin(&config)?;
        let control = Control::start().map_err(BootError::Control)?;
        let catalog = catalog.into_handle();
        let common = EngineConfig {
            limits: config.limits.clone(),
            access: access(&config)?,
            keys: keys(cluster.as_ref())?,
            epoch,
            lookout: cluster.as_ref().map(|seat| -> Arc<dyn Lookout> { seat.board().clone() }),
            cluster: cluster.as_ref().map(ClusterSeat::limits),
        };
        let fleet =
            start_shards(&config, places, common, cluster.as_ref(), &catalog, control.runner())?;
        if !config.server.stdio {
            host::tell_capacity(&fleet, &config, SNAPSHOT_PATIENCE);
        }

        let posts = fleet.posts().clone();
        let shards = posts.len();
        let collect: Collect = Arc::new(move || fleet::snapshots(&posts, SNAPSHOT_PATIENCE));
        control.beat(collect.clone(), shards).map_err(BootError::Control)?;
        let admin_address = if admin.is_none() && cluster.is_none() {
            None
        } else {
            let events = events.clone();
            let lead = fleet.posts().first().cloned();
            let seat = AdminSeat {
                listener: admin,
                // The admin listener is for operators' tools: hosts may be named, web origins may not.
                access: Access::new(&[], &config.server.allow_host).unwrap_or_default(),
                shards,
                collect,
                // Whoever finds the queue full is not the first to ask.
                on_drain: Box::new(move || drop(events.try_send(Event::Drain))),
                cluster: cluster
                    .as_ref()
                    .zip(lead)
                    .map(|(seat, lead)| control::ClusterSeat { board: seat.board().clone(), lead }),
            };
            control.serve_admin(seat).map_err(BootError::Control)?
        };
        if config.server.stdio {
            let events = events.clone();
            stdio::serve(&fleet, move || drop(events.send(Event::StdioClosed)))
                .map_err(BootError::Stdio)?;
        }
        Ok(Running::new(
            fleet,
            control,
            (catalog, catalog_file),
            cluster,
            admin_address,
            &config,
            (events, on_event),
        ))
    }
}

/// One place per shard; the shards of one core lie next to each other.
fn places(config: &Config, online: &[usize]) -> Vec<ShardPlace> {
    let per_core = usize::from(config.server.shards_per_core.max(1));
    let cores = config.cores(online);
    cores
        .into_iter()
        .flat_map(|core| std::iter::repeat_n(ShardPlace { core: Some(core) }, per_core))
        .collect()
}

fn access(config: &Config) -> Result<Arc<Access>, BootError> {
    let server = &config.server;
    let access = Access::new(&server.allow_origin, &server.allow_host).map_err(|why| {
        BootError::Config(vec![Problem {
            file: None,
            line: None,
            key: String::new(),
            message: why,
        }])
    })?;
    Ok(Arc::new(access))
}

/// Bound without SO_REUSEPORT: a second server on the same address fails here.
fn bind_admin(config: &Config) -> Result<Option<TcpListener>, BootError> {
    let Some(address) = config.server.admin.address() else { return Ok(None) };
    TcpListener::bind(address).map(Some).map_err(|err| BootError::Admin(address, err))
}

/// What each ring's table is asked to hold; the descriptor limit may make it less. The kernel allocates the
/// whole table, 8 bytes each, so a generous limit on a host with many cores is not simply used up.
fn ring_descriptors(limits: &Limits) -> u32 {
    const UNASKED: u32 = 131_072;
    const BESIDES: u32 = 1024;
    UNASKED.max(limits.connections_max.saturating_add(BESIDES))
}

/// The cluster's keys, or those of this run.
fn keys(cluster: Option<&ClusterSeat>) -> Result<Arc<Keyring>, BootError> {
    if let Some(seat) = cluster {
        return Ok(seat.keyring());
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(BootError::Random)?;
    Ok(Arc::new(Keyring::new(&secret)))
}

fn start_shards(
    config: &Config,
    shards: Vec<ShardPlace>,
    engine: EngineConfig,
    cluster: Option<&ClusterSeat>,
    catalog: &Handle,
    runner: Arc<dyn Runner>,
) -> Result<Fleet, BootError> {
    let fleet = FleetConfig {
        node: cluster.map_or(0, ClusterSeat::node),
        shards,
        http: config.server.listen.address(),
        tcp: config.server.tcp.address(),
        mesh: cluster.map(ClusterSeat::mesh),
        limits: config.limits.clone(),
        listen: config.socket.options(),
        ring: UringConfig { capacity: ring_descriptors(&config.limits), ..UringConfig::default() },
    };
    serve(fleet, engine, catalog.clone(), runner).map_err(BootError::Shards)
}
