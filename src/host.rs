//! What the boot says about the host: gaps with their fixes, and how many connections there is room for.

use std::time::Duration;

use erlmcp_shards::fleet::Fleet;
use erlmcp_tuning::{Demand, Finding, Root, Severity, check_all, raise_nofile};

use crate::config::Config;

/// Raises what can be raised, logs what is missing; `Err` is a gap with which nothing works.
pub fn check(config: &Config, shards: usize) -> Result<(), Finding> {
    raise_nofile();
    let (findings, errors) = check_all(&Root::host(), demand(config, shards));
    for err in errors {
        log::warn!("{err}");
    }
    for finding in findings {
        match finding.severity {
            Severity::Fatal => return Err(finding),
            // A pipe to one client needs nothing of this.
            Severity::Warning if !config.server.stdio => log::warn!("{finding}"),
            Severity::Warning | Severity::Advice => {}
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
    Demand { connections, rings, backlog: u64::from(config.socket.backlog) }
}

/// Logs how many connections there is really room for, and how to get more.
pub fn tell_capacity(fleet: &Fleet, patience: Duration) {
    let shards = fleet.snapshots(patience);
    let total: u64 = shards.iter().map(|shard| u64::from(shard.capacity)).sum();
    log::info!(
        "room for {total} connections (shards: {}, descriptors of each ring: {}). For more: raise \
         LimitNOFILE, or --shards-per-core, because each ring has a table of its own",
        shards.len(),
        fleet.ring_capacity()
    );
}
