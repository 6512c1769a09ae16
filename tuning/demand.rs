//! What the host is asked to carry, and what that costs.

use serde::Serialize;

/// Memory of ours for one idle connection, bytes: its record, its slot, its timer.
/// Source: measured 166 (HTTP) to 582 (session with its stream), 301 mixed (bench/results, 2026-11-21); the rest is
/// room for what is not idle.
pub const USER_BYTES_PER_CONNECTION: u64 = 1024;
/// Memory of the kernel for one idle connection, bytes: socket, file, inode, direct descriptor.
/// Source: measured 4.6–4.8 KB on Linux 6.18, x86-64 (bench/results, 2026-11-21: 9.6 KB for both ends).
pub const KERNEL_BYTES_PER_CONNECTION: u64 = 4_600;
/// Memory of one shard without connections, bytes: 2 MiB receive buffers, ring, timer wheel, counters.
pub const RING_BYTES: u64 = 4 << 20;
/// Memory of the process without shards, bytes: program, catalog, control plane.
pub const PROCESS_BYTES: u64 = 32 << 20;

/// What this server is asked to carry; the checks compare the host with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// Connections of the whole process.
    pub connections: u64,
    /// How many rings share them (one per shard): each has a descriptor table of its own.
    pub rings: u64,
    /// The backlog the listeners ask for.
    pub backlog: u64,
    /// `[socket] recv_buffer_bytes`; 0 leaves the size to the kernel.
    pub recv_buffer_bytes: u64,
    /// `[socket] send_buffer_bytes`; 0 leaves the size to the kernel.
    pub send_buffer_bytes: u64,
}

impl Default for Demand {
    /// What a host should give before anybody asked for more: 100,000 connections on 8 rings.
    fn default() -> Self {
        Self {
            connections: 100_000,
            rings: 8,
            backlog: 4096,
            recv_buffer_bytes: 128 << 10,
            send_buffer_bytes: 128 << 10,
        }
    }
}

impl Demand {
    /// Connections of the fullest ring.
    pub fn connections_per_ring(&self) -> u64 {
        self.connections.div_ceil(self.rings.max(1))
    }

    /// Entries a ring's descriptor table needs.
    pub fn descriptors_per_ring(&self) -> u64 {
        self.connections_per_ring().saturating_add(RING_DESCRIPTORS_SPARE)
    }

    /// Descriptors of the process itself: connections are in the rings' tables and do not count.
    pub fn descriptors(&self) -> u64 {
        PROCESS_DESCRIPTORS.saturating_add(RING_DESCRIPTORS.saturating_mul(self.rings))
    }

    /// Open files of the whole host.
    pub fn files(&self) -> u64 {
        self.connections.saturating_add(self.descriptors())
    }

    /// Memory without any connection, bytes.
    pub fn base_bytes(&self) -> u64 {
        PROCESS_BYTES.saturating_add(RING_BYTES.saturating_mul(self.rings))
    }

    /// Memory in all, bytes.
    pub fn bytes(&self) -> u64 {
        let each = USER_BYTES_PER_CONNECTION + KERNEL_BYTES_PER_CONNECTION;
        self.base_bytes().saturating_add(self.connections.saturating_mul(each))
    }
}

/// Entries of a ring's table that carry no served connection: those in which the rest is refused, and room.
const RING_DESCRIPTORS_SPARE: u64 = 512;
/// Descriptors of a process that are not connections: control plane, files, programs it runs.
const PROCESS_DESCRIPTORS: u64 = 256;
/// And of each shard: ring, listeners, doorbell.
const RING_DESCRIPTORS: u64 = 8;
