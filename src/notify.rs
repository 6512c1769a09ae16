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

/// Reading the catalog anew has ended; systemd waits for it after `systemctl reload`.
pub fn status(text: &str) {
    tell(NotifyState::Status(text));
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
