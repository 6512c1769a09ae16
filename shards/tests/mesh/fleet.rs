//! Two and three fleets of the real kernel over loopback. Skipped where io_uring is forbidden, and says so.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::view::{State, View};
use erlmcp_protocol::http::Head;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::fleet::{self, BootError, Fleet, FleetConfig, ShardPlace};
use erlmcp_shards::io::ConnId;
use erlmcp_shards::io::listen::ListenOptions;
use erlmcp_shards::io::uring::UringConfig;
use erlmcp_shards::mesh::{MeshConfig, MeshStats, QUEUE_BYTES_MAX};
use erlmcp_shards::net::{Exchange, LinkEvent, Net, PipeKind, TimerKey};
use erlmcp_shards::service::Service;

use super::world::{secrets, spot};

const PATIENCE: Duration = Duration::from_secs(30);
const SHARDS: u16 = 2;
/// Letters of each shard to each other one.
const LETTERS: u32 = 200;

/// What the shards of a fleet have seen; shared with the test.
#[derive(Default)]
struct Log {
    /// By who said it and who heard it.
    heard: BTreeMap<(Spot, Spot), Vec<u32>>,
    lost: BTreeMap<(u16, u16), u32>,
    views: BTreeMap<u16, Arc<View>>,
}

/// As soon as a node is linked, says numbers to all its shards.
struct Counter {
    at: Spot,
    log: Arc<Mutex<Log>>,
}

impl Counter {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Counter {
    fn handle_letter<N: Net>(&mut self, _: &mut N, from: Spot, letter: Letter<'_>) {
        let Letter::Status(bytes) = letter else { panic!("only counters write here") };
        let number = u32::from_be_bytes(*bytes.first_chunk().expect("a number"));
        let here = self.at;
        self.log().heard.entry((from, here)).or_default().push(number);
    }

    fn handle_link<N: Net>(&mut self, net: &mut N, node: u16, event: LinkEvent) {
        match event {
            LinkEvent::Up => {
                for number in 0..LETTERS {
                    for shard in 0..SHARDS {
                        let mut bytes = number.to_be_bytes().to_vec();
                        bytes.resize(4 + 37 * number as usize, 0);
                        assert!(net.post(spot(node, shard), &Letter::Status(&bytes)));
                    }
                }
            }
            LinkEvent::Lost => {
                *self.log().lost.entry((self.at.shard, node)).or_default() += 1;
            }
            LinkEvent::Drained => {}
        }
    }

    fn handle_view<N: Net>(&mut self, _: &mut N, view: &Arc<View>) {
        self.log().views.insert(self.at.shard, view.clone());
    }

    fn handle_request<N: Net>(&mut self, _: &mut N, _: Exchange, _: &Head<'_>, _: &[u8]) {}
    fn handle_gone<N: Net>(&mut self, _: &mut N, _: Exchange) {}
    fn handle_pipe_open<N: Net>(&mut self, _: &mut N, _: ConnId, _: PipeKind) {}
    fn handle_pipe_message<N: Net>(&mut self, _: &mut N, _: ConnId, _: &[u8]) {}
    fn handle_pipe_oversize<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_eof<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_closed<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_mail<N: Net>(&mut self, _: &mut N, _: EngineMail) {}
    fn handle_timer<N: Net>(&mut self, _: &mut N, _: TimerKey) {}
    fn handle_drain<N: Net>(&mut self, _: &mut N, _: u64) {}

    fn is_idle(&self) -> bool {
        true
    }
}

struct Node {
    fleet: Fleet,
    log: Arc<Mutex<Log>>,
}

impl Node {
    /// `None` where the kernel forbids it.
    fn boot(node: u16, epoch: u32, seeds: &[SocketAddr]) -> Option<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = FleetConfig {
            node,
            shards: vec![ShardPlace::default(); usize::from(SHARDS)],
            http: Some(any),
            tcp: None,
            mesh: Some(MeshConfig {
                listen: any,
                seeds: seeds.to_vec(),
                secrets: secrets("a secret that all of them share"),
                epoch,
                heartbeat_ms: 200,
                // Long: what is seen sooner is seen by its evidence.
                node_timeout_ms: 30_000,
                queue_bytes_max: QUEUE_BYTES_MAX,
            }),
            limits: Limits { connections_max: 100, ..Limits::default() },
            listen: ListenOptions::default(),
            ring: UringConfig { capacity: 1024, buffers: 64, ..UringConfig::default() },
        };
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        match fleet::start(config, move |seat| Counter { at: seat.at, log: shared.clone() }) {
            Ok(fleet) => Some(Self { fleet, log }),
            Err(BootError::Kernel(missing)) => {
                println!("skipped: {missing}");
                None
            }
            Err(err) => panic!("{err}"),
        }
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lead(&self) -> SocketAddr {
        self.fleet.mesh_addresses()[0]
    }

    fn stats(&self) -> Vec<MeshStats> {
        let snapshots = self.fleet.snapshots(PATIENCE);
        snapshots.into_iter().map(|shard| shard.mesh.expect("it has a mesh")).collect()
    }

    /// Whether every shard sees the node in this state.
    fn sees(&self, node: u16, state: State) -> bool {
        let log = self.log();
        let is_so =
            |view: &Arc<View>| view.member(node).is_some_and(|member| member.state == state);
        log.views.len() == usize::from(SHARDS) && log.views.values().all(is_so)
    }

    fn has_all_letters(&self, others: usize) -> bool {
        let pairs = others * usize::from(SHARDS) * usize::from(SHARDS);
        let log = self.log();
        log.heard.len() == pairs && log.heard.values().all(|heard| heard.len() == LETTERS as usize)
    }
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn fleets_find_each_other_and_every_letter_arrives_in_order() {
    let Some(one) = Node::boot(1, 11, &[]) else { return };
    let two = Node::boot(2, 22, &[one.lead()]).expect("as the first");
    let three = Node::boot(3, 33, &[two.lead()]).expect("as the first");
    let nodes = [one, two, three];
    until("all letters", || nodes.iter().all(|node| node.has_all_letters(2)));
    for node in &nodes {
        for (pair, heard) in &node.log().heard {
            assert!(heard.iter().copied().eq(0..LETTERS), "{pair:?}: {heard:?}");
        }
        let stats = node.stats();
        assert!(stats.iter().all(|stats| (stats.links_out, stats.links_in) == (2, 2)), "{stats:?}");
        assert!(stats.iter().all(|stats| stats.links_lost == 0), "{stats:?}");
        let sent: u64 = stats.iter().map(|stats| stats.letters_out).sum();
        assert_eq!(sent, u64::from(LETTERS) * 2 * 4);
    }
    // Links are nobody's connections.
    for snapshot in nodes[0].fleet.snapshots(PATIENCE) {
        assert_eq!(snapshot.counters.connections_active, [0; 4]);
        assert_eq!(snapshot.counters.connections_total, [0; 4]);
        assert_eq!(snapshot.counters.bytes_in, 0);
    }

    // A process that ends without a word is seen at once, by what its kernel says.
    let [one, two, three] = nodes;
    three.fleet.abort();
    three.fleet.join().expect("no panic");
    until("death", || one.sees(3, State::Dead) && two.sees(3, State::Dead));
    for shard in 0..SHARDS {
        assert!(one.log().lost.contains_key(&(shard, 3)));
        assert!(!one.log().lost.contains_key(&(shard, 2)));
    }
    let again = Node::boot(3, 34, &[one.lead()]).expect("as the first");
    until("its return", || one.sees(3, State::Alive) && again.has_all_letters(2));

    // One that drains says goodbye, and its last words arrive.
    two.fleet.drain(60_000);
    assert_eq!(two.fleet.join().expect("no panic").cut, 0);
    until("goodbye", || one.sees(2, State::Dead) && again.sees(2, State::Dead));
    assert!(one.sees(3, State::Alive));
}

#[test]
fn strangers_at_the_mesh_listener_are_refused_and_counted() {
    let Some(node) = Node::boot(1, 11, &[]) else { return };
    for (count, said) in (1..).zip([&b"GET / HTTP/1.1\r\n\r\n"[..], b"\xff\xff\xff\xff"]) {
        let mut stranger = TcpStream::connect(node.lead()).expect("connects");
        stranger.set_read_timeout(Some(PATIENCE)).expect("sets");
        stranger.write_all(said).expect("writes");
        let mut heard = Vec::new();
        // It may be told why; then it is alone.
        let _ = stranger.read_to_end(&mut heard);
        until("the refusal", || node.stats()[0].refused.get("oversize") == Some(&count));
    }
    assert_eq!(node.stats()[0].links_lost, 0);
}

#[test]
fn a_mesh_that_cannot_be_had_stops_the_boot_and_says_why() {
    let Some(node) = Node::boot(1, 11, &[]) else { return };
    let boot = |listen: SocketAddr, shards: usize| {
        let config = FleetConfig {
            node: 2,
            shards: vec![ShardPlace::default(); shards],
            http: None,
            tcp: None,
            mesh: Some(MeshConfig {
                listen,
                seeds: Vec::new(),
                secrets: secrets("a secret that all of them share"),
                epoch: 1,
                heartbeat_ms: 200,
                node_timeout_ms: 1_500,
                queue_bytes_max: QUEUE_BYTES_MAX,
            }),
            limits: Limits::default(),
            listen: ListenOptions::default(),
            ring: UringConfig { capacity: 256, buffers: 16, ..UringConfig::default() },
        };
        let log = Arc::default();
        let refused =
            fleet::start(config, move |seat| Counter { at: seat.at, log: Arc::clone(&log) });
        refused.map(drop).expect_err("cannot be had").to_string()
    };
    assert!(boot(node.lead(), 1).contains("ss -ltnp"));
    assert!(boot("0.0.0.0:0".parse().expect("an address"), 1).contains("reach"));
    assert!(boot("127.0.0.1:65535".parse().expect("an address"), 2).contains("no port is left"));
    assert!(boot("127.0.0.1:0".parse().expect("an address"), 300).contains("at most 256"));
}
