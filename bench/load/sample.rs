//! What a run costs: the server's CPU and memory, ours, and the kernel's.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::process::{Sockets, cpu_ns, sockets};

/// One reading. What could not be read is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// When, seconds since the run began.
    pub elapsed_s: f64,
    /// CPU nanoseconds of the server so far.
    pub server_cpu_ns: Option<u64>,
    /// Resident memory of the server, bytes.
    pub server_rss: Option<u64>,
    /// CPU nanoseconds of this process so far.
    pub generator_cpu_ns: u64,
    /// The kernel's socket memory, of both ends.
    pub sockets: Option<Sockets>,
}

impl Sample {
    /// Reads now.
    pub fn read(server: Option<u32>, elapsed_s: f64) -> Self {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            elapsed_s,
            server_cpu_ns: server.and_then(|pid| cpu_ns(pid).ok()),
            server_rss: server.and_then(rss),
            generator_cpu_ns: own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64,
            sockets: sockets().ok(),
        }
    }

    /// CPU of the server since an earlier reading; 100 is one core.
    pub fn server_percent(&self, since: &Sample) -> Option<f64> {
        let spent = self.server_cpu_ns?.saturating_sub(since.server_cpu_ns?);
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
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_can_be_read_and_a_missing_one_is_not_measured() {
        let before = Sample::read(Some(std::process::id()), 0.0);
        assert!(0 < before.server_rss.unwrap());
        let after = Sample::read(Some(std::process::id()), 1.0);
        assert!(after.server_percent(&before).is_some());
        assert!(after.generator_percent(&before).is_some());
        assert_eq!(after.generator_percent(&after), None, "no time passed");
        let nobody = Sample::read(None, 0.0);
        assert!(nobody.server_rss.is_none() && nobody.server_percent(&before).is_none());
        assert_eq!(percent(5_000_000_000, 10.0), Some(50.0));
    }
}
