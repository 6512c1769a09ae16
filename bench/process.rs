//! What the kernel says of a process, and of all sockets.
//!
//! CPU time is the `schedstat` of every thread: nanoseconds, brought up to date at each scheduler tick, so a
//! reading of a busy thread may be late by one tick (4 ms at 250 Hz).

use std::fs;
use std::io;

/// CPU nanoseconds of a process so far, threads that ended not included.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
            sum += first_number(&text).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// CPU time in the process itself and in the kernel, in ticks of 10 ms, threads that ended included.
pub fn user_and_system_ticks(pid: u32) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other("/proc/PID/stat cannot be read"))
}

/// Memory of a process, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Memory {
    /// Resident, shared libraries and the program's own text included.
    pub rss: u64,
    /// Resident and nobody else's.
    pub private: u64,
    /// Heap, stacks, and rings.
    pub anonymous: u64,
}

/// From `smaps_rollup`.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(parse_smaps(&text))
}

/// What the kernel keeps for sockets, of all processes of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Sockets {
    /// TCP sockets in use, both ends of a loopback connection.
    pub tcp: u64,
    /// Bytes of TCP buffers, from /proc/net/sockstat.
    pub buffer_bytes: u64,
    /// Bytes of all kernel slabs, from /proc/meminfo: sockets, files, descriptors, and everything else.
    pub slab_bytes: u64,
}

/// From `/proc/net/sockstat` and `/proc/meminfo`.
pub fn sockets() -> io::Result<Sockets> {
    let sockstat = fs::read_to_string("/proc/net/sockstat")?;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let page = rustix::param::page_size() as u64;
    Ok(Sockets {
        tcp: word_after(&sockstat, "TCP:", "inuse").unwrap_or(0),
        buffer_bytes: word_after(&sockstat, "TCP:", "mem").unwrap_or(0) * page,
        slab_bytes: kilobytes(&meminfo, "Slab:"),
    })
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field; the second is a name that may hold anything, in parentheses.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_smaps(text: &str) -> Memory {
    Memory {
        rss: kilobytes(text, "Rss:"),
        private: kilobytes(text, "Private_Clean:") + kilobytes(text, "Private_Dirty:"),
        anonymous: kilobytes(text, "Anonymous:"),
    }
}

/// The value of a line like `Rss:   12 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).and_then(first_number);
    value.unwrap_or(0) * 1024
}

/// The word behind `key` in the line that begins with `line`.
fn word_after(text: &str, line: &str, key: &str) -> Option<u64> {
    let words = text.lines().find_map(|one| one.strip_prefix(line))?;
    let mut words = words.split_whitespace().skip_while(|word| *word != key).skip(1);
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_found_where_the_kernel_puts_them() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 41 42 13";
        assert_eq!(parse_stat(stat), Some((41, 42)));
        let smaps = "Rss: 9 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\nAnonymous: 4 kB\n";
        let expect = Memory { rss: 9 * 1024, private: 3 * 1024, anonymous: 4 * 1024 };
        assert_eq!(parse_smaps(smaps), expect);
        let sockstat = "sockets: used 40\nTCP: inuse 1 orphan 0 tw 9 alloc 1 mem 93\n";
        assert_eq!(word_after(sockstat, "TCP:", "mem"), Some(93));
        assert_eq!(word_after(sockstat, "UDP:", "mem"), None);
    }

    #[test]
    fn our_own_time_passes_and_our_own_memory_is_there() {
        let pid = std::process::id();
        assert!(0 < cpu_ns(pid).unwrap());
        assert!(0 < memory(pid).unwrap().anonymous);
        user_and_system_ticks(pid).unwrap();
        sockets().unwrap();
    }
}
