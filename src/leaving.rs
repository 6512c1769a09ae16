//! The way out of a running server, from serving to gone. Decided without a clock, a signal or a shard.
//!
//! Serving → notice → drain → abort → gone, and any of the first three may be left early. During the notice the node
//! says that it is not ready, and serves as before: whoever spreads clients over nodes looks only now and then, and
//! must have looked before anything is refused.
//!
//! Feed it what happened ([`Leaving::handle_ask`], [`Leaving::handle_timeout`]), do the [`Step`] it returns, then wait
//! until [`Leaving::poll_timeout`]. Invariants: no stage comes back; each but the first ends at a known time, which
//! nothing moves; who has asked twice for the end is not made to wait.
//! Refused: closing the listeners in the notice (then a balancer sees refused connections, which is what it is for),
//! telling clients to go (a client that stays is served, and its next connection goes where the balancer says).

use std::time::{Duration, Instant};

use signal_hook::consts::SIGINT;

use crate::config::{Bind, DRAIN_MS_MAX, DRAIN_NOTICE_MS_MAX, ServerConfig};
use crate::running::Exit;

/// How long shards may take beyond the drain's deadline before they are told to leave at once.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// How long they may take to leave at once. Then we leave without them.
const ABORT_GRACE: Duration = Duration::from_secs(2);

const _: () = {
    let most_ms = DRAIN_NOTICE_MS_MAX + DRAIN_MS_MAX;
    let most = Duration::from_millis(most_ms).as_micros();
    let graces = DRAIN_GRACE.as_micros() + ABORT_GRACE.as_micros();
    assert!(most + graces <= u32::MAX as u128, "systemd is told of it in microseconds, 32 bits");
};

/// How much time there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Before the drain. Zero: there is no notice.
    pub notice: Duration,
    /// What calls in flight have.
    pub drain: Duration,
}

impl Plan {
    /// As configured. Where nobody can ask whether it is ready, nobody is waited for.
    pub fn of(server: &ServerConfig) -> Self {
        let is_asked = server.listen != Bind::Off || server.admin != Bind::Off;
        let notice_ms = if is_asked { server.drain_notice_ms } else { 0 };
        Self {
            notice: Duration::from_millis(notice_ms),
            drain: Duration::from_millis(server.drain_ms),
        }
    }

    /// The longest that the rest may take, from the beginning of a stage.
    pub fn rest(&self, stage: Stage) -> Duration {
        let drain = self.drain + DRAIN_GRACE + ABORT_GRACE;
        match stage {
            Stage::Serving | Stage::Notice { .. } => self.notice + drain,
            Stage::Drain { .. } => drain,
            Stage::Abort => ABORT_GRACE,
        }
    }
}

/// Who asks a server to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An operator, over the admin listener or through another node.
    Order,
    /// SIGTERM or SIGINT.
    Signal(i32),
    /// The local client, by closing stdin.
    StdinEnd,
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Not on its way out.
    #[default]
    Serving,
    /// Says that it is not ready, and serves as before.
    Notice {
        /// Then the drain begins.
        until: Instant,
    },
    /// Takes nothing new, finishes what is in flight.
    Drain {
        /// What is not finished then is cut.
        until: Instant,
    },
    /// Everything is cut.
    Abort,
}

impl Stage {
    /// Whether it may be sent new clients.
    pub fn is_ready(self) -> bool {
        self == Stage::Serving
    }

    /// Whether shards may have left.
    pub fn has_begun_to_drain(self) -> bool {
        matches!(self, Stage::Drain { .. } | Stage::Abort)
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Say that the node is not ready.
    Notice,
    /// Tell the shards to drain.
    Drain,
    /// Tell the shards to leave at once.
    Abort,
    /// Leave without the shards.
    GiveUp,
}

/// One server's way out.
#[derive(Debug)]
pub struct Leaving {
    plan: Plan,
    stage: Stage,
    /// When this stage is over.
    until: Option<Instant>,
    /// The owner of the process has asked: a signal from now on means at once.
    is_told: bool,
    exit: Exit,
}

impl Leaving {
    /// Nobody has asked yet.
    pub fn new(plan: Plan) -> Self {
        Self { plan, stage: Stage::Serving, until: None, is_told: false, exit: Exit::Drained }
    }

    /// Somebody asks.
    ///
    /// A person at a terminal (SIGINT) and a client that has closed stdin wait for the process to end: no notice. An
    /// operator's order and the first SIGTERM after it are one wish, for service managers run their stop command and
    /// then send the signal.
    pub fn handle_ask(&mut self, now: Instant, ask: Ask) -> Option<Step> {
        let was_told = self.is_told;
        self.is_told |= ask != Ask::Order;
        if let Ask::Signal(signal) = ask
            && was_told
            && self.stage != Stage::Abort
        {
            self.exit = Exit::Aborted(signal);
            return Some(self.abort(now));
        }
        let is_hurried = matches!(ask, Ask::StdinEnd | Ask::Signal(SIGINT));
        match self.stage {
            Stage::Serving if !is_hurried && !self.plan.notice.is_zero() => {
                let until = now + self.plan.notice;
                (self.stage, self.until) = (Stage::Notice { until }, Some(until));
                Some(Step::Notice)
            }
            Stage::Serving => Some(self.drain(now)),
            Stage::Notice { .. } if is_hurried => Some(self.drain(now)),
            Stage::Notice { .. } | Stage::Drain { .. } | Stage::Abort => None,
        }
    }

    /// The time has come, or not yet.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Step> {
        if self.until.is_none_or(|until| now < until) {
            return None;
        }
        match self.stage {
            Stage::Serving => None,
            Stage::Notice { .. } => Some(self.drain(now)),
            Stage::Drain { .. } => Some(self.abort(now)),
            Stage::Abort => Some(Step::GiveUp),
        }
    }

    /// When [`Leaving::handle_timeout`] has something to say; `None`: not before somebody asks.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How much time there is.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// How the server ends if its shards leave now.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    fn drain(&mut self, now: Instant) -> Step {
        let until = now + self.plan.drain;
        (self.stage, self.until) = (Stage::Drain { until }, Some(until + DRAIN_GRACE));
        Step::Drain
    }

    fn abort(&mut self, now: Instant) -> Step {
        (self.stage, self.until) = (Stage::Abort, Some(now + ABORT_GRACE));
        Step::Abort
    }
}

#[cfg(test)]
#[path = "leaving_tests.rs"]
mod tests;
