//! What systemd is told, when it asked (`Type=notify`, `WatchdogSec=`). Elsewhere these do nothing.

use sd_notify::{NotifyState, notify};

/// Listening and serving.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Draining.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Reading the catalog anew (`systemctl reload`); [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => {
            if let Err(err) = notify(&[NotifyState::Reloading, now]) {
                log::debug!("systemd notification: {err}");
            }
        }
        Err(err) => log::debug!("no monotonic clock: {err}"),
    }
}

/// How long systemd waits for a sign of life; `None`: it does not.
pub fn watchdog_patience() -> Option<std::time::Duration> {
    sd_notify::watchdog_enabled()
}

/// Alive and well.
pub fn watchdog() {
    tell(NotifyState::Watchdog);
}

fn tell(state: NotifyState<'_>) {
    // Without NOTIFY_SOCKET this returns at once. With it, a failure must not stop a server that works.
    if let Err(err) = notify(&[state]) {
        log::debug!("systemd notification: {err}");
    }
}
