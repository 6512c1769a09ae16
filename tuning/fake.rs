//! A host is a folder: each test writes one, and reads it back through the checks.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::root::Root;

/// A folder that looks like a host; removed when dropped.
pub struct FakeHost(PathBuf);

impl FakeHost {
    /// Shows nothing.
    pub fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("erlmcp-tuning-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Gives 100,000 connections on 8 rings everything.
    pub fn good() -> Self {
        let host = Self::empty();
        host.limits("1048576", "8388608");
        host.write_all(&[
            ("proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:   12000000 kB"),
            ("proc/self/cgroup", "0::/user.slice"),
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("proc/sys/fs/nr_open", "1048576"),
            ("proc/sys/fs/file-max", "9223372036854775807"),
            ("proc/sys/fs/file-nr", "1319\t0\t9223372036854775807"),
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/core/netdev_max_backlog", "4096"),
            ("proc/sys/net/core/rmem_max", "212992"),
            ("proc/sys/net/core/wmem_max", "212992"),
            ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
            ("proc/sys/net/ipv4/tcp_migrate_req", "1"),
            ("proc/sys/net/ipv4/tcp_mem", "100000\t150000\t200000"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "262144"),
            ("sys/devices/system/cpu/online", "0-7"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/node/online", "0"),
            ("sys/devices/system/node/node0/cpulist", "0-7"),
        ]);
        host
    }

    /// An old distribution's defaults on a machine with two nodes, little memory and a careful firewall.
    pub fn bad() -> Self {
        let host = Self::good();
        host.limits("4096", "65536");
        host.write_all(&[
            ("proc/meminfo", "MemTotal:         500000 kB\nMemAvailable:     400000 kB"),
            ("proc/sys/kernel/io_uring_disabled", "2"),
            ("proc/sys/fs/nr_open", "4096"),
            ("proc/sys/fs/file-max", "50000"),
            ("proc/sys/net/core/somaxconn", "128"),
            ("proc/sys/net/core/netdev_max_backlog", "1000"),
            ("proc/sys/net/core/rmem_max", "65536"),
            ("proc/sys/net/core/wmem_max", "65536"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128"),
            ("proc/sys/net/ipv4/tcp_migrate_req", "0"),
            ("proc/sys/net/ipv4/tcp_mem", "9000\t12000\t18000"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536"),
            ("sys/devices/system/cpu/online", "0-3,8-11"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "schedutil"),
            ("sys/devices/system/node/online", "0-1"),
            ("sys/devices/system/node/node0/cpulist", "0-3"),
        ]);
        host
    }

    /// A container: a network namespace and a control group of its own, and nothing of the host.
    pub fn container() -> Self {
        let host = Self::empty();
        host.limits("1048576", "8388608");
        host.write_all(&[
            ("proc/meminfo", "MemTotal:       16000000 kB\nMemAvailable:   12000000 kB"),
            ("proc/self/cgroup", "0::/"),
            ("sys/fs/cgroup/memory.max", "536870912"),
            ("sys/fs/cgroup/memory.current", "104857600"),
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
            ("sys/devices/system/cpu/online", "0-7"),
        ]);
        host
    }

    /// For the functions under test.
    pub fn root(&self) -> Root {
        Root::at(&self.0)
    }

    /// Writes one file.
    pub fn write(&self, path: &str, value: &str) {
        let full = self.0.join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, format!("{value}\n")).unwrap();
    }

    fn write_all(&self, files: &[(&str, &str)]) {
        for (path, value) in files {
            self.write(path, value);
        }
    }

    /// Hard descriptor limit, soft memory limit.
    pub fn limits(&self, nofile: &str, memlock: &str) {
        self.write(
            "proc/self/limits",
            &format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max open files            1024                 {nofile:<20} files\n\
                 Max locked memory         {memlock:<20} unlimited            bytes"
            ),
        );
    }

    /// What a file says, without the line end.
    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap().trim_end().to_owned()
    }

    /// Takes a file or folder away.
    pub fn remove(&self, path: &str) {
        let full = self.0.join(path);
        if full.is_dir() {
            fs::remove_dir_all(full).unwrap();
        } else {
            fs::remove_file(full).unwrap();
        }
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
