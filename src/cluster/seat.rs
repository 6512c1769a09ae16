//! This node's place in its cluster: put together at the boot, told of what happens, given new secrets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use erlmcp_cluster::letter::Order;
use erlmcp_cluster::secret::Secrets;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::{ClusterLimits, Sync};
use erlmcp_shards::mesh::{MeshConfig, QUEUE_BYTES_MAX};

use super::chronicle::Chronicle;
use super::{Board, Nudge};
use crate::config::{ClusterConfig, Config, SyncMode};
use crate::running::Event;
use crate::secret::{self, SecretError};

/// A configured and checked place.
pub struct ClusterSeat {
    node: u16,
    epoch: u32,
    config: ClusterConfig,
    secret_file: PathBuf,
    secrets: Arc<Secrets>,
    board: Arc<Board>,
    chronicle: Chronicle,
}

impl ClusterSeat {
    /// `None`: this server is alone. `epoch` is that of the tokens it makes.
    pub fn take(
        config: &Config,
        shards: usize,
        epoch: u32,
        events: Sender<Event>,
    ) -> Result<Option<Self>, SecretError> {
        // What is missing was said by `Config::problems`.
        let Some(cluster) = &config.cluster else { return Ok(None) };
        let (Some(node), Some(secret_file)) = (cluster.node, &cluster.secret_file) else {
            return Ok(None);
        };
        let secrets = Arc::new(secret::read(secret_file)?);
        let (seeds, names_itself) = cluster.seeds(shards);
        if names_itself {
            log::info!("peers names this node itself: left out");
        }
        let nudge = move |nudge| {
            // A full queue means that nobody reads: a line of the log is lost, the view itself is not.
            let _ = events.try_send(Event::Cluster(nudge));
        };
        let board = Arc::new(Board::new(node, epoch, seeds.clone(), nudge));
        Ok(Some(Self {
            node,
            epoch,
            config: ClusterConfig { peers: seeds, ..cluster.clone() },
            secret_file: secret_file.clone(),
            secrets,
            chronicle: Chronicle::new(board.view()),
            board,
        }))
    }

    /// This node's number.
    pub fn node(&self) -> u16 {
        self.node
    }

    /// Where everything that is known is kept.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The keys of tokens.
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::new(secret::keyring(&self.secrets))
    }

    /// What links prove themselves with.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    /// What the shards' links need to know.
    pub fn mesh(&self) -> MeshConfig {
        MeshConfig {
            listen: self.config.listen,
            seeds: self.config.peers.clone(),
            secrets: self.secrets.clone(),
            epoch: self.epoch,
            heartbeat_ms: self.config.heartbeat_ms,
            node_timeout_ms: self.config.node_timeout_ms,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }

    /// What each shard does for its sessions to survive this node.
    pub fn limits(&self) -> ClusterLimits {
        let sync = match self.config.sync {
            SyncMode::Lazy => Sync::Lazy,
            SyncMode::Eager => Sync::Eager,
        };
        let replicas = usize::from(self.config.replicas);
        ClusterLimits { sync, replicas, ..ClusterLimits::default() }
    }

    /// Logs what has changed in the cluster. What operators want of this node is the answer.
    pub fn handle_nudge(&mut self, nudge: Nudge) -> Option<(u16, Order)> {
        match nudge {
            Nudge::View(view) => {
                for (level, line) in self.chronicle.handle_view(Instant::now(), view) {
                    log::log!(level, "{line}");
                }
                self.board.tidy();
                None
            }
            Nudge::Order(from, order) => Some((from, order)),
        }
    }

    /// Reads the secret file anew: whether it says something else now. What is wrong with it changes nothing.
    pub fn reread(&mut self) -> Result<bool, SecretError> {
        let secrets = Arc::new(secret::read(&self.secret_file)?);
        let is_new = secrets != self.secrets;
        self.secrets = secrets;
        Ok(is_new)
    }

    /// Whether systemd handed the secret over when the unit started: a changed file is then seen after a restart.
    pub fn is_secret_a_credential(&self) -> bool {
        secret::is_credential(&self.secret_file)
    }
}
