//! What the boot says about the host: gaps with their fixes, and how many connections there is room for.

use std::time::Duration;

use erlmcp_shards::fleet::Fleet;
use erlmcp_tuning::{Demand, Finding, Rings, Root, Severity, check_all, raise_nofile, room};

use crate::config::Config;

/// Raises what can be raised, logs what is missing; `Err` is a gap with which nothing works.
pub fn check(config: &Config, shards: usize) -> Result<(), Box<Finding>> {
    raise_nofile();
    let report = check_all(&Root::host(), demand(config, shards));
    for err in &report.errors {
        log::warn!("{err}");
    }
    for finding in report.gaps() {
        match finding.severity() {
            Some(Severity::Fatal) => return Err(Box::new(finding.clone())),
            // A pipe to one client needs nothing of this.
            Some(Severity::Warning) if !config.server.stdio => log::warn!("{finding}"),
            _ => {}
        }
    }
    Ok(())
}

fn demand(config: &Config, shards: usize) -> Demand {
    let rings = shards as u64;
    let connections = match u64::from(config.limits.connections_max) {
        0 => Demand::default().connections,
        each => each * rings,
    };
    let socket = &config.socket;
    Demand {
        connections,
        rings,
        backlog: u64::from(socket.backlog),
        recv_buffer_bytes: u64::from(socket.recv_buffer_bytes),
        send_buffer_bytes: u64::from(socket.send_buffer_bytes),
    }
}

/// Logs how many connections there is really room for, and how to get more.
pub fn tell_capacity(fleet: &Fleet, config: &Config, patience: Duration) {
    let shards = fleet.snapshots(patience);
    let rings = Rings {
        count: shards.len() as u64,
        connections: shards.iter().map(|shard| u64::from(shard.capacity)).sum(),
        descriptors: u64::from(fleet.ring_capacity()),
        nofile: raise_nofile().soft,
        connections_max: u64::from(config.limits.connections_max),
    };
    match room(&Root::host(), rings) {
        Ok(room) => log::info!("{room}"),
        Err(err) => log::warn!("{err}"),
    }
}
