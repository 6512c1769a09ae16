//! What a run costs: CPU and memory of every server process, ours, and the kernel's.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::process::{Sockets, cpu_ns, sockets};

/// One reading. What could not be read is `None`.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// When, seconds since the run began.
    pub elapsed_s: f64,
    /// Each server process, in the order in which they were given.
    pub servers: Vec<Reading>,
    /// CPU nanoseconds of this process so far.
    pub generator_cpu_ns: u64,
    /// The kernel's socket memory, of both ends.
    pub sockets: Option<Sockets>,
}

/// One server process. A process that is gone cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// CPU nanoseconds so far.
    pub cpu_ns: Option<u64>,
    /// Resident memory, bytes.
    pub rss: Option<u64>,
}

impl Sample {
    /// Reads now.
    pub fn read(servers: &[u32], elapsed_s: f64) -> Self {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let read = |pid: &u32| Reading { cpu_ns: cpu_ns(*pid).ok(), rss: rss(*pid) };
        Self {
            elapsed_s,
            servers: servers.iter().map(read).collect(),
            generator_cpu_ns: own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64,
            sockets: sockets().ok(),
        }
    }

    /// Resident memory of all servers that could be read; `None` if none could.
    pub fn server_rss(&self) -> Option<u64> {
        self.servers.iter().filter_map(|one| one.rss).reduce(|sum, one| sum + one)
    }

    /// CPU nanoseconds of all servers since an earlier reading, of those that could be read then and now.
    pub fn server_ns(&self, since: &Sample) -> Option<u64> {
        let each = self.servers.iter().zip(&since.servers);
        let spent = each.filter_map(|(now, then)| Some(now.cpu_ns?.saturating_sub(then.cpu_ns?)));
        spent.reduce(|sum, one| sum + one)
    }

    /// CPU of all servers since an earlier reading; 100 is one core.
    pub fn server_percent(&self, since: &Sample) -> Option<f64> {
        percent(self.server_ns(since)?, self.elapsed_s - since.elapsed_s)
    }

    /// CPU of one server since an earlier reading; 100 is one core.
    pub fn server_percent_of(&self, index: usize, since: &Sample) -> Option<f64> {
        let of = |sample: &Sample| sample.servers.get(index)?.cpu_ns;
        let spent = of(self)?.saturating_sub(of(since)?);
        percent(spent, self.elapsed_s - since.elapsed_s)
    }

    /// CPU of this process since an earlier reading; 100 is one core.
    pub fn generator_percent(&self, since: &Sample) -> Option<f64> {
        let spent = self.generator_cpu_ns.saturating_sub(since.generator_cpu_ns);
        percent(spent, self.elapsed_s - since.elapsed_s)
    }

    /// Bytes of TCP buffers, and of all kernel slabs.
    pub fn kernel_bytes(&self) -> Option<u64> {
        self.sockets.map(|sockets| sockets.buffer_bytes + sockets.slab_bytes)
    }
}

/// Nanoseconds in seconds, as parts of hundred.
pub fn percent(spent_ns: u64, seconds: f64) -> Option<f64> {
    (0.0 < seconds).then(|| spent_ns as f64 / 1e7 / seconds)
}

/// From `statm`: a reading that costs the same however much memory it is.
fn rss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    // A process that ended and was not waited for has none.
    (0 < pages).then(|| pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_can_be_read_and_a_missing_one_is_not_measured() {
        let own = [std::process::id()];
        let before = Sample::read(&own, 0.0);
        assert!(0 < before.server_rss().unwrap());
        let after = Sample::read(&own, 1.0);
        assert!(after.server_percent(&before).is_some());
        assert!(after.generator_percent(&before).is_some());
        assert_eq!(after.generator_percent(&after), None, "no time passed");
        let nobody = Sample::read(&[], 0.0);
        assert!(nobody.server_rss().is_none() && nobody.server_percent(&before).is_none());
        assert_eq!(percent(5_000_000_000, 10.0), Some(50.0));
    }

    #[test]
    fn several_servers_add_up_and_one_that_is_gone_takes_nothing_away() {
        let sample = |elapsed_s: f64, servers: [Option<u64>; 2]| Sample {
            elapsed_s,
            servers: servers.map(|one| Reading { cpu_ns: one, rss: one }).to_vec(),
            ..Sample::default()
        };
        let before = sample(0.0, [Some(1_000_000_000), Some(5)]);
        let both = sample(1.0, [Some(1_500_000_000), Some(500_000_005)]);
        assert_eq!(both.server_percent(&before), Some(100.0));
        assert_eq!(both.server_percent_of(1, &before), Some(50.0));
        let one = sample(1.0, [Some(1_500_000_000), None]);
        assert_eq!(
            (one.server_ns(&before), one.server_rss()),
            (Some(500_000_000), Some(1_500_000_000))
        );
        assert_eq!(one.server_percent_of(1, &before), None);
        assert_eq!(one.server_percent_of(2, &before), None);
    }
}
