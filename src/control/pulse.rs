//! What systemd hears while the server lives: signs of life, and a line for `systemctl status`.
//!
//! Invariant: a sign of life means that *every* shard answered a letter just now. One that hangs silences all,
//! and the watchdog restarts the process, because a host that serves half of its connections looks healthy and
//! is not. A drain is the exception: shards leave one by one, and its own deadline bounds it. The notice before it is
//! none: all of them serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_shards::stats::ShardSnapshot;
use glommio::timer::Timer;

use super::{Collect, SharedStage};
use crate::leaving::Stage;
use crate::notify;

/// Beats until the executor ends. `patience` is the watchdog's; `None`: there is none, only the line.
pub async fn beat(
    collect: Collect,
    shards: usize,
    stage: Arc<SharedStage>,
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
        let now = **stage.load();
        if patience.is_some() && is_alive(&answers, shards, now) {
            notify::watchdog();
        }
        let line = line(&answers, shards, now);
        if line != told {
            notify::status(&line);
            told = line;
        }
        // Whoever asks to leave wants to see that it was heard.
        let until = Instant::now() + pause;
        while Instant::now() < until && **stage.load() == now {
            Timer::new(STAGE_PAUSE.min(pause)).await;
        }
    }
}

fn is_alive(answers: &[ShardSnapshot], shards: usize, stage: Stage) -> bool {
    stage.has_begun_to_drain() || shards <= answers.len()
}

fn line(answers: &[ShardSnapshot], shards: usize, stage: Stage) -> String {
    let connections: u64 = answers.iter().flat_map(|shard| shard.counters.connections_active).sum();
    let answered = answers.len();
    if stage.has_begun_to_drain() {
        return format!("draining: {connections} connections on {answered} shards left");
    }
    let notice = if stage.is_ready() { "" } else { "draining soon, not ready: " };
    if answered < shards {
        let rest = format!("{connections} connections on those");
        format!("{notice}only {answered} of {shards} shards answer; {rest}")
    } else {
        format!("{notice}serving {connections} connections on {shards} shards")
    }
}

/// The line is no older than this.
const STATUS_PAUSE: Duration = Duration::from_secs(5);
/// And no older than this when a server begins to leave.
const STAGE_PAUSE: Duration = Duration::from_millis(100);

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

    fn notice() -> Stage {
        Stage::Notice { until: Instant::now() }
    }

    fn drain() -> Stage {
        Stage::Drain { until: Instant::now() }
    }

    #[test]
    fn one_silent_shard_is_no_sign_of_life() {
        for stage in [Stage::Serving, notice()] {
            assert!(is_alive(&answers(&[1, 2]), 2, stage));
            assert!(!is_alive(&answers(&[1]), 2, stage));
            assert!(!is_alive(&[], 2, stage));
        }
    }

    #[test]
    fn shards_that_left_in_a_drain_are_not_missed() {
        for stage in [drain(), Stage::Abort] {
            assert!(is_alive(&answers(&[1]), 2, stage));
            assert!(is_alive(&[], 2, stage));
        }
    }

    #[test]
    fn the_line_says_what_is_going_on() {
        let check = |open: &[u64], stage: Stage, expect: &str| {
            assert_eq!(line(&answers(open), 2, stage), expect);
        };
        let serving = "serving 5 connections on 2 shards";
        check(&[1, 2], Stage::Serving, serving);
        check(&[1, 2], notice(), &format!("draining soon, not ready: {serving}"));
        let silent = "only 1 of 2 shards answer; 2 connections on those";
        check(&[1], Stage::Serving, silent);
        check(&[1], notice(), &format!("draining soon, not ready: {silent}"));
        check(&[1], drain(), "draining: 2 connections on 1 shards left");
    }
}
