//! What this kernel can do, asked before any shard is built, so that a gap is named with its remedy instead
//! of surfacing as "Invalid argument" from a thread.
//!
//! Refused: comparing version numbers. Distributions backport and containers filter; we try it.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

use io_uring::{Probe, opcode};

use super::bells::Bells;
use super::uring::{Uring, UringConfig, ring_builder};
use super::{Completion, ConnId, Io};

/// What the ring may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// The submission index array can be left out (Linux 6.6).
    pub no_sqarray: bool,
}

/// Why this host cannot run a ring. Its `Display` says what to do.
#[derive(Debug)]
pub enum Missing {
    /// The kernel was built without io_uring.
    NotBuilt,
    /// `kernel.io_uring_disabled` forbids it; the value.
    Disabled(u8),
    /// Something else forbids it: seccomp of a container runtime, a security module.
    Forbidden,
    /// Not enough lockable memory or memory at all.
    Memory,
    /// Too few descriptors.
    Descriptors,
    /// The setup flags are unknown to this kernel.
    Flags,
    /// An operation is unknown to this kernel.
    Operation(&'static str),
    /// An operation exists and did not do what it should; what was tried, and the error.
    Broken(&'static str, io::Error),
}

/// Tries everything a shard's ring relies on, with a ring of its own that is gone when this returns.
pub fn probe() -> Result<Features, Missing> {
    let no_sqarray = flags()?;
    operations(no_sqarray)?;
    rehearse(no_sqarray)?;
    Ok(Features { no_sqarray })
}

/// Whether rings can open connections too, from an address of their choice (Linux 6.11).
pub fn probe_connect() -> Result<(), Missing> {
    let ring = ring_builder(16, false).build(8).map_err(|err| Missing::from_setup(&err))?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|err| Missing::Broken("probing", err))?;
    match CONNECTING.iter().find(|(code, _)| !known.is_supported(*code)) {
        Some((_, name)) => Err(Missing::Operation(name)),
        None => Ok(()),
    }
}

/// What opening a connection needs.
pub(super) const CONNECTING: [(u8, &str); 5] = [
    (opcode::Socket::CODE, "SOCKET"),
    (opcode::SetSockOpt::CODE, "URING_CMD"),
    (opcode::Bind::CODE, "BIND"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
];

/// Builds a tiny ring with our flags; without the newest of them if need be.
fn flags() -> Result<bool, Missing> {
    match ring_builder(16, true).build(8) {
        Ok(_) => Ok(true),
        Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {
            ring_builder(16, false).build(8).map(|_| false).map_err(|err| Missing::from_setup(&err))
        }
        Err(err) => Err(Missing::from_setup(&err)),
    }
}

fn operations(no_sqarray: bool) -> Result<(), Missing> {
    let ring = ring_builder(16, no_sqarray).build(8).map_err(|err| Missing::from_setup(&err))?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|err| Missing::Broken("probing", err))?;
    let needed = [
        (opcode::AcceptMulti::CODE, "ACCEPT"),
        (opcode::RecvMulti::CODE, "RECV"),
        (opcode::Send::CODE, "SEND"),
        (opcode::Read::CODE, "READ"),
        (opcode::Close::CODE, "CLOSE"),
        (opcode::Shutdown::CODE, "SHUTDOWN"),
        (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
        (opcode::FilesUpdate::CODE, "FILES_UPDATE"),
        (opcode::MsgRingData::CODE, "MSG_RING"),
    ];
    match needed.iter().find(|(code, _)| !known.is_supported(*code)) {
        Some((_, name)) => Err(Missing::Operation(name)),
        None => Ok(()),
    }
}

/// One byte through a real ring: direct descriptors, a buffer ring, a multishot receive that stays armed, a
/// doorbell, a send. What the operation list does not tell (multishot variants share an opcode) shows here.
fn rehearse(no_sqarray: bool) -> Result<(), Missing> {
    let broken = |what| move |err| Missing::Broken(what, err);
    let config = UringConfig {
        sq_entries: 16,
        cq_entries: 32,
        capacity: 4,
        buffers: 4,
        buffer_bytes: 64,
        no_sqarray,
    };
    let bells = Bells::new(1).map_err(broken("making an eventfd"))?;
    let mut ring =
        Uring::new(&config, Vec::new(), 0, bells).map_err(|err| match err.raw_os_error() {
            Some(libc::ENOMEM) => Missing::Memory,
            Some(libc::EMFILE) => Missing::Descriptors,
            _ => Missing::Broken("direct descriptors and provided buffer rings", err),
        })?;
    let (ours, mut theirs) = UnixStream::pair().map_err(broken("making a socket pair"))?;
    let slot = ring.adopt(ours.into()).map_err(broken("installing a direct descriptor"))?;
    let id = ConnId { slot, generation: 1 };
    ring.recv(id);
    ring.ring_bell(0);
    ring.send(id, vec![b'!'], 0);
    theirs.write_all(b"?").map_err(broken("writing to a socket pair"))?;

    let (mut received, mut sent, mut rung) = (false, false, false);
    let mut out = Vec::new();
    for _ in 0..REHEARSAL_TURNS {
        ring.turn(Some(REHEARSAL_TURN_MS), &mut out);
        for completion in out.drain(..) {
            match completion {
                Completion::Received { chunk, .. } => {
                    received = ring.bytes(&chunk) == b"?";
                    ring.recycle(chunk);
                }
                Completion::RecvEnded { why, .. } => {
                    let err = io::Error::other(format!("ended with {why:?}"));
                    return Err(Missing::Broken("a multishot receive", err));
                }
                Completion::Sent { result, .. } => sent = result == Ok(1),
                Completion::Bell => rung = true,
                _ => {}
            }
        }
        if received && sent && rung {
            return Ok(());
        }
    }
    let what = match (received, sent) {
        (false, _) => "a multishot receive",
        (true, false) => "a send",
        (true, true) => "a doorbell (MSG_RING)",
    };
    Err(Missing::Broken(what, io::ErrorKind::TimedOut.into()))
}

const REHEARSAL_TURNS: usize = 20;
const REHEARSAL_TURN_MS: u64 = 50;

impl Missing {
    fn from_setup(err: &io::Error) -> Self {
        match err.raw_os_error() {
            Some(libc::ENOSYS) => Self::NotBuilt,
            Some(libc::EPERM | libc::EACCES) => match disabled_level() {
                0 => Self::Forbidden,
                level => Self::Disabled(level),
            },
            Some(libc::ENOMEM) => Self::Memory,
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors,
            Some(libc::EINVAL) => Self::Flags,
            _ => Self::Broken("building a ring", io::Error::new(err.kind(), err.to_string())),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt => write!(
                f,
                "this kernel has no io_uring (ENOSYS): use a kernel with CONFIG_IO_URING, Linux 6.1 or \
                 later; sandboxes such as gVisor do not offer it"
            ),
            Self::Disabled(1) => write!(
                f,
                "io_uring is reserved for privileged processes (kernel.io_uring_disabled = 1): \
                 `sysctl kernel.io_uring_disabled=0`, or put this user's group into \
                 kernel.io_uring_group"
            ),
            Self::Disabled(level) => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {level}): \
                 `sysctl kernel.io_uring_disabled=0`"
            ),
            Self::Forbidden => write!(
                f,
                "io_uring is forbidden to this process (EPERM), usually by a container's seccomp \
                 profile: allow io_uring_setup, io_uring_enter and io_uring_register, or run on the host"
            ),
            Self::Memory => write!(
                f,
                "no memory for a ring (ENOMEM): raise `ulimit -l` (LimitMEMLOCK=infinity in the \
                 systemd unit) or the memory limit of the container"
            ),
            Self::Descriptors => write!(
                f,
                "no descriptor left for a ring: raise `ulimit -n` (LimitNOFILE in the systemd unit)"
            ),
            Self::Flags => write!(
                f,
                "this kernel{} is too old for DEFER_TASKRUN rings: Linux 6.1 or later is needed, \
                 6.6 or later recommended",
                release()
            ),
            Self::Operation(name) => write!(
                f,
                "this kernel{} lacks the io_uring operation {name}: Linux 6.1 or later is needed",
                release()
            ),
            Self::Broken(what, err) => write!(
                f,
                "io_uring is there, but {what} failed ({err}): this kernel{} or its sandbox restricts \
                 it; Linux 6.1 or later is needed",
                release()
            ),
        }
    }
}

impl std::error::Error for Missing {}

fn disabled_level() -> u8 {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// " (Linux 5.15.0)".
fn release() -> String {
    let uname = rustix::system::uname();
    format!(" ({} {})", uname.sysname().to_string_lossy(), uname.release().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_kernel_names_a_remedy() {
        for (errno, word) in [
            (libc::ENOSYS, "CONFIG_IO_URING"),
            (libc::EPERM, "io_uring_setup"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EINVAL, "6.1"),
        ] {
            let missing = Missing::from_setup(&io::Error::from_raw_os_error(errno));
            let text = missing.to_string();
            // On a host where the sysctl is set, that is the better advice.
            let sysctl = matches!(missing, Missing::Disabled(_)) && text.contains("sysctl");
            assert!(text.contains(word) || sysctl, "{errno}: {text}");
        }
        assert!(Missing::Disabled(1).to_string().contains("io_uring_group"));
        assert!(Missing::Disabled(2).to_string().contains("switched off"));
    }

    #[test]
    fn a_kernel_that_passes_builds_a_real_ring() {
        let features = match probe() {
            Ok(features) => features,
            Err(missing) => return println!("skipped: {missing}"),
        };
        let config = UringConfig { no_sqarray: features.no_sqarray, ..UringConfig::default() };
        let bells = Bells::new(1).expect("an eventfd");
        Uring::new(&config, Vec::new(), 0, bells).expect("what was probed is there");
    }
}
