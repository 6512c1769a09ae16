//! How membership scales: nodes from 3 to 64 in the simulated world. Writes `scale.csv` and `scale.svg` into the given
//! folder (default `cluster/scale`), and prints the table.
//!
//! `cargo run --release -p erlmcp-cluster --example scale`

mod chart;

use std::fmt::Write;
use std::path::PathBuf;

use erlmcp_cluster::Millis;
use erlmcp_cluster::world::{Power, World};

use chart::{Curve, chart};

const NODES: [usize; 10] = [3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
/// Runs per number of nodes; times are the longest of them.
const SEEDS: u64 = 4;
const STEADY_MS: Millis = 5_000;
const GIVE_UP_MS: Millis = 20_000;

/// What was measured with so many nodes.
#[derive(Default)]
struct Row {
    nodes: usize,
    /// From the first boot (all at once) until all agree.
    formation_ms: Millis,
    /// Bytes until a second after that, of the whole cluster.
    formation_bytes: u64,
    process_death_ms: Millis,
    silence_ms: Millis,
    /// Bytes above the steady ones in the two seconds after a death, of the whole cluster.
    death_bytes: u64,
    node_bytes_per_s: u64,
    node_messages_per_s: u64,
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "cluster/scale".into());
    let rows: Vec<Row> = NODES.into_iter().map(measure).collect();
    let csv = csv(&rows);
    print!("{csv}");
    let folder = PathBuf::from(folder);
    std::fs::write(folder.join("scale.csv"), csv)?;
    std::fs::write(folder.join("scale.svg"), svg(&rows))
}

fn measure(nodes: usize) -> Row {
    let mut row = Row { nodes, ..Row::default() };
    for seed in 0..SEEDS {
        for (how, longest) in [
            (Power::ProcessGone, &mut row.process_death_ms),
            (Power::HostGone, &mut row.silence_ms),
        ] {
            let mut world = World::new(seed, nodes);
            world.boot_all();
            let all = world.running();
            let formed = until_agreed(&mut world, &all);
            world.run_for(1_000);
            row.formation_ms = row.formation_ms.max(formed);
            row.formation_bytes = row.formation_bytes.max(world.bytes);

            let (bytes, messages) = (world.bytes, world.messages);
            world.run_for(STEADY_MS);
            let node_seconds = nodes as u64 * STEADY_MS / 1_000;
            row.node_bytes_per_s = (world.bytes - bytes) / node_seconds;
            row.node_messages_per_s = (world.messages - messages) / node_seconds;

            let before = world.bytes;
            let (slot, pause) = (world.dice.index(nodes), world.dice.below(200));
            world.run_for(pause);
            world.power_off(slot, how);
            let died = world.now;
            let rest = world.running();
            *longest = until_agreed(&mut world, &rest).max(*longest);
            let left = 2_000 - (world.now - died).min(2_000);
            world.run_for(left);
            let steady = row.node_bytes_per_s * nodes as u64 * (world.now - died + pause) / 1_000;
            row.death_bytes = row.death_bytes.max((world.bytes - before).saturating_sub(steady));
        }
    }
    row
}

fn until_agreed(world: &mut World, slots: &[usize]) -> Millis {
    let took = world.run_until(GIVE_UP_MS, |world| world.agree(slots));
    if took.is_none() {
        world.expect_agreement(slots, "not agreed");
    }
    took.unwrap_or(GIVE_UP_MS)
}

fn csv(rows: &[Row]) -> String {
    let mut out = String::from(
        "nodes,formation_ms,formation_bytes_total,process_death_ms,silence_ms,death_bytes_total,\
         steady_bytes_per_s_per_node,steady_messages_per_s_per_node,steady_bytes_per_s_total\n",
    );
    for row in rows {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{}",
            row.nodes,
            row.formation_ms,
            row.formation_bytes,
            row.process_death_ms,
            row.silence_ms,
            row.death_bytes,
            row.node_bytes_per_s,
            row.node_messages_per_s,
            row.node_bytes_per_s * row.nodes as u64,
        );
    }
    out
}

fn svg(rows: &[Row]) -> String {
    let curve = |name: &'static str, color: &'static str, value: fn(&Row) -> f64| {
        let points = rows.iter().map(|row| (row.nodes as f64, value(row))).collect();
        Curve { name, color, points }
    };
    chart(&[
        (
            "agreement, ms (longest of 8 runs)",
            vec![
                curve("formation, all booted at once", "#1f6feb", |row| row.formation_ms as f64),
                curve("a silent host is dead", "#d29922", |row| row.silence_ms as f64),
                curve("a dead process is dead", "#cf222e", |row| row.process_death_ms as f64),
            ],
        ),
        (
            "steady state, kB/s per node",
            vec![curve("membership on all its links", "#1a7f37", |row| {
                row.node_bytes_per_s as f64 / 1_000.0
            })],
        ),
    ])
}
