//! What systemd is told, when it asked (`Type=notify`, `WatchdogSec=`). Elsewhere these do nothing.

use std::time::Duration;

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// How long a message waits for room in the listener's queue: a listener that hangs must not hang us.
const PATIENCE: Duration = Duration::from_millis(200);

/// Listening and serving.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Leaving, within so long: longer than the unit's TimeoutStopSec if need be.
pub fn stopping(at_most: Duration) {
    let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

/// A line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Whether somebody listens.
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Reading the catalog anew (`systemctl reload`); [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(err) => log::debug!("no monotonic clock: {err}"),
    }
}

/// How long systemd waits for a sign of life; `None`: it does not.
pub fn watchdog_patience() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Alive and well.
pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    // A failure must not stop a server that works.
    if let Err(err) = send(&socket, text.as_bytes()) {
        log::debug!("systemd notification: {err}");
    }
}

/// As `sd_notify::notify`, which waits for room without a bound (sd_notify(3): a path, or `@` and an abstract name).
fn send(socket: &OsStr, text: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(PATIENCE))?;
    from.send_to_addr(text, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_hangs_is_given_up() {
        let name = format!("erlmcp-notify-{}", std::process::id());
        let listener =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let path = format!("@{name}");
        // Its queue has a bound, net.unix.max_dgram_qlen.
        let refused = (0..100_000).find_map(|_| send(OsStr::new(&path), b"WATCHDOG=1\n").err());
        assert_eq!(refused.map(|err| err.kind()), Some(io::ErrorKind::WouldBlock));
        let mut heard = [0; 32];
        assert_eq!(listener.recv(&mut heard).unwrap(), 11);
        assert!(send(OsStr::new(&path), b"WATCHDOG=1\n").is_ok());
    }
}
