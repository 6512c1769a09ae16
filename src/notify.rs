//! What systemd is told, when it asked (`Type=notify`, `WatchdogSec=`). Elsewhere these do nothing.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// Listening and serving.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Draining, for at most so long: longer than the unit's TimeoutStopSec if need be.
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
    // Without NOTIFY_SOCKET this returns at once. With it, a failure must not stop a server that works.
    if let Err(err) = notify(states) {
        log::debug!("systemd notification: {err}");
    }
}
