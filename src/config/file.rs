//! The configuration file (TOML): the same names as the flags, in sections.

use std::path::Path;

use erlmcp_shards::config::Limits;
use toml::de::DeTable;

use super::section::{Section, Source};
use super::{
    Bind, CatalogSource, ClusterConfig, Config, DRAIN_MS_MAX, DRAIN_NOTICE_MS_MAX, LogFormat,
    Problem, ServerConfig, SocketConfig, SyncMode, beside, parse_mesh,
};
use crate::cores::parse_cores;

/// Lays a file's text over `config`. What is wrong is returned, everything at once; the rest is applied.
pub fn apply_file(config: &mut Config, path: &Path, text: &str) -> Vec<Problem> {
    let mut source = Source::new(path, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        source.problem(error.span().unwrap_or(0..0), "", error.message());
    }
    if !errors.is_empty() {
        // What the parser guessed behind a syntax error would only add noise.
        return source.finish();
    }
    let mut whole = Section::new(&mut source, "", root.get_ref());
    let server = whole.table("server");
    let limits = whole.table("limits");
    let socket = whole.table("socket");
    let catalog = whole.table("catalog");
    let cluster = whole.table("cluster");
    if let Some(table) = server {
        read_server(whole.source(), table, &mut config.server);
    }
    if let Some(table) = limits {
        read_limits(whole.source(), table, &mut config.limits);
    }
    if let Some(table) = socket {
        read_socket(whole.source(), table, &mut config.socket);
    }
    if let Some(table) = catalog {
        read_catalog(whole.source(), table, path, &mut config.catalog);
    }
    if let Some(table) = cluster {
        let cluster = config.cluster.get_or_insert_default();
        read_cluster(whole.source(), table, path, cluster);
    }
    whole.finish();
    source.finish()
}

fn read_server(source: &mut Source<'_>, table: &DeTable<'_>, server: &mut ServerConfig) {
    // Named one by one, so that a new field cannot be forgotten here. `stdio` is a flag only: a file that
    // made a daemon talk to its stdin would be a trap.
    let ServerConfig {
        cores,
        shards_per_core,
        listen,
        tcp,
        admin,
        public,
        allow_origin,
        allow_host,
        stdio: _,
        drain_ms,
        drain_notice_ms,
        log,
    } = server;
    let mut section = Section::new(source, "server", table);
    section.text("cores", cores, |text| parse_cores(text).map(Some));
    section.number("shards_per_core", shards_per_core, 1..=64);
    section.text("listen", listen, Bind::parse);
    section.text("tcp", tcp, Bind::parse);
    section.text("admin", admin, Bind::parse);
    section.boolean("public", public);
    section.texts("allow_origin", allow_origin);
    section.texts("allow_host", allow_host);
    section.number("drain_ms", drain_ms, 0..=DRAIN_MS_MAX);
    section.number("drain_notice_ms", drain_notice_ms, 0..=DRAIN_NOTICE_MS_MAX);
    section.text("log", log, LogFormat::parse);
    section.finish();
}

fn read_limits(source: &mut Source<'_>, table: &DeTable<'_>, limits: &mut Limits) {
    let Limits {
        message_bytes_max,
        head_bytes_max,
        connections_max,
        sessions_max,
        session_idle_ms,
        session_evict_after_ms,
        calls_max,
        calls_per_client_max,
        listens_max,
        subscriptions_max,
        outbox_pause_bytes,
        outbox_bytes_max,
        send_stall_ms,
        head_timeout_ms,
        body_timeout_ms,
        idle_timeout_ms,
        stream_keepalive_ms,
        ws_ping_ms,
        client_request_timeout_ms,
        request_state_ttl_ms,
        task_ttl_ms,
        tasks_max,
        tasks_bytes_max,
        replay_events_max,
        replay_bytes_max,
        replay_ttl_ms,
        page_size,
        list_ttl_ms,
    } = limits;
    let mut section = Section::new(source, "limits", table);
    section.number("message_bytes_max", message_bytes_max, KIB..=GIB);
    section.number("head_bytes_max", head_bytes_max, KIB..=MIB);
    section.number("connections_max", connections_max, 0..=COUNT_MAX);
    section.number("sessions_max", sessions_max, 1..=COUNT_MAX);
    section.number("session_idle_ms", session_idle_ms, 1_000..=30 * DAY_MS);
    section.number("session_evict_after_ms", session_evict_after_ms, 0..=DAY_MS);
    section.number("calls_max", calls_max, 1..=COUNT_MAX);
    section.number("calls_per_client_max", calls_per_client_max, 1..=COUNT_MAX);
    section.number("listens_max", listens_max, 1..=COUNT_MAX);
    section.number("subscriptions_max", subscriptions_max, 1..=COUNT_MAX);
    section.number("outbox_pause_bytes", outbox_pause_bytes, KIB..=GIB);
    section.number("outbox_bytes_max", outbox_bytes_max, KIB..=GIB);
    section.number("send_stall_ms", send_stall_ms, 100..=HOUR_MS);
    section.number("head_timeout_ms", head_timeout_ms, 100..=HOUR_MS);
    section.number("body_timeout_ms", body_timeout_ms, 100..=HOUR_MS);
    section.number("idle_timeout_ms", idle_timeout_ms, 100..=DAY_MS);
    section.number("stream_keepalive_ms", stream_keepalive_ms, 100..=DAY_MS);
    section.number("ws_ping_ms", ws_ping_ms, 100..=DAY_MS);
    section.number("client_request_timeout_ms", client_request_timeout_ms, 100..=DAY_MS);
    section.number("request_state_ttl_ms", request_state_ttl_ms, 1_000..=DAY_MS);
    section.number("task_ttl_ms", task_ttl_ms, 1_000..=30 * DAY_MS);
    section.number("tasks_max", tasks_max, 0..=COUNT_MAX);
    section.number("tasks_bytes_max", tasks_bytes_max, KIB..=64 * GIB);
    section.number("replay_events_max", replay_events_max, 0..=COUNT_MAX);
    section.number("replay_bytes_max", replay_bytes_max, 0..=GIB);
    section.number("replay_ttl_ms", replay_ttl_ms, 0..=DAY_MS);
    section.number("page_size", page_size, 1..=100_000);
    section.number("list_ttl_ms", list_ttl_ms, 0..=DAY_MS);
    section.finish();
}

fn read_socket(source: &mut Source<'_>, table: &DeTable<'_>, socket: &mut SocketConfig) {
    let SocketConfig {
        backlog,
        recv_buffer_bytes,
        send_buffer_bytes,
        nodelay,
        keepalive_idle_s,
        keepalive_interval_s,
        keepalive_count,
        user_timeout_ms,
    } = socket;
    let mut section = Section::new(source, "socket", table);
    section.number("backlog", backlog, 1..=65_535);
    section.number_or_zero("recv_buffer_bytes", recv_buffer_bytes, 4 * KIB..=64 * MIB);
    section.number_or_zero("send_buffer_bytes", send_buffer_bytes, 4 * KIB..=64 * MIB);
    section.boolean("nodelay", nodelay);
    // What the kernel accepts (tcp(7)).
    section.number_or_zero("keepalive_idle_s", keepalive_idle_s, 1..=32_767);
    section.number("keepalive_interval_s", keepalive_interval_s, 1..=32_767);
    section.number("keepalive_count", keepalive_count, 1..=127);
    section.number_or_zero("user_timeout_ms", user_timeout_ms, 1_000..=HOUR_MS);
    section.finish();
}

fn read_catalog(
    source: &mut Source<'_>,
    table: &DeTable<'_>,
    path: &Path,
    catalog: &mut CatalogSource,
) {
    let mut section = Section::new(source, "catalog", table);
    section.text("source", catalog, |text| Ok(CatalogSource::parse(text).beside(path)));
    section.finish();
}

fn read_cluster(
    source: &mut Source<'_>,
    table: &DeTable<'_>,
    path: &Path,
    cluster: &mut ClusterConfig,
) {
    let ClusterConfig {
        node,
        listen,
        peers,
        secret_file,
        sync,
        heartbeat_ms,
        node_timeout_ms,
        replicas,
    } = cluster;
    let mut section = Section::new(source, "cluster", table);
    let mut number = node.unwrap_or_default();
    section.number("node", &mut number, 1..=u64::from(u16::MAX));
    *node = (number != 0).then_some(number);
    section.text("listen", listen, parse_mesh);
    section.list("peers", peers, parse_mesh);
    section.text("secret_file", secret_file, |text| Ok(Some(beside(path, text))));
    section.text("sync", sync, SyncMode::parse);
    section.number("heartbeat_ms", heartbeat_ms, 20..=5_000);
    section.number("node_timeout_ms", node_timeout_ms, 100..=60_000);
    section.number("replicas", replicas, 0..=3);
    section.finish();
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
/// No table of a shard has more entries: slots travel as 32 bits, and 16 million is far beyond a core.
const COUNT_MAX: u64 = 1 << 24;
const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
