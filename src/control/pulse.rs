//! What systemd hears while the server lives: signs of life, and a line for `systemctl status`.
//!
//! Invariant: a sign of life means that *every* shard answered a letter just now. One that hangs silences all,
//! and the watchdog restarts the process, because a host that serves half of its connections looks healthy and
//! is not. A drain is the exception: shards leave one by one, and its own deadline bounds it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use erlmcp_shards::stats::ShardSnapshot;
use glommio::timer::Timer;

use super::Collect;
use crate::notify;

/// Beats until the executor ends. `patience` is the watchdog's; `None`: there is none, only the line.
pub async fn beat(
    collect: Collect,
    shards: usize,
    draining: impl AsRef<AtomicBool>,
    patience: Option<Duration>,
) {
    let pause = patience.map_or(STATUS_PAUSE, |patience| {
        // Half is what sd_watchdog_enabled(3) recommends. But a shard may miss a letter for being busy, and
        // must then be asked again before it is too late.
        (patience / 4).min(STATUS_PAUSE)
    });
    let mut told = String::new();
    loop {
        let answers = super::snapshots(&collect).await;
        let is_draining = draining.as_ref().load(Ordering::Relaxed);
        if patience.is_some() && is_alive(&answers, shards, is_draining) {
            notify::watchdog();
        }
        let line = line(&answers, shards, is_draining);
        if line != told {
            notify::status(&line);
            told = line;
        }
        Timer::new(pause).await;
    }
}

fn is_alive(answers: &[ShardSnapshot], shards: usize, is_draining: bool) -> bool {
    is_draining || shards <= answers.len()
}

fn line(answers: &[ShardSnapshot], shards: usize, is_draining: bool) -> String {
    let connections: u64 = answers.iter().flat_map(|shard| shard.counters.connections_active).sum();
    let answered = answers.len();
    if is_draining {
        format!("draining: {connections} connections on {answered} shards left")
    } else if answered < shards {
        format!("only {answered} of {shards} shards answer; {connections} connections on those")
    } else {
        format!("serving {connections} connections on {shards} shards")
    }
}

/// The line is no older than this.
const STATUS_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use erlmcp_shards::stats::Counters;

    use super::*;

    fn answers(connections: &[u64]) -> Vec<ShardSnapshot> {
        let answer = |(shard, &open): (usize, &u64)| ShardSnapshot {
            shard: shard as u16,
            core: None,
            capacity: 100,
            mesh: None,
            counters: Counters { connections_active: [open, 1, 0, 0], ..Counters::default() },
            ring: Vec::new(),
        };
        connections.iter().enumerate().map(answer).collect()
    }

    #[test]
    fn one_silent_shard_is_no_sign_of_life() {
        assert!(is_alive(&answers(&[1, 2]), 2, false));
        assert!(!is_alive(&answers(&[1]), 2, false));
        assert!(!is_alive(&[], 2, false));
    }

    #[test]
    fn shards_that_left_in_a_drain_are_not_missed() {
        assert!(is_alive(&answers(&[1]), 2, true));
        assert!(is_alive(&[], 2, true));
    }

    #[test]
    fn the_line_says_what_is_going_on() {
        assert_eq!(line(&answers(&[1, 2]), 2, false), "serving 5 connections on 2 shards");
        assert_eq!(
            line(&answers(&[1]), 2, false),
            "only 1 of 2 shards answer; 2 connections on those"
        );
        assert_eq!(line(&answers(&[1]), 2, true), "draining: 2 connections on 1 shards left");
    }
}
