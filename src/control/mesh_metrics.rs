//! The cluster's part of `/metrics`: who is in it as this node sees it, and what its links carry.
//!
//! Other nodes' numbers are absent on purpose: whoever scrapes all nodes would count them twice.

use std::collections::BTreeMap;

use erlmcp_cluster::replicas::Copied;
use erlmcp_cluster::view::{State, View};
use erlmcp_shards::mesh::MeshStats;
use erlmcp_shards::stats::{Counters, ShardSnapshot};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::metrics::{Written, counters, gauge, gauges};
use super::nodes::state_name;

/// Appends the families of a node that is in a cluster.
pub fn encode(to: &mut DescriptorEncoder<'_>, view: &View, shards: &[ShardSnapshot]) -> Written {
    members(to, view)?;
    let mesh: Vec<(u16, &MeshStats)> =
        shards.iter().filter_map(|shard| Some((shard.shard, shard.mesh.as_ref()?))).collect();
    links(to, &mesh)?;
    traffic(to, &mesh)?;
    refusals(to, &mesh)?;
    sessions(to, shards)
}

fn members(to: &mut DescriptorEncoder<'_>, view: &View) -> Written {
    let states = [State::Alive, State::Suspect, State::Leaving, State::Dead];
    let count = |state| view.members.iter().filter(|member| member.state == state).count() as u64;
    gauges(
        to,
        "erlmcp_cluster_nodes",
        "Nodes of the cluster as this one sees them, itself among them",
        states.into_iter().map(|state| ([("state", state_name(state))], count(state))),
    )?;
    gauges(
        to,
        "erlmcp_cluster_node",
        "1 for the state in which this node sees that one",
        view.members.iter().flat_map(|member| {
            states.into_iter().map(|state| {
                let labels =
                    [("node", member.node.to_string()), ("state", state_name(state).to_owned())];
                (labels, u64::from(member.state == state))
            })
        }),
    )?;
    let peers = view.peers().count() as f64;
    gauge(to, "erlmcp_mesh_peers", "Other nodes that are not dead", None, peers)
}

fn links(to: &mut DescriptorEncoder<'_>, mesh: &[(u16, &MeshStats)]) -> Written {
    gauges(
        to,
        "erlmcp_mesh_links",
        "Links to other nodes that stand",
        both(mesh, |mesh| mesh.links_in, |mesh| mesh.links_out),
    )?;
    counters(
        to,
        "erlmcp_mesh_links_lost",
        "Links to other nodes that broke",
        by_shard(mesh, |mesh| mesh.links_lost),
    )?;
    counters(
        to,
        "erlmcp_mesh_dials",
        "Attempts to reach another node",
        by_shard(mesh, |mesh| mesh.dials),
    )?;
    counters(
        to,
        "erlmcp_mesh_dials_failed",
        "Attempts to reach another node that found nobody, or took too long",
        by_shard(mesh, |mesh| mesh.dials_failed),
    )
}

fn traffic(to: &mut DescriptorEncoder<'_>, mesh: &[(u16, &MeshStats)]) -> Written {
    counters(
        to,
        "erlmcp_mesh_letters",
        "Letters between shards of different nodes",
        both(mesh, |mesh| mesh.letters_in, |mesh| mesh.letters_out),
    )?;
    counters(
        to,
        "erlmcp_mesh_bytes",
        "Bytes on links to other nodes",
        both(mesh, |mesh| mesh.bytes_in, |mesh| mesh.bytes_out),
    )?;
    counters(
        to,
        "erlmcp_mesh_letters_relayed",
        "Letters that came over one shard's link for another shard",
        by_shard(mesh, |mesh| mesh.letters_relayed),
    )?;
    gauges(
        to,
        "erlmcp_mesh_queue_bytes",
        "Bytes that wait to be sent to other nodes",
        by_shard(mesh, |mesh| mesh.queue_bytes),
    )
}

fn refusals(to: &mut DescriptorEncoder<'_>, mesh: &[(u16, &MeshStats)]) -> Written {
    counters(
        to,
        "erlmcp_mesh_drops",
        "Letters that were not taken: no link, or no room on it",
        by_reason(mesh, |mesh| &mesh.dropped),
    )?;
    counters(
        to,
        "erlmcp_mesh_refusals",
        "Links refused or cut at this end",
        by_reason(mesh, |mesh| &mesh.refused),
    )?;
    counters(
        to,
        "erlmcp_mesh_refusals_by_peers",
        "Links refused at the other end",
        by_shard(mesh, |mesh| mesh.refused_by_peers),
    )
}

fn sessions(to: &mut DescriptorEncoder<'_>, shards: &[ShardSnapshot]) -> Written {
    let each = |of: fn(&Counters) -> u64| {
        shards.iter().map(move |shard| ([("shard", shard.shard.to_string())], of(&shard.counters)))
    };
    gauges(
        to,
        "erlmcp_session_copies",
        "Copies of other nodes' sessions kept here",
        each(|counters| counters.copies_active),
    )?;
    gauges(
        to,
        "erlmcp_sessions_copied",
        "Sessions of this node by their copies on others: as many as configured, fewer, none",
        shards.iter().flat_map(|shard| {
            let counts = &shard.counters.sessions_copied;
            let kinds = Copied::ALL.into_iter().zip(counts);
            kinds.map(|(copied, count)| {
                let labels =
                    [("shard", shard.shard.to_string()), ("copies", copied.as_str().to_owned())];
                (labels, *count)
            })
        }),
    )?;
    counters(
        to,
        "erlmcp_sync_repeats",
        "Sessions said again because their keeper had not acknowledged them",
        each(|counters| counters.sync_repeats),
    )?;
    counters(
        to,
        "erlmcp_sessions_adopted",
        "Sessions taken over from other nodes",
        each(|counters| counters.sessions_adopted),
    )?;
    let lag_ms = shards.iter().map(|shard| shard.counters.sync_lag_ms).max().unwrap_or_default();
    gauge(
        to,
        "erlmcp_sync_lag",
        "How long the oldest change of a session waits to be copied",
        Some(&Unit::Seconds),
        lag_ms as f64 / 1e3,
    )
}

type Labelled<const N: usize> = ([(&'static str, String); N], u64);

fn by_shard(
    mesh: &[(u16, &MeshStats)],
    of: impl Fn(&MeshStats) -> u64,
) -> impl Iterator<Item = Labelled<1>> {
    mesh.iter().map(move |(shard, mesh)| ([("shard", shard.to_string())], of(mesh)))
}

fn both(
    mesh: &[(u16, &MeshStats)],
    inward: fn(&MeshStats) -> u64,
    outward: fn(&MeshStats) -> u64,
) -> impl Iterator<Item = Labelled<2>> {
    mesh.iter().flat_map(move |(shard, mesh)| {
        [("in", inward(mesh)), ("out", outward(mesh))].map(|(direction, value)| {
            ([("shard", shard.to_string()), ("direction", direction.to_owned())], value)
        })
    })
}

fn by_reason<'m>(
    mesh: &[(u16, &'m MeshStats)],
    of: fn(&'m MeshStats) -> &'m BTreeMap<&'static str, u64>,
) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> {
    let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (reason, count) in mesh.iter().flat_map(|(_, mesh)| of(mesh)) {
        *sums.entry(reason).or_default() += count;
    }
    sums.into_iter().map(|(reason, count)| ([("reason", reason)], count))
}
