//! How many connections a started server can really carry, and what to do for more.

use std::fmt;

use crate::checks::available_bytes;
use crate::demand::{KERNEL_BYTES_PER_CONNECTION, USER_BYTES_PER_CONNECTION};
use crate::root::{HostError, Root};

/// The rings of a started server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// How many, one per shard.
    pub count: u64,
    /// Connections that all of them together serve.
    pub connections: u64,
    /// Entries of each one's descriptor table.
    pub descriptors: u64,
    /// RLIMIT_NOFILE in force.
    pub nofile: u64,
    /// `[limits] connections_max`, of each shard; 0: none.
    pub connections_max: u64,
}

/// What bounds a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// RLIMIT_NOFILE, of each ring.
    Descriptors,
    /// The descriptor table, which asks for no more than is usual unless it is told to.
    Table,
    /// `[limits] connections_max`.
    ConnectionsMax,
    /// fs.file-max, less what other processes have open.
    OpenFiles,
    /// Memory of the host or of the control group.
    Memory,
}

/// How many connections there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So many.
    pub connections: u64,
    /// What stops it there.
    pub bound: Bound,
    rings: Rings,
}

/// The least of what rings, open files and memory allow. Memory and files are what is left of them now, so
/// ask before connections come.
pub fn room(host: &Root, rings: Rings) -> Result<Room, HostError> {
    let own = if rings.connections_max != 0
        && rings.count.saturating_mul(rings.connections_max) <= rings.connections
    {
        Bound::ConnectionsMax
    } else if rings.nofile <= rings.descriptors {
        Bound::Descriptors
    } else {
        Bound::Table
    };
    let mut room = Room { connections: rings.connections, bound: own, rings };
    let files = host.read_words::<3>("proc/sys/fs/file-nr")?;
    let files = files.map(|[open, unused, most]| most.saturating_sub(open.saturating_sub(unused)));
    let each = USER_BYTES_PER_CONNECTION + KERNEL_BYTES_PER_CONNECTION;
    let memory = available_bytes(host)?.map(|bytes| bytes / each);
    for (most, bound) in [(files, Bound::OpenFiles), (memory, Bound::Memory)] {
        if let Some(connections) = most.filter(|&most| most < room.connections) {
            room = Room { connections, bound, ..room };
        }
    }
    Ok(room)
}

/// One line for the log: how many, why no more, and how to get more.
impl fmt::Display for Room {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rings { count, descriptors, nofile, connections_max, .. } = self.rings;
        let shards = if count == 1 { "shard" } else { "shards" };
        write!(out, "room for {} connections on {count} {shards}", self.connections)?;
        match self.bound {
            Bound::Descriptors => write!(
                out,
                ", bounded by RLIMIT_NOFILE {nofile} of each ring. For more: LimitNOFILE= in the unit \
                 (ulimit -n), or --shards-per-core, because each ring has a table of its own"
            ),
            Bound::Table => write!(
                out,
                ", bounded by {descriptors} descriptors that each ring asks for. For more: \
                 [limits] connections_max, of each shard"
            ),
            Bound::ConnectionsMax => write!(
                out,
                ", bounded by [limits] connections_max {connections_max} of each shard. For more: raise it"
            ),
            Bound::OpenFiles => write!(
                out,
                ", bounded by fs.file-max less what is open. For more: sysctl -w fs.file-max={}",
                i64::MAX
            ),
            Bound::Memory => write!(
                out,
                ", bounded by the memory that is left. For more: more memory, or a higher MemoryMax= in \
                 the unit"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeHost;

    /// Two shards of a host with a low descriptor limit.
    const RINGS: Rings = Rings {
        count: 2,
        connections: 2 * 19_936,
        descriptors: 20_000,
        nofile: 20_000,
        connections_max: 0,
    };

    #[track_caller]
    fn check(host: &FakeHost, rings: Rings, connections: u64, bound: Bound) -> String {
        let room = room(&host.root(), rings).unwrap();
        assert_eq!((room.connections, room.bound), (connections, bound), "{room}");
        room.to_string()
    }

    #[test]
    fn descriptors_count_once_per_ring() {
        let said = check(&FakeHost::good(), RINGS, 39_872, Bound::Descriptors);
        assert!(said.contains("39872 connections on 2 shards"), "{said}");
        assert!(said.contains("RLIMIT_NOFILE 20000 of each ring"), "{said}");
        assert!(said.contains("--shards-per-core"), "{said}");
    }

    #[test]
    fn a_generous_limit_is_not_used_up_unasked() {
        let rings = Rings { nofile: 1 << 20, descriptors: 131_072, connections: 262_016, ..RINGS };
        let said = check(&FakeHost::good(), rings, 262_016, Bound::Table);
        assert!(said.contains("connections_max"), "{said}");
    }

    #[test]
    fn connections_max_is_of_each_shard() {
        let rings = Rings { connections_max: 1000, connections: 2000, ..RINGS };
        check(&FakeHost::good(), rings, 2000, Bound::ConnectionsMax);
        // More than the descriptors allow is not what bounds it.
        let rings = Rings { connections_max: 50_000, ..RINGS };
        check(&FakeHost::good(), rings, 39_872, Bound::Descriptors);
    }

    #[test]
    fn what_others_have_open_is_gone() {
        let host = FakeHost::good();
        host.write("proc/sys/fs/file-nr", "60001\t0\t99872");
        check(&host, RINGS, 39_871, Bound::OpenFiles);
        host.write("proc/sys/fs/file-nr", "60000\t0\t99872");
        check(&host, RINGS, 39_872, Bound::Descriptors);
        // Allocated and unused ones are free.
        host.write("proc/sys/fs/file-nr", "60100\t100\t99872");
        check(&host, RINGS, 39_872, Bound::Descriptors);
    }

    #[test]
    fn memory_is_what_the_tightest_control_group_leaves() {
        let host = FakeHost::good();
        host.write("proc/self/cgroup", "0::/system.slice/erlmcp-shard.service");
        host.write("sys/fs/cgroup/system.slice/memory.max", "max");
        let group = "sys/fs/cgroup/system.slice/erlmcp-shard.service";
        host.write(&format!("{group}/memory.max"), "112480000");
        host.write(&format!("{group}/memory.current"), "56240000");
        let said = check(&host, RINGS, 10_000, Bound::Memory);
        assert!(said.contains("MemoryMax="), "{said}");
        host.write("sys/fs/cgroup/system.slice/memory.max", "5624000");
        check(&host, RINGS, 1000, Bound::Memory);
    }

    #[test]
    fn the_older_hierarchy_of_control_groups_counts_too() {
        let host = FakeHost::good();
        host.write("proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/docker/abc\n0::/");
        // As a container sees it: the path is the host's, the mount is its own group.
        host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "56240000");
        check(&host, RINGS, 10_000, Bound::Memory);
    }

    #[test]
    fn without_proc_the_rings_decide() {
        check(&FakeHost::empty(), RINGS, 39_872, Bound::Descriptors);
    }
}
